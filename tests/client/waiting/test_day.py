"""A day of waits in virtual time: approvals, retries, and a control plane that restarts."""

from __future__ import annotations

import pytest

from benchmarks.day import Day
from helmr_provider.client._waiting.actions import RUN, TOKEN


@pytest.mark.parametrize("seed", [1, 2])
def test_every_end_of_a_day_is_noticed_and_no_restart_ends_a_wait(seed: int) -> None:
    day = Day(sessions=60, restarts=12, seed=seed)
    day.run()
    assert not day.waiting
    assert [ledger.lost for ledger in day.kept.values()] == [0, 0]
    assert len(day.kept[RUN].delays) >= 60
    assert len(day.kept[TOKEN].delays) >= 10
    assert min(day.kept[RUN].delays + day.kept[TOKEN].delays) >= 0
    # After a restart the circuit breaker lets requests through within a quarter of a minute.
    assert max(day.kept[RUN].delays + day.kept[TOKEN].delays) <= 60
    # At most what four streams try in each outage.
    assert day.reconnects <= 4 * 12 * 10

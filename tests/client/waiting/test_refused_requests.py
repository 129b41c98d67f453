"""Requests of one kind that keep failing while the others succeed: they leave time for the others, in virtual time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.slow_answers import Load
from helmr_provider.client._waiting.actions import CountRuns, Failure, ListPendingTokens, ListRuns, Retrieve
from tests.client.waiting.control_plane_model import Awaited, NetworkFaults
from tests.client.waiting.control_plane_model import Simulation as Model
from tests.client.waiting.ends_together import Together

if TYPE_CHECKING:
    from collections.abc import Callable

BROKEN = Failure(retryable=True)
PAUSE = 30.0
REFUSED = Failure(retryable=True, outage=True, retry_after=PAUSE)
ODD_ONE = "r000007"


@dataclass
class Refusal:
    """Requests that fail.

    :param concerns: whether a request is one of them.
    :param failure: how they fail.
    """

    concerns: Callable[[Any], bool]
    failure: Failure
    sent_at: list[float] = field(default_factory=list[float])


class Refusing(Together):
    """Runs end within a minute, and some requests always fail."""

    refusal: Refusal

    def send(self, action: Any) -> None:
        if not self.refusal.concerns(action):
            super().send(action)
            return
        self.outcome.sent_at.append(self.now)
        self.refusal.sent_at.append(self.now)
        self.at(self.now + 0.005, partial(self.refuse, action))

    def refuse(self, action: Any) -> None:
        assert self.scheduler.failed(action, self.now, self.refusal.failure) == []


def refusing(waits: int, refusal: Refusal, seconds: float = 600.0) -> Refusing:
    load = Load(0.005, waits, 1e6, abandoned=0.0, refill=False, streams=4, seconds=seconds)
    simulation = Refusing(load)
    simulation.refusal = refusal
    simulation.run()
    return simulation


@pytest.mark.parametrize("waits", [100, 600])
@pytest.mark.parametrize(
    "concerns",
    [
        lambda action: isinstance(action, ListRuns),
        lambda action: isinstance(action, CountRuns),
        lambda action: action == ListRuns(),
        lambda action: isinstance(action, Retrieve) and action.key.id == ODD_ONE,
    ],
    ids=["lists", "counts", "live runs", "one run"],
)
def test_the_pause_that_is_asked_for_by_one_kind_of_request_leaves_time_for_the_others(
    concerns: Callable[[Any], bool], waits: int
) -> None:
    simulation = refusing(waits, Refusal(concerns, REFUSED))
    assert {key.id for key in simulation.waiting} <= {ODD_ONE}
    # Between two pauses there are up to four seconds, so that a search takes two of them at most.
    others = simulation.outcome.delays[: waits - len(simulation.waiting)]
    assert others[-1] <= 2.5 * PAUSE


@pytest.mark.parametrize("tokens", [20, 300])
def test_the_pause_that_is_asked_for_by_pages_of_tokens_leaves_time_for_single_reads(tokens: int) -> None:
    random = Random(1)
    ends = {f"token-{number:03}": random.uniform(60.0, 120.0) for number in range(tokens)}
    waited_for = {token: Awaited(ends=end) for token, end in ends.items()}
    model = Model(runs={}, tokens=waited_for, faults=NetworkFaults(latency=0.005))
    answer = model._evaluate

    def evaluate(action: Any, now: float, answered: float) -> None:
        if isinstance(action, ListPendingTokens):
            model.at(answered, partial(model._fail, action, REFUSED))
        else:
            answer(action, now, answered)

    model._evaluate = evaluate  # type: ignore[method-assign]
    seen = model.run(until=600.0)
    assert len(seen.ended) == tokens
    assert max(at[0] - ends[key.id] for key, at in seen.ended.items()) <= 2 * PAUSE


@pytest.mark.parametrize("waits", [200, 600])
@pytest.mark.parametrize("failure", [BROKEN, Failure(retryable=True, outage=True)], ids=["500", "503"])
def test_lists_that_keep_failing_are_requested_seldom_and_no_end_is_late(failure: Failure, waits: int) -> None:
    simulation = refusing(waits, Refusal(lambda action: isinstance(action, ListRuns), failure), seconds=240.0)
    assert simulation.outcome.delays[-1] <= 5.0
    # The list of live runs every three seconds on average, the others up to a minute apart.
    assert len(simulation.refusal.sent_at) <= 240.0 / 2
    idle = [at for at in simulation.outcome.sent_at if 60.0 <= at < 120.0]
    # Counts, the list, and a read of each run within 75 seconds.
    assert len(idle) / 60.0 <= 3.0 + waits / 75.0


def test_a_list_that_cannot_settle_ends_is_not_requested_for_each_of_them() -> None:
    def settles(action: Any) -> bool:
        return isinstance(action, ListRuns) and action.status in {"all", "succeeded"}

    simulation = refusing(600, Refusal(settles, BROKEN), seconds=240.0)
    assert simulation.outcome.delays[-1] <= 5.0
    assert len(simulation.refusal.sent_at) <= 30
    assert max(Counter(int(at) for at in simulation.refusal.sent_at).values()) <= 3

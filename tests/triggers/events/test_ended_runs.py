"""Finding out which runs have ended: none is missed, and as little is read as can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

from hypothesis import assume, given
from hypothesis import strategies as st

from helmr_provider.client.models.runs import RunCounts
from helmr_provider.triggers.events import _ended_runs as ended_runs
from helmr_provider.triggers.events._ended_runs import ENDED, EndedRuns

if TYPE_CHECKING:
    import random


@dataclass
class Runs:
    """An environment's runs, newest last, as the lists of the control plane show them."""

    status: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def start(self, count: int) -> None:
        for _ in range(count):
            self.status[f"run-{len(self.status)}"] = "running"

    def end(self, run_id: str, status: str) -> None:
        self.status[run_id] = status

    @property
    def live(self) -> list[str]:
        return [run_id for run_id, status in self.status.items() if status not in ENDED]

    @property
    def ended(self) -> set[str]:
        return set(self.status) - set(self.live)

    def list(self, status: str | None, limit: int) -> list[str]:
        self.requests.append(f"{status}:{limit}")
        wanted = self.live if status is None else [each for each in self.status if self.status[each] == status]
        return wanted[::-1][:limit]

    def counts(self) -> RunCounts:
        values = list(self.status.values())
        return RunCounts.model_validate({name: values.count(name) for name in (*ENDED, "running")})


def scan(state: EndedRuns, runs: Runs, during: Any = lambda: None) -> set[str]:
    """Scan once as the feed does, with changes during the scan."""
    counts = runs.counts()
    if not state.may_have_new_ends(counts):
        return set()
    during()
    live = runs.list(None, ended_runs.FULL)
    under_way = state.scan(counts, live, is_complete=len(live) < ended_runs.FULL)
    during()
    ended: set[str] = set()
    for status, limit in under_way.limits.items():
        ended |= set(runs.list(status, limit))
        during()
    singly = under_way.missing(ended)
    runs.requests += singly
    alive = [run_id for run_id in singly if runs.status[run_id] not in ENDED]
    ended |= set(singly) - set(alive)
    state.over(under_way, ended=ended, alive=alive)
    return ended


STEPS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from(ENDED)), min_size=1, max_size=15)


@given(STEPS, st.randoms(use_true_random=False), st.integers(0, 6))
def test_every_run_that_ends_is_found_with_changes_between_and_during_scans(
    steps: list[tuple[int, int, str]], chance: random.Random, busy: int
) -> None:
    runs, state, found = Runs(), EndedRuns(), set[str]()

    def change(starts: int, ends: int, status: str) -> None:
        runs.start(starts)
        for run_id in chance.sample(runs.live, min(ends, len(runs.live))):
            runs.end(run_id, status)

    for starts, ends, status in steps:
        change(starts, ends, status)
        found |= scan(state, runs, lambda: change(chance.randint(0, busy), chance.randint(0, busy), "succeeded"))
    for _ in range(len(runs.status) // 10 + 3):
        found |= scan(state, runs)
    assert found == runs.ended


@given(STEPS, st.randoms(use_true_random=False), st.integers(0, 2))
def test_short_lists_miss_nothing_as_long_as_all_that_is_live_can_be_seen(
    steps: list[tuple[int, int, str]], chance: random.Random, busy: int
) -> None:
    with mock.patch.multiple(ended_runs, FULL=24, _MARGIN=0):
        runs, state, found = Runs(), EndedRuns(), set[str]()

        def scan_within_reach(during: Any = lambda: None) -> set[str]:
            ended = scan(state, runs, during)
            # When more have ended than a list holds, one that was never seen live can be missed.
            assume(max(state._last.reach.values(), default=0) <= ended_runs.FULL)
            return ended

        def change(starts: int, ends: int, status: str) -> None:
            for run_id in chance.sample(runs.live, min(ends, len(runs.live))):
                runs.end(run_id, status)
            runs.start(min(starts, 12 - len(runs.live)))

        def during() -> None:
            change(chance.randint(0, busy), chance.randint(0, busy), chance.choice(ENDED))

        for starts, ends, status in steps:
            change(starts, ends, status)
            found |= scan_within_reach(during)
        for _ in range(4):
            found |= scan_within_reach()
        assert found == runs.ended


def test_a_run_that_outlives_hundreds_of_younger_ones_is_found() -> None:
    runs, state = Runs(), EndedRuns()
    runs.start(1)
    scan(state, runs)
    for _ in range(6):
        runs.start(60)
        for run_id in runs.live[1:]:
            runs.end(run_id, "succeeded")
        scan(state, runs)
    runs.end("run-0", "succeeded")
    assert "run-0" in scan(state, runs)


def test_nothing_is_listed_while_no_count_changes() -> None:
    runs, state = Runs(), EndedRuns()
    runs.start(3)
    scan(state, runs)
    runs.requests.clear()
    assert scan(state, runs) == set()
    assert runs.requests == []


def test_lists_are_as_short_as_what_has_ended_once_everything_live_is_known() -> None:
    runs, state = Runs(), EndedRuns()
    runs.start(5)
    runs.end("run-0", "failed")
    scan(state, runs)
    assert "failed:200" in runs.requests
    runs.requests.clear()
    runs.end("run-1", "succeeded")
    scan(state, runs)
    assert runs.requests == ["None:200", "succeeded:11"]


def test_runs_out_of_sight_are_read_singly_and_in_turn() -> None:
    runs, state = Runs(), EndedRuns()
    runs.start(300)
    scan(state, runs)
    runs.start(250)
    scanned: set[str] = set()
    for _ in range(20):
        runs.requests.clear()
        scan(state, runs)
        singly = [each for each in runs.requests if each.startswith("run-")]
        assert len(singly) <= ended_runs._SINGLY
        scanned |= set(singly)
    # Those that the first scan saw, and that younger ones hide now.
    assert scanned == {f"run-{number}" for number in range(100, 300)}


def test_an_interrupted_scan_does_not_count() -> None:
    runs, state = Runs(), EndedRuns()
    runs.start(1)
    scan(state, runs)
    runs.end("run-0", "succeeded")
    state.scan(runs.counts(), runs.list(None, 200), is_complete=True)
    assert scan(state, runs) == {"run-0"}

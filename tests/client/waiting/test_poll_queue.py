"""Things that no list knows: each is looked at by itself, in its turn, and all of them within one rate."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr_provider.client._waiting.actions import RUN, TOKEN, Failure, Retrieve, WaitKey
from helmr_provider.client._waiting.assembly import build_scheduler
from tests.client.waiting.control_plane_model import FOREVER, OTHER, Awaited, NetworkFaults, Simulation

if TYPE_CHECKING:
    from tests.client.waiting.control_plane_model import Observations


def polls_of(seen: Observations) -> list[float]:
    return [at for at, action in seen.sent if isinstance(action, Retrieve) and action.key.kind == OTHER]


def most_in_a_second(times: list[float]) -> int:
    return max((sum(begin <= at < begin + 1.0 for at in times[i:]) for i, begin in enumerate(times)), default=0)


@pytest.mark.parametrize("interval", [0.25, 3.0])
def test_one_thing_is_polled_in_the_interval_of_its_waiter(interval: float) -> None:
    simulation = Simulation(
        runs={}, others={"a": Awaited(ends=30.0)}, interval=interval, faults=NetworkFaults(latency=0.0)
    )
    seen = simulation.run(until=60.0)
    gaps = [after - before for before, after in pairwise(polls_of(seen))]
    assert all(0.8 * interval <= gap <= 1.2 * interval for gap in gaps)
    assert len({round(gap, 4) for gap in gaps}) > len(gaps) // 2
    assert 30.0 <= seen.ended[WaitKey(OTHER, "a")][0] <= 30.0 + 1.2 * interval


def test_without_an_interval_it_is_one_second_growing_to_five() -> None:
    scheduler, key, now, gaps = build_scheduler(random=lambda: 0.5), WaitKey(OTHER, "a"), 0.0, []
    scheduler.add(key, now)
    for _ in range(6):
        assert scheduler.actions(now) == [Retrieve(key)]
        assert not scheduler.retrieved(Retrieve(key), now, ended=False)
        wake_at = scheduler.wake_at(now)
        assert wake_at is not None
        assert scheduler.actions(wake_at - 0.01) == []
        gaps.append(round(wake_at - now, 3))
        now = wake_at
    assert gaps == [1.0, 1.5, 2.25, 3.375, 5.0, 5.0]


@settings(max_examples=50)
@given(
    simulation=st.builds(
        Simulation,
        runs=st.just(dict[str, Awaited]()),
        others=st.integers(1, 60).map(lambda count: {f"exec-{number:03}": Awaited() for number in range(count)}),
        rate=st.sampled_from([2.0, 10.0, 50.0]),
        requests=st.integers(1, 8),
        interval=st.sampled_from([0.01, 0.25, 2.0]),
        faults=st.sampled_from([NetworkFaults(latency=0.001), NetworkFaults(latency=0.001, refused=0.2)]),
        seed=st.integers(0, 2**16),
    )
)
def test_however_many_there_are_they_stay_within_the_rate_and_take_turns(simulation: Simulation) -> None:
    seen = simulation.run(until=60.0)
    assert most_in_a_second(polls_of(seen)) <= simulation.rate + simulation.requests
    if not simulation.faults.refused:
        times = [seen.polled[key] for key in simulation.things]
        # An interval of up to 1.2 times the asked one, and then a turn of all others, which began 0.8 times of it ago.
        turn = max(0.0, len(times) / simulation.rate - 0.8 * simulation.interval)
        bound = 1.2 * simulation.interval + turn + 2 * simulation.requests / simulation.rate + 0.1
        assert all(after - before <= bound for polled in times for before, after in pairwise([0.0, *polled]))


def test_a_thousand_of_them_hold_up_neither_runs_nor_tokens_nor_each_other() -> None:
    others = {f"exec-{number:04}": Awaited() for number in range(1000)}
    runs = {f"run-{n:03}": Awaited(starts=1.0, ends=20.0 + n / 2) for n in range(100)}
    tokens = {f"token-{n:02}": Awaited(ends=20.0 + n) for n in range(50)}
    simulation = Simulation(runs=runs, tokens=tokens, others=others, streams=4)
    seen = simulation.run(until=100.0)
    assert seen.most_requests <= 8
    assert most_in_a_second(polls_of(seen)) <= simulation.rate + simulation.requests
    for kind, bound in ((RUN, 6.0), (TOKEN, 8.0)):
        delays = [reports[0] - simulation.things[key].ends for key, reports in seen.ended.items() if key.kind == kind]
        assert len(delays) == (100 if kind == RUN else 50)
        assert max(delays) < bound
    gaps = [after - before for name in others for before, after in pairwise(seen.polled[WaitKey(OTHER, name)])]
    assert max(gaps) < 2 * len(others) / simulation.rate


def test_they_do_not_keep_the_search_for_an_ended_run_going() -> None:
    runs = {f"run-{n}": Awaited() for n in range(20)} | {"other": Awaited(joined=FOREVER, ends=10.0)}
    quiet = Simulation(runs=runs, streams=0).run(until=50.0)
    busy = Simulation(runs=runs, others={f"exec-{n:03}": Awaited() for n in range(500)}, streams=0).run(until=50.0)

    def of_runs(seen: Observations) -> int:
        return sum(not (isinstance(action, Retrieve) and action.key.kind == OTHER) for _, action in seen.sent)

    assert of_runs(busy) <= of_runs(quiet) + 10


def test_runs_that_no_list_reaches_share_the_rate_with_them() -> None:
    runs = {f"run-{n:03}": Awaited(created=n / 1000 - 9) for n in range(100)}
    others = {f"exec-{n:03}": Awaited() for n in range(100)}
    simulation = Simulation(
        runs=runs, others=others, streams=0, list_size=5, rate=20.0, faults=NetworkFaults(no_counts=True)
    )
    seen = simulation.run(until=60.0)
    for name in runs:
        assert len(seen.polled[WaitKey(RUN, name)]) >= 3
    for name in others:
        assert len(seen.polled[WaitKey(OTHER, name)]) >= 3


def test_one_that_fails_is_left_alone_for_longer_and_longer_and_the_others_are_not() -> None:
    scheduler, bad, good = build_scheduler(random=lambda: 0.0), WaitKey(OTHER, "bad"), WaitKey(OTHER, "good")
    for key in (bad, good):
        scheduler.add(key, 0.0, 0.25)
    polls, step = {bad: 0, good: 0}, 0.05
    for turn in range(int(15 / step)):
        now = turn * step
        for action in scheduler.actions(now):
            assert isinstance(action, Retrieve)
            polls[action.key] += 1
            if action.key == bad:
                assert scheduler.failed(action, now, Failure(retryable=True)) == []
            else:
                assert not scheduler.retrieved(action, now, ended=False)
    assert polls[bad] == 4
    assert polls[good] > 40


def test_one_that_is_waited_for_anew_during_its_poll_is_not_polled_twice_at_the_same_time() -> None:
    scheduler, key = build_scheduler(random=lambda: 0.5), WaitKey(OTHER, "a")
    scheduler.add(key, 0.0, 0.25)
    assert scheduler.actions(0.0) == [Retrieve(key)]
    scheduler.remove(key)
    scheduler.add(key, 0.1, 0.25)
    assert scheduler.actions(0.1) == []
    # This answer may be older than the second wait.
    assert not scheduler.retrieved(Retrieve(key), 0.2, ended=False)
    assert scheduler.actions(0.2) == [Retrieve(key)]
    assert not scheduler.retrieved(Retrieve(key), 0.3, ended=False)
    assert scheduler.wake_at(0.3) == pytest.approx(0.55)
    scheduler.remove(key)
    assert scheduler.actions(1.0) == []
    assert scheduler.wake_at(1.0) is None

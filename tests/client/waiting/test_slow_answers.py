"""Many waits while the control plane answers slowly or many runs end together, in virtual time."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.slow_answers import LOADS, Load, Simulation, describe
from helmr_provider.client._waiting.actions import RUN, ListedRun, Retrieve, WaitKey
from helmr_provider.client._waiting.assembly import build_scheduler
from tests.client.waiting.ends_together import Together

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.slow_answers import Outcome


def changing(now: float) -> float:
    return 0.8 if 100.0 <= now < 200.0 else 0.02


MIXES = [
    *LOADS[:-1],
    *(replace(load, seed=7) for load in LOADS[:6]),
    Load(0.5, 100, 8, lists_of_ended=False),
    Load(1.0, 200, 30, lists_of_ended=False),
    Load(0.3, 200, 20, abandoned=0.8),
    Load(5.0, 50, 30, seconds=600.0),
    Load(0.5, 200, 60, streams=4),
]


@pytest.mark.parametrize("load", MIXES, ids=lambda load: f"{load.latency}s-{load.waits}x{load.mean:g}s")
def test_no_wait_starves_however_slow_answers_are(load: Load, report: Callable[[str], None]) -> None:
    outcome = Simulation(load).run()
    report(describe(load, outcome))
    assert outcome.delay(0.99) <= 4 * max(1.0, outcome.delay(0.5))
    assert outcome.delays[-1] <= 60.0


def test_more_ends_than_slow_answers_can_settle_delay_hardly_any_wait_by_over_a_minute(
    report: Callable[[str], None],
) -> None:
    load = Load(2.0, 400, 8)
    outcome = Simulation(load).run()
    report(describe(load, outcome))
    assert outcome.delay(0.99) <= 60.0


def test_waits_get_over_answers_that_are_slow_for_a_while() -> None:
    outcome = Simulation(Load(changing, 200, 8)).run()
    assert outcome.delays[-1] <= 60.0


def test_where_the_control_plane_cannot_answer_for_all_ends_every_wait_gets_its_turn() -> None:
    # 24 ends a second, one answer a second, and no list of ended runs: a wait is served in the order of the ends.
    outcome = Simulation(Load(1.0, 400, 16, requests=2, lists_of_ended=False, refill=False, seconds=600.0)).run()
    assert len(outcome.delays) >= 400
    assert outcome.delay(0.99) <= 4 * outcome.delay(0.5)


def test_requests_become_fewer_as_answers_become_slower() -> None:
    rates = [len(Simulation(Load(latency, 200, 30)).run().sent_at) for latency in (0.2, 0.5, 1.0, 2.0, 4.0)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0] / 5


def ending(waits: int, window: tuple[float, float], **load: Any) -> Outcome:
    seconds = window[1] + 120.0
    simulation = Together(Load(0.005, waits, 1e6, abandoned=0.0, refill=False, streams=4, seconds=seconds, **load))
    simulation.window = window
    return simulation.run()


@pytest.mark.parametrize(("waits", "target"), [(1, 0.15), (20, 1.5), (200, 2.0), (1000, 5.0), (5000, 40.0)], ids=str)
@pytest.mark.parametrize("window", [(120.0, 121.0), (120.0, 180.0)], ids=["together", "within a minute"])
def test_ends_are_found_within_the_target_and_idle_waits_cost_little(
    waits: int, target: float, window: tuple[float, float], report: Callable[[str], None]
) -> None:
    outcome = ending(waits, window)
    report(describe(Load(0.005, waits, 0), outcome))
    assert len(outcome.delays) == waits
    assert outcome.delay(0.99) < target
    idle = [at for at in outcome.sent_at if 60.0 <= at < 120.0]
    assert len(idle) / 60.0 <= {1: 0.2, 20: 2.0, 200: 2.0, 1000: 16.0, 5000: 45.0}[waits]
    # Spread evenly: no second of a quiet minute is a burst.
    assert max(Counter(int(at) for at in idle).values(), default=0) <= len(idle) / 60.0 * 2 + 6
    retrievals = outcome.sent.get("Retrieve", 0)
    assert retrievals / outcome.seconds <= 100.0


STEADY = (120.0, 420.0)


@pytest.mark.timeout(600)  # it computes for twenty seconds, and longer on a busy machine
@pytest.mark.parametrize(("waits", "target"), [(1000, 5.0), (5000, 40.0)], ids=str)
def test_steady_ends_are_found_within_the_target_though_one_in_twenty_runs_fails(
    waits: int, target: float, report: Callable[[str], None]
) -> None:
    outcome = ending(waits, STEADY, failing=20)
    report(describe(Load(0.005, waits, 0), outcome))
    assert len(outcome.delays) == waits
    assert outcome.delay(0.99) < target
    retrievals = outcome.sent["Retrieve"]
    # The reserve allows for more than the steady rate, once.
    assert retrievals <= 100.0 * STEADY[1] * 1.02


def test_lists_that_show_no_ended_run_delay_no_end_further(report: Callable[[str], None]) -> None:
    outcome = ending(1000, STEADY, lists_of_ended=False)
    report(describe(Load(0.005, 1000, 0), outcome))
    assert len(outcome.delays) == 1000
    assert outcome.delays[-1] <= 10.0


def test_streams_are_opened_at_a_few_a_second_however_fast_runs_end() -> None:
    simulation = Simulation(Load(0.01, 600, 8, streams=4, abandoned=0.0))
    outcome = simulation.run()
    assert outcome.sent["Follow"] <= 2 * outcome.seconds + 4
    busiest = Counter(int(at) for at in outcome.sent_at).most_common(1)[0][1]
    # Single polls are limited to 100 a second, twice that from the reserve; lists and streams come on top.
    assert busiest <= 230


def calls_while(run: Callable[[], None]) -> int:
    """Count the calls of Python functions."""
    calls = 0

    def tracer(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(tracer)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def registered(waits: int, streams: int) -> Any:
    scheduler = build_scheduler(random=lambda: 0.5)
    scheduler.streams(streams)

    def run() -> None:
        for number in range(waits):
            scheduler.add(WaitKey(RUN, str(number)), 0.0)
            scheduler.actions(0.0)
        now = 0.0
        for number in range(waits):
            now += 0.01
            scheduler.stream_record(str(number), now, None, None, hint=False)
            for action in scheduler.actions(now):
                if isinstance(action, Retrieve):
                    scheduler.retrieved(action, now, ended=False, status="running", created=float(number))
            scheduler.wake_at(now)

    return run


@pytest.mark.parametrize("streams", [0, 4])
def test_the_work_for_each_wait_does_not_grow_with_their_number(streams: int) -> None:
    few, many = (calls_while(registered(waits, streams)) / waits for waits in (500, 5000))
    assert many <= 2 * few


def test_a_list_is_read_once_for_each_wait_and_no_more() -> None:
    scheduler, rows = build_scheduler(random=lambda: 0.5), dict[str, ListedRun]()
    for number in range(5000):
        scheduler.add(WaitKey(RUN, str(number)), 0.0)
        rows[str(number)] = ListedRun("running", float(number))
    [listing] = [action for action in scheduler.actions(0.0) if type(action).__name__ == "ListRuns"]
    assert calls_while(lambda: scheduler.listed(listing, 1.0, rows, full=False)) <= 30 * 5000  # type: ignore[arg-type]

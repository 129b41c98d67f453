"""The scheduler of waits: what it promises whatever the network does, and what it decides in particular."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr_provider.client._waiting.actions import (
    RUN,
    TOKEN,
    CountRuns,
    Failure,
    Follow,
    ListedRun,
    ListPendingTokens,
    ListRuns,
    Retrieve,
    StopFollow,
    WaitKey,
)
from helmr_provider.client._waiting.assembly import build_scheduler
from helmr_provider.client._waiting.pacing import CircuitBreaker
from helmr_provider.client._waiting.poll_queue import PollQueue
from helmr_provider.client._waiting.scheduler import Scheduler
from helmr_provider.client._waiting.stream_allocator import StreamHealth
from tests.client.waiting.control_plane_model import FOREVER, Awaited, NetworkFaults, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.waiting.control_plane_model import Observations

times = st.floats(0, 60, allow_nan=False).map(lambda value: round(value, 2))


@st.composite
def things(draw: st.DrawFn, *, leaving: bool = True) -> Awaited:
    created = draw(times)
    starts = created + draw(st.floats(0, 20))
    ends = starts + draw(st.floats(0, 40)) if draw(st.integers(0, 4)) else FOREVER
    joined = max(created, draw(times)) if draw(st.integers(0, 5)) else FOREVER
    leaves = joined + draw(st.floats(0, 40)) if leaving and draw(st.integers(0, 5)) == 0 else FOREVER
    hints = tuple(sorted(starts + draw(st.floats(0, 20)) for _ in range(draw(st.integers(0, 2)))))
    return Awaited(created, starts, ends, hints, joined, leaves)


weathers = st.builds(
    NetworkFaults,
    latency=st.sampled_from([0.001, 0.05, 0.8]),
    lost=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    refused=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    duplicated=st.sampled_from([0.0, 0.3]),
    stream_cut=st.sampled_from([0.0, 0.5, 1.0]),
    stream_silent=st.sampled_from([0.0, 0.3, 1.0]),
    outages=st.sampled_from([(), (), ((10.0, 25.0),), ((5.0, 6.0), (30.0, 90.0))]),
    no_counts=st.sampled_from([False, False, False, True]),
    no_lists=st.sampled_from([False, False, False, True]),
)


@st.composite
def worlds(draw: st.DrawFn) -> Simulation:
    runs = {f"run-{number:03}": draw(things()) for number in range(draw(st.integers(0, 25)))}
    tokens = {f"token-{number:03}": draw(things()) for number in range(draw(st.integers(0, 10)))}
    others = {f"exec-{number:03}": draw(things()) for number in range(draw(st.integers(0, 10)))}
    return Simulation(
        runs=runs,
        tokens=tokens,
        others=others,
        streams=draw(st.integers(0, 4)),
        requests=draw(st.integers(1, 8)),
        rate=draw(st.sampled_from([5.0, 100.0])),
        faults=draw(weathers),
        list_size=draw(st.sampled_from([1, 5, 200])),
        page_size=draw(st.sampled_from([1, 3, 500])),
        seed=draw(st.integers(0, 2**16)),
    )


PROPERTY = settings(max_examples=50)


@PROPERTY
@given(simulation=worlds())
def test_every_ended_thing_is_reported_exactly_once_and_nothing_else_on_any_network(simulation: Simulation) -> None:
    # Long enough for a single request at a time, most of which fail.
    seen = simulation.run(until=1000.0)
    expected = {
        key for key, thing in simulation.things.items() if thing.joined < FOREVER and thing.ends <= thing.leaves
    }
    # Who leaves around the end of a thing may or may not still hear of it.
    certain = {
        key for key in expected if simulation.things[key].leaves == FOREVER and simulation.things[key].ends < FOREVER
    }
    assert certain <= set(seen.ended) <= expected
    assert all(len(reports) == 1 for reports in seen.ended.values())
    assert all(reports[0] >= simulation.things[key].ends for key, reports in seen.ended.items())


@PROPERTY
@given(simulation=worlds())
def test_no_live_registration_starves(simulation: Simulation) -> None:
    until = 600.0
    seen = simulation.run(until)
    # A search of all runs begins every 75 s; what it needs beyond that is the network's doing.
    bound = PollQueue.SAFETY + 30.0 + max((end - begin for begin, end in simulation.faults.outages), default=0.0)
    bound *= 1 + 4 * (simulation.faults.lost + simulation.faults.refused)
    # With few simultaneous requests, a round takes as long as they do, and lists and counts take turns with
    # it; a lost one costs its time-out and shuts the gate.
    request = simulation.faults.latency + simulation.faults.lost * (5.0 + CircuitBreaker.LONGEST)
    bound += 4 * len(simulation.things) * request / simulation.requests
    for key in simulation.waiting:
        polls = [simulation.things[key].joined, *seen.polled.get(key, []), until]
        gaps = [after - before for before, after in pairwise(polls)]
        assert max(gaps) <= bound, (key, max(gaps), bound)


@pytest.mark.parametrize(("streams", "left"), [(4, 5), (0, 1)])
def test_few_waits_that_are_left_of_many_are_polled_singly_after_a_while(streams: int, left: int) -> None:
    runs = {f"run-{number}": Awaited(ends=20.0 + number) for number in range(2)}
    runs |= {f"left-{number}": Awaited() for number in range(left)}
    # Runs of others end all the time.
    runs |= {f"other-{number:03}": Awaited(ends=number, joined=FOREVER) for number in range(300)}
    simulation = Simulation(runs=runs, streams=streams)
    seen = simulation.run(until=300.0)
    together = [at for at, action in seen.sent if isinstance(action, CountRuns | ListRuns)]
    # Shortly after an end, they are still counted: others are likely to end soon.
    assert any(22.0 < at < 40.0 for at in together)
    assert not [at for at in together if at > 100.0]
    assert simulation.waiting <= {key for key, polls in seen.polled.items() if polls[-1] > 270.0}


def test_runs_that_were_polled_singly_before_are_searched_while_the_list_of_live_runs_is_left_out() -> None:
    # Five newer runs of others are always alive: the list never reaches a run that is waited for.
    runs = {f"other-{number}": Awaited(created=5.0 + number, joined=FOREVER) for number in range(5)}
    runs |= {f"ended-{number}": Awaited(ends=float(number), joined=FOREVER) for number in range(100)}
    runs |= {f"first-{number}": Awaited(joined=10.0, ends=15.0) for number in range(3)}
    runs |= {f"then-{number}": Awaited(joined=20.0 + 2 * number, ends=40.0) for number in range(4)}
    seen = Simulation(runs=runs, streams=0, list_size=5).run(until=50.0)
    assert len(seen.ended) == 7


@PROPERTY
@given(simulation=worlds())
def test_nothing_is_requested_after_the_last_wait(simulation: Simulation) -> None:
    simulation.run(until=120.0)
    for key in list(simulation.waiting):
        simulation._leave(key)
    sent = len(simulation.seen.sent)
    simulation.run(until=240.0)
    assert all(isinstance(action, StopFollow) for _, action in simulation.seen.sent[sent:])
    assert simulation.scheduler.wake_at(simulation.now) is None
    assert not simulation.flying
    assert not simulation.open


# Where requests and streams go


def sent(seen: Observations, kind: type, since: float = 0.0, until: float = FOREVER) -> list[Any]:
    return [action for at, action in seen.sent if isinstance(action, kind) and since <= at < until]


@pytest.mark.parametrize("waits", [1, 2, 3, 4])
def test_as_many_waits_as_streams_get_a_snapshot_and_then_a_stream_each(waits: int) -> None:
    simulation = Simulation(runs={f"run-{n}": Awaited(ends=30.0 + n) for n in range(waits)}, streams=4)
    seen = simulation.run(until=20.0)
    first = {action.key.id: at for at, action in reversed(seen.sent) if isinstance(action, Retrieve)}
    opened = {action.run_id: at for at, action in seen.sent if isinstance(action, Follow)}
    assert opened.keys() == first.keys() == {f"run-{n}" for n in range(waits)}
    assert all(opened[run] > first[run] for run in opened)
    assert not sent(seen, CountRuns)
    assert not sent(seen, ListRuns)
    seen = simulation.run(until=60.0)
    delays = [reports[0] - simulation.things[key].ends for key, reports in seen.ended.items()]
    assert len(delays) == waits
    assert max(delays) < 1.0
    # One poll at first, one every quarter of a minute, one at the end.
    assert seen.count(Retrieve) <= 5 * waits


def test_without_streams_a_single_wait_is_polled_after_one_second_growing_to_five() -> None:
    simulation = Simulation(runs={"run": Awaited(ends=300.0)}, streams=0, faults=NetworkFaults(latency=0.0))
    seen = simulation.run(until=290.0)
    polls = seen.polled[WaitKey(RUN, "run")]
    gaps = [after - before for before, after in pairwise(polls)]
    assert 0.8 <= gaps[0] <= 1.2
    assert all(4.0 <= gap <= 6.0 for gap in gaps[6:])
    assert len({round(gap, 3) for gap in gaps[6:]}) > 10
    assert not sent(seen, Follow)


def test_two_hundred_idle_waits_cost_their_counts_and_hardly_any_list() -> None:
    simulation = Simulation(runs={f"run-{n:03}": Awaited() for n in range(199)}, streams=0)
    seen = simulation.run(until=600.0)
    assert 500 <= seen.count(CountRuns) <= 750
    assert seen.count(ListRuns) <= 12
    assert seen.count(Retrieve) == 0


def test_a_run_missing_from_a_list_that_is_not_full_is_retrieved_and_never_declared_ended() -> None:
    scheduler = build_scheduler(requests=8, random=lambda: 0.5)
    keys = [WaitKey(RUN, f"run-{n}") for n in range(6)]
    for key in keys:
        scheduler.add(key, 0.0)
    assert ListRuns() in scheduler.actions(0.0)
    scheduler.listed(ListRuns(), 0.1, {key.id: ListedRun("running") for key in keys[1:]}, full=False)
    assert Retrieve(keys[0]) in scheduler.actions(0.1)
    # It was created after the list was made: it is alive.
    assert not scheduler.retrieved(Retrieve(keys[0]), 0.2, ended=False, status="queued")
    assert scheduler.wake_at(0.2) is not None


def test_a_run_missing_from_a_full_list_is_not_suspected_but_polled_in_its_turn() -> None:
    runs = {f"run-{n:03}": Awaited(created=n / 1000 - 9, ends=1000.0) for n in range(30)}
    simulation = Simulation(runs=runs, streams=0, list_size=10)
    seen = simulation.run(until=20.0)
    assert all(seen.polled[key] for key in simulation.waiting)
    assert {action.status for action in sent(seen, ListRuns)} >= {None, "running"}
    assert not seen.ended


def test_beyond_the_reach_of_lists_one_end_is_found_although_its_run_has_to_be_searched_for() -> None:
    runs = {f"run-{n:04}": Awaited(created=n / 1000 - 9, ends=FOREVER) for n in range(1000)}
    runs["run-0003"].ends = 100.0
    simulation = Simulation(runs=runs, streams=0)
    seen = simulation.run(until=130.0)
    [found] = seen.ended[WaitKey(RUN, "run-0003")]
    assert found < 120.0


def test_a_run_that_left_the_complete_list_of_running_ones_is_polled_before_all_others() -> None:
    # Eight of a thousand run at a time, oldest first; no list of live runs reaches them.
    runs: dict[str, Awaited] = {}
    for number in range(1000):
        start = (number // 8) * 10.0
        runs[f"run-{number:04}"] = Awaited(
            created=number / 1000 - 9, starts=start, ends=start + 10.0 + (number % 8) / 10
        )
    simulation = Simulation(runs=runs, streams=0)
    seen = simulation.run(until=200.0)
    delays = sorted(reports[0] - simulation.things[key].ends for key, reports in seen.ended.items())
    assert len(delays) > 100
    assert delays[len(delays) // 2] < 4.0
    # Looking at every other run whenever one ends would take a hundred requests for each.
    assert seen.count(Retrieve) / len(delays) < 40


def test_runs_of_others_that_fill_the_lists_make_single_polls_cheaper() -> None:
    runs = {f"other-{n:03}": Awaited(created=100.0, joined=FOREVER, ends=100.0 + n) for n in range(400)}
    runs |= {f"ours-{n}": Awaited(ends=400.0) for n in range(6)}
    simulation = Simulation(runs=runs, streams=0)
    seen = simulation.run(until=300.0)
    assert len(sent(seen, ListRuns, since=150.0)) <= 12
    assert all(seen.polled[WaitKey(RUN, f"ours-{n}")][-1] > 290.0 for n in range(6))


def test_streams_go_to_running_runs_first_and_leave_those_that_do_not_run() -> None:
    runs = {f"queued-{n}": Awaited(starts=FOREVER) for n in range(6)}
    runs |= {f"late-{n}": Awaited(starts=30.0, ends=200.0) for n in range(2)}
    simulation = Simulation(runs=runs, streams=2)
    seen = simulation.run(until=25.0)
    assert seen.most_streams == 2
    runs["ending"] = Awaited(joined=30.0, ends=60.0)
    simulation.things[WaitKey(RUN, "ending")] = runs["ending"]
    simulation.at(30.0, lambda: simulation._join(WaitKey(RUN, "ending")))
    seen = simulation.run(until=120.0)
    assert sent(seen, StopFollow)
    assert "ending" in {action.run_id for action in sent(seen, Follow)}
    assert seen.ended[WaitKey(RUN, "ending")][0] < 62.0


def test_after_a_retried_attempt_the_run_is_polled_and_then_followed_further() -> None:
    simulation = Simulation(runs={"run": Awaited(hints=(5.0,), ends=20.0)}, streams=1)
    seen = simulation.run(until=30.0)
    assert len(sent(seen, Retrieve, since=5.0, until=7.0)) >= 1
    assert [action.cursor for action in sent(seen, Follow)] == [None, "1"]
    assert 20.0 <= seen.ended[WaitKey(RUN, "run")][0] < 21.0


def test_a_followed_run_is_also_polled_because_its_stream_may_be_silent() -> None:
    simulation = Simulation(runs={"run": Awaited(ends=20.0)}, streams=1, faults=NetworkFaults(stream_silent=1.0))
    seen = simulation.run(until=60.0)
    assert 20.0 <= seen.ended[WaitKey(RUN, "run")][0] <= 20.0 + Scheduler.CHECK * 1.3


def test_streams_that_break_again_and_again_give_way_to_snapshots_and_come_back_slowly() -> None:
    simulation = Simulation(
        runs={f"run-{n}": Awaited() for n in range(4)}, streams=4, faults=NetworkFaults(stream_cut=1.0)
    )
    simulation.run(until=240.0)
    assert simulation.scheduler._streams.allowed(simulation.now) < 4
    simulation.faults.stream_cut = 0.0
    simulation.run(until=simulation.now + 5 * StreamHealth.RECOVERY + 120.0)
    assert simulation.scheduler._streams.allowed(simulation.now) == 4
    assert len(simulation.open) == 4


def test_late_events_halve_the_streams_immediately() -> None:
    scheduler = build_scheduler(random=lambda: 0.5)
    scheduler.streams(4)
    for n in range(4):
        scheduler.add(WaitKey(RUN, f"run-{n}"), 0.0)
    for action in scheduler.actions(0.0):
        assert isinstance(action, Retrieve)
        scheduler.retrieved(action, 0.1, ended=False, status="running")
    assert sum(isinstance(action, Follow) for action in scheduler.actions(0.2)) == 4
    scheduler.stream_record("run-1", 30.0, "2", 22.0, hint=False)
    assert sum(isinstance(action, StopFollow) for action in scheduler.actions(30.0)) == 2


def test_fewer_slots_close_streams_immediately() -> None:
    simulation = Simulation(runs={f"run-{n}": Awaited() for n in range(4)}, streams=4)
    simulation.run(until=5.0)
    assert len(simulation.open) == 4
    simulation.scheduler.streams(1)
    simulation.run(until=10.0)
    assert len(simulation.open) == 1


# Failures


def one_wait() -> Scheduler:
    key = WaitKey(RUN, "run")
    scheduler = build_scheduler(random=lambda: 0.5)
    scheduler.add(key, 0.0)
    assert scheduler.actions(0.0) == [Retrieve(key)]
    return scheduler


def test_an_outage_is_met_with_one_probe_at_a_time_and_longer_and_longer_pauses() -> None:
    simulation = Simulation(
        runs={f"run-{n:03}": Awaited() for n in range(50)}, streams=4, faults=NetworkFaults(outages=((10.0, 130.0),))
    )
    seen = simulation.run(until=200.0)
    requests = [at for at, action in seen.sent if not isinstance(action, Follow | StopFollow) and 20.0 < at < 130.0]
    assert 11 <= len(requests) <= 30
    # And it is noticed that the outage is over.
    assert all(seen.polled[key][-1] > 130.0 for key in simulation.waiting)


def test_retry_after_applies_to_all_waits() -> None:
    scheduler = one_wait()
    scheduler.add(WaitKey(RUN, "other"), 0.0)
    failure = Failure(retryable=True, outage=True, retry_after=42.0)
    assert scheduler.failed(Retrieve(WaitKey(RUN, "run")), 1.0, failure) == []
    assert scheduler.actions(42.9) == []
    assert scheduler.wake_at(1.0) == 43.0
    assert len(scheduler.actions(43.0)) == 1


def test_a_500_for_one_run_does_not_hold_up_the_others() -> None:
    scheduler = one_wait()
    scheduler.failed(Retrieve(WaitKey(RUN, "run")), 1.0, Failure(retryable=True))
    scheduler.add(WaitKey(RUN, "other"), 1.0)
    assert scheduler.actions(1.0) == [Retrieve(WaitKey(RUN, "other"))]


def test_a_missing_run_ends_its_own_wait_only() -> None:
    scheduler = one_wait()
    scheduler.add(WaitKey(RUN, "other"), 0.0)
    scheduler.actions(0.0)
    assert scheduler.failed(Retrieve(WaitKey(RUN, "run")), 1.0, Failure(retryable=False)) == [WaitKey(RUN, "run")]
    assert not scheduler.retrieved(Retrieve(WaitKey(RUN, "run")), 1.1, ended=True)
    assert scheduler.retrieved(Retrieve(WaitKey(RUN, "other")), 1.1, ended=True)


@pytest.mark.parametrize(("credential", "survivors"), [("all", set[WaitKey]()), ("kind", {WaitKey(TOKEN, "token")})])
def test_a_refused_credential_ends_all_waits_and_a_missing_scope_those_of_its_kind(
    credential: str, survivors: set[WaitKey]
) -> None:
    scheduler = one_wait()
    keys = {WaitKey(RUN, "run"), WaitKey(RUN, "other"), WaitKey(TOKEN, "token")}
    scheduler.add(WaitKey(RUN, "other"), 0.0)
    scheduler.add(WaitKey(TOKEN, "token"), 0.0)
    ended = scheduler.failed(Retrieve(WaitKey(RUN, "run")), 1.0, Failure(retryable=False, credential=credential))
    assert set(ended) == keys - survivors


def test_a_refused_stream_leaves_the_verdict_to_the_snapshot() -> None:
    scheduler = one_wait()
    scheduler.streams(1)
    scheduler.retrieved(Retrieve(WaitKey(RUN, "run")), 0.1, ended=False, status="running")
    assert scheduler.actions(0.2) == [Follow("run", None)]
    scheduler.stream_ended("run", 0.3, Failure(retryable=False))
    assert scheduler.actions(0.3) == [Retrieve(WaitKey(RUN, "run"))]
    scheduler.retrieved(Retrieve(WaitKey(RUN, "run")), 0.4, ended=False, status="running")
    assert not any(isinstance(action, Follow) for at in range(1, 300) for action in scheduler.actions(float(at)))


def test_a_frame_that_cannot_be_read_is_passed_if_its_cursor_is_known() -> None:
    scheduler = one_wait()
    scheduler.streams(1)
    scheduler.retrieved(Retrieve(WaitKey(RUN, "run")), 0.1, ended=False, status="running")
    scheduler.actions(0.2)
    scheduler.stream_record("run", 0.3, "4", 0.0, hint=False)
    scheduler.stream_ended("run", 0.4, Failure(retryable=True), "5")
    [poll] = scheduler.actions(0.4)
    assert isinstance(poll, Retrieve)
    scheduler.retrieved(poll, 0.5, ended=False, status="running")
    assert Follow("run", "5") in scheduler.actions(10.0)


def test_a_hint_during_a_poll_causes_another_poll() -> None:
    scheduler = one_wait()
    scheduler.streams(1)
    scheduler.retrieved(Retrieve(WaitKey(RUN, "run")), 0.1, ended=False, status="running")
    scheduler.actions(0.2)
    assert scheduler.actions(20.0) == [Retrieve(WaitKey(RUN, "run"))]
    scheduler.stream_record("run", 20.1, "2", 0.0, hint=True)
    assert scheduler.actions(20.1) == []
    # This answer may be older than the record.
    scheduler.retrieved(Retrieve(WaitKey(RUN, "run")), 20.2, ended=False, status="running")
    assert scheduler.actions(20.2) == [Retrieve(WaitKey(RUN, "run"))]


def test_an_abandoned_poll_is_repeated_and_an_unknown_one_changes_nothing() -> None:
    scheduler = one_wait()
    poll = Retrieve(WaitKey(RUN, "run"))
    scheduler.dropped(poll, 1.0)
    assert scheduler.actions(1.0) == [poll]
    scheduler.dropped(poll, 2.0)
    scheduler.dropped(poll, 2.0)
    assert scheduler.actions(2.0) == [poll]
    assert scheduler.actions(2.0) == []


def test_an_abandoned_count_makes_room_for_another() -> None:
    scheduler = build_scheduler(requests=1, random=lambda: 0.5)
    for number in range(Scheduler.NEWCOMERS + 1):
        scheduler.add(WaitKey(RUN, str(number)), 0.0)
    (first,) = scheduler.actions(0.0)
    assert isinstance(first, CountRuns | ListRuns)
    assert scheduler.actions(0.0) == []
    scheduler.dropped(first, 0.1)
    assert scheduler.actions(0.2) != []


# Tokens and other kinds


def test_many_tokens_are_paged_through_and_the_missing_one_is_retrieved() -> None:
    tokens = {f"token-{n:02}": Awaited(ends=FOREVER) for n in range(20)}
    tokens["token-07"].ends = 30.0
    simulation = Simulation(runs={}, tokens=tokens, page_size=6)
    seen = simulation.run(until=60.0)
    assert seen.ended.keys() == {WaitKey(TOKEN, "token-07")}
    assert seen.ended[WaitKey(TOKEN, "token-07")][0] < 38.0
    assert seen.count(Retrieve) == 1


def test_paging_ends_as_soon_as_all_tokens_were_seen() -> None:
    tokens = {f"token-{n:03}": Awaited(joined=0.0 if n < 5 else FOREVER) for n in range(100)}
    simulation = Simulation(runs={}, tokens=tokens, page_size=10)
    seen = simulation.run(until=30.0)
    assert {action.cursor for action in sent(seen, ListPendingTokens)} == {None}


def test_two_tokens_are_polled_singly() -> None:
    simulation = Simulation(runs={}, tokens={"a": Awaited(ends=9.0), "b": Awaited(ends=20.0)})
    seen = simulation.run(until=40.0)
    assert len(seen.ended) == 2
    assert not sent(seen, ListPendingTokens)


def test_a_thousand_waits_hold_no_more_streams_and_requests_than_allowed_and_are_found_soon(
    report: Callable[[str], None],
) -> None:
    runs = {f"run-{n:04}": Awaited(created=n / 1000 - 9, starts=1.0, ends=5.0 + n / 20) for n in range(1000)}
    simulation = Simulation(runs=runs, streams=4)
    seen = simulation.run(until=120.0)
    delays = sorted(reports[0] - simulation.things[key].ends for key, reports in seen.ended.items())
    assert len(delays) == 1000
    assert seen.most_streams <= 4
    assert seen.most_requests <= 8
    requests = {kind.__name__: seen.count(kind) for kind in (Retrieve, ListRuns, CountRuns, Follow)}
    p50, p99 = delays[500], delays[math.floor(0.99 * len(delays))]
    report(f"1,000 waits in virtual time: delay p50 {p50:.2f} s, p99 {p99:.2f} s, max {delays[-1]:.2f} s; {requests}")

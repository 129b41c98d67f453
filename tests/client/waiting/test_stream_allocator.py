"""Which runs have streams, how much streams are trusted, and how late events are."""

from __future__ import annotations

import pytest

from helmr_provider.client._waiting.actions import Failure, Follow, StopFollow
from helmr_provider.client._waiting.stream_allocator import ClockSkew, StreamAllocator, StreamHealth, is_hint

CUT = Failure(retryable=True)


def followed(*runs: str, limit: int = 4, status: str = "running") -> StreamAllocator:
    following = StreamAllocator(lambda: 0.0)
    following.budget(limit)
    for run_id in runs:
        following.add(run_id, 0.0)
        following.alive(run_id, status, 0.0)
    following.actions(0.0)
    return following


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("run.completed", True),
        ("run.failed", True),
        ("run.cancelled", True),
        ("run.expired", True),
        # The stream stays open after these, although the run may be over (contract/behaviour.md section 21).
        ("run.dead_lettered", True),
        ("run.cancel_requested", True),
        ("run.retry_scheduled", False),
        ("log.stdout", False),
    ],
)
def test_a_record_that_may_mean_the_end_is_a_hint(kind: str, hint: bool) -> None:
    assert is_hint(kind, "") is hint
    assert is_hint("other", kind) is hint


def test_a_run_is_followed_only_after_a_snapshot_has_shown_it_alive() -> None:
    following = StreamAllocator(lambda: 0.0)
    following.budget(4)
    following.add("run", 0.0)
    assert following.actions(0.0) == []
    following.alive("run", "running", 0.0)
    assert following.actions(0.1) == [Follow("run", None)]


def test_a_run_is_followed_on_only_after_a_snapshot_newer_than_the_end_of_its_stream() -> None:
    following = followed("run")
    following.record("run", 1.0, "3", 0.0, hint=True)
    assert following.ended("run", 2.0, None, None)
    following.alive("run", "queued", 1.9)
    assert following.actions(3.0) == []
    following.alive("run", "queued", 2.1)
    assert following.actions(3.0) == [Follow("run", "3")]


def test_the_cursor_moves_forward_only() -> None:
    following = followed("run")
    following.record("run", 1.0, "10", 0.0, hint=False)
    following.record("run", 1.0, "9", 0.0, hint=True)
    following.ended("run", 2.0, None, None)
    following.alive("run", "running", 2.0)
    assert following.actions(3.0) == [Follow("run", "10")]


def test_a_stream_that_breaks_is_opened_again_after_a_growing_pause() -> None:
    following = followed("run")
    now, pauses = 0.0, []
    for _ in range(2):
        now += 10.0
        following.ended("run", now, CUT, None)
        following.alive("run", "running", now)
        assert following.actions(now) == []
        pauses.append(following.wake_at() - now)
        now = following.wake_at()
        assert following.actions(now) == [Follow("run", None)]
    assert pauses == [1.0, 2.0]


def test_a_stream_that_is_being_closed_counts_until_it_is_closed() -> None:
    following = followed("first", limit=1)
    following.add("second", 0.0)
    following.alive("second", "running", 0.0)
    following.remove("first")
    assert following.actions(1.0) == []
    assert len(following) == 1
    following.ended("first", 2.0, None, None)
    assert following.actions(2.0) == [Follow("second", None)]


def test_a_queued_run_gives_its_stream_to_a_running_one_but_not_immediately() -> None:
    following = followed("queued", limit=1, status="queued")
    following.add("running", 1.0)
    following.alive("running", "running", 1.0)
    assert following.actions(1.0) == []
    assert following.wake_at() == StreamAllocator.HOLD
    assert following.actions(StreamAllocator.HOLD) == [StopFollow("queued")]
    following.ended("queued", 11.0, None, None)
    assert following.actions(11.0) == [Follow("running", None)]


def test_a_waiting_run_does_not_take_the_stream_of_a_running_one() -> None:
    following = followed("running", limit=1)
    following.add("waiting", 0.0)
    following.alive("waiting", "waiting", 0.0)
    assert following.actions(1000.0) == []


def test_three_failures_in_a_row_halve_the_streams_and_a_minute_without_failures_adds_one() -> None:
    trust = StreamHealth()
    for at in (0.0, 10.0, 20.0):
        assert trust.allowed(4, at) == 4
        trust.strike(4, at)
    assert trust.allowed(4, 20.0) == 2
    assert trust.recovers_at() == 20.0 + StreamHealth.RECOVERY
    assert [trust.allowed(4, 20.0 + StreamHealth.RECOVERY * n) for n in (0.9, 1, 2, 9)] == [2, 3, 4, 4]
    assert trust.recovers_at() is None


def test_streams_that_break_together_count_once_and_a_delivery_forgives() -> None:
    trust = StreamHealth()
    for at in (0.0, 0.1, 0.2, 0.3, 10.0):
        trust.strike(4, at)
    trust.delivered()
    trust.strike(4, 20.0)
    assert trust.allowed(4, 20.0) == 4


def test_failures_can_reduce_the_streams_to_none() -> None:
    trust = StreamHealth()
    for at in (1.0, 2.0, 3.0):
        trust.halve(4, at)
    assert trust.allowed(4, 3.0) == 0


def test_snapshots_that_know_the_end_before_the_stream_count_against_it() -> None:
    following = followed("a", "b", "c", "d")
    for at, run_id in ((10.0, "a"), (20.0, "b"), (30.0, "c")):
        following.beaten(run_id, at)
    assert following.allowed(30.0) == 2


def test_a_stream_that_reported_the_end_is_not_late() -> None:
    following = followed("a", "b", "c", "d")
    for at, run_id in ((10.0, "a"), (20.0, "b"), (30.0, "c")):
        following.record(run_id, at, "1", None, hint=True)
        following.beaten(run_id, at)
    assert following.allowed(30.0) == 4


@pytest.mark.parametrize("difference", [-3600.0, -1.0, 0.0, 30.0])
def test_the_lag_of_an_event_does_not_depend_on_the_difference_of_the_clocks(difference: float) -> None:
    skew = ClockSkew()
    assert skew.lag(at=1000.0, arrived=1000.0 + difference, opened=999.0 + difference) == pytest.approx(0.0)
    assert skew.lag(at=1050.0, arrived=1072.0 + difference, opened=999.0 + difference) == pytest.approx(22.0)


@pytest.mark.parametrize("step", [10.0, -10.0])
def test_after_a_step_of_the_servers_clock_events_are_late_for_two_minutes_at_most(step: float) -> None:
    skew = ClockSkew()
    lags = [skew.lag(at=1000.0 + n, arrived=1000.0 + n, opened=1000.0) for n in range(60)]
    lags += [skew.lag(at=1000.0 + n + step, arrived=1000.0 + n, opened=1000.0) for n in range(60, 300)]
    late = [lag for lag in lags if lag is not None and lag > StreamHealth.LATE]
    assert len(late) <= (2 * ClockSkew.WINDOW if step < 0 else 0)
    assert lags[-60:] == [pytest.approx(0.0)] * 60


def test_an_event_older_than_its_stream_is_not_late() -> None:
    skew = ClockSkew()
    skew.lag(at=1000.0, arrived=1000.0, opened=999.0)
    assert skew.lag(at=500.0, arrived=1010.0, opened=1005.0) is None


def test_runs_that_came_and_went_are_not_kept_behind_one_that_waits_for_a_stream() -> None:
    allocator = StreamAllocator(lambda: 0.0)
    allocator.budget(1)
    for run_id in ("followed", "first in line"):
        allocator.add(run_id, 0.0)
        allocator.alive(run_id, "running", 0.0)
    assert [action.run_id for action in allocator.actions(0.0)] == ["followed"]
    for number in range(5000):
        allocator.add(str(number), float(number))
        for status in ("running", "waiting", "running"):
            allocator.alive(str(number), status, float(number))
            allocator.actions(float(number))
        allocator.remove(str(number))
    assert sum(len(heap) for heap in (*allocator._ranked, allocator._delayed)) <= 20
    allocator.remove("followed")
    allocator.ended("followed", 5000.0, None, None)
    assert [action.run_id for action in allocator.actions(5000.0)] == ["first in line"]

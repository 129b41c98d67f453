"""What the scheduler of waits makes of single answers, failures and records, one by one."""

from __future__ import annotations

import pytest

from helmr_provider.client._waiting.actions import (
    RUN,
    TOKEN,
    Failure,
    Follow,
    ListPendingTokens,
    ListRuns,
    Retrieve,
    WaitKey,
)
from helmr_provider.client._waiting.assembly import build_scheduler
from helmr_provider.client._waiting.scheduler import Scheduler

WAIT = WaitKey(RUN, "run")
POLL = Retrieve(WAIT)
PASSING = Failure(retryable=True)
MANY = Scheduler.NEWCOMERS + 1


def polled_once() -> Scheduler:
    """One wait, whose first poll is under way."""
    scheduler = build_scheduler(random=lambda: 0.5)
    scheduler.add(WAIT, 0.0)
    assert scheduler.actions(0.0) == [POLL]
    return scheduler


def followed() -> Scheduler:
    """One wait, whose run is followed."""
    scheduler = polled_once()
    scheduler.streams(1)
    scheduler.retrieved(POLL, 0.1, ended=False, status="running")
    assert scheduler.actions(0.2) == [Follow("run", None)]
    return scheduler


def hinted() -> Scheduler:
    """One wait, whose stream has just said that the run is over; the resulting poll is under way."""
    scheduler = followed()
    scheduler.stream_record("run", 20.0, "2", 0.0, hint=True)
    assert scheduler.actions(20.0) == [POLL]
    return scheduler


def many(kind: str) -> Scheduler:
    scheduler = build_scheduler(random=lambda: 0.5)
    for number in range(MANY):
        scheduler.add(WaitKey(kind, str(number)), 0.0)
    return scheduler


def test_after_a_record_that_reads_as_the_end_polls_come_quickly_at_first() -> None:
    scheduler, now, gaps = hinted(), 20.0, list[float]()
    for _ in range(5):
        scheduler.retrieved(POLL, now, ended=False, status="running")
        wake_at = scheduler.wake_at(now)
        assert wake_at is not None
        gaps.append(round(wake_at - now, 3))
        now = wake_at
        assert scheduler.actions(now) == [POLL]
    assert gaps == [0.1, 0.2, 0.4, 0.8, 15.0]


def test_a_stream_that_is_opened_between_them_does_not_slow_them_down() -> None:
    scheduler = hinted()
    scheduler.stream_ended("run", 20.05)
    scheduler.retrieved(POLL, 20.1, ended=False, status="running")
    assert scheduler.actions(20.1) == [POLL]
    scheduler.retrieved(POLL, 20.1, ended=False, status="running")
    assert scheduler.actions(20.15) == [Follow("run", "2")]
    assert scheduler.wake_at(20.15) == pytest.approx(20.3)


def test_a_wait_that_a_failure_ends_is_forgotten_and_can_begin_anew() -> None:
    scheduler = polled_once()
    assert scheduler.failed(POLL, 1.0, Failure(retryable=False)) == [WAIT]
    assert scheduler.wake_at(1.0) is None
    assert scheduler.actions(100.0) == []
    scheduler.add(WAIT, 101.0)
    assert scheduler.actions(101.0) == [POLL]


def test_a_failure_of_one_is_followed_by_a_pause_of_its_backoff() -> None:
    scheduler = polled_once()
    scheduler.failed(POLL, 1.0, PASSING)
    assert scheduler.wake_at(1.0) == pytest.approx(1.75)


def test_an_answer_for_a_removed_wait_ends_nothing() -> None:
    scheduler = polled_once()
    scheduler.remove(WAIT)
    scheduler.remove(WAIT)
    assert scheduler.failed(POLL, 1.0, Failure(retryable=False)) == []
    assert scheduler.wake_at(1.0) is None


@pytest.mark.parametrize("way", ["answered", "failed", "dropped", "removed"])
def test_nothing_is_queued_to_confirm_an_end_once_it_was_polled_or_is_not_waited_for(way: str) -> None:
    scheduler = hinted()
    assert WAIT in scheduler._queue.in_flight
    if way == "answered":
        scheduler.retrieved(POLL, 20.1, ended=False, status="running")
    elif way == "failed":
        scheduler.failed(POLL, 20.1, PASSING)
    elif way == "dropped":
        scheduler.dropped(POLL, 20.1)
    else:
        scheduler.remove(WAIT)
    assert not len(scheduler._queue)
    if way == "removed":
        scheduler.dropped(POLL, 20.2)
    assert WAIT not in scheduler._queue.in_flight


def test_a_stream_that_was_closed_for_a_moment_is_opened_again_immediately() -> None:
    scheduler = followed()
    scheduler.stream_ended("run", 0.3, paused=True)
    assert scheduler.actions(0.3) == [POLL]
    scheduler.retrieved(POLL, 0.4, ended=False, status="running")
    assert scheduler.actions(0.4) == [Follow("run", None)]


def test_a_missing_scope_for_tokens_ends_the_waits_for_tokens() -> None:
    scheduler = build_scheduler(random=lambda: 0.5)
    token = WaitKey(TOKEN, "token")
    for key in (WAIT, token):
        scheduler.add(key, 0.0)
    scheduler.actions(0.0)
    refusal = Failure(retryable=False, credential="kind")
    assert scheduler.failed(Retrieve(token), 0.1, refusal) == [token]


def test_a_page_that_failed_is_requested_again_after_a_while_and_its_tokens_are_polled_until_then() -> None:
    scheduler = many(TOKEN)
    assert scheduler.actions(0.0) == [ListPendingTokens()]
    scheduler.failed(ListPendingTokens(), 0.1, PASSING)
    between = scheduler.actions(0.1)
    assert {poll.key.id for poll in between if isinstance(poll, Retrieve)} == {str(n) for n in range(MANY)}
    assert len(between) == MANY
    for poll in between:
        assert isinstance(poll, Retrieve)
        scheduler.retrieved(poll, 0.2, ended=False, status="pending")
    assert ListPendingTokens() in scheduler.actions(3.0)


def test_a_token_without_a_wait_is_not_paged_for() -> None:
    scheduler = many(TOKEN)
    assert scheduler.actions(0.0) == [ListPendingTokens()]
    scheduler.remove(WaitKey(TOKEN, "0"))
    scheduler.paged(ListPendingTokens(), 0.1, {str(number) for number in range(1, MANY)}, "more")
    assert scheduler.actions(0.1) == []


@pytest.mark.parametrize("way", ["failed", "dropped"])
def test_a_list_that_failed_for_a_moment_is_requested_again(way: str) -> None:
    scheduler = many(RUN)
    assert ListRuns() in scheduler.actions(0.0)
    if way == "failed":
        scheduler.failed(ListRuns(), 0.1, PASSING)
    else:
        scheduler.dropped(ListRuns(), 0.1)
    scheduler.actions(0.1)
    for number in range(MANY, 2 * MANY):
        scheduler.add(WaitKey(RUN, str(number)), 2.0)
    assert ListRuns() in scheduler.actions(2.0)


def test_a_list_that_is_refused_is_left_out_for_a_minute() -> None:
    scheduler = many(RUN)
    assert ListRuns() in scheduler.actions(0.0)
    scheduler.failed(ListRuns(), 0.1, Failure(retryable=False))
    for number in range(MANY, 2 * MANY):
        scheduler.add(WaitKey(RUN, str(number)), 2.0)
    assert ListRuns() not in scheduler.actions(2.0)

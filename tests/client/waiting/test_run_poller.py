"""Counting and listing: when there is something to look for, and when enough was found."""

from __future__ import annotations

import pytest

from helmr_provider.client._waiting.actions import CountRuns, ListRuns
from helmr_provider.client._waiting.run_poller import RunPoller

LIVE = ListRuns()


def rested(finished: int = 10) -> RunPoller:
    """A survey whose first pass is over: it knows what had ended, and nothing is owed."""
    survey = RunPoller(lambda: 0.5)
    count(survey, 0.0, finished)
    listed(survey, 0.1)
    survey.ended(0.2)
    assert not survey.searching
    return survey


def count(survey: RunPoller, now: float, finished: int) -> None:
    survey.started(CountRuns())
    survey.counted(now, finished)


def listed(survey: RunPoller, now: float, *, full: bool = False) -> list[str]:
    survey.started(LIVE)
    missing = survey.listed(LIVE, now, {"a": "running"}, {"a": "running", "b": "running"}, full=full)
    survey.listing_ended()
    return missing


def test_the_first_count_begins_a_pass_because_nothing_is_known() -> None:
    survey = RunPoller(lambda: 0.5)
    assert survey.due(0.0) == [CountRuns()]
    count(survey, 1.0, 10)
    assert survey.searching
    assert survey.began == 1.0
    assert survey.due(1.0) == [LIVE]


def test_a_count_that_did_not_grow_asks_for_nothing_until_a_minute_has_passed() -> None:
    survey = rested()
    count(survey, 2.0, 10)
    assert not survey.searching
    assert survey.due(2.0) == []
    count(survey, RunPoller.SAFETY, 10)
    assert survey.due(RunPoller.SAFETY) == [LIVE]


def test_a_count_that_grew_begins_a_pass_that_is_over_when_as_many_were_found() -> None:
    survey = rested()
    count(survey, 2.0, 12)
    assert survey.due(2.0) == [LIVE]
    states: list[bool] = []
    for _ in range(2):
        survey.found(seen_at=0.1)
        states.append(survey.searching)
    assert states == [True, False]


def test_a_run_found_before_it_was_counted_is_no_debt_when_it_is_counted() -> None:
    survey = rested()
    survey.started(CountRuns())
    survey.found(seen_at=0.1)
    survey.counted(2.0, 10)
    count(survey, 3.0, 11)
    assert not survey.searching


def test_what_was_found_long_ago_does_not_hide_a_later_end() -> None:
    survey = rested()
    survey.found(seen_at=0.1)
    # The count that follows must hold it; if it does not, something was deleted.
    count(survey, 2.0, 10)
    count(survey, 3.0, 11)
    assert survey.searching


def test_a_sum_that_shrank_says_nothing_so_everything_is_looked_at() -> None:
    survey = rested()
    count(survey, 2.0, 4)
    assert survey.searching
    survey.found(seen_at=0.1)
    assert survey.searching


def test_ends_counted_during_a_pass_are_looked_for_in_the_next_one() -> None:
    survey = rested()
    count(survey, 2.0, 11)
    listed(survey, 2.1)
    count(survey, 3.0, 12)
    assert survey.began == 2.0
    listed(survey, 3.1)
    survey.ended(4.0)
    # One of the two was somebody else's, or is still to be found.
    assert survey.searching
    assert survey.began == 4.0


def test_a_run_seen_alive_in_the_pass_and_found_ended_in_it_is_not_looked_for_again() -> None:
    survey = rested()
    count(survey, 2.0, 11)
    count(survey, 3.0, 12)
    survey.found(seen_at=2.5)
    survey.ended(4.0)
    assert not survey.searching


def test_ticks_are_a_second_while_things_end_and_grow_to_five_when_nothing_does() -> None:
    survey, now, waits = rested(), 1.0, list[float]()
    for _ in range(8):
        count(survey, now, 10)
        waits.append(survey.wake_at() - now)
        now = survey.wake_at()
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(5.0)
    count(survey, now, 11)
    listed(survey, now)
    assert survey.wake_at() - now == pytest.approx(1.0)


def test_a_list_that_is_not_full_names_what_is_missing_and_a_full_one_nothing() -> None:
    survey = rested()
    count(survey, 2.0, 11)
    assert listed(survey, 2.1) == ["b"]
    count(survey, 3.0, 12)
    assert listed(survey, 3.1, full=True) == []


def test_a_complete_list_of_one_status_names_only_runs_last_seen_in_it() -> None:
    survey = rested()
    running = ListRuns("running")
    ours = {"a": "running", "b": "running", "c": "queued"}
    assert survey.listed(running, 2.0, {"a": "running"}, ours, full=False) == ["b"]


def test_a_full_list_of_live_runs_is_followed_by_those_of_the_running_and_the_waiting() -> None:
    survey = rested()
    count(survey, 2.0, 11)
    survey.started(LIVE)
    ours = {f"run-{n}": "running" for n in range(20)}
    survey.listed(LIVE, 2.1, {f"run-{n}": "running" for n in range(10)}, ours, full=True)
    assert survey.due(2.1) == [ListRuns("running"), ListRuns("waiting")]
    assert not survey.listing_ended()


def test_a_full_list_that_speaks_for_hardly_any_of_ours_is_left_out_for_a_minute() -> None:
    survey = rested()
    count(survey, 2.0, 11)
    assert listed(survey, 2.1, full=True) == []
    survey.ended(2.2)
    count(survey, 3.0, 12)
    assert survey.searching
    assert survey.due(3.0) == []
    survey.ended(3.1)
    count(survey, 2.1 + RunPoller.POOR_FOR, 13)
    assert survey.due(2.1 + RunPoller.POOR_FOR) == [LIVE]


def test_a_failed_count_means_that_everything_is_looked_at() -> None:
    survey = rested()
    survey.started(CountRuns())
    survey.failed(CountRuns(), 2.0, retryable=True)
    assert survey.searching
    assert survey.due(2.0) == [LIVE]
    assert survey.wake_at() < 2.0


def test_a_refused_list_is_left_out_and_the_pass_goes_on_without_it() -> None:
    survey = rested()
    count(survey, 2.0, 11)
    survey.started(LIVE)
    survey.failed(LIVE, 2.1, retryable=False)
    assert survey.listing_ended()
    assert not survey.listing_ended()
    assert not survey.newcomers(2.2)


def test_newcomers_wait_a_moment_for_a_list_that_serves_several_of_them() -> None:
    survey = rested()
    assert survey.newcomers(0.3)
    assert survey.due(0.3) == []
    assert survey.newcomers(survey.newcomers_at())
    assert LIVE in survey.due(survey.newcomers_at())


def test_nothing_is_remembered_over_a_rest() -> None:
    survey = rested()
    count(survey, 2.0, 11)
    survey.rest()
    assert not survey.searching
    assert survey.due(100.0) == [CountRuns()]
    count(survey, 100.0, 11)
    assert survey.searching


def test_a_count_that_was_given_up_is_asked_for_again() -> None:
    survey = rested()
    survey.started(CountRuns())
    assert survey.due(100.0) == []
    survey.dropped(CountRuns())
    assert survey.due(100.0) == [CountRuns()]

"""Counting and listing: when there are ends to find, and how a list settles waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helmr_provider.client._waiting.actions import RUN, CountRuns, Failure, ListedRun, WaitKey
from helmr_provider.client._waiting.pacing import FailureDelay, PollInterval
from helmr_provider.client._waiting.poll_queue import NEVER, Wait
from helmr_provider.client._waiting.run_poller import ALL, LIVE, PARTS, SUCCEEDED, RunPoller

if TYPE_CHECKING:
    from helmr_provider.client._waiting.actions import ListRuns
    from helmr_provider.client._waiting.run_poller import Reach

PASSING, REFUSED = Failure(retryable=True), Failure(retryable=False)


def wait(run_id: str, *, since: float = 0.0, created: float | None = None, status: str = "running") -> Wait:
    pace = PollInterval(1.0, 5.0, 1.5, lambda: 0.5)
    made = Wait(WaitKey(RUN, run_id), pace, FailureDelay(1.0, 10.0, lambda: 0.5), since=since)
    made.created, made.status = created, status
    return made


def rested(finished: int = 10) -> RunPoller:
    """A poller that knows what had ended, with no ends to find."""
    poller = RunPoller(lambda: 0.5)
    count(poller, 0.0, finished)
    listed(poller, 0.1)
    poller.examined(0.1)
    assert poller.stale_before == NEVER
    return poller


def count(poller: RunPoller, now: float, finished: int) -> None:
    poller.started(CountRuns(), now)
    poller.counted(now, finished, 0.0)


def listed(
    poller: RunPoller,
    now: float,
    *waits: Wait,
    request: ListRuns = LIVE,
    rows: dict[str, ListedRun] | None = None,
    full: bool = False,
) -> Reach:
    poller.started(request, now)
    return poller.listed(request, now, now, rows or {}, waits, full=full)


def ids(waits: list[Wait]) -> list[str]:
    return [one.key.id for one in waits]


def test_the_first_count_causes_a_list_because_nothing_is_known() -> None:
    poller = RunPoller(lambda: 0.5)
    assert CountRuns() in poller.due(0.0, 0.0)
    count(poller, 1.0, 10)
    assert poller.stale_before == 1.0
    assert poller.due(1.0, 0.0) == [LIVE]


def test_a_count_that_did_not_grow_causes_nothing_until_the_safety_interval_has_passed() -> None:
    poller = rested()
    count(poller, 2.0, 10)
    assert poller.stale_before == NEVER
    assert poller.due(2.0, 0.0) == []
    count(poller, RunPoller.SAFETY, 10)
    assert LIVE in poller.due(0.1 + RunPoller.SAFETY, 0.0)


def test_a_count_that_grew_makes_runs_stale_until_as_many_ends_were_found() -> None:
    poller = rested()
    count(poller, 2.0, 12)
    assert poller.due(2.0, 0.0) == [LIVE]
    stale: list[bool] = []
    for _ in range(2):
        poller.found()
        stale.append(poller.stale_before > NEVER)
    assert stale == [True, False]


def test_ends_that_were_found_before_they_were_counted_are_explained() -> None:
    poller = rested()
    poller.found()
    count(poller, 2.0, 11)
    assert poller.stale_before == NEVER


def test_an_end_that_was_found_long_ago_does_not_hide_a_later_one() -> None:
    poller = rested()
    poller.found()
    # This count began after the end was found, so it must hold it; it does not grow, so the baseline did.
    count(poller, 2.0, 10)
    count(poller, 3.0, 11)
    assert poller.stale_before == 3.0


def test_an_end_found_while_a_count_is_in_flight_explains_the_next_one() -> None:
    poller = rested()
    poller.started(CountRuns(), 2.0)
    poller.found()
    poller.counted(2.1, 10, 0.0)
    count(poller, 3.0, 11)
    assert poller.stale_before == NEVER


def test_ends_of_others_are_forgotten_once_every_run_was_seen_since_their_count() -> None:
    poller = rested()
    count(poller, 2.0, 11)
    count(poller, 3.0, 13)
    poller.examined(1.9)
    assert poller.stale_before == 3.0
    poller.examined(2.5)
    poller.found()
    assert poller.stale_before == 3.0
    poller.examined(3.0)
    assert poller.stale_before == NEVER


@pytest.mark.parametrize("way", ["shrank", "failed"])
def test_a_count_that_says_nothing_has_every_run_polled_once_even_while_others_end(way: str) -> None:
    poller = rested()
    if way == "shrank":
        count(poller, 2.0, 9)
    else:
        poller.started(CountRuns(), 2.0)
        poller.failed(CountRuns(), 2.0, 0.0, PASSING)
        count(poller, 2.0, 20)
    poller.found()
    poller.examined(1.9)
    assert poller.stale_before == 2.0
    poller.examined(2.0)
    assert poller.stale_before == NEVER


def test_counts_are_an_interval_apart_and_further_while_answers_are_slow_or_counts_fail() -> None:
    poller, pauses = rested(), list[float]()
    for answer_time, fails in ((0.0, False), (0.1, False), (2.0, False), (0.0, True)):
        poller.started(CountRuns(), 10.0)
        if fails:
            poller.failed(CountRuns(), 10.0, answer_time, PASSING)
        else:
            poller.counted(10.0, 10, answer_time)
        pauses.append(poller._count_at - 10.0)
    assert pauses == pytest.approx([RunPoller.INTERVAL, RunPoller.INTERVAL, 4.0, RunPoller.WITHOUT_COUNTS])


def test_a_list_that_is_not_full_names_what_is_missing() -> None:
    reach = listed(rested(), 5.0, wait("a"), wait("b"), rows={"a": ListedRun("running", 1.0)})
    assert (ids(reach.alive), ids(reach.gone), ids(reach.unreached)) == (["a"], ["b"], [])


def test_a_full_list_answers_for_the_runs_that_are_newer_than_its_oldest_row() -> None:
    rows = {name: ListedRun("running", float(at)) for name, at in (("x", 30), ("y", 20), ("a", 10))}
    waits = (
        wait("a"),
        wait("new", created=25.0),
        wait("old", created=5.0),
        wait("unknown"),
        wait("as-old", created=10.0),
    )
    reach = listed(rested(), 5.0, *waits, rows=rows, full=True)
    assert (ids(reach.alive), ids(reach.gone)) == (["a"], ["new"])
    assert ids(reach.unreached) == ["old", "unknown", "as-old"]


def test_a_full_list_with_a_row_of_unknown_age_answers_for_its_rows_only() -> None:
    rows = {"x": ListedRun("running", 30.0), "y": ListedRun("running", None)}
    assert ids(listed(rested(), 5.0, wait("new", created=99.0), rows=rows, full=True).unreached) == ["new"]


def test_a_run_seen_after_the_list_was_requested_is_not_missing() -> None:
    poller = rested()
    poller.started(LIVE, 5.0)
    reach = poller.listed(LIVE, 5.0, 6.0, {}, [wait("registered-later", since=5.5), wait("earlier")], full=False)
    assert ids(reach.gone) == ["earlier"]


def test_a_complete_list_of_one_status_names_only_runs_last_seen_in_it() -> None:
    waits = wait("a", status="running"), wait("b", status="waiting")
    assert ids(listed(rested(), 5.0, *waits, request=PARTS[0]).gone) == ["a"]


def test_a_full_list_of_live_runs_is_followed_by_those_of_the_running_and_the_waiting() -> None:
    poller = rested()
    count(poller, 2.0, 11)
    rows = {f"r{n}": ListedRun("running", 100.0 + n) for n in range(3)}
    waits = [wait(f"r{n}") for n in range(3)] + [wait(f"old{n}", created=1.0) for n in range(9)]
    listed(poller, 2.5, *waits, rows=rows, full=True)
    assert poller.due(2.5, 0.0) == list(PARTS)


def test_a_full_list_that_holds_hardly_any_run_of_ours_is_left_out_for_a_minute() -> None:
    poller = rested()
    count(poller, 2.0, 11)
    rows = {"other": ListedRun("running", 50.0), "a": ListedRun("running", 40.0)}
    listed(poller, 2.5, wait("a"), wait("b", created=1.0), rows=rows, full=True)
    assert poller.is_poor(LIVE, 2.5)
    count(poller, 4.0, 12)
    assert LIVE not in poller.due(4.0, 0.0)
    count(poller, 70.0, 13)
    assert LIVE in poller.due(70.0, 0.0)


def test_lists_for_newcomers_are_spaced_and_further_while_answers_are_slow() -> None:
    poller = rested()
    poller.want_list()
    for answer_time, spacing in ((0.0, 0.25), (0.02, 0.25), (0.04, 0.4), (0.2, 0.5), (1.0, 2.0)):
        assert LIVE not in poller.due(0.1 + spacing - 0.01, answer_time)
        assert LIVE in poller.due(0.1 + spacing + 0.01, answer_time)


def test_while_ends_are_found_runs_are_listed_without_a_count() -> None:
    poller = rested()
    assert poller.due(2.0, 0.0) == [CountRuns()]
    poller.started(CountRuns(), 2.0)
    poller.ended(wait("a"), "succeeded", 2.0)
    assert poller.wake_at(0.0) == 0.1 + 0.25
    assert poller.due(2.0, 0.0) == [LIVE]
    listed(poller, 2.0)
    assert poller.wake_at(0.0) == 2.25
    assert poller.due(2.25, 0.0) == [LIVE]
    listed(poller, 2.25)
    # One that had no room at its time is still due later.
    assert poller.due(30.0, 0.0) == [LIVE]
    listed(poller, 30.0)
    assert poller.due(30.0 + RunPoller.SAFETY - 0.1, 0.0) == []
    assert poller.wake_at(0.0) == 30.0 + RunPoller.SAFETY


def test_a_list_that_is_left_out_is_no_reason_to_wake_while_ends_are_found() -> None:
    poller = rested()
    poller.started(LIVE, 2.0)
    poller.failed(LIVE, 2.1, 0.0, REFUSED)
    poller.started(CountRuns(), 2.1)
    poller.ended(wait("a"), "succeeded", 2.2)
    assert poller.wake_at(0.0) >= 2.1 + RunPoller.POOR_FOR
    poller.due(3.0, 0.0)
    assert poller.wake_at(0.0) >= 2.1 + RunPoller.POOR_FOR


def test_a_slow_list_is_left_to_the_counts_while_ends_are_found() -> None:
    poller = rested()
    poller.started(LIVE, 2.0)
    poller.listed(LIVE, 2.0, 2.15, {}, [], full=False)
    poller.started(CountRuns(), 2.15)
    poller.ended(wait("a"), "succeeded", 2.15)
    assert poller.due(2.0 + 10 * 0.15 - 0.1, 0.0) == []
    assert poller.due(2.0 + 10 * 0.15 + 0.1, 0.0) == [LIVE]
    poller.counted(2.9, 99, 0.0)
    assert LIVE in poller.due(2.9, 0.0)


def test_a_list_that_keeps_failing_is_requested_less_often_until_it_is_answered() -> None:
    poller, now, pauses = rested(), 5.0, list[float]()
    poller.want_list()
    for _ in range(4):
        poller.started(LIVE, now)
        poller.started(CountRuns(), now)
        poller.failed(LIVE, now, 0.0, PASSING)
        poller.ended(wait("a"), "succeeded", now)
        pauses.append(poller.wake_at(0.0) - now)
        now += pauses[-1]
        assert LIVE in poller.due(now, 0.0)
    assert pauses == pytest.approx([0.75, 1.5, 3.0, 3.0])
    listed(poller, now)
    poller.want_list()
    assert LIVE in poller.due(now + 0.25, 0.0)


def test_a_list_that_reached_hardly_any_run_is_tried_again_after_five_seconds_when_more_have_joined() -> None:
    poller = rested()
    rows = {"other": ListedRun("running", 50.0), "a": ListedRun("running", 40.0)}
    listed(poller, 2.5, wait("a"), wait("b", created=1.0), rows=rows, full=True)
    assert poller.is_poor(LIVE, 60.0)
    poller.joined(3.0)
    assert LIVE not in poller.due(7.4, 0.0)
    assert poller.is_poor(LIVE, 7.4)
    poller.started(CountRuns(), 7.4)
    assert poller.wake_at(0.0) == 7.5
    assert poller.due(7.5, 0.0) == [LIVE]
    listed(poller, 7.5, wait("a"), wait("b", created=1.0), rows=rows, full=True)
    assert poller.is_poor(LIVE, 67.4)


def test_a_list_that_was_refused_is_not_tried_again_because_more_have_joined() -> None:
    poller = rested()
    poller.started(LIVE, 2.0)
    poller.failed(LIVE, 2.1, 0.0, REFUSED)
    poller.joined(3.0)
    assert poller.is_poor(LIVE, 60.0)


def test_a_list_that_was_abandoned_or_failed_for_a_moment_is_requested_again() -> None:
    poller = rested()
    for step in range(2):
        poller.want_list()
        poller.started(LIVE, 5.0 + step)
        if step:
            poller.dropped(LIVE)
        else:
            poller.failed(LIVE, 5.0, 0.0, PASSING)
        assert LIVE in poller.due(7.0 + step, 0.0)


def test_a_refused_list_is_left_out() -> None:
    poller = rested()
    poller.want_list()
    poller.started(LIVE, 5.0)
    poller.failed(LIVE, 5.1, 0.0, REFUSED)
    poller.want_list()
    assert LIVE not in poller.due(10.0, 0.0)


def test_many_runs_that_seem_to_have_ended_are_settled_by_one_list() -> None:
    poller, waits = rested(), [wait(f"r{n}", created=10.0 + n) for n in range(6)]
    assert poller.settler_for(waits[:4], 1.0) is None
    assert poller.settler_for(waits, 1.0) == (ALL, waits)
    # Full, and its oldest row is the fourth run: the three older ones are out of its reach.
    rows = {f"r{n}": ListedRun("succeeded", 10.0 + n, ended=True) for n in (3, 4, 5)}
    reach = listed(poller, 1.0, *waits, request=ALL, rows=rows, full=True)
    assert ids(reach.ended) == ["r3", "r4", "r5"]
    assert poller.settler_for(waits[:3] * 2, 2.0) is None
    # With twenty of them, the list of those that succeeded is worth its price.
    older = [wait(f"o{n}", created=1.0) for n in range(20)]
    assert poller.settler_for(older, 2.0) == (SUCCEEDED, older)


def test_the_list_that_may_settle_most_is_chosen() -> None:
    poller, waits = rested(), [wait(f"r{n}", created=10.0 + n) for n in range(30)]
    assert poller.settler_for(waits, 1.0) == (ALL, waits)
    for one in waits[:6]:
        one.missed_by = frozenset({"all"})
    assert poller.settler_for(waits, 1.0) == (SUCCEEDED, waits)
    assert poller.settler_for(waits[:12], 1.0) == (ALL, waits[6:12])


def test_lists_become_rarer_while_slow_single_polls_fall_behind_and_only_up_to_a_limit() -> None:
    def due_after(behind: float, answer_time: float) -> float:
        poller = rested()
        poller.started(CountRuns(), 10.0)
        poller.started(LIVE, 10.0, behind)
        poller.listed(LIVE, 10.0, 10.0, {}, [], full=False)
        poller.want_list()
        return poller.wake_at(answer_time) - 10.0

    assert [due_after(behind, 2.0) for behind in (0.0, 12.0, 36.0, 600.0)] == [4.0, 4.0, 6.0, 8.0]
    # With fast answers, a long queue is no reason.
    assert due_after(600.0, 0.02) == 0.25


def test_a_list_of_ended_runs_that_settles_hardly_any_is_left_out_for_a_minute() -> None:
    poller, waits = rested(), [wait(f"r{n}", created=10.0 + n) for n in range(6)]
    listed(poller, 1.0, *waits, request=ALL, rows={}, full=False)
    assert poller.settler_for(waits, 2.0) is None
    assert poller.settler_for(waits, 62.0) == (ALL, waits)


def test_a_run_that_a_list_did_not_hold_is_not_searched_for_in_it_again() -> None:
    poller, waits = rested(), [wait(f"r{n}", created=10.0 + n) for n in range(6)]
    for one in waits:
        one.missed_by = frozenset({"all"})
    assert poller.settler_for(waits, 1.0) is None


def test_nothing_is_remembered_over_idle_time() -> None:
    poller = rested()
    count(poller, 2.0, 12)
    poller.rest()
    assert poller.stale_before == NEVER
    count(poller, 3.0, 12)
    assert poller.stale_before == 3.0

"""Ruling out ends by lists of ended runs: what is evidence, and when the lists are left out."""

from __future__ import annotations

import pytest

from helmr_provider.client._waiting.actions import FULL_LIST, RUN, ListedRun, WaitKey
from helmr_provider.client._waiting.ended_lists import ENDED, EndedLists
from helmr_provider.client._waiting.pacing import FailureDelay, PollInterval
from helmr_provider.client._waiting.poll_queue import NEVER, Wait

MANY = EndedLists.LEAST
QUICK = 0.01
FOREVER = float("inf")


def searched(number: int, *, since: float = 0.0, shown: float = 0.0) -> Wait:
    pace = PollInterval(1.0, 5.0, 1.5, lambda: 0.5)
    made = Wait(WaitKey(RUN, f"run-{number}"), pace, FailureDelay(1.0, 10.0, lambda: 0.5), since=since, shown=shown)
    made.created, made.unreached = float(number), True
    return made


def row(number: int, status: str = "succeeded") -> dict[str, ListedRun]:
    return {f"run-{number}": ListedRun(status, float(number), ended=True)}


def answer(lists: EndedLists, ours: list[Wait], now: float, rows: dict[str, ListedRun], horizon: float = NEVER) -> None:
    """Answer each list; ``rows`` are those of its status."""
    for request in ENDED:
        lists.started(request, now)
    for request in ENDED:
        shown = {run_id: listed for run_id, listed in rows.items() if listed.status == request.status}
        lists.listed(request, now, now + QUICK, shown, horizon=horizon, ours=ours)


def sinces(waits: list[Wait]) -> set[float]:
    return {wait.since for wait in waits}


def test_runs_in_no_list_of_ended_ones_were_alive_when_the_first_list_was_requested() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    for moment, request in enumerate(ENDED, 1):
        lists.listed(request, float(moment), 10.0, row(3) if request == ENDED[-1] else {}, horizon=NEVER, ours=ours)
    assert ours[3].since == 0.0
    assert sinces(ours[:3] + ours[4:]) == {1.0}


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "expired"])
def test_each_list_is_needed(status: str) -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    for request in ENDED:
        if request.status != status:
            lists.listed(request, 1.0, 1.0, row(3), horizon=NEVER, ours=ours)
    assert sinces(ours) == {0.0}


def test_a_full_list_says_nothing_about_runs_that_are_older_than_its_rows() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    answer(lists, ours, 1.0, row(MANY + 1) | row(60), horizon=40.0)
    assert sinces(ours[:41]) == {0.0}
    assert sinces(ours[41:60] + ours[61:]) == {1.0}


def test_runs_of_unknown_age_and_runs_registered_later_keep_their_time() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    ours[5].created = None
    ours[6].since = 1.5
    answer(lists, ours, 1.0, row(3))
    assert [ours[5].since, ours[6].since] == [0.0, 1.5]


@pytest.mark.parametrize("rows", [{}, row(9)], ids=["none", "an older one of others"])
def test_lists_that_show_no_run_as_young_as_ours_are_not_believed_and_left_out(rows: dict[str, ListedRun]) -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(10, 10 + MANY)]
    answer(lists, ours, 1.0, rows)
    assert sinces(ours) == {0.0}
    assert lists.due_at(ENDED[0], MANY, QUICK) == pytest.approx(1.0 + QUICK + EndedLists.UNPROVEN)


def test_lists_that_show_a_younger_run_of_others_are_believed() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(10, 10 + MANY)]
    answer(lists, ours, 1.0, row(11 + MANY))
    assert sinces(ours) == {1.0}


def test_a_list_that_lacks_an_end_that_is_known_is_not_believed_and_left_out() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    answer(lists, ours, 1.0, row(3))
    lists.found(ours[7], "succeeded", 3.0)
    answer(lists, ours, 4.0, row(3))
    assert max(sinces(ours)) == 1.0
    assert lists.due_at(ENDED[0], MANY, QUICK) >= 4.0 + EndedLists.LEFT_OUT


def test_a_list_need_not_show_a_known_end_that_is_older_than_its_rows() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    answer(lists, ours, 1.0, row(3))
    lists.found(ours[7], "succeeded", 3.0)
    answer(lists, ours, 4.0, row(90), horizon=8.0)
    assert ours[50].since == 4.0


def test_a_list_need_not_show_an_end_that_was_found_after_its_request() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    answer(lists, ours, 1.0, row(3))
    lists.found(ours[7], "succeeded", 4.0)
    answer(lists, ours, 4.0, row(3))
    assert ours[50].since == 4.0


def test_ends_are_not_kept_while_the_lists_are_not_requested() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    answer(lists, ours, 1.0, row(3))
    for number in range(5000):
        lists.found(searched(number), "succeeded" if number % 2 else "unheard-of", 2.0)
    assert sum(len(ends) for ends in lists._found.values()) == FULL_LIST


def test_lists_that_rule_out_few_ends_are_left_out() -> None:
    lists, ours = EndedLists(), [searched(number) for number in range(MANY)]
    answer(lists, ours, 1.0, row(95), horizon=90.0)
    assert ours[93].since == 1.0
    assert lists.due_at(ENDED[0], MANY, QUICK) >= 1.0 + EndedLists.LEFT_OUT


def test_a_run_is_polled_now_and_then_whatever_lists_say() -> None:
    now = EndedLists.RELIED_ON + 1.0
    lists, ours = EndedLists(), [searched(number, since=now - 9.0, shown=now - 9.0) for number in range(MANY)]
    ours[4].shown = 0.0
    answer(lists, ours, now, row(3))
    assert ours[4].since == now - 9.0
    assert ours[5].since == now


def test_lists_are_requested_only_for_many_runs_while_answers_are_quick_and_not_too_often() -> None:
    lists = EndedLists()
    assert lists.due_at(ENDED[0], MANY, QUICK) == NEVER
    assert lists.due_at(ENDED[0], MANY - 1, QUICK) == FOREVER
    assert lists.due_at(ENDED[0], MANY, EndedLists.SLOW + 0.01) == FOREVER
    lists.started(ENDED[0], 5.0)
    assert lists.due_at(ENDED[0], MANY, QUICK) == 5.0 + EndedLists.SPACING
    # One that took half a second is left alone for five, unless the one before was quick.
    lists.listed(ENDED[0], 5.0, 5.5, {}, horizon=NEVER, ours=[])
    assert lists.due_at(ENDED[0], MANY, QUICK) == 10.0
    lists.listed(ENDED[0], 5.0, 5.1, {}, horizon=NEVER, ours=[])
    lists.listed(ENDED[0], 5.0, 5.5, {}, horizon=NEVER, ours=[])
    assert lists.due_at(ENDED[0], MANY, QUICK) == pytest.approx(6.0)
    lists.failed(6.0)
    assert lists.due_at(ENDED[1], MANY, QUICK) == 6.0 + EndedLists.LEFT_OUT

"""Cursors: nothing is handed on twice, nothing is left out, and both survive being stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.triggers.events._feed_events import Cursor, FeedEvent

SLACK = 10.0


def feed_event(order: float, id_: str = "") -> FeedEvent:
    return FeedEvent(order, id_ or f"id-{order}", {})


# Each becomes visible at most the slack later than those that happened after it.
LATE = st.lists(st.tuples(st.floats(0, 1000), st.floats(0, SLACK - 0.01)), max_size=40).map(
    lambda items: [feed_event(at, f"{at}/{n}") for n, (at, _) in sorted(enumerate(items), key=lambda i: sum(i[1]))]
)


@given(LATE, st.integers(0, 40))
def test_each_is_new_once_however_late_it_comes_and_wherever_the_cursor_was_stored(
    seen: list[FeedEvent], restart: int
) -> None:
    cursor = Cursor(order=-SLACK, slack=SLACK)
    for number, each in enumerate(seen):
        if number == restart:
            cursor = Cursor.read(json.loads(json.dumps(cursor.stored())), SLACK) or Cursor()
        assert cursor.is_new(each)
        cursor = cursor.past(each)
        assert not cursor.is_new(each)
    assert all(not cursor.is_new(each) for each in seen)


@given(st.lists(st.integers(1, 100), unique=True).map(sorted))
def test_a_sequence_needs_no_memory(orders: list[int]) -> None:
    cursor = Cursor()
    for order in orders:
        assert cursor.is_new(feed_event(order))
        cursor = cursor.past(feed_event(order))
    assert cursor.stored() == {"order": orders[-1] if orders else 0}


def test_what_is_stored_is_bounded_and_keeps_the_newest() -> None:
    cursor = Cursor(slack=SLACK)
    for number in range(2000):
        cursor = cursor.past(feed_event(1 + number / 1000, f"00000000-0000-7000-8000-{number:012}"))
    stored = cursor.stored()
    assert len(json.dumps(stored)) < 48 * 1024
    assert max(stored["remembered"].values()) == cursor.order


def test_what_is_of_no_interest_moves_the_cursor_and_is_not_remembered() -> None:
    cursor = Cursor(slack=SLACK).past(feed_event(1)).beside(feed_event(5))
    assert cursor.stored() == {"order": 5, "remembered": {"id-1": 1}}
    assert Cursor(order=9).beside(feed_event(5)).order == 9


@pytest.mark.parametrize("stored", [None, 7, "x", {}, {"order": "x"}])
def test_what_is_nothing_of_ours_is_no_cursor(stored: Any) -> None:
    assert Cursor.read(stored, SLACK) is None

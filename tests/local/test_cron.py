"""Cron expressions: which moments they name, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.local.definitions import cron

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def moments(expression: str, start: str, count: int, zone: ZoneInfo = AMSTERDAM) -> list[str]:
    found = cron.parse(expression).after(datetime.fromisoformat(start), zone)
    return [moment.isoformat() for moment in islice(found, count)]


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    # The other implementation takes `0-0`, and a range that is the whole week, for a star.
    ordered = st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)
    item = st.one_of(
        number.map(str),
        ordered.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(ordered, st.integers(1, 7)).map(lambda parts: f"{parts[0][0]}-{parts[0][1]}/{parts[1]}"),
    )
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 5)).map(" ".join)


@given(EXPRESSIONS, st.integers(1_577_836_800, 1_893_456_000))
def test_the_moments_are_those_of_another_implementation(expression: str, seconds: int) -> None:
    instant = datetime.fromtimestamp(seconds, UTC)
    other = croniter(expression, instant)
    wanted = [other.get_next(datetime) for _ in range(4)]
    assert list(islice(cron.parse(expression).after(instant, ZoneInfo("UTC")), 4)) == wanted


def test_names_count_in_any_case_and_a_question_mark_is_a_star() -> None:
    by_name = moments("0 9 ? jan,MAR Mon-fri", "2026-01-01T00:00:00+00:00", 30)
    assert by_name == moments("0 9 * 1,3 1-5", "2026-01-01T00:00:00+00:00", 30)


def test_with_both_day_fields_restricted_either_matches() -> None:
    assert moments("0 0 13 * 5", "2026-11-01T00:00:00+00:00", 3, ZoneInfo("UTC")) == [
        "2026-11-06T00:00:00+00:00",
        "2026-11-13T00:00:00+00:00",
        "2026-11-20T00:00:00+00:00",
    ]


def test_an_hour_that_the_clocks_skip_is_skipped() -> None:
    assert moments("30 2 * * *", "2026-03-28T12:00:00+00:00", 2) == [
        "2026-03-30T00:30:00+00:00",
        "2026-03-31T00:30:00+00:00",
    ]


def test_an_hour_that_the_clocks_show_twice_comes_twice() -> None:
    assert moments("30 2 * * *", "2026-10-24T12:00:00+00:00", 3) == [
        "2026-10-25T00:30:00+00:00",
        "2026-10-25T01:30:00+00:00",
        "2026-10-26T01:30:00+00:00",
    ]


def test_what_never_comes_ends_without_a_moment() -> None:
    assert moments("0 0 30 2 *", "2026-01-01T00:00:00+00:00", 1) == []


def test_the_next_leap_day_is_found() -> None:
    assert moments("0 0 29 2 *", "2026-01-01T00:00:00+00:00", 1, ZoneInfo("UTC")) == ["2028-02-29T00:00:00+00:00"]


def test_a_step_without_an_end_goes_to_the_end() -> None:
    assert moments("50/4 * * * *", "2026-01-01T00:00:00+00:00", 4) == [
        f"2026-01-01T00:{minute}:00+00:00" for minute in (50, 54, 58)
    ] + ["2026-01-01T01:50:00+00:00"]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "empty spec string"),
        ("@hourly", "parser does not accept descriptors: @hourly"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
    ],
)
def test_what_is_no_expression_is_refused(expression: str, complaint: str) -> None:
    with pytest.raises(cron.CronError) as refusal:
        cron.parse(expression)
    assert str(refusal.value) == complaint

"""Cron expressions: accepted exactly when the control plane accepts them, with the times that it would fire at."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st

from helmr_provider.local.definitions import cron as of_the_control_plane
from helmr_provider.schedules._cron import Cron, CronError, zone_of

BERLIN = "Europe/Berlin"
ANY_ITEM = st.one_of(
    st.sampled_from(["*", "?", "*/2", "*/0", "?/3", "5/10", "1-5", "5-1", "7", "MON", "sun-Tue", "Dec", "+3", "-1"]),
    st.integers(0, 70).map(str),
    st.text("0123456789*?/-+,janmonSUN@ ", max_size=6),
    st.text(max_size=3),
)
ANY_FIELD = st.lists(ANY_ITEM, min_size=1, max_size=3).map(",".join)
ANY_EXPRESSION = st.lists(ANY_FIELD, min_size=4, max_size=6).map(" ".join)


def wanted_field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    ends = st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)
    item = st.one_of(
        number.map(str),
        ends.map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.tuples(ends, st.integers(1, 7)).map(lambda parts: f"{parts[0][0]}-{parts[0][1]}/{parts[1]}"),
        st.integers(1, 7).map(lambda step: f"*/{step}"),
    )
    return st.one_of(st.sampled_from("*?"), st.lists(item, min_size=1, max_size=3).map(",".join))


EXPRESSION = st.tuples(
    wanted_field(0, 59), wanted_field(0, 23), wanted_field(1, 28), wanted_field(1, 12), wanted_field(0, 6)
).map(" ".join)
INSTANT = st.integers(1_577_836_800, 1_893_456_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ZONE = st.sampled_from(["UTC", BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Antarctica/Troll", "Asia/Kolkata"])


def fires(expression: str, after: str, count: int, zone: str = BERLIN) -> list[str]:
    moments = Cron.parse(expression).fires(datetime.fromisoformat(after), zone_of(zone))
    return [moment.isoformat() for moment in islice(moments, count)]


@given(ANY_EXPRESSION)
@example("*-x * * * *")
@example(", * * * *")
@example("1,,2 * * * *")
@example("0 0 * * 7")
@example("")
@example(" @daily")
def test_it_accepts_what_the_control_plane_accepts_and_nothing_else(expression: str) -> None:
    try:
        theirs = of_the_control_plane.parse(expression.strip())
    except of_the_control_plane.CronError:
        with pytest.raises(CronError):
            Cron.parse(expression)
    else:
        ours = Cron.parse(expression)
        assert (ours.minutes, ours.hours, ours.days) == (theirs.minutes, theirs.hours, theirs.days)
        assert (ours.months, ours.weekdays, ours.either_day) == (theirs.months, theirs.weekdays, theirs.either_day)


@given(EXPRESSION, INSTANT, ZONE)
def test_it_fires_when_the_control_plane_fires(expression: str, after: datetime, zone: str) -> None:
    theirs = islice(of_the_control_plane.parse(expression).after(after, ZoneInfo(zone)), 4)
    ours = islice(Cron.parse(expression).fires(after, zone_of(zone)), 4)
    # As timestamps: a local time that the end of summer time repeats equals no time of another zone.
    assert [fire.timestamp() for fire in ours] == [fire.timestamp() for fire in theirs]


# The library takes "0-0", and a list that is the whole range, for a star, which changes what the day fields mean.
@given(
    st.tuples(*(wanted_field(*ends) for ends in ((0, 59), (0, 23), (1, 28), (1, 12)))).map(" ".join),
    st.sampled_from(["*", "1", "0,3", "1-5"]),
    INSTANT,
)
def test_it_fires_when_an_independent_library_would(fields: str, weekday: str, after: datetime) -> None:
    expression = f"{fields} {weekday}".replace("?", "*")
    cron = Cron.parse(expression)
    if weekday != "*" and (len(cron.days) == 31 or fields.split()[2].startswith("*/")):
        return
    other = croniter(expression, after)
    assert list(islice(cron.fires(after, zone_of("UTC")), 3)) == [other.get_next(datetime) for _ in range(3)]


def test_with_both_day_fields_restricted_either_one_fires() -> None:
    assert fires("0 0 13 * fri", "2026-11-01T00:00:00+00:00", 3, "utc") == [
        "2026-11-06T00:00:00+00:00",
        "2026-11-13T00:00:00+00:00",
        "2026-11-20T00:00:00+00:00",
    ]


def test_a_day_field_that_names_every_day_is_restricted_all_the_same() -> None:
    assert Cron.parse("0 0 1-31 * 1").either_day
    assert not Cron.parse("0 0 ? * 1").either_day
    assert not Cron.parse("0 0 5,* * 1").either_day


def test_a_time_that_the_clocks_skip_does_not_fire() -> None:
    assert fires("30 2 * * *", "2026-03-28T12:00:00+00:00", 2) == [
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ]


def test_a_time_that_the_clocks_show_twice_fires_twice_and_in_order() -> None:
    assert fires("0,30 2 * * *", "2026-10-24T12:00:00+00:00", 4) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
    ]


@pytest.mark.parametrize("never", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", ", * * * *"])
def test_what_never_fires_ends_without_a_time(never: str) -> None:
    assert fires(never, "2026-01-01T00:00:00+00:00", 1) == []


def test_the_next_leap_day_is_found() -> None:
    assert fires("0 0 29 2 *", "2026-01-01T00:00:00+00:00", 1, "UTC") == ["2028-02-29T00:00:00+00:00"]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("0 6 * *", "has 4 fields instead of five: minute, hour, day of month, month, day of week"),
        ("0 0 6 * * 1", "has 6 fields"),
        ("@hourly", "names such as @daily are not known"),
        ("60 * * * *", r"minute: '60' is not within 0-59"),
        ("* * * * 7", r"day of week: '7' is not within 0-6"),
        ("* * 0 * *", r"day of month: '0' is not within 1-31"),
        ("5-1 * * * *", r"minute: '5-1' is not within"),
        ("1-2-3 * * * *", r"minute: '1-2-3' is not a value, a range or a step"),
        ("*/0 * * * *", r"the step of '\*/0' must be positive"),
        ("* * * foo *", r"month: 'foo' in 'foo' is not a number or a name"),
        ("1.5 * * * *", r"minute: '1.5' in '1.5' is not a number$"),
    ],
)
def test_a_refusal_says_which_field_and_why(expression: str, complaint: str) -> None:
    with pytest.raises(CronError, match=complaint):
        Cron.parse(expression)


@pytest.mark.parametrize("name", ["Local", "Berlin", "Europe", "../etc/passwd", "UTC+1", " ", "europe berlin"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(CronError, match="IANA"):
        zone_of(name)

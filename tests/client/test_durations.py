"""Durations and instants on the wire."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.client.durations import duration_text, instant_text, seconds, whole_seconds

UNITS = {"ms": 0.001, "s": 1.0}


@given(st.integers(1, 10**12))
def test_a_timedelta_and_the_same_number_of_seconds_are_one_text_that_means_the_same(milliseconds: int) -> None:
    text = duration_text("ttl", timedelta(milliseconds=milliseconds))
    assert text == duration_text("ttl", milliseconds / 1000)
    match = re.fullmatch(r"(\d+)(ms|s)", text)
    assert match
    assert int(match[1]) * (1000 if match[2] == "s" else 1) == milliseconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(timedelta(hours=1), "3600s"), (90, "90s"), (1.5, "1500ms")],
        *[("7d", "7d"), (" 1h30m ", "1h30m"), ("1.5h", "1.5h")],
        # Text that the server does not read is converted.
        *[("1d12h", "129600s"), ("5", "5s"), ("1.5", "1500ms"), ("1.5d", "129600s")],
    ],
)
def test_whole_seconds_stay_seconds_and_text_stays_text(value: Any, text: str) -> None:
    assert duration_text("ttl", value) == text


@pytest.mark.parametrize(
    "value", ["", "soon", "-1h", "0s", "0d", "2w", "1 h", "٣s", "0", "1µ", 0, -1, float("nan"), float("inf"), 10**400]
)
def test_what_the_server_would_refuse_is_refused_before_it_is_sent(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^ttl must be .*, but is ") as refused:
        duration_text("ttl", value)
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize("value", [True, None, [1], {"seconds": 1}])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^ttl must be a timedelta, a number of seconds, or text .*, but is "):
        duration_text("ttl", value)


def test_a_numeric_member_takes_whole_seconds_only() -> None:
    assert whole_seconds("max_duration", timedelta(minutes=2)) == 120
    assert whole_seconds("max_duration", 120.0) == 120
    assert whole_seconds("max_duration", 1) == 1
    assert whole_seconds("max_duration", "1h") == 3600
    assert whole_seconds("max_duration", "90") == 90
    for value in (1.5, 0, -5, timedelta(milliseconds=10)):
        with pytest.raises(ValueError, match="max_duration"):
            whole_seconds("max_duration", value)
    with pytest.raises(ValueError, match=r"^max_duration must be a whole number of seconds, but is '1\.5s'"):
        whole_seconds("max_duration", "1.5s")
    with pytest.raises(TypeError, match="max_duration"):
        whole_seconds("max_duration", True)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)), st.integers(-12, 12))  # noqa: DTZ001
def test_an_instant_is_sent_as_utc_with_milliseconds(naive: datetime, offset: int) -> None:
    instant = naive.replace(tzinfo=timezone(timedelta(hours=offset)))
    text = instant_text("expires_at", instant)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert timedelta(0) <= instant - datetime.fromisoformat(text) < timedelta(milliseconds=1)
    assert instant_text("expires_at", text) == text


def test_the_zone_of_this_machine_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        assert instant_text("expires_at", "2026-04-21T00:00:00+02:00") == "2026-04-20T22:00:00.000Z"
    time.tzset()


def test_an_instant_needs_a_zone_and_a_form() -> None:
    assert instant_text("expires_at", datetime(2026, 4, 21, tzinfo=UTC)) == "2026-04-21T00:00:00.000Z"
    for value in (datetime(2026, 4, 21), "2026-04-21T00:00:00", "tomorrow"):  # noqa: DTZ001
        with pytest.raises(ValueError, match="expires_at"):
            instant_text("expires_at", value)


@pytest.mark.parametrize(
    ("value", "number"),
    [("90s", 90), ("1h30m", 5400), ("7d", 604800), ("1d12h", 129600), ("250ms", 0.25), (" 3600 ", 3600), ("0", 0)],
)
def test_text_is_read_as_seconds(value: str, number: float) -> None:
    assert seconds(value) == number


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9999)))
def test_the_request_body_means_the_same_as_the_arguments(value: timedelta) -> None:
    value = timedelta(milliseconds=value // timedelta(milliseconds=1) + 1)
    assert seconds(duration_text("ttl", value)) == pytest.approx(value.total_seconds())


def test_seconds_are_finite() -> None:
    assert seconds(timedelta(milliseconds=5)) == 0.005
    with pytest.raises(ValueError, match="finite"):
        seconds(float("inf"))

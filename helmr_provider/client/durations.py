"""Durations: what callers may give, and how the wire wants them (contract/behaviour.md section 16)."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TypeAlias

Duration: TypeAlias = "timedelta | float | str"
"""A timedelta, a number of seconds, or text such as ``"90s"``, ``"1h30m"``, ``"7d"`` or ``"3600"`` (seconds)."""

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_NUMBER: Final = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_PART: Final = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h|d)")
_TEXT: Final = re.compile(rf"(?:{_PART.pattern})+")
# What the server itself reads: Go's durations, or whole days.
_ON_THE_WIRE: Final = re.compile(rf"(?:{_NUMBER}(?:ns|us|µs|μs|ms|s|m|h))+|[0-9]+d")


def seconds(value: Duration, name: str = "The duration", *, positive: bool = False) -> float:
    """Return a duration in seconds.

    :param value: timedelta, seconds, or text such as ``"90s"``, ``"1h30m"``, ``"7d"`` or ``"3600"``.
    :param name: name of the parameter, for the error.
    :param positive: whether zero and less are refused.
    :raises ValueError: the value is not finite, not positive although it must be, or text of another form.
    :raises TypeError: the value is of another type.
    """
    number = _seconds(value, name)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, but is {value!r}.")
    if positive and number <= 0:
        raise ValueError(f"{name} must be positive, but is {value!r}.")
    return number


def poll_seconds(value: Duration) -> float:
    """Return a ``poll_interval`` in seconds.

    :param value: as for :func:`seconds`.
    :raises ValueError: the value is not a finite number above 0.
    :raises TypeError: the value is of another type.
    """
    return seconds(value, "poll_interval", positive=True)


def duration_text(name: str, value: Duration) -> str:
    """Return a duration as the server reads it: whole seconds where possible, else milliseconds.

    Text that the server reads is returned unchanged.

    :param name: name of the parameter, for the error.
    :param value: as for :func:`seconds`.
    :raises ValueError: the value is not positive, less than a millisecond, or text of another form.
    :raises TypeError: the value is of another type.
    """
    number = seconds(value, name, positive=True)
    if isinstance(value, str) and _ON_THE_WIRE.fullmatch(value.strip()):
        return value.strip()
    milliseconds = round(number * 1000)
    if milliseconds <= 0:
        raise ValueError(f"{name} must be at least a millisecond, but is {value!r}.")
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def whole_seconds(name: str, value: Duration) -> int:
    """Return a duration as the whole seconds of a numeric member.

    :param name: name of the parameter, for the error.
    :param value: as for :func:`seconds`.
    :raises ValueError: the value is not a whole, positive number of seconds.
    :raises TypeError: the value is of another type.
    """
    number = seconds(value, name, positive=True)
    if number != int(number):
        raise ValueError(f"{name} must be a whole number of seconds, but is {value!r}.")
    return int(number)


def _seconds(value: object, name: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _parsed(value.strip(), name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    raise TypeError(
        f"{name} must be a timedelta, a number of seconds, or text such as '90s' or '1h30m', but is {value!r}."
    )


def _parsed(text: str, name: str) -> float:
    if _TEXT.fullmatch(text):
        return math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if re.fullmatch(_NUMBER, text):
        return float(text)
    raise ValueError(f"{name} must be a duration such as '90s', '1h30m', '7d' or '3600' (seconds), but is {text!r}.")


def instant_text(name: str, value: datetime | str) -> str:
    """Render an instant as UTC with milliseconds, such as ``2026-04-21T00:00:00.000Z``.

    :raises ValueError: text that is not a date and time, or a date and time without a zone.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"{name} is not an ISO 8601 date and time.") from None
    if value.tzinfo is None:
        raise ValueError(f"{name} needs a time zone.")
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

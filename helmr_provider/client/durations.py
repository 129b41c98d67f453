"""Durations: what callers may give, and how the wire wants them (contract/behaviour.md section 16)."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

_GO_DURATION = re.compile(r"(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DAYS = re.compile(r"\d+d")


def seconds(value: timedelta | float) -> float:
    """Return seconds.

    :raises ValueError: not a finite number.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not math.isfinite(number):
        raise ValueError("A duration must be finite.")
    return number


def poll_seconds(value: timedelta | float) -> float:
    """Return a ``poll_interval`` in seconds.

    :raises ValueError: not a finite number above 0.
    """
    number = seconds(value)
    if number <= 0:
        raise ValueError("poll_interval must be greater than 0.")
    return number


def _is_amount(value: object) -> bool:
    return isinstance(value, (timedelta, int, float)) and not isinstance(value, bool)


def duration_text(name: str, value: timedelta | float | str) -> str:
    """Render a duration for the wire: whole seconds where possible, else milliseconds; text as given.

    :param name: option, for the error.
    :param value: timedelta, seconds, or text such as ``"90s"``, ``"1h30m"``, ``"30d"``.
    :raises ValueError: not positive, or text that the server would refuse.
    """
    if isinstance(value, str):
        text = value.strip()
        if not (_DAYS.fullmatch(text) or _GO_DURATION.fullmatch(text)) or not re.search(r"[1-9]", text):
            raise ValueError(f"{name} must be a positive duration such as '90s', '1h30m' or '30d'.")
        return text
    if not _is_amount(value):
        raise TypeError(f"{name} must be a timedelta, a number of seconds, or text.")
    milliseconds = round(seconds(value) * 1000)
    if milliseconds <= 0:
        raise ValueError(f"{name} must be at least a millisecond.")
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def whole_seconds(name: str, value: timedelta | float | str) -> int:
    """Return a duration as the whole seconds of a numeric member.

    :raises ValueError: not a whole positive number of seconds.
    :raises TypeError: text, which such a member does not take.
    """
    if isinstance(value, str) or not _is_amount(value):
        raise TypeError(f"{name} must be a timedelta or a number of seconds.")
    number = seconds(value)
    if number <= 0 or number != int(number):
        raise ValueError(f"{name} must be a whole, positive number of seconds.")
    return int(number)


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

"""How durations, moments and statuses are written. No I/O."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from helmr_provider.airflow_ui.markup import element

if TYPE_CHECKING:
    from datetime import datetime

    from helmr_provider.airflow_ui.markup import Markup

_TONES: Final = {
    "succeeded": "good",
    "success": "good",
    "completed": "good",
    "exited": "good",
    "open": "soft",
    "failed": "bad",
    "lost": "bad",
    "terminated": "bad",
    "upstream_failed": "bad",
    "cancelled": "bad",
    "expired": "bad",
    "waiting": "wait",
    "pending": "wait",
    "deferred": "wait",
    "running": "busy",
    "queued": "soft",
    "materializing": "soft",
}
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def tone(status: str) -> str:
    """Return the class that colours a status: good, bad, wait, busy or soft.

    :param status: of a run, session, token, command or task instance.
    """
    return _TONES.get(status, "soft")


def age(duration: timedelta) -> str:
    """Write a duration with its largest one or two units.

    :param duration: a negative one counts as none.
    """
    seconds = max(0, int(duration / timedelta(seconds=1)))
    if not seconds:
        return "less than 1 s"
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        hours, minutes = divmod(seconds // _MINUTE, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(seconds // _HOUR, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(at: datetime) -> Markup:
    """Return a moment, to the second, in UTC.

    :param at: an aware moment.
    """
    utc = at.astimezone(UTC)
    return element("time", f"{utc:%Y-%m-%d %H:%M:%S}", datetime=utc.isoformat())


def badge(status: str, tone_name: str | None = None) -> Markup:
    """Return a status with its colour.

    :param status: any status.
    :param tone_name: overrides the colour.
    """
    return element("span", status, class_=f"status {tone_name or tone(status)}")

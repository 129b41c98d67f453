"""Cron expressions as Helmr reads them (contract/behaviour.md §15): checked before sending, and previewed. Pure.

A parser of its own, because libraries accept what Helmr refuses and combine the two day fields differently. Tests
compare it with the local control plane and with croniter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from pendulum import DateTime, Timezone

# The control plane stops searching for a fire after as long.
_YEARS_AHEAD: Final = 5
_ITEM: Final = re.compile(
    r"(?:(?P<every>[*?])(?:-[^/]*)?|(?P<low>[^-/]*)(?:-(?P<high>[^-/]*))?)(?:/(?P<step>[^/]*))?", re.DOTALL
)


class CronError(ValueError):
    """Not a cron expression, or not a time zone; the text says why."""


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    _Field("day of week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """When a schedule fires.

    :param text: the expression, with single spaces.
    :param either_day: whether a day needs to match only one of the two day fields, because both are restricted.
    """

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read an expression of five fields: minute, hour, day of month, month, day of week.

        :param text: lists, ranges, steps, ``*``, ``?``, names of months and weekdays in any case; Sunday is 0.
        :raises CronError: the control plane would refuse it.
        """
        if text.lstrip().startswith("@"):
            raise CronError(f"{text.strip()!r} is not five fields; names such as @daily are not known to Helmr")
        parts = text.split()
        if len(parts) != len(_FIELDS):
            names = ", ".join(field.name for field in _FIELDS)
            raise CronError(f"{text!r} has {len(parts)} fields instead of five: {names}")
        (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = (
            _read(part, field) for part, field in zip(parts, _FIELDS, strict=True)
        )
        return cls(" ".join(parts), minutes, hours, days, months, weekdays, not any_day and not any_weekday)

    def fires(self, after: datetime, zone: Timezone) -> Iterator[DateTime]:
        """Yield the times after an instant; none, if five years bring none.

        A time of day that the zone's clocks skip does not fire; one that they show twice fires twice.

        :param after: an aware datetime.
        :param zone: where the schedule's clock hangs, as of :func:`zone_of`; the times are in it.
        """
        import pendulum

        day, last_year = after.astimezone(zone).date(), after.year + _YEARS_AHEAD
        while day.year <= last_year:
            if self._matches(day):
                for instant in self._instants(day, zone):
                    if instant > after:
                        yield pendulum.instance(instant).in_timezone(zone)
                        last_year = day.year + _YEARS_AHEAD
            day += timedelta(days=1)

    def _matches(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        matches = (day.day in self.days, day.isoweekday() % 7 in self.weekdays)
        return any(matches) if self.either_day else all(matches)

    def _instants(self, day: date, zone: Timezone) -> list[datetime]:
        clock = (time(hour, minute, fold=fold) for hour in self.hours for minute in self.minutes for fold in (0, 1))
        shown = (datetime.combine(day, at, zone) for at in clock)
        # What does not come back from UTC as it went there is never shown by a clock.
        instants = {
            local.astimezone(UTC)
            for local in shown
            if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None)
        }
        return sorted(instants)


def zone_of(name: str) -> Timezone:
    """Return a time zone.

    :param name: IANA name; ``utc`` counts in any case.
    :raises CronError: there is none of this name. Not for ``Local`` either, which is wherever the control plane is.
    """
    import pendulum

    if name.upper() == "UTC":
        return pendulum.UTC
    try:
        if name != "Local":
            return pendulum.timezone(name)
    except (ValueError, KeyError, OSError):
        pass
    raise CronError(f"{name!r} is not an IANA time zone, such as 'Europe/Berlin'")


def _read(text: str, field: _Field) -> tuple[frozenset[int], bool]:
    """Return the values of a field, and whether it leaves them all open: `*/2` and `1-31` do not."""
    values: set[int] = set()
    unrestricted = False
    for item in filter(None, text.split(",")):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise CronError(f"{field.name}: {item!r} is not a value, a range or a step")
        step = 1 if match["step"] is None else _number(match["step"], (), field, item)
        if match["every"]:
            low, high = field.least, field.most
            unrestricted = unrestricted or step == 1
        else:
            low = _number(match["low"], field.words, field, item)
            alone = low if match["step"] is None else field.most
            high = alone if match["high"] is None else _number(match["high"], field.words, field, item)
        if step < 1:
            raise CronError(f"{field.name}: the step of {item!r} must be positive")
        if not field.least <= low <= high <= field.most:
            raise CronError(f"{field.name}: {item!r} is not within {field.least}-{field.most}")
        values.update(range(low, high + 1, step))
    return frozenset(values), unrestricted


def _number(text: str, words: tuple[str, ...], field: _Field, item: str) -> int:
    if text.lower() in words:
        return words.index(text.lower()) + field.least
    if not re.fullmatch(r"\+?[0-9]+", text):
        raise CronError(f"{field.name}: {text!r} in {item!r} is not a number{' or a name' if words else ''}")
    return int(text)

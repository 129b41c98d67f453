"""Cron expressions as the control plane reads them: five fields, and the moments they name (contract/behaviour.md §15).

The texts of refusals are those of the parser that the real one uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from zoneinfo import ZoneInfo

_YEARS = 5
_DAY = timedelta(days=1)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class CronError(ValueError):
    """An expression is not valid."""


class _Field(NamedTuple):
    least: int
    most: int
    names: tuple[str, ...] = ()


_MINUTE, _HOUR, _DAY_OF_MONTH = _Field(0, 59), _Field(0, 23), _Field(1, 31)
_MONTH, _DAY_OF_WEEK = _Field(1, 12, _MONTHS), _Field(0, 6, _WEEKDAYS)
_FIELDS = (_MINUTE, _HOUR, _DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK)


@dataclass(frozen=True)
class Cron:
    """A parsed expression.

    :param either_day: both day fields are restricted, so that a day needs to match only one of them.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def after(self, instant: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Yield the moments after an instant, in UTC; none, if five years bring none.

        A time of day that a zone's clocks skip is skipped; one that they show twice comes twice.

        :param instant: an aware datetime.
        :param zone: where the expression's clock hangs.
        """
        day = instant.astimezone(zone).date()
        last_year = day.year + _YEARS
        while day.year <= last_year:
            if self._matches(day):
                for slot in self._slots(day, zone):
                    if slot > instant:
                        yield slot
                        last_year = day.year + _YEARS
            day += _DAY

    def _matches(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_month or by_week if self.either_day else by_month and by_week

    def _slots(self, day: date, zone: ZoneInfo) -> list[datetime]:
        found: set[datetime] = set()
        for hour in self.hours:
            for minute in self.minutes:
                for fold in (0, 1):
                    local = datetime.combine(day, time(hour, minute, fold=fold), tzinfo=zone)
                    slot = local.astimezone(UTC)
                    if slot.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
                        found.add(slot)
        return sorted(found)


def parse(text: str) -> Cron:
    """Parse an expression of five fields: minute, hour, day of the month, month, day of the week.

    :raises CronError: if it is not one.
    """
    if not text:
        raise CronError("empty spec string")
    if text.startswith("@"):
        raise CronError(f"parser does not accept descriptors: {text}")
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise CronError(f"expected exactly {len(_FIELDS)} fields, found {len(parts)}: [{' '.join(parts)}]")
    values, restricted = zip(*(_read(part, field) for part, field in zip(parts, _FIELDS, strict=True)), strict=True)
    minutes, hours, days, months, weekdays = values
    return Cron(minutes, hours, days, months, weekdays, either_day=restricted[2] and restricted[4])


def _read(text: str, field: _Field) -> tuple[frozenset[int], bool]:
    """Return a field's values, and whether it restricts: one that holds a bare `*` does not."""
    values: set[int] = set()
    restricted = True
    for part in text.split(","):
        if part:
            found, everything = _range(part, field)
            values |= found
            restricted = restricted and not everything
    return frozenset(values), restricted


def _range(text: str, field: _Field) -> tuple[set[int], bool]:
    span, *steps = text.split("/")
    low, *high = span.split("-")
    everything = low in ("*", "?")
    if everything:
        start, end = field.least, field.most
    else:
        start = end = _number(low, field.names)
        if len(high) > 1:
            raise CronError(f"too many hyphens: {text}")
        if high:
            end = _number(high[0], field.names)
    if len(steps) > 1:
        raise CronError(f"too many slashes: {text}")
    step = _number(steps[0], ()) if steps else 1
    if steps and not high:
        end = field.most
    if start < field.least:
        raise CronError(f"beginning of range ({start}) below minimum ({field.least}): {text}")
    if end > field.most:
        raise CronError(f"end of range ({end}) above maximum ({field.most}): {text}")
    if start > end:
        raise CronError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise CronError(f"step of range should be a positive number: {text}")
    return set(range(start, end + 1, step)), everything and step == 1


def _number(text: str, names: tuple[str, ...]) -> int:
    name = text.lower()
    if name in names:
        return names.index(name) + (1 if names is _MONTHS else 0)
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise CronError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if number < 0:
        raise CronError(f"negative number ({number}) not allowed: {text}")
    return number

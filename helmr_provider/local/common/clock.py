"""The clock, and instants as microseconds since the epoch and in RFC 3339 as Go writes them."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime, timedelta

SECOND = 1_000_000
DAY = 86_400 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)([.,]\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_LAYOUT = "2006-01-02T15:04:05Z07:00"
_LAYOUT_PARTS = (
    ("2006", r"\d{4}"),
    ("-", "-"),
    ("01", r"\d\d"),
    ("-", "-"),
    ("02", r"\d\d"),
    ("T", "T"),
    ("15", r"\d\d"),
    (":", ":"),
    ("04", r"\d\d"),
    (":", ":"),
    ("05", r"\d\d(?:[.,]\d+)?"),
    ("Z07:00", r"Z|[+-]\d\d:\d\d"),
)


class Clock:
    """The clock that everything in one control plane reads. It shows real time unless it is set otherwise.

    It reads the machine's time once and counts from there, so that a step of the machine's clock ends no running task.
    Time in which the machine was suspended counts.
    """

    def __init__(self) -> None:
        self.reset()

    def now(self) -> int:
        """Return the present in microseconds since the epoch."""
        return self._shown + int((_elapsed() - self._since) * self.rate)

    def seconds_until(self, instant: int) -> float:
        """Return how many real seconds pass until the clock shows an instant; infinity if it is stopped before."""
        left = instant - self.now()
        if left <= 0:
            return 0.0
        return left / SECOND / self.rate if self.rate else math.inf

    def reset(self) -> None:
        """Show real time, as it passes."""
        self._shown, self._since = time.time_ns() // 1000, _elapsed()
        self.rate = 1.0

    def set_rate(self, rate: float) -> None:
        """Continue from the present at a multiple of real time; 0 stops the clock."""
        self._shown, self._since = self.now(), _elapsed()
        self.rate = rate

    def advance(self, microseconds: int) -> None:
        """Jump forward."""
        self._shown += microseconds


def _elapsed() -> int:
    """Return microseconds since some moment; steps of the machine's clock do not show."""
    # Where there is no such clock, time in which the machine was suspended does not count.
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1000


def rfc3339(instant: int) -> str:
    """Write an instant as Go does: UTC, `Z`, up to six decimals without trailing zeros."""
    moment = _EPOCH + timedelta(microseconds=instant)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment.microsecond:06d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def postgres_text(instant: int) -> str:
    """Write an instant as PostgreSQL's JSON functions do, as some event attributes hold it."""
    return rfc3339(instant).removesuffix("Z") + "+00:00"


def parse_rfc3339(text: str) -> int:
    """Read a timestamp.

    :raises ValueError: with the text of Go's `time.Parse`.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(_complaint(text))
    year, month, day, hour, minute, second = (int(match[index]) for index in range(1, 7))
    micros = int(match[7][1:7].ljust(6, "0")) if match[7] else 0
    try:
        moment = datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC)
    except ValueError as error:
        part = str(error).split()[0]
        raise ValueError(f'parsing time "{text}": {part} out of range') from None
    offset = timedelta()
    if match[8] != "Z":
        hours, minutes = match[8][1:].split(":")
        offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if match[8][0] == "-" else 1)
    try:
        return (moment - offset - _EPOCH) // timedelta(microseconds=1)
    except OverflowError:
        # An offset can move the first and the last day out of the years that can be written.
        raise ValueError(f'parsing time "{text}": year out of range') from None


def _complaint(text: str) -> str:
    rest = text
    for layout, pattern in _LAYOUT_PARTS:
        match = re.match(pattern, rest, re.ASCII)
        if match is None:
            return f'parsing time "{text}" as "{_LAYOUT}": cannot parse "{rest}" as "{layout}"'
        rest = rest[match.end() :]
    return f'parsing time "{text}": extra text: "{rest}"'

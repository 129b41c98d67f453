"""Durations as Go and this API read them."""

from __future__ import annotations

import re
from typing import Any

from helmr_provider.local.common.clock import DAY, SECOND
from helmr_provider.local.common.jsontext import as_object

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DAYS = re.compile(r"(\d+)d", re.ASCII)
_MAX_DAYS = 2**31 - 1
_MAX_NANOSECONDS = 2**63 - 1


def parse_duration(text: str) -> int | None:
    """Read `"<n>d"` or Go duration text into microseconds; None unless it is a positive duration."""
    days = _DAYS.fullmatch(text)
    if days is not None:
        count = int(days[1])
        return count * DAY if 0 < count <= _MAX_DAYS else None
    rest = text.removeprefix("+")
    nanoseconds = 0
    while rest:
        term = _TERM.match(rest)
        if term is None:
            return None
        whole, _, fraction = term[1].partition(".")
        unit = _UNITS[term[2]]
        nanoseconds += int(whole or 0) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        rest = rest[term.end() :]
    return nanoseconds // 1000 if 1000 <= nanoseconds <= _MAX_NANOSECONDS else None


def token_timeout(value: object) -> int:
    """Read a token's timeout into microseconds: text, milliseconds, or an object whose parts are added.

    :raises ValueError: with the control plane's text.
    """
    if isinstance(value, str):
        parsed = parse_duration(value)
        if parsed is None:
            raise ValueError("timeout must be a positive duration")
        return parsed
    members = as_object(value)
    if members is not None:
        total = _parts(members)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        total = int(value * 1000)
    else:
        raise ValueError("timeout must be a duration string, number, or object")
    if total <= 0:
        raise ValueError("timeout must be positive")
    return total


def _parts(value: dict[str, Any]) -> int:
    total = 0.0
    for name, unit in (("milliseconds", 1000), ("seconds", SECOND), ("minutes", 60 * SECOND), ("hours", 3600 * SECOND)):
        part = value.get(name)
        if isinstance(part, int | float) and not isinstance(part, bool):
            total += part * unit
    text = value.get("duration")
    if text is not None:
        parsed = parse_duration(text) if isinstance(text, str) else None
        if parsed is None:
            raise ValueError("timeout must be a positive duration")
        total += parsed
    return int(total)

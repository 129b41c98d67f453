"""Control how a control plane's time passes: as real time, faster, or only when it is advanced."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from helmr_provider.local.common.clock import SECOND, rfc3339
from helmr_provider.local.common.durations import parse_duration
from helmr_provider.local.execution.sweeper import sweep

if TYPE_CHECKING:
    from helmr_provider.local._core import Core

Mode = Literal["real", "scaled", "manual"]

# A run's resumption takes a few turns of the event loop: dispatch, lease, the task's next step. Each changes the
# database; so many turns without a change mean that nothing more happens at this moment.
_QUIET_TURNS = 50
_NEXT_DUE = """
SELECT min(due) AS due FROM (
    SELECT timeout_at AS due FROM tokens WHERE status = 'pending'
    UNION ALL SELECT wait_due FROM runs WHERE execution = 'waiting'
    UNION ALL SELECT expires_at FROM runs WHERE execution = 'queued'
    UNION ALL SELECT not_before FROM runs WHERE execution = 'queued'
    UNION ALL SELECT max_duration_us - active_us + lease_at FROM runs WHERE execution = 'executing'
    UNION ALL SELECT due_at FROM schedules
    UNION ALL SELECT expires_at FROM sessions WHERE status = 'open'
) WHERE due > ?
"""


def set_mode(core: Core, mode: Mode, rate: float | None = None) -> None:
    """Change how time passes.

    :param mode: `real`: the present time of this machine again; `scaled`: from now on `rate` times as fast; `manual`:
        not at all, until it is advanced.
    :param rate: for `scaled`, more than 0.
    :raises ValueError: for another mode, or a rate that does not belong to it.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"unknown mode {mode!r}; known are {', '.join(get_args(Mode))}")
    if (mode == "scaled") != (rate is not None and rate > 0):
        raise ValueError("the mode scaled, and no other, has a rate, and that is more than 0")
    if mode == "real":
        core.clock.reset()
    else:
        core.clock.set_rate(rate or 0)
    _wake(core)


async def advance(core: Core, by: str | float | timedelta) -> None:
    """Let time jump, stopping wherever something is due on the way, so that each thing happens at its own moment.

    Tasks that use nothing but their context keep up with it: a task that sleeps three times a minute has slept three
    times after three minutes, and a schedule that fires each hour has fired 24 times after a day.

    :param by: duration text (`"1h"`, `"90s"`, `"2d"`), seconds or a timedelta.
    :raises ValueError: unless it is positive.
    """
    target = core.clock.now() + _microseconds(by)
    while True:
        now = core.clock.now()
        row = core.db.one(_NEXT_DUE, now)
        due = target if row is None or row["due"] is None else min(row["due"], target)
        core.clock.advance(max(due - now, 0))
        sweep(core)
        _wake(core)
        await _settle(core)
        if due >= target:
            return


async def _settle(core: Core) -> None:
    """Wait until the work that is due at the present moment is done."""
    while True:
        before = core.db.changes
        for _ in range(_QUIET_TURNS):
            await asyncio.sleep(0)
        if core.db.changes == before:
            return


def shown(core: Core) -> dict[str, Any]:
    """Return the present and how it passes, as JSON can carry it."""
    return {"now": rfc3339(core.clock.now()), "rate": core.clock.rate}


def _microseconds(by: str | float | timedelta) -> int:
    if isinstance(by, str):
        parsed = parse_duration(by)
    else:
        parsed = int((by.total_seconds() if isinstance(by, timedelta) else by) * SECOND)
    if parsed is None or parsed <= 0:
        raise ValueError(f"{by!r} is no positive duration")
    return parsed


def _wake(core: Core) -> None:
    core.notifier.notify("sweep")
    core.notifier.notify("dispatch")

"""The sweep for everything that has become due: timeouts, expiries, timers, retries, follow-up runs.

The real control plane finds these with periodic sweeps too, which is why a token can still read `pending` after its
timeout while completing it is refused already.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from helmr_provider.local.state import runs, schedules, sessions, tokens

if TYPE_CHECKING:
    from helmr_provider.local._core import Core


_log = logging.getLogger(__name__)


async def sweep_forever(core: Core) -> None:
    """Sweep, wait, and sweep again, until cancelled."""
    while True:
        try:
            sweep(core)
        except Exception:  # noqa: BLE001 - one thing that cannot be done must not stop all that comes due later
            _log.exception("a sweep failed")
        await core.notifier.wait("sweep", core.settings.sweep)


def sweep(core: Core) -> None:
    """Process everything that is due."""
    now = core.clock.now()
    tokens.expire_due(core)
    for run in core.db.all("SELECT * FROM runs WHERE execution = 'waiting' AND wait_due <= ?", now):
        with core.db.transaction():
            runs.resolve_wait(core, run, {"status": "elapsed" if run["wait_kind"] == "timer" else "timed_out"})
    for run in core.db.all("SELECT * FROM runs WHERE execution = 'queued' AND expires_at <= ?", now):
        runs.expire(core, run)
    if core.db.one("SELECT 1 FROM runs WHERE execution = 'queued' AND not_before <= ? LIMIT 1", now) is not None:
        core.notifier.notify("dispatch")
    schedules.fire_due(core)
    sessions.start_follow_ups(core)
    sessions.expire_due(core)

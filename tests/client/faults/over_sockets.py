"""Run fault schedules over sockets of this machine, in real time that passes faster than the schedules say."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from helmr_provider.client import _config
from helmr_provider.local import Settings
from tests.client.faults.driver import AsyncCallers, BlockingCallers, Run
from tests.client.faults.fault_schedule import make_schedule
from tests.client.faults.logged_errors import logged_errors
from tests.client.faults.virtual_loop import SteppedClock
from tests.client.faults.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.client.faults.driver import Callers, Outcome

SCALE = 0.04
# How long a call may take, and a stream be silent, in real seconds.
_CALL, _SILENCE = 3.0, 3.0
# The same where no limit may be passed because the machine is busy.
_UNHURRIED = 900.0
# A wait that hears nothing polls after 15 real seconds, and a busy machine is slow: only what hangs is late.
PATIENCE = 30.0
_SETTINGS = Settings(sweep=0.1, keep_alive=0.5, log_poll=0.1, schedule_jitter=0.0)


def run_over_sockets(seeds: Iterable[int], together: int = 12, *, hurried: bool = True) -> list[Outcome]:
    """Run the schedules of some seeds, so many at a time: they wait more than they compute.

    :param hurried: with time limits of a few real seconds, which a very busy machine passes. Without, no schedule may
        need one to end.
    """
    with (
        logged_errors() as errors,
        ThreadPoolExecutor(together * 8) as threads,
        mock.patch.object(_config, "STREAM_SILENCE", _SILENCE),
    ):
        outcomes = asyncio.run(_run_all(seeds, together, threads, hurried))
    # Schedules run beside each other, and a log line names none.
    outcomes[-1].wrong += [f"of some seed: {error}" for error in errors]
    return outcomes


def seeds_without_limits(count: int) -> list[int]:
    """Return the first seeds whose schedules end without any time limit of the client."""
    return list(islice((seed for seed in itertools.count() if not make_schedule(seed).silent), count))


async def _run_all(seeds: Iterable[int], together: int, threads: ThreadPoolExecutor, hurried: bool) -> list[Outcome]:
    room = asyncio.Semaphore(together)

    async def one(seed: int) -> Outcome:
        async with room:
            return await _run(seed, threads, hurried)

    return await asyncio.gather(*(one(seed) for seed in seeds))


async def _run(seed: int, threads: ThreadPoolExecutor, hurried: bool) -> Outcome:
    loop = asyncio.get_running_loop()

    async def blocking(function: Callable[[], None]) -> None:
        await loop.run_in_executor(threads, function)

    schedule = make_schedule(seed).over_sockets(SCALE)
    with tempfile.TemporaryDirectory() as folder:
        world = World(
            schedule,
            clock=SteppedClock(loop.time),
            set_client_clock=lambda _: None,
            network=None,
            folder=Path(folder) if schedule.restarts else None,
            settings=_SETTINGS,
            scale=SCALE,
            call_timeout=_CALL if hurried else _UNHURRIED,
        )
        make: Callable[[World], Callers] = (
            AsyncCallers if schedule.flavour == "async" else lambda world: BlockingCallers(world, blocking)
        )
        run = Run(world, make, PATIENCE if hurried else inf)
        try:
            return await run.go()
        except Exception as error:  # noqa: BLE001 - reported with its schedule
            run.outcome.wrong.append(f"the schedule could not be run: {error!r}")
            return run.outcome

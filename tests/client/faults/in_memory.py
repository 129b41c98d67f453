"""Run a fault schedule in memory and in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.client.faults.driver import AsyncCallers, BlockingCallers, Run
from tests.client.faults.fault_schedule import make_schedule
from tests.client.faults.lockstep import Caller, blocking_callers
from tests.client.faults.logged_errors import logged_errors
from tests.client.faults.virtual_loop import SteppedClock, virtual_time
from tests.client.faults.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.faults.driver import Callers, Outcome
    from tests.client.faults.fault_schedule import Schedule
    from tests.client.faults.virtual_loop import VirtualLoop, WallClock

# A restarted control plane needs a file, but no disk.
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run_in_memory(seed: int) -> Outcome:
    """Run the schedule of a seed in memory and in virtual time."""
    schedule = make_schedule(seed)
    with logged_errors() as errors, contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_MEMORY))) if schedule.restarts else None
        loop, wall = stack.enter_context(virtual_time(seed))
        stack.enter_context(blocking_callers())
        outcome = _on_loop(loop, wall, schedule, folder)
    outcome.wrong += errors
    return outcome


def _on_loop(loop: VirtualLoop, wall: WallClock, schedule: Schedule, folder: Path | None) -> Outcome:
    callers: list[Caller] = []

    async def blocking(function: Callable[[], None]) -> None:
        caller = Caller(function)
        callers.append(caller)
        try:
            await caller.result
        finally:
            caller.abandon()

    def set_client_clock(seconds: float) -> None:
        wall.offset += seconds

    async def go() -> Outcome:
        world = World(
            schedule,
            clock=SteppedClock(loop.time),
            set_client_clock=set_client_clock,
            network=loop.network,
            folder=folder,
        )
        make: Callable[[World], Callers] = (
            AsyncCallers if schedule.flavour == "async" else lambda world: BlockingCallers(world, blocking)
        )
        run = Run(world, make)
        try:
            outcome = await run.go()
        except Exception as error:  # noqa: BLE001 - reported with its schedule
            run.outcome.wrong.append(f"the schedule could not be run: {error!r}")
            return run.outcome
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:
            outcome.wrong.append(f"left running: {left}")
        return outcome

    asyncio.set_event_loop(loop)
    try:
        outcome = loop.run_until_complete(go())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
    for number in loop.network.open_connections():
        outcome.wrong.append(f"left open: connection {number}")
    return outcome

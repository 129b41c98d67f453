"""The task of the benchmark's control plane: a run that ends at a time that was chosen before."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from helmr_provider.local import task

if TYPE_CHECKING:
    from helmr_provider.local import TaskContext


@task("until")
async def until(_: TaskContext, payload: Any) -> None:
    """End at `at`, in seconds since the epoch."""
    await asyncio.sleep(max(0.0, payload["at"] - time.time()))


@task("write")
async def write(context: TaskContext, payload: Any) -> None:
    """Write `events` lines from `at` on, each an event."""
    await asyncio.sleep(max(0.0, payload["at"] - time.time()))
    for number in range(payload["events"]):
        context.log(f"line {number}")
        await asyncio.sleep(0)

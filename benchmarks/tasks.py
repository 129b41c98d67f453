"""The tasks of the benchmarks' control plane: runs that end at a time that the benchmark chooses."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helmr_provider.local import task

if TYPE_CHECKING:
    from helmr_provider.local import TaskContext

_releases: dict[str, asyncio.Task[float]] = {}


async def _read_release(path: str) -> float:
    while True:
        with contextlib.suppress(FileNotFoundError):
            return float(Path(path).read_text())  # noqa: ASYNC240 - a few bytes, five times a second
        await asyncio.sleep(0.2)


async def _time_of_end(payload: Any) -> float:
    """Return when a run ends: `at`, or `after` seconds after the time that the file `release` contains."""
    if "at" in payload:
        return float(payload["at"])
    path = payload["release"]
    if path not in _releases:
        # One task reads the file for all runs.
        _releases[path] = asyncio.create_task(_read_release(path))
    return await asyncio.shield(_releases[path]) + float(payload["after"])


@task("until")
async def until(_: TaskContext, payload: Any) -> None:
    """End at a time in seconds since the epoch, which may be chosen after the start."""
    await asyncio.sleep(max(0.0, await _time_of_end(payload) - time.time()))


@task("write")
async def write(context: TaskContext, payload: Any) -> None:
    """Write `events` lines from `at` on, each an event."""
    await asyncio.sleep(max(0.0, payload["at"] - time.time()))
    for number in range(payload["events"]):
        context.log(f"line {number}")
        await asyncio.sleep(0)

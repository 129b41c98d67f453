"""Wait for many runs together: they share a few streams and lists, however many they are."""

from __future__ import annotations

import asyncio

from helmr_provider.client import AsyncHelmrClient


async def main() -> None:
    """Start twenty runs and take their results as they come."""
    async with AsyncHelmrClient() as client:
        started = await asyncio.gather(*(client.sessions.start("echo", number) for number in range(20)))
        total = 0
        async for run in client.runs.wait_many([start.run for start in started], timeout=60):
            total += run.output
        print(total)  # -> 190

        # Or each where it is needed; they are still served together.
        runs = await asyncio.gather(*(client.runs.wait(start.run) for start in started))
        print({run.status for run in runs})  # -> {'succeeded'}


asyncio.run(main())

"""One way to wait for many runs, alone in a process: read the plan from stdin, print what it cost.

The times in the plan are seconds since the epoch: between `idle_from` and `idle_until` no run ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil

from helmr_provider.client import AsyncHelmrClient, HelmrClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Delays = list[float]


def since(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()


class Meter:
    """What this process uses, from when it had its client and no wait."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._process = psutil.Process()
        self._memory = self._process.memory_info().rss
        self._began = time.process_time()

    def sample(self) -> dict[str, float]:
        """Look at the beginning and the end of the idle time; blocks until then."""
        waits = len(self._plan["runs"])
        time.sleep(max(0.0, self._plan["idle_from"] - time.time()))
        cpu = time.process_time()
        time.sleep(max(0.0, self._plan["idle_until"] - time.time()))
        idle = self._plan["idle_until"] - self._plan["idle_from"]
        return {
            "kib_per_wait": (self._process.memory_info().rss - self._memory) / 1024 / waits,
            "idle_cpu_us_per_wait_second": (time.process_time() - cpu) / idle / waits * 1e6,
            "connections": len(self._process.net_connections()),
        }

    def cpu_ms_per_wait(self) -> float:
        return (time.process_time() - self._began) * 1000 / len(self._plan["runs"])


async def each_with(runs: list[str], wait: Callable[[str], Awaitable[float]]) -> Delays:
    return list(await asyncio.gather(*(wait(run) for run in runs)))


async def together(client: AsyncHelmrClient, runs: list[str]) -> Delays:
    """What the client does: one `runs.wait` for each run, served together."""

    async def wait(run: str) -> float:
        return since((await client.runs.wait(run)).updated_at)

    return await each_with(runs, wait)


async def stream_each(client: AsyncHelmrClient, runs: list[str]) -> Delays:
    """Follow each run's events on a stream of its own."""

    async def wait(run: str) -> float:
        last = None
        async for record in client.runs.events.follow_records(run):
            last = record
        assert last is not None
        return since(last.at)

    return await each_with(runs, wait)


def poll_each(interval: float) -> Callable[[AsyncHelmrClient, list[str]], Awaitable[Delays]]:
    """Retrieve each run again and again."""

    async def poll(client: AsyncHelmrClient, runs: list[str]) -> Delays:
        async def wait(run: str) -> float:
            await asyncio.sleep(random.uniform(0, interval))
            while True:
                found = await client.runs.retrieve(run)
                if found.is_terminal:
                    return since(found.updated_at)
                await asyncio.sleep(interval)

        return await each_with(runs, wait)

    return poll


ASYNCHRONOUS: dict[str, tuple[dict[str, Any], Callable[[AsyncHelmrClient, list[str]], Awaitable[Delays]]]] = {
    "wait": ({}, together),
    "wait, no stream": ({"max_streams": 0}, together),
    "a stream each": ({}, stream_each),
    "poll each 5 s": ({}, poll_each(5)),
    "poll each 60 s": ({}, poll_each(60)),
}
BLOCKING = "wait_many, blocking"
STRATEGIES = [*ASYNCHRONOUS, BLOCKING]


async def asynchronous(plan: dict[str, Any]) -> dict[str, Any]:
    options, strategy = ASYNCHRONOUS[plan["strategy"]]
    async with AsyncHelmrClient(url=plan["url"], api_key=plan["api_key"], **options) as client:
        await client.runs.retrieve(plan["runs"][0])
        meter = Meter(plan)
        measured, delays = await asyncio.gather(asyncio.to_thread(meter.sample), strategy(client, plan["runs"]))
        return measured | {"cpu_ms_per_wait": meter.cpu_ms_per_wait(), "delays": delays}


def blocking(plan: dict[str, Any]) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    with HelmrClient(url=plan["url"], api_key=plan["api_key"]) as client:
        client.runs.retrieve(plan["runs"][0])
        meter = Meter(plan)
        sampling = threading.Thread(target=lambda: measured.update(meter.sample()))
        sampling.start()
        delays = [since(run.updated_at) for run in client.runs.wait_many(plan["runs"])]
        sampling.join()
        return measured | {"cpu_ms_per_wait": meter.cpu_ms_per_wait(), "delays": delays}


def main() -> None:
    # That plain http is fit for this machine only is known.
    logging.getLogger("helmr_provider").setLevel(logging.ERROR)
    plan = json.load(sys.stdin)
    result = blocking(plan) if plan["strategy"] == BLOCKING else asyncio.run(asynchronous(plan))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

"""Where the time goes between a run's end and the return of its wait, for one wait at a time.

It is a process of its own: it reads the plan from stdin and prints the milliseconds of each step for each wait, and
those of a read of a run that has ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psutil

from helmr_provider.client import AsyncHelmrClient
from helmr_provider.client._async.runs import AsyncRuns
from helmr_provider.client._http import AsyncHttp, AsyncResponse
from helmr_provider.client._waiting.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

STEPS = (
    "run's end to first byte of its event",
    "event parsed and scheduled",
    "task switch to the final read",
    "final read: request to answer",
    "answer to model",
    "task switch to the caller",
)


class Probe:
    """Remember when each step was reached last."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def mark(self, moment: str) -> None:
        self.at[moment] = time.time()

    def install(self) -> None:
        """Wrap the methods of the client that begin or end a step."""
        probe = self
        chunks, send, retrieve = AsyncResponse.chunks, AsyncHttp.send, AsyncRuns.retrieve
        record = Scheduler.stream_record

        async def timed_chunks(response: AsyncResponse) -> AsyncGenerator[bytes, None]:
            async with contextlib.aclosing(chunks(response)) as pieces:
                async for piece in pieces:
                    if response.request.streams:
                        probe.mark("frame")
                    yield piece

        def timed_record(scheduler: Scheduler, *args: Any, hint: bool) -> None:
            record(scheduler, *args, hint=hint)
            if hint:
                probe.at["hinted frame"] = probe.at["frame"]
                probe.mark("scheduled")

        async def timed_send(http: AsyncHttp, *args: Any) -> Any:
            probe.mark("sent")
            answer = await send(http, *args)
            probe.mark("answered")
            return answer

        async def timed_retrieve(runs: AsyncRuns, *args: Any) -> Any:
            found = await retrieve(runs, *args)
            probe.mark("model")
            return found

        for owner, name, timed in (
            (AsyncResponse, "chunks", timed_chunks),
            (Scheduler, "stream_record", timed_record),
            (AsyncHttp, "send", timed_send),
            (AsyncRuns, "retrieve", timed_retrieve),
        ):
            setattr(owner, name, timed)

    def steps(self, ended: float) -> list[float]:
        moments = ("hinted frame", "scheduled", "sent", "answered", "model", "returned")
        times = [ended, *(self.at[moment] for moment in moments)]
        return [(after - before) * 1000 for before, after in pairwise(times)]


async def measure_read(client: AsyncHelmrClient, run_id: str, server: psutil.Process) -> dict[str, float]:
    """Read a run again and again, and return the milliseconds of one read."""
    reads, times = 300, list[float]()
    for _ in range(30):
        await client.runs.retrieve(run_id)
    server_cpu, client_cpu = sum(server.cpu_times()[:2]), time.process_time()
    for _ in range(reads):
        began = time.perf_counter()
        await client.runs.retrieve(run_id)
        times.append(time.perf_counter() - began)
    return {
        "a read of an ended run: shortest": min(times) * 1000,
        "a read of an ended run: median": sorted(times)[reads // 2] * 1000,
        "CPU of the client for it": (time.process_time() - client_cpu) / reads * 1000,
        "CPU of the control plane for it": (sum(server.cpu_times()[:2]) - server_cpu) / reads * 1000,
    }


async def measure(plan: dict[str, Any]) -> dict[str, Any]:
    probe, found = Probe(), list[list[float]]()
    probe.install()
    async with AsyncHelmrClient(url=plan["url"], api_key=plan["api_key"]) as client:
        run_id = ""
        for _ in range(plan["waits"]):
            run = (await client.sessions.start("until", {"at": time.time() + plan["seconds"]})).run
            over = await client.runs.wait(run)
            probe.mark("returned")
            run_id = over.id
            found.append(probe.steps(over.updated_at.timestamp()))
        read = await measure_read(client, run_id, psutil.Process(plan["server"]))
    return {"waits": found, "read": read}


def main() -> None:
    logging.getLogger("helmr_provider").setLevel(logging.ERROR)
    json.dump(asyncio.run(measure(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()

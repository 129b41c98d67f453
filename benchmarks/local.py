"""What the local control plane does: its start, starts of sessions, events to followers, memory.

Takes about a minute; `--help` for less. The control plane is a process of its own; clients speak raw HTTP, so that it
is not our client that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Self

import psutil

from benchmarks.client import control_plane
from dev.processes import leave_nothing_running

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from benchmarks.client import Plane

READ_SECONDS = 120.0
STARTS = 5
Rows = list[tuple[str, str]]


def goal(value: float, limit: float, *, most: bool = False) -> str:
    """Say whether a value is at least its goal, or at most."""
    met = value <= limit if most else value >= limit
    return f"   (goal {'<=' if most else '>='} {limit:g}: {'met' if met else 'MISSED'})"


class Connection:
    """One HTTP/1.1 connection that is kept open."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._address = urllib.parse.urlsplit(plane.url)

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, method: str, path: str, body: Any = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: {self._address.netloc}\r\n"
            f"authorization: Bearer {self._plane.api_key}\r\ncontent-length: {len(content)}\r\n\r\n".encode()
            + content
        )

    async def head(self) -> tuple[int, int]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        _, _, length = head.partition(b"content-length: ")
        return int(head.split()[1]), int(length.split()[0]) if length else 0

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.send(method, path, body)
        status, length = await self.head()
        answer = json.loads(await self.reader.readexactly(length))
        assert status in (200, 201), answer
        return answer


async def start(plane: Plane, count: int, payload: Any, task: str = "until") -> tuple[list[str], float]:
    """Start runs over 16 connections; give their ids and the seconds that it took."""
    left = iter(range(count))
    runs: list[str] = []

    async def work() -> None:
        async with Connection(plane) as connection:
            for _ in left:
                answer = await connection.ask("POST", "/api/sessions", {"task_id": task, "payload": payload})
                runs.append(answer["run"]["id"])

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(16)))
    return runs, time.perf_counter() - began


async def follow(plane: Plane, run: str, until: bytes, opened: asyncio.Semaphore) -> int:
    """Follow a run until an event holds a text; give the number of events. The first one releases `opened`."""
    events = 0
    async with Connection(plane) as connection, asyncio.timeout(READ_SECONDS):
        connection.send("GET", f"/api/runs/{run}/events?follow=1")
        status, _ = await connection.head()
        assert status == 200
        while line := await connection.reader.readline():
            if line.startswith(b"data: "):
                events += 1
                if events == 1:
                    opened.release()
                if until in line:
                    return events
    raise ConnectionError("the stream ended early")


def start_up() -> Rows:
    """Start the control plane several times, until it prints its address; the quickest counts."""
    seconds, cpu = [], []
    for _ in range(STARTS):
        began = time.perf_counter()
        with control_plane() as plane:
            seconds.append(time.perf_counter() - began)
            cpu.append(sum(plane.process.cpu_times()[:2]))
    return [
        ("from the command to the address", f"{min(seconds):.2f} s" + goal(min(seconds), 0.6, most=True)),
        ("… CPU time of it", f"{min(cpu):.2f} s"),
    ]


async def starts(plane: Plane, count: int) -> Rows:
    _, seconds = await start(plane, count, {"at": 0})
    return [(f"{count:,} starts, 16 in flight", f"{count / seconds:,.0f} starts/s" + goal(count / seconds, 300))]


async def delivery(plane: Plane, followers: int, events: int) -> Rows:
    """Let a run write while everybody follows it live."""
    began_at = time.time() + 3 + followers / 50
    (run,), _ = await start(plane, 1, {"at": began_at, "events": events}, "write")
    opened = asyncio.Semaphore(0)
    following = [asyncio.create_task(follow(plane, run, b'"run.completed"', opened)) for _ in range(followers)]
    for _ in range(followers):
        await opened.acquire()
    assert time.time() < began_at, "this machine opens streams too slowly for this many followers"
    await asyncio.sleep(began_at - time.time())
    began = time.perf_counter()
    # The run's first event came before.
    received = sum(await asyncio.gather(*following)) - followers
    seconds = time.perf_counter() - began
    assert received >= followers * events
    return [
        (
            f"{events:,} events, live to each of {followers} followers",
            f"{received / seconds:,.0f} events/s" + goal(received / seconds, 5000),
        )
    ]


async def memory(plane: Plane, runs: int, followers: int) -> Rows:
    """Compare what the process holds before, with idle runs, and with followers of them."""
    before = plane.process.memory_info().rss
    started, _ = await start(plane, runs, {"at": time.time() + 3600})
    idle = plane.process.memory_info().rss
    opened = asyncio.Semaphore(0)
    following = [
        asyncio.create_task(follow(plane, started[number % runs], b'"run.completed"', opened))
        for number in range(followers)
    ]
    for _ in range(followers):
        await opened.acquire()
    followed = plane.process.memory_info().rss
    cpu = sum(plane.process.cpu_times()[:2])
    await asyncio.sleep(5)
    busy = (sum(plane.process.cpu_times()[:2]) - cpu) / 5
    for each in following:
        each.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    return [
        ("memory at rest", f"{before / 2**20:.0f} MiB"),
        (f"… with {runs:,} idle runs", f"{idle / 2**20:.0f} MiB ({(idle - before) / runs / 1024:.0f} KiB each)"),
        (
            f"… and {followers} followers",
            f"{followed / 2**20:.0f} MiB ({(followed - idle) / followers / 1024:.0f} KiB each)"
            + goal(followed / 2**20, 200, most=True),
        ),
        ("CPU while nothing happens to them", f"{busy:.1%}"),
    ]


@leave_nothing_running()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count, what in (
        ("starts", 2000, "sessions to start"),
        ("events", 2000, "events that a followed run writes"),
        ("live-followers", 50, "followers of that run"),
        ("runs", 1000, "idle runs to hold"),
        ("followers", 500, "followers of idle runs to hold"),
    ):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"{what} (default: %(default)s)")
    options = parser.parse_args()
    print(
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}\n",
        flush=True,
    )
    for what, result in start_up():
        print(f"{what:<56}{result}", flush=True)
    # Each measurement has a control plane of its own: none pays for what another left.
    measurements: list[Callable[[Plane], Coroutine[Any, Any, Rows]]] = [
        lambda plane: starts(plane, options.starts),
        lambda plane: delivery(plane, options.live_followers, options.events),
        lambda plane: memory(plane, options.runs, options.followers),
    ]
    for measure in measurements:
        with control_plane() as plane:
            for what, result in asyncio.run(measure(plane)):
                print(f"{what:<56}{result}", flush=True)


if __name__ == "__main__":
    main()

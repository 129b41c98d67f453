"""What the client costs: events replayed, lists parsed, many waits. Takes about ten minutes; `--help` for less.

The control plane and each way of waiting are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import platform
import random
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from benchmarks.one_wait import STEPS
from benchmarks.strategies import STRATEGIES
from dev.processes import child, leave_nothing_running
from helmr_provider.client import AsyncHelmrClient, HelmrClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).parent
LIST = 200


class Plane(NamedTuple):
    """A local control plane in a process of its own."""

    url: str
    api_key: str
    process: psutil.Process


@contextlib.contextmanager
def control_plane(*options: str) -> Iterator[Plane]:
    program = str(Path(sys.executable).with_name("helmr-local"))
    command = [program, "serve", "--port", "0", "--tasks", str(HERE / "tasks.py"), *options]
    with child(command) as process:
        assert process.stdout is not None
        url, key = (re.sub(r"^export \w+=", "", process.stdout.readline().strip()) for _ in range(2))
        yield Plane(url, key, psutil.Process(process.pid))


@contextlib.contextmanager
def canned(plan: dict[str, Any]) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.canned"]
    with child(command) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        json.dump(plan, process.stdin)
        process.stdin.close()
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


async def start_runs(plane: Plane, ends: Sequence[float | dict[str, Any]]) -> list[str]:
    """Start a run for each end: a time, or a payload of the task `until`."""
    async with AsyncHelmrClient(url=plane.url, api_key=plane.api_key) as client:
        at_once = asyncio.Semaphore(16)

        async def start(end: float | dict[str, Any]) -> str:
            async with at_once:
                payload = end if isinstance(end, dict) else {"at": end}
                return (await client.sessions.start("until", payload)).run.id

        return await asyncio.gather(*(start(end) for end in ends))


def best_of(times: int, work: Callable[[], object]) -> float:
    """Give the seconds of the quickest of several goes: what else the machine does only ever slows one down."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def reading(events: int) -> list[tuple[str, str]]:
    """Measure replayed events and parsed lists, with answers that a control plane really gave."""
    with control_plane() as plane:
        runs = asyncio.run(start_runs(plane, [0.0] * LIST))
        with HelmrClient(url=plane.url, api_key=plane.api_key) as client:
            list(client.runs.wait_many(runs, timeout=60))
            listed = [run.raw for run in client.runs.list(status="all", limit=LIST)]
            records = [record.raw for record in client.runs.events.records(runs[0])]
    last = next(record for record in records if record["message"] == "run.completed")
    plan: dict[str, Any] = {
        "answers": {"/api/runs": json.dumps({"runs": listed})},
        "run": listed[0],
        "event": next(record for record in records if record is not last),
        "last_event": last,
        "events": events,
    }
    run_id = listed[0]["id"]

    async def follow_async(url: str) -> int:
        async with AsyncHelmrClient(url=url, api_key=plane.api_key) as client:
            # Counted, not kept: collecting garbage among 100,000 events would be what is measured.
            return sum([1 async for _ in client.runs.events.subscribe(run_id)])

    with canned(plan) as url, HelmrClient(url=url, api_key=plane.api_key) as client:

        def follow() -> None:
            assert sum(1 for _ in client.runs.events.subscribe(run_id)) == events

        blocking = events / best_of(3, follow)
        asynchronous = events / best_of(3, lambda: asyncio.run(follow_async(url)))
        raw = events / best_of(3, lambda: sum(1 for _ in client.runs.events.follow_records(run_id)))
        lists = best_of(20, lambda: client.runs.list(status="all", limit=LIST))
        text = plan["answers"]["/api/runs"]
        json_only = best_of(20, lambda: json.loads(text))
    return [
        (f"{events:,} events followed over a socket", f"{blocking:,.0f} events/s"),
        ("… by the asynchronous client", f"{asynchronous:,.0f} events/s"),
        ("… as raw records", f"{raw:,.0f} events/s"),
        (f"list of {LIST} runs ({len(text) / 1024:.0f} KiB), request to models", f"{lists * 1000:.1f} ms"),
        ("… of which json.loads alone", f"{json_only * 1000:.1f} ms"),
    ]


class Timing(NamedTuple):
    """How long a part of the measurement takes, in seconds."""

    settle: float
    idle: float
    ends: float


def count_requests(plane: Plane) -> int:
    """Count the requests that the control plane saw since the last count."""
    address = f"{plane.url}/_local/journal"
    with urllib.request.urlopen(address, timeout=30) as answer:
        seen = len(json.load(answer)["requests"])
    urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=30).close()
    return seen


def waiting(strategy: str, waits: int, timing: Timing, event_slots: int | None) -> dict[str, Any]:
    """Measure one way to wait: nothing ends for a while, then all end one after the other."""
    with control_plane(*([] if event_slots is None else ["--event-slots", str(event_slots)])) as plane:
        began = time.time()
        asyncio.run(start_runs(plane, [0.0] * 50))
        # Twice as long as it should take: a run's end is chosen before it starts.
        idle_from = time.time() + 2 + 2 * (time.time() - began) * waits / 50 + timing.settle
        idle_until = idle_from + timing.idle
        ends = [idle_until + 1 + timing.ends * random.random() for _ in range(waits)]
        runs = asyncio.run(start_runs(plane, ends))
        if time.time() > idle_from - timing.settle:
            sys.exit("this machine starts runs too slowly for this many waits")
        plan = {
            "url": plane.url,
            "api_key": plane.api_key,
            "strategy": strategy,
            "runs": runs,
            "idle_from": idle_from,
            "idle_until": idle_until,
        }
        command = [sys.executable, "-m", "benchmarks.strategies"]
        with child(command) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            json.dump(plan, process.stdin)
            process.stdin.close()
            time.sleep(max(0.0, idle_from - time.time()))
            count_requests(plane)
            cpu = sum(plane.process.cpu_times()[:2])
            time.sleep(max(0.0, idle_until - time.time()))
            server = (sum(plane.process.cpu_times()[:2]) - cpu) / timing.idle
            requests = count_requests(plane) / timing.idle
            result: dict[str, Any] = json.load(process.stdout)
    return result | {"requests": requests, "server": server}


def one_wait(waits: int = 8, seconds: float = 7.0) -> list[tuple[str, str]]:
    """Measure the steps from a run's end to the return of its wait, while nothing else is waited for."""
    with control_plane() as plane:
        plan = {
            "url": plane.url,
            "api_key": plane.api_key,
            "server": plane.process.pid,
            "waits": waits,
            "seconds": seconds,
        }
        command = [sys.executable, "-m", "benchmarks.one_wait"]
        done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    rows: list[list[float]] = found["waits"]
    steps = [(step, statistics.median(row[number] for row in rows)) for number, step in enumerate(STEPS)]
    steps.append(("one wait: run's end to its return (median)", statistics.median(map(sum, rows))))
    steps += found["read"].items()
    return [(step, f"{milliseconds:.2f} ms") for step, milliseconds in steps]


def line(cells: list[str]) -> str:
    return "  ".join([cells[0].ljust(20), *(cell.rjust(width) for cell, width in zip(cells[1:], WIDTHS, strict=True))])


def delay(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def row(strategy: str, found: dict[str, Any]) -> list[str]:
    cuts = statistics.quantiles(found["delays"], n=100)
    return [
        strategy,
        f"{found['connections']:.0f}",
        f"{found['requests']:.1f}",
        f"{found['server']:.1%}",
        f"{found['kib_per_wait']:.1f}",
        f"{found['idle_cpu_us_per_wait_second']:.0f}",
        f"{found['cpu_ms_per_wait']:.1f}",
        *(delay(value) for value in (cuts[49], cuts[98], max(found["delays"]))),
    ]


HEAD = ["", "connections", "requests/s", "server CPU", "KiB/wait", "CPU µs/wait/s", "CPU ms/wait", "p50", "p99", "max"]


WIDTHS = [max(len(cell), 7) for cell in HEAD[1:]]


@leave_nothing_running()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="events to replay (default: %(default)s)")
    parser.add_argument("--waits", type=int, default=1000, help="concurrent waits (default: %(default)s)")
    parser.add_argument(
        "--only", action="append", choices=["reading", "one wait", *STRATEGIES], help="measure only this"
    )
    parser.add_argument(
        "--event-slots", type=int, help="silent followers that the control plane bears, 20 as a small one"
    )
    for name, seconds, what in (
        ("settle", 30.0, "before the idle time"),
        ("idle", 20.0, "in which nothing ends"),
        ("ends", 30.0, "over which all runs end"),
    ):
        parser.add_argument(f"--{name}", type=float, default=seconds, help=f"seconds {what} (default: %(default)s)")
    options = parser.parse_args()
    wanted = options.only or ["reading", "one wait", *STRATEGIES]
    # That plain http is fit for this machine only is known.
    logging.getLogger("helmr_provider").setLevel(logging.ERROR)
    timing = Timing(options.settle, options.idle, options.ends)
    memory = psutil.virtual_memory().total / 2**30
    print(
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, httpcore {version('httpcore')}, pydantic {version('pydantic')}, "
        f"airflow-provider-helmr {version('airflow-provider-helmr')}\n",
        flush=True,
    )
    if "reading" in wanted:
        for what, result in reading(options.events):
            print(f"{what:<56}{result:>18}")
        print(flush=True)
    if "one wait" in wanted:
        for what, result in one_wait():
            print(f"{what:<56}{result:>18}")
        print(flush=True)
    strategies = [strategy for strategy in STRATEGIES if strategy in wanted]
    if strategies:
        if options.event_slots is not None:
            print(f"The control plane bears {options.event_slots} silent followers of events.")
        print(
            f"{options.waits:,} waits. For {timing.idle:.0f} s nothing ends: connections to CPU µs/wait/s. Then all end"
        )
        print(f"within {timing.ends:.0f} s: delay from a run's end to the return of its wait, p50 to max.\n")
        print(line(HEAD), flush=True)
    for strategy in strategies:
        print(line(row(strategy, waiting(strategy, options.waits, timing, options.event_slots))), flush=True)


if __name__ == "__main__":
    main()

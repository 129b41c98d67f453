"""Many triggers in a real triggerer, put into Airflow's database directly: no worker slows them down."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import psutil

from benchmarks.client import Plane, count_requests, start_runs
from benchmarks.sampling import BLOCKED, TROUBLE, count, describe, fired, phase, progress, query, sample, triggerers
from dev.stack import ROOT, StackError
from helmr_provider.client import AsyncHelmrClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dev.postgres_stack import PostgresStack

T = TypeVar("T")

IDLE = 30.0
WORK = "task_instance where dag_id = 'held_waits' and task_id = 'work'"


class Putter:
    """A process with Airflow's settings that defers tasks."""

    def __init__(self, stack: PostgresStack) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.defer_tasks"],
            cwd=ROOT,
            env=stack.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        # Importing Airflow can print lines of its own.
        while "ready" not in self._stdout.readline():
            if self._process.poll() is not None:
                raise StackError("the process that defers tasks did not start")

    def put(self, ids: list[str], kind: str = "run") -> int:
        """Defer one task on each run or token; return how many were."""
        self._stdin.write(json.dumps({"kind": kind, "ids": ids}) + "\n")
        self._stdin.flush()
        return int(self._stdout.readline())

    def close(self) -> None:
        self._stdin.close()
        self._process.wait()


def hold_tasks(stack: PostgresStack, waits: int) -> str:
    """Create task instances that wait for a pool without slots; return the id of their DAG run."""
    stack.airflow.wait_for_dag("held_waits")
    if not count(stack, "slot_pool where pool = 'held'"):
        stack.airflow.call("POST", "/pools", {"name": "held", "slots": 0})
    run_id = stack.airflow.trigger("held_waits", count=waits)
    progress(
        stack,
        lambda: count(stack, f"{WORK} and state = 'scheduled'"),
        waits,
        what="task instances",
        seconds=120 + waits / 20,
    )
    return run_id


def plane_of(stack: PostgresStack) -> Plane:
    process = stack.control_plane.program.process
    assert process is not None
    return Plane(stack.control_plane.url, stack.control_plane.api_key, psutil.Process(process.pid))


class Runs:
    """Runs that end after the benchmark has released them."""

    kind = "run"

    def __init__(self, stack: PostgresStack, waits: int, ends: float) -> None:
        self._plane = plane_of(stack)
        self._release = stack.folder / f"release-{uuid4()}"
        plan = [{"after": ends * random.random(), "release": str(self._release)} for _ in range(waits)]
        self.ids = asyncio.run(start_runs(self._plane, plan))

    def end(self) -> None:
        """Let them end from now on."""
        started = self._release.with_suffix(".new")
        started.write_text(str(time.time()))
        started.rename(self._release)

    def ended(self) -> list[float]:
        """Return when each ended, in seconds since the epoch."""

        async def retrieve(client: AsyncHelmrClient, run: str) -> float:
            return (await client.runs.retrieve(run)).updated_at.timestamp()

        return asyncio.run(_for_each(self._plane, retrieve, self.ids))


class Tokens:
    """Tokens that the benchmark completes one after the other."""

    kind = "token"

    def __init__(self, stack: PostgresStack, waits: int, ends: float) -> None:
        self._plane, self._pause = plane_of(stack), ends / waits
        self._ended: list[float] = []

        async def create(client: AsyncHelmrClient, _: str) -> str:
            return (await client.tokens.create(timeout="2h")).id

        self.ids = asyncio.run(_for_each(self._plane, create, [""] * waits))

    def end(self) -> None:
        """Complete all."""

        async def complete() -> None:
            async with AsyncHelmrClient(url=self._plane.url, api_key=self._plane.api_key) as client:
                began = time.monotonic()
                for number, token in enumerate(self.ids):
                    await asyncio.sleep(began + number * self._pause - time.monotonic())
                    await client.tokens.complete(token, "go")
                    self._ended.append(time.time())

        asyncio.run(complete())

    def ended(self) -> list[float]:
        """Return when the completion of each was confirmed, in seconds since the epoch."""
        return self._ended


class Times:
    """Moments that Airflow's own trigger for dates waits for: what a triggerer costs without a control plane."""

    kind = "time"

    def __init__(self, _: PostgresStack, waits: int, ends: float) -> None:
        # Behind the phases in which the triggers are taken and nothing ends.
        self._begin = time.time() + 20 + 5 + waits / 50 + IDLE
        self._ended = sorted(self._begin + ends * random.random() for _ in range(waits))
        self.ids = [datetime.fromtimestamp(at, UTC).isoformat() for at in self._ended]

    def end(self) -> None:
        """Wait until the first is due."""
        time.sleep(max(0.0, self._begin - time.time()))

    def ended(self) -> list[float]:
        """Return each moment, in seconds since the epoch."""
        return self._ended


WAITED: dict[str, type[Runs | Tokens | Times]] = {"run": Runs, "token": Tokens, "time": Times}


async def _for_each(plane: Plane, call: Callable[[AsyncHelmrClient, str], Awaitable[T]], ids: list[str]) -> list[T]:
    async with AsyncHelmrClient(url=plane.url, api_key=plane.api_key) as client:
        room = asyncio.Semaphore(16)

        async def one(each: str) -> T:
            async with room:
                return await call(client, each)

        return await asyncio.gather(*(one(each) for each in ids))


def measure(stack: PostgresStack, waits: int, kind: str) -> None:
    """Measure the triggers, and print the result.

    :raises StackError: a phase has passed its limit.
    """
    ends = 30 + waits / 100
    with phase(f"creating {waits:,} task instances"):
        run_id = hold_tasks(stack, waits)
    with phase(f"creating {waits:,} {kind}s"):
        waited = WAITED[kind](stack, waits, ends)
    before = sample(stack)
    putter = Putter(stack)
    with phase("putting the triggers into the database"):
        assert putter.put(waited.ids, kind) == waits
    putter.close()
    with phase("waiting until the triggerers have taken them"):
        progress(
            stack,
            lambda: count(stack, "trigger where triggerer_id is not null"),
            waits,
            what="triggers",
            seconds=60 + waits / 10,
            every=0.25,
        )
    shares = query(stack, "select count(*) from trigger group by triggerer_id")
    print(f"triggers of each triggerer: {sorted(share for (share,) in shares)}", flush=True)
    # A new wait retrieves its run, at most 100 runs a second.
    with phase("waiting until each has retrieved its run"):
        time.sleep(5 + waits / 100)
    measure_idle(stack, before.rss)
    with phase(f"ending {waits:,} {kind}s within {ends:.0f} s"):
        waited.end()
        progress(
            stack,
            lambda: waits - count(stack, f"{WORK} and state = 'deferred'"),
            waits,
            what="events",
            seconds=ends + 60 + waits / 10,
        )
    report(stack, waited, run_id)
    # The resumed tasks still wait for the pool.
    query(stack, f"update task_instance set state = 'success' where id in (select id from {WORK}) returning id")


def measure_idle(stack: PostgresStack, rss_before: int) -> None:
    plane = plane_of(stack)
    with phase(f"{IDLE:.0f} s in which nothing ends"):
        count_requests(plane)
        begin = sample(stack)
        seconds: list[int] = []
        for _ in range(round(IDLE / 5)):
            time.sleep(5)
            seconds.append(count_requests(plane))
        end = sample(stack)
    elapsed = end.at - begin.at
    print(
        f"idle: {sum(seconds) / elapsed:.1f} requests/s (at most {max(seconds) / 5:.1f} over 5 s), "
        f"{end.sockets} sockets, CPU {100 * (end.cpu - begin.cpu) / elapsed:.1f} % of a core, "
        f"{end.rss / 2**20:.0f} MiB in {len(triggerers(stack))} triggerers; before the triggers "
        f"{rss_before / 2**20:.0f} MiB",
        flush=True,
    )


def report(stack: PostgresStack, waited: Runs | Tokens | Times, run_id: str) -> None:
    """Print how long it took from each end until its trigger fired, and until Airflow had the event."""
    rows = query(stack, f"select scheduled_dttm from {WORK} and run_id = '{run_id}' order by map_index")
    ends = waited.ended()
    events = [at.astimezone(UTC).timestamp() - end for (at,), end in zip(rows, ends, strict=True)]
    at = fired(stack)
    fires = [at[each] - end for each, end in zip(waited.ids, ends, strict=True) if each in at]
    if fires:
        print(describe("until the trigger fires", fires))
    print(describe("until Airflow has the event", events))
    logs = "".join(each.log.read_text(errors="replace") for each in triggerers(stack))
    print(f"in the triggerers' logs: {TROUBLE.findall(logs) or 'no trouble'}; '{BLOCKED}': {logs.count(BLOCKED)} times")

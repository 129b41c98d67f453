"""Many run triggers in a real triggerer, put into Airflow's database directly: no worker slows them down."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.client import Plane, count_requests, start_runs
from benchmarks.sampling import BLOCKED, TROUBLE, percentile, sample, triggerers
from dev.postgres_stack import PostgresStack
from dev.stack import ROOT, poll
from helmr_provider.client import AsyncHelmrClient

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE = 60.0
ENDS = 45.0


class TwoTriggerers(PostgresStack):
    """Like :class:`PostgresStack`, with a second triggerer."""

    def components(self) -> Iterator[tuple[str, list[str]]]:
        """Name each program, with its arguments."""
        for name, arguments in super().components():
            yield (name, arguments) if name != "triggerer" else (name, ["triggerer", "--skip-serve-logs"])
        yield "triggerer-2", ["triggerer", "--skip-serve-logs"]


def query(stack: PostgresStack, statement: str) -> list[tuple[Any, ...]]:
    import psycopg2  # type: ignore[import-untyped, import-not-found, unused-ignore]

    connection = psycopg2.connect(f"postgresql://{stack.database}")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())
    finally:
        connection.close()


def count(stack: PostgresStack, condition: str) -> int:
    return int(query(stack, f"select count(*) from {condition}")[0][0])


def hold_tasks(stack: PostgresStack, waits: int) -> None:
    """Create task instances that wait for a pool without slots."""
    stack.airflow.wait_for_dag("held_waits")
    stack.airflow.call("POST", "/pools", {"name": "held", "slots": 0})
    stack.airflow.trigger("held_waits", count=waits)
    poll(
        lambda: count(stack, "task_instance where task_id = 'work' and state = 'scheduled'") == waits,
        seconds=600,
        waiting_for=f"{waits} task instances",
    )


def measure(stack: PostgresStack, waits: int) -> None:
    """Measure the triggers, and print what was found."""
    hold_tasks(stack, waits)
    process = stack.control_plane.program.process
    assert process is not None
    plane = Plane(stack.control_plane.url, stack.control_plane.api_key, psutil.Process(process.pid))
    # Ends are chosen before the runs start: a busy machine starts 25 a second, and takes up triggers within a minute.
    idle_from = time.time() + 60 + waits / 25 + waits / 80
    idle_until = idle_from + IDLE
    runs = asyncio.run(start_runs(plane, [idle_until + 1 + ENDS * random.random() for _ in range(waits)]))
    before = sample(stack)
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.insert_triggers"],
        input=json.dumps(runs).encode(),
        cwd=ROOT,
        env=stack.environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    inserted = time.monotonic()
    poll(
        lambda: count(stack, "trigger where triggerer_id is not null") == waits,
        seconds=120,
        waiting_for="all triggers to be assigned",
        every=0.1,
    )
    print(f"inserted in {inserted - began:.1f} s, all assigned {time.monotonic() - inserted:.1f} s later", flush=True)
    if time.time() > idle_from:
        sys.exit("this machine is too slow for this many triggers")
    time.sleep(idle_from - time.time())
    count_requests(plane)
    idle = sample(stack)
    time.sleep(max(0.0, idle_until - time.time()))
    after = sample(stack)
    requests = count_requests(plane) / IDLE
    shares = query(stack, "select triggerer_id, count(*) from trigger group by triggerer_id")
    print(f"triggers of each triggerer: {sorted(share for _, share in shares)}")
    cpu = (after.cpu - idle.cpu) / IDLE
    print(
        f"idle: {requests:.1f} requests/s, {after.sockets} sockets, CPU {100 * cpu:.1f} % of a core, "
        f"{after.rss / 2**20:.0f} MiB; before the triggers {before.rss / 2**20:.0f} MiB",
        flush=True,
    )
    poll(
        lambda: count(stack, "task_instance where task_id = 'work' and state = 'deferred'") == 0,
        seconds=300,
        waiting_for="all triggers to fire",
        every=1,
    )
    report(stack, plane, runs)


def report(stack: PostgresStack, plane: Plane, runs: list[str]) -> None:
    """Print how long it took from each run's end until Airflow had its trigger's event."""

    async def ends() -> list[float]:
        async with AsyncHelmrClient(url=plane.url, api_key=plane.api_key) as client:
            return [(await client.runs.retrieve(run)).updated_at.timestamp() for run in runs]

    resumed = query(
        stack, "select extract(epoch from scheduled_dttm) from task_instance where task_id = 'work' order by map_index"
    )
    delays = [float(at) - end for (at,), end in zip(resumed, asyncio.run(ends()), strict=True)]
    print(
        f"from a run's end until Airflow has the event, {len(delays)} triggers: p50 {percentile(delays, 0.5):.2f} s, "
        f"p99 {percentile(delays, 0.99):.2f} s, longest {max(delays):.2f} s"
    )
    logs = "".join(each.log.read_text(errors="replace") for each in triggerers(stack))
    print(f"in the triggerers' logs: {TROUBLE.findall(logs) or 'no trouble'}; '{BLOCKED}': {logs.count(BLOCKED)} times")

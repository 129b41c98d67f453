"""What the triggerers of a running Airflow use, what their logs say, and how far a benchmark is."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psutil

from dev.stack import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dev.postgres_stack import PostgresStack
    from dev.processes import Program
    from dev.stack import Stack

TROUBLE = re.compile(r"was never retrieved|Unclosed |was destroyed but it is pending")
# Airflow's own warning. A busy machine causes it, too, so it is reported and decides nothing.
BLOCKED = "async thread was blocked"
FIRED = "Trigger fired event"
# In the event, beside its other members.
WAITED_FOR = re.compile(r"'(?:run|token)_id': '([^']+)'")


@dataclass
class Sample:
    """The triggerers at one moment, with all their processes."""

    at: float
    deferred: int
    rss: int
    sockets: int
    cpu: float


def triggerers(stack: Stack) -> list[Program]:
    return [program for name, program in stack.programs.items() if name.startswith("triggerer")]


def sample(stack: Stack, deferred: int = 0) -> Sample:
    rss, sockets, cpu = 0, 0, 0.0
    for program in triggerers(stack):
        assert program.process is not None
        parent = psutil.Process(program.process.pid)
        for each in [parent, *parent.children(recursive=True)]:
            with each.oneshot():
                rss += each.memory_info().rss
                sockets += len(each.net_connections())
                cpu += sum(each.cpu_times()[:2])
    return Sample(time.monotonic(), deferred, rss, sockets, cpu)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    print(f"{time.strftime('%H:%M:%S')}  {name}", flush=True)
    began = time.monotonic()
    yield
    print(f"          took {time.monotonic() - began:.1f} s", flush=True)


def progress(
    stack: PostgresStack, reached: Callable[[], int], goal: int, *, what: str, seconds: float, every: float = 1.0
) -> None:
    """Wait until a count has reached its goal, and print it every five seconds.

    :raises StackError: it has not after `seconds`, or a program of the stack has ended.
    """
    began = shown = time.monotonic()
    while (now := reached()) < goal:
        stack.check()
        if time.monotonic() > began + seconds:
            raise StackError(f"gave up after {seconds:.0f} s: {now:,} of {goal:,} {what}")
        if time.monotonic() > shown + 5:
            shown = time.monotonic()
            print(f"{shown - began:8.0f} s  {now:,} of {goal:,} {what}", flush=True)
        time.sleep(every)


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


def fired(stack: PostgresStack) -> dict[str, float]:
    """Return when the trigger of each run or token fired, in seconds since the epoch, from the tasks' logs.

    Airflow can lose some of these lines.
    """
    times: dict[str, float] = {}
    for log in (stack.folder / "logs").rglob("*.trigger.*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if FIRED in line and (found := WAITED_FOR.search(line)):
                times[found[1]] = datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
    return times


def describe(what: str, delays: list[float]) -> str:
    """Return percentiles of delays in a line."""
    return (
        f"from the end {what}: p50 {percentile(delays, 0.5):.2f} s, p99 {percentile(delays, 0.99):.2f} s, "
        f"longest {max(delays):.2f} s ({len(delays):,})"
    )

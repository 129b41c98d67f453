"""A soak test of a real triggerer: waits turn over, each a run trigger that is put into Airflow's database directly.

No worker takes part, so that it needs little CPU. The exit status is 1 if a wait did not end, or if the triggerer's
memory, sockets or log show a leak.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.client import start_runs
from benchmarks.put_triggers import WORK, Putter, hold_tasks, plane_of
from benchmarks.sampling import BLOCKED, TROUBLE, count, sample, triggerers
from dev.postgres_stack import PostgresStack
from dev.processes import leave_nothing_running
from dev.stack import StackError

if TYPE_CHECKING:
    from benchmarks.sampling import Sample

HERE = Path(__file__).parent
SETTINGS = {"AIRFLOW__CORE__MAX_MAP_LENGTH": "10000", "AIRFLOW__TRIGGERER__CAPACITY": "10000"}
# Of the memory that the triggerer has when it is warm.
MEMORY_GROWTH = 0.1
SOCKET_GROWTH = 10
# Beyond the longest wait.
PATIENCE = 120.0


def ends(chance: random.Random, waits: int, seconds: float, *, first: bool) -> list[float]:
    """Choose when runs end. The first ones start together and end evenly."""
    least, most = (30.0, 30 + 1.6 * seconds) if first else (0.4 * seconds, 1.6 * seconds)
    return [time.time() + chance.uniform(least, most) for _ in range(waits)]


def soak(stack: PostgresStack, options: argparse.Namespace) -> int:
    hold_tasks(stack, options.sessions)
    plane = plane_of(stack)
    putter = Putter(stack)
    chance = random.Random(10)
    began = time.monotonic()
    until = began + 60 * options.minutes
    samples: list[Sample] = []
    put = 0
    while time.monotonic() < until + 2 * options.seconds + PATIENCE:
        if time.monotonic() < until and (resumed := count(stack, f"{WORK} and state = 'scheduled'")):
            chosen = ends(chance, resumed, options.seconds, first=not put)
            put += putter.put(asyncio.run(start_runs(plane, chosen)))
        latest = sample(stack, count(stack, f"{WORK} and state = 'deferred'"))
        samples.append(latest)
        print(
            f"{latest.at - began:6.0f} s  put {put:6}  waiting {latest.deferred:5}  "
            f"triggerer {latest.rss / 2**20:.0f} MiB, {latest.sockets} sockets, CPU {latest.cpu:.1f} s",
            flush=True,
        )
        if time.monotonic() >= until and not latest.deferred:
            break
        stack.check()
        time.sleep(options.every)
    putter.close()
    return report(stack, samples, put, options.sessions)


def report(stack: PostgresStack, samples: list[Sample], put: int, waits: int) -> int:
    """Print what was found; return 1 if it shows a leak or a wait that did not end."""
    full = [each for each in samples if each.deferred >= 0.9 * waits] or samples
    third = len(full) // 3 or 1
    parts = {"start": full[:third], "middle": full[third : 2 * third] or full, "end": full[2 * third :] or full}
    memory = {name: statistics.median(each.rss for each in part) for name, part in parts.items()}
    sockets = {name: statistics.median(each.sockets for each in part) for name, part in parts.items()}
    for name in parts:
        print(f"{name}: {memory[name] / 2**20:.1f} MiB, {sockets[name]:.0f} sockets")
    elapsed = samples[-1].at - samples[0].at
    logs = "".join(each.log.read_text(errors="replace") for each in triggerers(stack))
    trouble = Counter(TROUBLE.findall(logs))
    print(
        f"{put} waits in {elapsed / 60:.0f} minutes, {max(each.deferred for each in samples)} at a time; "
        f"CPU {100 * (samples[-1].cpu - samples[0].cpu) / elapsed:.1f} % of a core; not ended {samples[-1].deferred}"
    )
    print(f"in the triggerer's log: {dict(trouble) or 'no trouble'}; '{BLOCKED}': {logs.count(BLOCKED)} times")
    grown = memory["end"] > (1 + MEMORY_GROWTH) * memory["middle"]
    leaks = sockets["end"] > sockets["middle"] + SOCKET_GROWTH
    return int(bool(trouble or samples[-1].deferred or grown or leaks))


@leave_nothing_running()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=500, help="waits at a time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=150, help="mean length of a wait (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=45, help="how long waits turn over (default: %(default)s)")
    parser.add_argument("--every", type=float, default=10, help="seconds between samples (default: %(default)s)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helmr-soak-"))
    folder.chmod(0o755)
    try:
        with PostgresStack(folder / "stack", dags=HERE / "dags", tasks=HERE / "tasks.py", settings=SETTINGS) as stack:
            return soak(stack, options)
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

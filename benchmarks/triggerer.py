"""Deferred sessions through a real triggerer, on PostgreSQL and the local executor: delays, memory, CPU, leaks.

Without ``--minutes``, one mapped task starts all sessions. With it, sessions turn over for that long (a soak test), and
the exit status is 1 if a session was lost or the triggerer's memory, sockets or log show a leak.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import put_triggers
from benchmarks.sampling import BLOCKED, TROUBLE, percentile, sample, triggerers
from dev.airflow_api import AirflowApiError
from dev.postgres_stack import PostgresStack
from dev.stack import StackError
from helmr_provider.client import HelmrClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.sampling import Sample

DAG_ID = "mapped_waits"
HERE = Path(__file__).parent
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__MAX_MAP_LENGTH": "10000",
    "AIRFLOW__TRIGGERER__CAPACITY": "10000",
}
# Of the memory that the triggerer has when it is warm.
MEMORY_GROWTH = 0.2
SOCKET_GROWTH = 10


def task_instances(stack: PostgresStack, run_id: str) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        page = stack.airflow.call(
            "GET", f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances", limit=100, offset=offset, task_id="work"
        )["task_instances"]
        yield from (each for each in page if each["task_id"] == "work" and each["map_index"] >= 0)
        if len(page) < 100:
            return
        offset += 100


def trigger(stack: PostgresStack, sessions: int, seconds: float, number: int) -> str:
    run_id = f"bench-{number}"
    body = {"logical_date": None, "conf": {"sessions": sessions, "seconds": seconds}, "dag_run_id": run_id}
    try:
        stack.airflow.call("POST", f"/dags/{DAG_ID}/dagRuns", body)
    except AirflowApiError as error:
        # Triggered by an earlier call whose response did not arrive in time.
        if error.status != 409:
            raise
    return run_id


def delays(stack: PostgresStack, client: HelmrClient, run_ids: list[str]) -> tuple[list[float], list[float]]:
    """Seconds from the end of each Helmr run until Airflow has the trigger's event, and to the end of its task."""
    ended = {run.session_id: run.updated_at for run in client.runs.list(status="succeeded", limit=200)}
    names = {
        session.external_id: ended[session.id]
        for session in client.sessions.list(status="all", limit=200)
        if session.id in ended
    }
    events: list[float] = []
    tasks: list[float] = []
    for run_id in run_ids:
        for each in task_instances(stack, run_id):
            name = f"airflow:{DAG_ID}:{run_id}:work:{each['map_index']}:0"
            if each["state"] == "success" and name in names:
                for found, at in ((events, each["scheduled_when"]), (tasks, each["end_date"])):
                    found.append((datetime.fromisoformat(at) - names[name]).total_seconds())
    return events, tasks


def measure(stack: PostgresStack, options: argparse.Namespace) -> int:
    stack.airflow.wait_for_dag(DAG_ID)
    started = time.monotonic()
    until = started + options.minutes * 60
    # Each DAG run holds a share of the sessions, so that they turn over instead of ending together.
    share = options.sessions if not options.minutes else max(1, options.sessions // 10)
    runs: dict[str, str] = {}
    samples: list[Sample] = []

    def look() -> bool:
        """Keep the sessions turning over and take a sample; tell whether any are live."""
        for run_id in [run_id for run_id, state in runs.items() if state not in {"success", "failed"}]:
            runs[run_id] = str(stack.airflow.dag_run(DAG_ID, run_id)["state"])
        live = [run_id for run_id, state in runs.items() if state not in {"success", "failed"}]
        while (not runs or time.monotonic() < until) and len(live) * share < options.sessions:
            run_id = trigger(stack, share, options.seconds, len(runs))
            runs[run_id] = "queued"
            live.append(run_id)
        states = Counter(str(each["state"]) for run_id in live for each in task_instances(stack, run_id))
        samples.append(sample(stack, states["deferred"]))
        latest = samples[-1]
        print(
            f"{latest.at - started:6.0f} s  DAG runs {len(runs)}  deferred {latest.deferred:5}  "
            f"triggerer {latest.rss / 2**20:.0f} MiB, {latest.sockets} sockets, CPU {latest.cpu:.1f} s",
            flush=True,
        )
        return bool(live)

    while True:
        try:
            if not look():
                break
        except OSError as error:
            # An API server on a busy machine; the next look finds everything.
            print(f"{time.monotonic() - started:6.0f} s  Airflow's API does not answer: {error}", flush=True)
        stack.check()
        time.sleep(options.every)
    with HelmrClient(url=stack.control_plane.url, api_key=stack.control_plane.api_key) as client:
        lines, healthy = report(stack, client, runs, samples, share)
    print("\n".join(lines))
    return 0 if healthy else 1


def report(
    stack: PostgresStack, client: HelmrClient, runs: dict[str, str], samples: list[Sample], share: int
) -> tuple[list[str], bool]:
    events, tasks = delays(stack, client, list(runs)[-max(1, 200 // share) :])
    counts = client.runs.count()
    log = "".join(each.log.read_text(errors="replace") for each in triggerers(stack))
    trouble = Counter(TROUBLE.findall(log))
    # The first fifth is start-up: imports, caches, and the first full load.
    warm = samples[len(samples) // 5 :]
    half = len(warm) // 2 or 1
    before, after = warm[:half], warm[half:] or warm
    grown = statistics.median(each.rss for each in after) / statistics.median(each.rss for each in before) - 1
    sockets = statistics.median(each.sockets for each in after) - statistics.median(each.sockets for each in before)
    full = max(samples, key=lambda each: each.deferred)
    elapsed = samples[-1].at - samples[0].at
    lines = [
        "",
        (
            f"sessions: {len(runs) * share} in {len(runs)} DAG runs, {Counter(runs.values())}; live at the end: "
            f"{counts.queued + counts.running}"
        ),
        (f"most deferred at a time: {full.deferred}, {full.at - samples[0].at:.0f} s after the first DAG run"),
        (
            f"triggerer: {max(each.rss for each in samples) / 2**20:.0f} MiB at most, "
            f"{100 * (samples[-1].cpu - samples[0].cpu) / (elapsed or 1):.0f} % of one core on average"
        ),
        f"second half against first: memory {100 * grown:+.1f} %, sockets {sockets:+.0f}",
        f"in the triggerer's log: {dict(trouble) or 'no trouble'}; '{BLOCKED}': {log.count(BLOCKED)} times",
    ]
    lines += [
        f"from a run's end {what} ({len(found)} tasks): p50 {percentile(found, 0.5):.2f} s, "
        f"p99 {percentile(found, 0.99):.2f} s"
        for what, found in (("until Airflow has the event", events), ("to the end of its resumed task", tasks))
        if found
    ]
    leak = len(warm) >= 10 and (grown > MEMORY_GROWTH or sockets > SOCKET_GROWTH)
    lost = set(runs.values()) != {"success"} or counts.queued + counts.running > 0
    return lines, not (leak or lost or trouble)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200, help="sessions at a time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="how long each works (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=0, help="let sessions turn over for so long (default: once)")
    parser.add_argument(
        "--put", type=int, metavar="TRIGGERS", help="put so many triggers into Airflow's database, and start no session"
    )
    parser.add_argument("--triggerers", type=int, choices=[1, 2], default=1, help="(default: %(default)s)")
    parser.add_argument("--every", type=float, default=5, help="seconds between samples (default: %(default)s)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helmr-triggerer-"))
    folder.chmod(0o755)
    try:
        kind = put_triggers.TwoTriggerers if options.triggerers == 2 else PostgresStack
        tasks = HERE / "tasks.py" if options.put else None
        with kind(folder / "stack", dags=HERE / "dags", tasks=tasks, settings=SETTINGS) as stack:
            if options.put:
                put_triggers.measure(stack, options.put)
                return 0
            return measure(stack, options)
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

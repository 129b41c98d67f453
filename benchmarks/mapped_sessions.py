"""Sessions that one mapped task starts and waits for, through a whole Airflow: workers, triggerers and schedulers."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.sampling import BLOCKED, TROUBLE, count, describe, fired, phase, progress, query, sample, triggerers
from dev.stack import StackError
from helmr_provider._sessions.identity import Identity
from helmr_provider.client import HelmrClient

if TYPE_CHECKING:
    from dev.postgres_stack import PostgresStack

DAG_ID = "mapped_waits"


def measure(stack: PostgresStack, sessions: int) -> None:
    """Start the sessions, let them end when all wait, and print the result.

    :raises StackError: a phase has passed its limit, or not every session succeeded.
    """
    ends = 30 + sessions / 20
    release = stack.folder / f"release-{uuid4()}"
    stack.airflow.wait_for_dag(DAG_ID)
    begin = sample(stack)
    with phase(f"starting {sessions:,} sessions, until all tasks are deferred"):
        run_id = stack.airflow.trigger(DAG_ID, sessions=sessions, ends=ends, release=str(release))
        work = work_of(run_id)
        progress(
            stack,
            lambda: count(stack, f"{work} and state = 'deferred'"),
            sessions,
            what="deferred tasks",
            seconds=120 + 3 * sessions,
        )
    full = sample(stack)
    with phase(f"ending all within {ends:.0f} s, until all tasks have ended"):
        new = release.with_suffix(".new")
        new.write_text(str(time.time()))
        new.rename(release)
        progress(
            stack,
            lambda: count(stack, f"{work} and state in ('success', 'failed', 'upstream_failed')"),
            sessions,
            what="ended tasks",
            seconds=ends + 120 + 3 * sessions,
        )
    end = sample(stack)
    print(
        f"triggerers: {full.rss / 2**20:.0f} MiB with all deferred, {begin.rss / 2**20:.0f} MiB before, "
        f"{full.sockets} sockets, {100 * (end.cpu - begin.cpu) / (end.at - begin.at):.0f} % of a core on average"
    )
    report(stack, run_id)


def work_of(run_id: str) -> str:
    """Return the mapped task instances of a DAG run, as SQL."""
    return f"task_instance where dag_id = '{DAG_ID}' and run_id = '{run_id}' and task_id = 'work' and map_index >= 0"


def report(stack: PostgresStack, run_id: str) -> None:
    """Print how long it took from each run's end until its trigger fired, and its task ended."""
    work = work_of(run_id)
    states = Counter(state for (state,) in query(stack, f"select state from {work}"))
    with HelmrClient(url=stack.control_plane.url, api_key=stack.control_plane.api_key) as client:
        counts = client.runs.count()
        at = fired(stack)
        fires: list[float] = []
        events: list[float] = []
        tasks: list[float] = []
        for number, event, task in query(stack, f"select map_index, scheduled_dttm, end_date from {work}"):
            owner = Identity(prefix="airflow", dag_id=DAG_ID, run_id=run_id, task_id="work", map_index=number)
            session = client.sessions.retrieve(external_id=owner.external_id(1))
            [run] = client.runs.list(status="all", session_id=session.id)
            end = run.updated_at.timestamp()
            if run.id in at:
                fires.append(at[run.id] - end)
            events.append(event.astimezone(UTC).timestamp() - end)
            tasks.append(task.astimezone(UTC).timestamp() - end)
    print(describe("until the trigger fires", fires))
    print(describe("until Airflow has the event", events))
    print(describe("to the end of the resumed task", tasks))
    logs = "".join(each.log.read_text(errors="replace") for each in triggerers(stack))
    trouble = Counter(TROUBLE.findall(logs))
    print(
        f"tasks: {dict(states)}; live runs at the end: {counts.queued + counts.running}\n"
        f"in the triggerers' logs: {dict(trouble) or 'no trouble'}; '{BLOCKED}': {logs.count(BLOCKED)} times"
    )
    if set(states) != {"success"} or counts.queued + counts.running:
        raise StackError("not every session succeeded once")

"""What a round of the worker and an entry of the journal cost, counted: it does not grow with how many there are."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from helmr_provider.local import LocalControlPlane, Queue, task
from helmr_provider.local.state import queueing
from helmr_provider.local.storage.database import Database
from helmr_provider.local.testing.journal import Journal, JournalEntry
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire
from tests.support.polling import until, until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.local import TaskContext
    from helmr_provider.local._core import Core, Deployment
    from helmr_provider.local.common.clock import Clock

FEW, MANY = 500, 5000


@task("narrow", queue=Queue("narrow", concurrency_limit=1))
async def narrow(ctx: TaskContext, payload: Any) -> None: ...


@task("wide")
async def wide(ctx: TaskContext, payload: Any) -> None: ...


class Copy(NamedTuple):
    """What a round of leases reads, in a database that no server uses: SQLite's hooks need it for themselves."""

    db: Database
    deployment: Deployment
    clock: Clock


@pytest.fixture
def core() -> Iterator[Any]:
    database = Database(None)
    with LocalControlPlane([narrow, wide], settings=QUICK) as server:
        server.pause_worker()
        wire = Wire(server)
        wire.start("narrow", {})
        wire.start("wide", {})
        core = server.running.core
        database._connection.deserialize(server._call(core.db._connection.serialize))
    yield Copy(database, core.deployment, core.clock)
    database.close()


def fill(core: Core, total: int, task_id: str, *, execution: str, key: str = "NULL") -> None:
    """Copy the run of a task until there are so many.

    :param key: SQL of the copies' concurrency keys, which may use their number ``n``.
    """
    [[start]] = core.db.all("SELECT 10 + max(turn_index) FROM runs")
    names = [row["name"] for row in core.db.all("PRAGMA table_info(runs)")]
    own = {"id": "id || '-' || n", "turn_index": "n", "execution": f"'{execution}'", "concurrency_key": key}
    columns = ", ".join(own.get(name, name) for name in names)
    core.db.execute(
        f"WITH RECURSIVE numbers (n) AS (SELECT {start} UNION ALL SELECT n + 1 FROM numbers"
        f" WHERE n < {start + total - 2})"
        f" INSERT INTO runs ({', '.join(names)}) SELECT {columns} FROM runs, numbers"
        f" WHERE task_id = '{task_id}' AND turn_index < 10"
    )


def steps_of(core: Core, work: Callable[[], object]) -> int:
    """Count the instructions of the database's virtual machine."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    core.db._connection.set_progress_handler(count, 1)
    try:
        work()
    finally:
        core.db._connection.set_progress_handler(None, 1)
    return steps


def next_run(core: Core) -> object:
    """Return the run that a round of leases would begin with."""
    places = queueing.Places(core)
    found = (run for run in queueing.candidates(core, places, core.clock.now()) if places.free(queueing.group_of(run)))
    return next(islice(found, 1), None)


def growth(core: Core, *filled: dict[str, Any]) -> tuple[int, int]:
    counts = []
    for total in (FEW, MANY):
        core.db.execute("DELETE FROM runs WHERE turn_index >= 10")
        for each in filled:
            fill(core, total, **each)
        counts.append(steps_of(core, lambda: next_run(core)))
    return counts[0], counts[1]


@pytest.mark.parametrize(
    "filled",
    [
        [{"task_id": "narrow", "execution": "queued"}],
        [{"task_id": "wide", "execution": "executing"}],
        [{"task_id": "narrow", "execution": "queued"}, {"task_id": "wide", "execution": "executing"}],
        [{"task_id": "narrow", "execution": "queued", "key": "'key ' || (n % 7)"}],
    ],
    ids=["queued", "executing", "both", "seven keys"],
)
def test_a_round_of_leases_costs_the_same_however_many_runs_there_are(core: Core, filled: list[Any]) -> None:
    few, many = growth(core, *filled)
    # Newer releases of SQLite take a few steps less when there are many.
    assert 0 < many <= 1.5 * few


def test_the_groups_of_queued_runs_are_all_found(core: Core) -> None:
    for number, key in enumerate(["''", "'a'", "'a b'", "'ä'"], 1):
        fill(core, 5 * number, "narrow", execution="queued", key=key)
    found = {group for group in queueing._groups(core) if group[1] == "narrow"}
    rows = core.db.all("SELECT DISTINCT environment_id, queue, concurrency_key FROM runs WHERE queue = 'narrow'")
    assert found == {tuple(row) for row in rows}
    assert len(found) == 5


def lines_of(work: Callable[[], object]) -> int:
    """Count the executed lines of Python."""
    lines = 0

    def trace(frame: object, event: str, arg: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def test_a_round_of_the_worker_passes_no_limits_of_runs_that_have_time_left() -> None:
    opened = False

    @task("held")
    async def held(ctx: TaskContext, payload: Any) -> None:
        await until_async(lambda: opened)

    costs = []
    with LocalControlPlane([held], settings=QUICK) as server:
        wire = Wire(server)
        for executing in (3, 30):
            while len(server.running.worker._executions) < executing:
                before = len(server.running.worker._executions)
                wire.start("held", {})
                until(lambda before=before: len(server.running.worker._executions) > before)  # type: ignore[misc]
            costs.append(lines_of(server.running.worker._pass_limits))
        opened = True
    assert costs[0] == costs[1]


def entry(number: int) -> JournalEntry:
    return JournalEntry("GET", f"/api/runs/{number}", {}, "getRun", environment=f"environment-{number % 2}")


def test_an_entry_of_the_journal_costs_the_same_however_many_there_are() -> None:
    journal, costs = Journal(), list[float]()

    def note(numbers: range) -> None:
        for number in numbers:
            journal.amend(journal.open(entry(number)), status=200)

    for numbers in (range(FEW), range(FEW, MANY), range(MANY, MANY + FEW)):
        costs.append(lines_of(lambda numbers=numbers: note(numbers)) / len(numbers))  # type: ignore[misc]
    assert max(costs) <= 1.1 * min(costs)
    reading = lines_of(lambda: journal.entries("environment-1"))
    assert reading <= 3 * (MANY + FEW)
    assert len(journal.entries("environment-1")) == (MANY + FEW) // 2

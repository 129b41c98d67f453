"""Sessions on the scheduler and the triggerer of a real Airflow 2.11, on PostgreSQL."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dev.postgres_stack import PostgresStack
from dev.processes import poll
from dev.stack import ROOT
from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider.client import HelmrClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="Airflow 3 has tests of its own, in tests/airflow"),
    pytest.mark.timeout(600),
]
HERE = Path(__file__).parent
DAGS = ("deferring", "waiting", "failing", "timing")
LIMIT = 240.0  # seconds for one step; only a stack that is stuck reaches it
SETTINGS = {
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    # A worker that was killed is missed after seconds instead of minutes.
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "2",
}


class Airflow2Stack(PostgresStack):
    """Airflow 2's components need no API server, and the tests none of its pages."""

    def components(self) -> Iterator[tuple[str, list[str]]]:
        yield "scheduler", ["scheduler"]
        yield "triggerer", ["triggerer"]

    def wait_until_healthy(self, components: Iterable[str] = (), *, seconds: float = LIMIT) -> None:
        """Nothing is asked before the scheduler knows the DAGs."""


class Airflow:
    """What the tests do to Airflow and ask it."""

    def __init__(self, stack: Airflow2Stack) -> None:
        self.stack = stack
        command = [sys.executable, "-m", "tests.airflow_2.database", str(HERE / "dags")]
        self._log = (stack.folder / "database.log").open("w")
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=stack.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, question: str, *arguments: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([question, *arguments]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, (self.stack.folder / "database.log").read_text()
        return json.loads(answer)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._log.close()


class Task:
    """One task instance, and the gate that its run waits at."""

    def __init__(self, airflow: Airflow, client: HelmrClient, dag_id: str, **conf: object) -> None:
        self._airflow, self._client, self._dag_id = airflow, client, dag_id
        self._token = client.tokens.create(timeout="1h")
        self._run_id = f"{dag_id}-{self._token.id}"
        airflow.ask("trigger", dag_id, self._run_id, {"token_id": self._token.id, **conf})

    def open_gate(self) -> None:
        self._client.tokens.complete(self._token.id, "go")

    def until(self, *states: str, tries: int = 1) -> str:
        """Wait until the task instance has one of the states in this try or a later one."""

        def reached() -> str | None:
            self._airflow.stack.check()
            state, number = self._airflow.ask("task", self._dag_id, self._run_id)
            return state if state in states and number >= tries else None

        return poll(reached, seconds=LIMIT, waiting_for=f"{self._dag_id} to be {states}, try {tries}")

    def runs(self) -> list[str]:
        """Return the statuses of the runs that the task has started, oldest first."""
        prefix = f"airflow:{self._dag_id}:{self._run_id}:"
        mine = [each for each in self._client.sessions.list(limit=200) if (each.external_id or "").startswith(prefix)]
        mine.sort(key=lambda session: session.created_at)
        return [run.status for each in mine for run in self._client.runs.list(status="all", session_id=each.id)]

    def until_runs(self, *statuses: str) -> None:
        poll(lambda: self.runs() == list(statuses), seconds=LIMIT, waiting_for=f"{statuses}, not {self.runs()}")

    def deferred(self) -> Task:
        """Wait until it is deferred and the triggerer has begun to wait."""
        self.until("deferred")
        self.until_runs("waiting")
        return self

    def result(self) -> Any:
        return self._airflow.ask("value", self._dag_id, self._run_id)

    def mark(self, state: str) -> None:
        self._airflow.ask("mark", self._dag_id, self._run_id, state)

    def clear(self) -> None:
        self._airflow.ask("clear", self._dag_id, self._run_id)


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    # Not below pytest's own folder, which is closed to the user that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="helmr-airflow-2-"))
    folder.chmod(0o755)
    tasks = ROOT / "tests/airflow/local_tasks.py"
    with Airflow2Stack(folder / "stack", dags=HERE / "dags", tasks=tasks, settings=SETTINGS) as stack:
        connected = Airflow(stack)
        try:
            poll(
                lambda: connected.ask("dags") == len(DAGS), seconds=LIMIT, waiting_for="the scheduler to know the DAGs"
            )
            yield connected
        finally:
            connected.close()
    shutil.rmtree(folder)


@pytest.fixture
def client(airflow: Airflow) -> Iterator[HelmrClient]:
    plane = airflow.stack.control_plane
    with HelmrClient(url=plane.url, api_key=plane.api_key) as connected:
        yield connected


@pytest.fixture
def begin(airflow: Airflow, client: HelmrClient) -> Callable[..., Task]:
    """Trigger a DAG and return its task."""
    return lambda dag_id, **conf: Task(airflow, client, dag_id, **conf)


def processes_of_tasks(airflow: Airflow) -> list[psutil.Process]:
    """Return the processes that run a task, supervisors first."""
    scheduler = airflow.stack.programs["scheduler"].process
    assert scheduler is not None
    return [
        below
        for child in psutil.Process(scheduler.pid).children()
        for below in child.children(recursive=True)
        if "airflow task" in " ".join(below.cmdline())
    ]


def test_a_deferred_task_returns_the_output(begin: Callable[..., Task]) -> None:
    task = begin("deferring").deferred()
    task.open_gate()
    assert task.until("success", "failed") == "success"
    assert task.result() == {"opened_with": "go"}
    assert task.runs() == ["succeeded"]


def test_a_failed_run_fails_the_task(begin: Callable[..., Task]) -> None:
    task = begin("failing")
    assert task.until("success", "failed") == "failed"
    assert task.runs() == ["failed"]


def test_a_time_limit_cancels_the_run(begin: Callable[..., Task]) -> None:
    task = begin("timing")
    assert task.until("success", "failed") == "failed"
    task.until_runs("cancelled")


def test_the_retry_of_a_killed_worker_adopts_its_run(
    airflow: Airflow, begin: Callable[..., Task], tmp_path: Path
) -> None:
    held = tmp_path / "held"
    task = begin("deferring", held=str(held))
    poll(held.exists, seconds=LIMIT, waiting_for="the task to start its session")
    for process in processes_of_tasks(airflow):
        process.kill()
    task.until("deferred", tries=2)
    task.open_gate()
    assert task.until("success", "failed") == "success"
    assert task.runs() == ["succeeded"]


def test_the_retry_of_a_drained_worker_adopts_its_run(airflow: Airflow, begin: Callable[..., Task]) -> None:
    task = begin("waiting")
    task.until("running")
    task.until_runs("waiting")
    processes_of_tasks(airflow)[-1].send_signal(signal.SIGTERM)
    task.until("running", tries=2)
    task.open_gate()
    assert task.until("success", "failed") == "success"
    assert task.runs() == ["succeeded"]


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_deferred_task_that_is_marked_cancels_its_run(begin: Callable[..., Task], state: str) -> None:
    task = begin("deferring").deferred()
    task.mark(state)
    task.until_runs("cancelled")


def test_a_waiting_task_that_is_marked_cancels_its_run(begin: Callable[..., Task]) -> None:
    task = begin("waiting")
    task.until("running")
    task.until_runs("waiting")
    task.mark("failed")
    task.until_runs("cancelled")


def test_a_cleared_deferred_task_never_has_two_live_runs(begin: Callable[..., Task]) -> None:
    task = begin("deferring").deferred()
    task.clear()
    task.until("deferred", tries=2)
    task.open_gate()
    assert task.until("success", "failed") == "success"
    # The next try may begin before the trigger is cancelled, and adopts the run then.
    assert task.runs() in (["succeeded"], ["cancelled", "succeeded"])


def test_a_task_that_is_cleared_after_its_success_starts_another_session(begin: Callable[..., Task]) -> None:
    task = begin("deferring").deferred()
    task.open_gate()
    task.until("success")
    task.clear()
    task.until("success", tries=2)
    assert task.runs() == ["succeeded", "succeeded"]


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_a_wait_survives_the_end_of_its_triggerer(airflow: Airflow, begin: Callable[..., Task], way: str) -> None:
    task = begin("deferring").deferred()
    triggerer = airflow.stack.programs["triggerer"]
    getattr(triggerer, way)()
    assert task.runs() == ["waiting"]
    task.open_gate()
    triggerer.start()
    assert task.until("success", "failed") == "success"
    assert task.runs() == ["succeeded"]

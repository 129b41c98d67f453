"""One real Airflow and one local control plane for all tests of this folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from dev.stack import LOST_BY_AIRFLOW, ROOT, Stack, StackError, poll
from helmr_provider.client import HelmrClient
from tests.conftest import MEASURED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client.models.runs import RunSnapshot

HERE = Path(__file__).parent
# A worker or scheduler that was killed is missed after seconds instead of minutes.
SETTINGS = {
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
}
ENDED = frozenset({"success", "failed", "upstream_failed"})
RUNNING = pytest.StashKey[Stack]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Search for secrets after everything has been logged and stored."""
    items.sort(key=lambda item: item.path == HERE / "test_secrets.py")


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test a second time that failed while Airflow's own log says that it lost a task, and say so at the end."""
    if item.get_closest_marker("airflow") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    before = _losses(item.config)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if nextitem is not None and any(report.failed for report in reports) and _losses(item.config) > before:
        item.user_properties.append((MEASURED, f"run again, as Airflow itself lost a task: {item.nodeid}"))
        item._initrequest()  # type: ignore[attr-defined]  # what plugins that run tests again do
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _losses(config: pytest.Config) -> int:
    """Count what Airflow has lost so far; nothing before it runs."""
    running = config.stash.get(RUNNING, None)
    logs = [] if running is None else list(running.folder.glob("*.log"))
    return sum(log.read_text(errors="replace").count(sign) for log in logs for sign in LOST_BY_AIRFLOW)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Stack]:
    """Start every component of Airflow as a program of its own, and the local control plane."""
    dags = tmp_path_factory.mktemp("dags")
    for source in [*(HERE / "dags").iterdir(), *(ROOT / "example_dags").iterdir()]:
        if source.suffix in {".py", ".yaml"}:
            shutil.copy(source, dags)
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, dags=dags, tasks=HERE / "local_tasks.py", settings=SETTINGS) as running:
        pytestconfig.stash[RUNNING] = running
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[HelmrClient]:
    """Read the control plane's console, and complete tokens."""
    with HelmrClient(url=stack.control_plane.url, api_key=stack.control_plane.api_key) as connected:
        yield connected


@dataclass
class Scenario:
    """One DAG run whose only Helmr task is called ``work``, with the token that lets its session end."""

    stack: Stack
    client: HelmrClient
    dag_id: str
    token_id: str
    run_id: str

    def task(self, task_id: str = "work") -> dict[str, Any]:
        return self.stack.airflow.tasks(self.dag_id, self.run_id)[task_id]

    def tasks(self) -> dict[str, dict[str, Any]]:
        return self.stack.airflow.tasks(self.dag_id, self.run_id)

    def mapped_tasks(self, task_id: str = "work") -> list[dict[str, Any]]:
        return self.stack.airflow.mapped_tasks(self.dag_id, self.run_id, task_id)

    def wait_for(self, *states: str, task_id: str = "work", seconds: float = 90) -> dict[str, Any]:
        """Wait until the task is in one of these states; another final state ends the wait immediately."""

        def there() -> dict[str, Any] | None:
            self.stack.check()
            tasks = self.stack.airflow.tasks(self.dag_id, self.run_id)
            if tasks[task_id]["state"] in states:
                return tasks[task_id]
            over = [other for other in tasks if tasks[other]["state"] == "failed" or other == task_id]
            for other in over:
                state = tasks[other]["state"]
                assert state not in ENDED, f"{other} is {state}:\n{self.log(other)}"
            return None

        try:
            return poll(there, seconds=seconds, waiting_for=f"{self.dag_id}.{task_id} to be {' or '.join(states)}")
        except StackError as error:
            error.add_note(f"its state is {self.task(task_id)['state']}; its log:\n{self.log(task_id)}")
            raise

    def wait_until_watched(self) -> dict[str, Any]:
        """Wait until the task is deferred and a triggerer has taken up its trigger."""

        def there() -> dict[str, Any] | None:
            task = self.wait_for("deferred")
            return task if task["triggerer_job"] else None

        return poll(there, seconds=60, waiting_for="a triggerer to take the trigger")

    def wait_until_settled(self, task_id: str = "work") -> None:
        """Wait until a deferred task is watched, and the scheduler has heard that its first half is over.

        Airflow itself fails a task that resumes before; a person would not be that quick.
        """
        key = f"task_id='{task_id}', run_id='{self.run_id}'"

        def there() -> bool:
            task = self.wait_for("deferred", task_id=task_id)
            heard = f"state success for task instance TaskInstanceKey(dag_id='{self.dag_id}', {key}, "
            heard += f"try_number={task['try_number']},"
            return bool(task["triggerer_job"]) and heard in (self.stack.folder / "scheduler.log").read_text()

        poll(there, seconds=60, waiting_for=f"{task_id} to be deferred for everybody")

    def wait_until_ended(self, *, seconds: float = 90) -> str:
        """Wait until the DAG run is over; returns its state."""

        def over() -> str | None:
            self.stack.check()
            state = str(self.stack.airflow.dag_run(self.dag_id, self.run_id)["state"])
            return state if state in ENDED else None

        return poll(over, seconds=seconds, waiting_for=f"the DAG run of {self.dag_id} to end")

    def succeeds(self, *, seconds: float = 90) -> None:
        """Wait until the DAG run is over, and show the logs of what failed unless it succeeded."""
        if self.wait_until_ended(seconds=seconds) != "success":
            tasks = self.stack.airflow.tasks(self.dag_id, self.run_id)
            failed = [task_id for task_id, task in tasks.items() if task["state"] == "failed"]
            pytest.fail("\n".join(f"{task_id} failed:\n{self.log(task_id)}" for task_id in failed))

    def open_gate(self, data: Any = "go") -> None:
        self.client.tokens.complete(self.token_id, data)

    def xcom(self, key: str = "return_value", task_id: str = "work") -> Any:
        return self.stack.airflow.xcom(self.dag_id, self.run_id, task_id, key)

    def log(self, task_id: str = "work", try_number: int | None = None) -> str:
        number = try_number or self.task(task_id)["try_number"]
        return self.stack.airflow.log(self.dag_id, self.run_id, task_id, number) if number else "(it never ran)"

    def helmr_runs(self) -> list[RunSnapshot]:
        """Return the runs of all sessions that this DAG run started, oldest first."""
        sessions = [
            session
            for session in self.client.sessions.list(limit=200)
            if (session.external_id or "").startswith(f"airflow:{self.dag_id}:{self.run_id}:")
        ]
        runs = [run for session in sessions for run in self.client.runs.list(status="all", session_id=session.id)]
        return sorted(runs, key=lambda run: run.created_at)

    def wait_for_helmr_run(self, status: str, *, seconds: float = 60) -> RunSnapshot:
        """Wait until the last run has this status."""

        def there() -> RunSnapshot | None:
            last = self.helmr_runs()[-1]
            return last if last.status == status else None

        return poll(there, seconds=seconds, waiting_for=f"the Helmr run to be {status}")


class Scenarios:
    """Begins scenarios."""

    def __init__(self, stack: Stack, client: HelmrClient) -> None:
        self._stack = stack
        self._client = client

    def begin(self, dag_id: str, **conf: Any) -> Scenario:
        """Create the token that opens the gate, and trigger the DAG with it and with further configuration."""
        self._stack.airflow.wait_for_dag(dag_id)
        token_id = self._client.tokens.create(timeout="1h").id
        run_id = self._stack.airflow.trigger(dag_id, token_id=token_id, **conf)
        return Scenario(self._stack, self._client, dag_id, token_id, run_id)


@pytest.fixture
def scenarios(stack: Stack, client: HelmrClient) -> Scenarios:
    """Give a way to begin scenarios."""
    return Scenarios(stack, client)

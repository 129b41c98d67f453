"""One DAG run of the kill matrix: a session, a command and an approval held at each moment, and what they left."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from dev.airflow_api import AirflowApiError
from dev.processes import StackError, poll
from helmr_provider.client.errors import HelmrError
from tests.airflow.conftest import ENDED, Scenario
from tests.reliability.kill_matrix import KINDS, MOMENTS

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

    from dev.postgres_stack import PostgresStack
    from dev.processes import Program
    from dev.services import Service
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.tokens import Token

DAG_ID: Final = "kill_matrix"
POOL: Final = "held"
SLOTS: Final = 16
HELD_ON_A_WORKER: Final = ("before_start", "before_deferral", "during_deferral", "resumed")
DEFERRED_FIRST: Final = ("deferred", "ended", "resumed")
ANSWER: Final = "Approve"


class Scene:
    """A DAG run of the kill matrix.

    :param stack: the running Airflow.
    :param client: of its control plane.
    :param folder: where tasks say that they hold, and learn that they are released.
    """

    def __init__(self, stack: PostgresStack, client: HelmrClient, folder: Path) -> None:
        self.stack = stack
        self.client = client
        self.folder = folder
        self.tokens = {moment: client.tokens.create(timeout="1h").id for moment in MOMENTS}
        self.workspaces = {moment: client.workspaces.create("local").id for moment in MOMENTS}
        self._seconds: dict[str, Program] = {}
        # A row that failed may have left some.
        self._live_before = {run.id for run in client.runs.list(status="live", limit=200)}
        self._start_again()
        stack.wait_until_healthy()
        stack.airflow.wait_for_dag(DAG_ID)
        self._set_slots(SLOTS)
        run_id = stack.airflow.trigger(DAG_ID, folder=str(folder), tokens=self.tokens, workspaces=self.workspaces)
        self._scenario = Scenario(stack, client, DAG_ID, "", run_id)

    @property
    def run_id(self) -> str:
        """The DAG run's id."""
        return self._scenario.run_id

    @property
    def database(self) -> Service:
        """PostgreSQL."""
        return self.stack.services[0]

    def program(self, name: str) -> Program:
        """Return a program of Airflow."""
        return self.stack.programs[name]

    def second(self, name: str) -> Program:
        """Return a second program of the same kind, which is not started."""
        first = self.program(name)
        copy = type(first)(
            f"{first.name} (second)",
            [*first.command, "--skip-serve-logs"],
            first.environment,
            first.log.with_name(f"{name}-second.log"),
        )
        self._seconds[name] = copy
        return copy

    def busy_supervisors(self) -> list[psutil.Process]:
        """Return the processes of the executor that supervise a task now."""
        return self.program("scheduler").busy_children()

    def hold(self) -> None:
        """Wait until each task is at its moment."""
        self._until(self._are_settled, "tasks to be deferred for everybody", seconds=240)
        self._set_slots(0)
        self._end("ended", "resumed")
        for kind in KINDS:
            for moment in HELD_ON_A_WORKER:
                self._until((self.folder / f"{kind}.{moment}.held").exists, f"{kind}.{moment} to hold")
            self._until(lambda kind=kind: self._state(f"{kind}.ended") == "scheduled", f"{kind}.ended to have ended")

    def release(self, *, ends: bool = True) -> None:
        """Let all tasks continue.

        :param ends: whether to end what they wait for, which needs the control plane; else :meth:`finish` does.
        """
        (self.folder / "released").touch()
        if ends:
            self._end_all()

    def wait_until_retried(self) -> None:
        """Wait until Airflow has started another try of each task that is held on a worker."""

        def retried() -> bool:
            tasks = self._tasks()
            return all(tasks[f"{kind}.{moment}"]["try_number"] > 1 for kind in KINDS for moment in HELD_ON_A_WORKER)

        self._until(retried, "tasks to be tried again", seconds=180)

    def wait_until_none_is_deferred(self) -> None:
        """Wait until no task is deferred."""

        def none() -> bool:
            self._end_all()
            return "deferred" not in {task["state"] for task in self._tasks().values()}

        self._until(none, "all deferred tasks to be resumed", seconds=180)

    def finish(self) -> None:
        """Start again what a fault has ended, and wait until the DAG run is over."""

        def over() -> str | None:
            self._start_again()
            with contextlib.suppress(HelmrError):
                self._end_all()
            try:
                self._set_slots(SLOTS)
                state = str(self.stack.airflow.dag_run(DAG_ID, self.run_id)["state"])
            except (OSError, AirflowApiError):
                return None
            return state if state in ENDED else None

        state = poll(over, seconds=420, waiting_for=f"the DAG run to end; logs: {self.stack.folder}", every=1)
        assert state == "success", self._failures()

    def close(self) -> None:
        """Put everything back for the next DAG run, whatever has happened in this one."""
        (self.folder / "released").touch()
        for program in self._seconds.values():
            program.stop()
        self._start_again()

    def results(self) -> dict[str, Any]:
        """Return what each task has delivered, as far as it does not depend on chance."""
        found: dict[str, Any] = {}
        for moment in MOMENTS:
            found[f"session.{moment}"] = self._scenario.xcom(task_id=f"session.{moment}")
            found[f"command.{moment}"] = self._scenario.xcom(task_id=f"command.{moment}")
            answer = self._scenario.xcom(task_id=f"approval.{moment}")
            found[f"approval.{moment}"] = None if answer is None else answer["chosen"]
        return found

    def started(self) -> dict[str, list[str]]:
        """Return the states of all that each task has started in Helmr."""
        found: dict[str, list[str]] = {f"{kind}.{moment}": [] for kind in KINDS for moment in MOMENTS}
        prefix = f"airflow:{DAG_ID}:{self.run_id}:"
        for session in self.client.sessions.list(status="all", limit=200):
            if (session.external_id or "").startswith(prefix):
                task_id = str(session.external_id).removeprefix(prefix).split(":")[0]
                runs = self.client.runs.list(status="all", session_id=session.id)
                found[task_id] += [run.status for run in runs]
        for moment, workspace_id in self.workspaces.items():
            execs = self.client.workspaces.open(workspace_id).execs.list()
            found[f"command.{moment}"] += [each.state for each in execs]
        for token in self._questions(None):
            found[token.metadata["airflow"]["task_id"]].append(token.status)
        return found

    def left_over(self) -> list[str]:
        """Return the runs that are live and were not before this DAG run."""
        live = self.client.runs.list(status="live", limit=200)
        return [run.id for run in live if run.id not in self._live_before]

    def _are_settled(self) -> bool:
        """Tell whether tasks that are to be deferred are watched, and the scheduler has heard of their deferral."""
        tasks = self._tasks()
        text = self.program("scheduler").log.read_text(errors="replace")
        return all(
            tasks[name]["state"] == "deferred"
            and tasks[name]["triggerer_job"]
            and f"state success for task instance TaskInstanceKey(dag_id='{DAG_ID}', task_id='{name}', "
            f"run_id='{self.run_id}', try_number={tasks[name]['try_number']},"
            in text
            for name in (f"{kind}.{moment}" for kind in KINDS for moment in DEFERRED_FIRST)
        )

    def _tasks(self) -> dict[str, dict[str, Any]]:
        return self._scenario.tasks()

    def _state(self, task_id: str) -> str | None:
        state = self._tasks()[task_id]["state"]
        return None if state is None else str(state)

    def _until(self, there: Any, waiting_for: str, *, seconds: float = 120) -> None:
        def watched() -> bool:
            try:
                return bool(there())
            except (OSError, AirflowApiError, HelmrError):
                return False

        try:
            poll(watched, seconds=seconds, waiting_for=waiting_for)
        except StackError as error:
            states = [f"{name}: {task['state']}, try {task['try_number']}" for name, task in self._tasks().items()]
            error.add_note("\n".join(sorted(states)))
            raise

    def _end(self, *moments: str) -> None:
        """End what the tasks of these moments wait for; nothing happens if it has ended or is not there yet."""
        for moment in moments:
            (self.folder / f"{moment}.gate").touch()
            if self.client.tokens.retrieve(self.tokens[moment]).is_pending:
                self.client.tokens.complete(self.tokens[moment], "go")
        for token in self._questions("pending"):
            if token.metadata["airflow"]["task_id"] in {f"approval.{moment}" for moment in moments}:
                self.client.tokens.complete(token, ANSWER)

    def _end_all(self) -> None:
        self._end(*MOMENTS)

    def _questions(self, status: str | None) -> list[Token]:
        return [
            token
            for token in self.client.tokens.iter(status=status)
            if token.metadata.get("airflow", {}).get("run_id") == self.run_id
        ]

    def _set_slots(self, slots: int) -> None:
        body = {"slots": slots, "description": "", "include_deferred": False}
        try:
            self.stack.airflow.call("POST", "/pools", {"name": POOL, **body})
        except AirflowApiError as error:
            if error.status != 409:
                raise
            self.stack.airflow.call("PATCH", f"/pools/{POOL}", {"pool": POOL, **body})

    def _start_again(self) -> None:
        """Start programs that have ended, as a service manager does."""
        for program in self.stack.programs.values():
            if program.exited is not None:
                program.start()

    def _failures(self) -> str:
        failed = [name for name, task in self._tasks().items() if task["state"] not in {"success", "upstream_failed"}]
        return "\n".join(f"{name}:\n{self._scenario.log(name)}" for name in failed)

"""Tasks of workspaces, and the commands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.operators.workspace import HelmrCreateWorkspaceOperator, HelmrExecOperator
from tests.support.polling import until
from tests.support.task_attempts import TaskRun

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.execs import Exec

SLEEPS = ["sleep", "3600"]


def task_run(operator: type, **options: Any) -> TaskRun:
    """A task of this operator; ``retries`` and the like belong to the task run."""
    own = {name: options.pop(name) for name in ("retries", "map_index", "dag_id", "run_id") if name in options}
    options = {"task_id": "work", **options}
    run = TaskRun(lambda: operator(**options), **own)
    run.max_tries = run.retries
    return run


def a_workspace(client: HelmrClient, **options: Any) -> str:
    """Create a workspace with a task of the same DAG run as every other task here."""
    sandbox_id = client.sandboxes.list()[0].sandbox_id
    created: str = (
        task_run(HelmrCreateWorkspaceOperator, task_id="create", sandbox_id=sandbox_id, **options).start().execute()
    )
    return created


def an_exec(workspace_id: str, command: Any, **options: Any) -> TaskRun:
    """A task that runs a command."""
    return task_run(HelmrExecOperator, workspace_id=workspace_id, command=command, **options)


def execs(client: HelmrClient, workspace_id: str) -> list[Exec]:
    """Return the commands of a workspace, oldest first."""
    return client.workspaces.open(workspace_id).execs.list()[::-1]


class Gate:
    """Holds commands up, which run on this machine, until the test opens it.

    :param folder: of the test.
    """

    def __init__(self, folder: Path) -> None:
        self._flag = folder / "open"
        self.wait = f"while [ ! -e '{self._flag}' ]; do sleep 0.02; done"
        """Shell text that waits for the gate."""

    def open(self) -> None:
        """Let the commands continue."""
        self._flag.touch()


def until_state(client: HelmrClient, workspace_id: str, *states: str) -> Exec:
    """Wait until the newest command of a workspace is in a state, and return it."""
    until(lambda: any(found.state in states for found in execs(client, workspace_id)[-1:]))
    return execs(client, workspace_id)[-1]

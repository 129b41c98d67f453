# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""Tasks and sandboxes of the current deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._internals import transport_of
from helmr_provider.client._wire.responses import read, read_list
from helmr_provider.client.models.deployments import DeployedTask, Sandbox

if TYPE_CHECKING:
    import builtins

    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client.durations import Duration


class Tasks:
    """The tasks of the environment's current deployment.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._transport = transport_of(client)

    def list(self, *, timeout: Duration | None = None) -> builtins.list[DeployedTask]:
        """List the tasks, by task id (listTasks).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        return read_list(DeployedTask, self._transport.call("listTasks", timeout=timeout), "tasks", "listTasks")

    def retrieve(self, task_id: str, *, timeout: Duration | None = None) -> DeployedTask:
        """Retrieve a task (getTask).

        :param task_id: task id.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: it is not in the current deployment.
        """
        return read(
            DeployedTask, self._transport.call("getTask", path={"task_id": task_id}, timeout=timeout), "getTask"
        )


class Sandboxes:
    """The sandboxes of the environment's current deployment.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._transport = transport_of(client)

    def list(self, *, timeout: Duration | None = None) -> builtins.list[Sandbox]:
        """List the sandboxes (listSandboxes).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        return read_list(Sandbox, self._transport.call("listSandboxes", timeout=timeout), "sandboxes", "listSandboxes")

    def retrieve(self, sandbox_id: str, *, timeout: Duration | None = None) -> Sandbox:
        """Retrieve a sandbox (getSandbox).

        :param sandbox_id: sandbox id.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: it is not in the current deployment.
        """
        return read(
            Sandbox,
            self._transport.call("getSandbox", path={"sandbox_id": sandbox_id}, timeout=timeout),
            "getSandbox",
        )

"""Wait for a workspace, or for a command that something else has started in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, PokeReturnValue

from helmr_provider._common.template_fields import TemplateField, text, texts
from helmr_provider._common.validation import require_id
from helmr_provider._workspaces.ownership import BUSY, ENDED
from helmr_provider.client.errors import HelmrConflictError
from helmr_provider.links import HelmrWorkspaceLink, store_workspace_link
from helmr_provider.sensors._base import HelmrSensor

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.triggers.workspace import HelmrWorkspaceTrigger


class HelmrWorkspaceSensor(HelmrSensor):
    """Wait until a workspace is in a state, or on a machine, or until a command in it is over.

    - ``state="archived"`` waits for the workspace's state, and returns it.
    - ``running=True`` starts the workspace, waits until it is on a machine, so that commands run immediately, and
      returns the state of its materialization. (The control plane shows this state only in answer to a start.)
    - ``exec_id=…`` waits until the command is over, or in ``exec_state``, and returns ``{"id", "state", "exit_code",
      "signal"}``. An end with another state fails the sensor; an exit code does not.

    The sensor never stops the workspace or the command.

    Needs the scope ``workspace-lifecycle:manage`` or any other of workspaces, and for a command
    ``workspace-exec:read`` (operations getWorkspace, connectWorkspace, getWorkspaceExec).

    .. seealso:: Guide: :doc:`/how-to/workspaces`

    :param workspace_id: the workspace. (templated)
    :param state: one state or several: active, deleting, recovery_required, archived, deleted. (templated)
    :param running: whether to wait until it is on a machine.
    :param exec_id: the command. (templated)
    :param exec_state: one state or several; with ``("running", "exited")`` a command that has begun. Default: exited.
        (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param poke_interval: time between two polls when not deferred; timedelta, seconds, or text such as ``"30s"``. The
        triggerer has its own pace.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``. An
        ``execution_timeout`` that is earlier counts.
    :raises AirflowFailException: the awaited state cannot be reached any more, or cannot be read.
    :raises AirflowSensorTimeout: it was not reached within the limit.
    """

    workspace_id = TemplateField[str](text)
    state = TemplateField["str | Collection[str] | None"](texts)
    exec_id = TemplateField[str | None](text)
    exec_state = TemplateField["str | Collection[str]"](texts)

    template_fields: Collection[str] = ("workspace_id", "state", "exec_id", "exec_state", "helmr_conn_id")
    operator_extra_links = (HelmrWorkspaceLink(),)
    ui_color = "#e2f2ea"

    def __init__(
        self,
        *,
        workspace_id: str,
        state: str | Collection[str] | None = None,
        running: bool = False,
        exec_id: str | None = None,
        exec_state: str | Collection[str] = "exited",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.workspace_id = workspace_id
        self.state = state
        self.running = running
        self.exec_id = exec_id
        self.exec_state = exec_state
        if (state is not None) + running + (exec_id is not None) != 1:
            raise ValueError("give exactly one of state, running=True and exec_id")

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        if self.exec_id is not None:
            return f"Helmr exec {self.exec_id}"
        return f"Helmr workspace {self.workspace_id}"

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Poll the awaited state.

        :param context: of the task instance.
        :param ids: none; a sensor submits nothing.
        """
        workspace_id = require_id("workspace_id", self.workspace_id)
        store_workspace_link(context, console_url=self.hook.settings.console_url, workspace_id=workspace_id)
        if self.exec_id is not None:
            return self._poll_exec(workspace_id, require_id("exec_id", self.exec_id))
        return self._poll_machine(workspace_id) if self.running else self._poll_workspace(workspace_id)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrWorkspaceTrigger:
        """Return the trigger that waits.

        :param ids: none; a sensor submits nothing.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.workspace import HelmrWorkspaceTrigger

        states = _all(self.exec_state if self.exec_id is not None else self.state or ())
        return HelmrWorkspaceTrigger(
            helmr_conn_id=self.helmr_conn_id,
            workspace_id=self.workspace_id,
            what="exec" if self.exec_id is not None else "running" if self.running else "state",
            states=states,
            exec_id=self.exec_id,
            deadline=deadline,
        )

    def _poll_workspace(self, workspace_id: str) -> PokeReturnValue:
        state = self.hook.client.workspaces.retrieve(workspace_id).state
        if state in _all(self.state or ()):
            return PokeReturnValue(is_done=True, xcom_value=state)
        if state in ENDED:
            raise AirflowFailException(f"{self.awaited} is {state}, and will never be {_joined(self.state or ())}.")
        return PokeReturnValue(is_done=False)

    def _poll_machine(self, workspace_id: str) -> PokeReturnValue:
        try:
            materialization = self.hook.client.workspaces.connect(workspace_id)
        except HelmrConflictError as error:
            if error.code not in BUSY:
                raise
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=materialization.is_running, xcom_value=materialization.state)

    def _poll_exec(self, workspace_id: str, exec_id: str) -> PokeReturnValue:
        found = self.hook.client.workspaces.open(workspace_id).execs.open(exec_id).retrieve()
        if found.state in _all(self.exec_state):
            shown = {"id": found.id, "state": found.state, "exit_code": found.exit_code, "signal": found.signal}
            return PokeReturnValue(is_done=True, xcom_value=shown)
        if found.is_terminal:
            raise AirflowFailException(
                f"{self.awaited} has ended as {found.state} ({found.error}), not as {_joined(self.exec_state)}."
            )
        return PokeReturnValue(is_done=False)


def _all(states: str | Collection[str]) -> tuple[str, ...]:
    return (states,) if isinstance(states, str) else tuple(states)


def _joined(states: str | Collection[str]) -> str:
    return " or ".join(_all(states))

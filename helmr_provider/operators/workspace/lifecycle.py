"""Workspaces for a DAG run: create one, work in it, stop it, delete it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, PokeReturnValue

from helmr_provider._common.template_fields import TemplateField, text, texts
from helmr_provider._common.validation import require_id
from helmr_provider._sessions.identity import OwnershipMetadata, refuse_reserved
from helmr_provider._workspaces.ownership import created_in, is_stopped
from helmr_provider.client.errors import HelmrConflictError
from helmr_provider.links import HelmrWorkspaceLink, store_workspace_link
from helmr_provider.operators._base import HelmrOperator, HelmrWaitingOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.workspaces import Workspace
    from helmr_provider.triggers.workspace import HelmrWorkspaceTrigger

# Another client that creates under the same name at the same time is found by the next lookup.
_ROUNDS: Final = 5


class HelmrCreateWorkspaceOperator(HelmrOperator):
    """Create a workspace, and return its id.

    A retry returns the same workspace: like a session, it has an external id derived from the task instance, and its
    metadata name the try that created it. A cleared task creates a new one. XComs pushed at the start:
    ``workspace_id``.

    A workspace costs nothing before its first command. From then on it is on a machine until it is stopped. Use
    :class:`HelmrDeleteWorkspaceOperator` as its teardown, so that no live workspace is left behind.

    Needs the scope ``workspace-lifecycle:manage`` (operations createWorkspace, listWorkspaces).

    .. seealso:: Guide: :doc:`/how-to/workspaces`

    :param sandbox_id: the deployed sandbox it is for. (templated)
    :param deployment_id: deployment of the sandbox; the current one when left out. (templated)
    :param external_id: a name of your own, for a workspace that outlives the DAG run: one that exists is returned. At
        most 512 bytes. (templated)
    :param metadata: JSON object to keep with it; not for secrets. The members ``airflow``, ``airflow_holder``
        and ``airflow_holding_try`` are reserved. (templated)
    :param tags: at most 10. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: the sandbox is not deployed, an option does not fit, or the workspace with your
        ``external_id`` is archived or for another sandbox.
    """

    sandbox_id = TemplateField[str](text)
    deployment_id = TemplateField[str | None](text)
    external_id = TemplateField[str | None](text)
    tags = TemplateField["Sequence[str] | None"](texts)

    template_fields: Collection[str] = (
        "sandbox_id",
        "deployment_id",
        "external_id",
        "metadata",
        "tags",
        "helmr_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"metadata": "json"}
    operator_extra_links = (HelmrWorkspaceLink(),)
    ui_color = "#e2f2ea"

    def __init__(
        self,
        *,
        sandbox_id: str,
        deployment_id: str | None = None,
        external_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sandbox_id = sandbox_id
        self.deployment_id = deployment_id
        self.external_id = external_id
        self.metadata = metadata
        self.tags = tags

    def execute(self, context: Context) -> str:
        """Create the workspace, or find the one that an earlier try has created.

        :param context: of the task instance.
        :return: id of the workspace.
        """
        stamp = OwnershipMetadata.of(context["ti"], context["dag_run"])
        with closing(self.hook), self._translate_errors("create a Helmr workspace"):
            try:
                refuse_reserved(self.metadata)
                # Makes a lost answer repeatable; what an earlier try has created is found by its name.
                key = self._once_key(context, "workspace", stamp.owner)
                workspace = self._named(stamp, key) if self.external_id is None else self._own(stamp, key)
            except (TypeError, ValueError) as error:
                raise AirflowFailException(f"The Helmr workspace was not created: {error}") from None
            if self.do_xcom_push:
                context["ti"].xcom_push(key="workspace_id", value=workspace.id)
            store_workspace_link(context, console_url=self.hook.settings.console_url, workspace_id=workspace.id)
        return workspace.id

    def _named(self, stamp: OwnershipMetadata, key: str) -> Workspace:
        name = stamp.identity(self.hook.settings.session_prefix).external_id

        def take() -> Workspace | None:
            generation, found = 1, None
            while (seen := self._look_up(name(generation))) is not None:
                generation, found = generation + 1, seen
            if found is not None and created_in(found, stamp):
                self.log.info("Workspace %s of an earlier try is used.", found.id)
                return found
            return self._create(name(generation), stamp, key)

        return self._in_rounds(take)

    def _own(self, stamp: OwnershipMetadata, key: str) -> Workspace:
        external_id = self.external_id or ""

        def take() -> Workspace | None:
            found = self._look_up(external_id)
            if found is None:
                return self._create(external_id, stamp, key)
            if found.state != "active":
                raise AirflowFailException(
                    f"The workspace with the external id {external_id!r} is {found.state}, and an external id is never "
                    "used again: put something that changes into it, such as {{ run_id }}."
                )
            if found.sandbox_id != self.sandbox_id:
                raise AirflowFailException(
                    f"The workspace with the external id {external_id!r} is for the sandbox {found.sandbox_id!r}, not "
                    f"for {self.sandbox_id!r}."
                )
            self.log.info("Workspace %s exists already.", found.id)
            return found

        return self._in_rounds(take)

    def _in_rounds(self, take: Callable[[], Workspace | None]) -> Workspace:
        for _ in range(_ROUNDS):
            if (workspace := take()) is not None:
                return workspace
        raise AirflowException("The name of the Helmr workspace is taken, but nothing is found under it. Try again.")

    def _look_up(self, external_id: str) -> Workspace | None:
        found = self.hook.client.workspaces.list(external_id=external_id)
        return next((each for each in found if each.state == "active"), next(iter(found), None))

    def _create(self, external_id: str, stamp: OwnershipMetadata, key: str) -> Workspace | None:
        """Create it; ``None`` if another client was faster."""
        try:
            workspace = self.hook.client.workspaces.create(
                self.sandbox_id,
                deployment_id=self.deployment_id,
                external_id=external_id,
                metadata=stamp.onto(self.metadata),
                tags=self.tags,
                idempotency_key=key,
            )
        except HelmrConflictError as error:
            # A name that is taken is refused with a text of the database and no code (recording 534).
            if error.code is None and "external_id" in error.message:
                return None
            raise
        self.log.info("Helmr workspace %s was created.", workspace.id)
        return workspace


class HelmrStopWorkspaceOperator(HelmrWaitingOperator):
    """Take a workspace off its machine, wait until its files are captured, and return the id of its current version.

    Files are read from versions, so files that a command has written can be read after this. Live commands of the
    workspace are ended. A workspace that is not on a machine needs no wait.

    Needs the scope ``workspace-lifecycle:manage`` (operations stopWorkspace, getWorkspace).

    .. seealso:: Guide: :doc:`/how-to/workspaces`

    :param workspace_id: the workspace. (templated)
    :param wait_for_completion: whether to wait; ``False`` returns the version as it is before the capture.
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowException: the files could not be captured.
    :raises AirflowTaskTimeout: it had not stopped within the limit.
    """

    workspace_id = TemplateField[str](text)

    template_fields: Collection[str] = ("workspace_id", "helmr_conn_id")
    operator_extra_links = (HelmrWorkspaceLink(),)
    ui_color = "#e2f2ea"

    def __init__(self, *, workspace_id: str, wait_for_completion: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workspace_id = workspace_id
        self.wait_for_completion = wait_for_completion

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"Helmr workspace {self.workspace_id}"

    def submit(self, context: Context) -> dict[str, Any]:
        """Ask the workspace to stop.

        :param context: of the task instance.
        """
        workspace_id = require_id("workspace_id", self.workspace_id)
        stop = self.hook.client.workspaces.stop(workspace_id)
        store_workspace_link(context, console_url=self.hook.settings.console_url, workspace_id=workspace_id)
        live = stop.materialization
        return {"workspace_id": workspace_id, "materialization_id": None if live is None else live.id}

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Ask again, which tells whether it has stopped.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        :raises AirflowException: the files could not be captured.
        """
        workspaces, workspace_id = self.hook.client.workspaces, ids["workspace_id"]
        if self.wait_for_completion and not is_stopped(workspaces.stop(workspace_id), ids["materialization_id"]):
            return PokeReturnValue(is_done=False)
        workspace = workspaces.retrieve(workspace_id)
        if workspace.dirty_state in {"capture_failed", "dirty_state_lost"}:
            raise AirflowException(
                f"{self.awaited} has stopped, but what was written since its version {workspace.current_version_id} "
                f"could not be captured ({workspace.dirty_state})."
            )
        return PokeReturnValue(is_done=True, xcom_value=workspace.current_version_id)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrWorkspaceTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.workspace import HelmrWorkspaceTrigger

        return HelmrWorkspaceTrigger(
            helmr_conn_id=self.helmr_conn_id,
            workspace_id=ids["workspace_id"],
            what="stopped",
            materialization_id=ids["materialization_id"],
            deadline=deadline,
        )


class HelmrDeleteWorkspaceOperator(HelmrWaitingOperator):
    """Archive a workspace permanently, and stop it first if it is on a machine. Intended as a teardown.

    Repeating it has no effect. Live commands of the workspace are ended; its files are captured and stay readable.

    Needs the scope ``workspace-lifecycle:manage`` (operations deleteWorkspace, stopWorkspace).

    .. seealso:: Guide: :doc:`/how-to/workspaces`

    :param workspace_id: the workspace. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: there is no such workspace.
    :raises AirflowTaskTimeout: it had not stopped within the limit.
    """

    workspace_id = TemplateField[str](text)

    template_fields: Collection[str] = ("workspace_id", "helmr_conn_id")
    operator_extra_links = (HelmrWorkspaceLink(),)
    ui_color = "#e2f2ea"

    def __init__(self, *, workspace_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workspace_id = workspace_id

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"Helmr workspace {self.workspace_id}"

    def submit(self, context: Context) -> dict[str, Any]:
        """Name the workspace; there is nothing to begin before it is known whether it has to be stopped.

        :param context: of the task instance.
        """
        workspace_id = require_id("workspace_id", self.workspace_id)
        store_workspace_link(context, console_url=self.hook.settings.console_url, workspace_id=workspace_id)
        return {"workspace_id": workspace_id}

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Try to archive it, and ask it to stop as long as that is refused.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        workspace_id = ids["workspace_id"]
        try:
            self.hook.client.workspaces.delete(workspace_id)
        except HelmrConflictError:
            stop = self.hook.client.workspaces.stop(workspace_id)
            self.log.info("Workspace %s is %s.", workspace_id, stop.state)
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=workspace_id)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrWorkspaceTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.workspace import HelmrWorkspaceTrigger

        return HelmrWorkspaceTrigger(
            helmr_conn_id=self.helmr_conn_id, workspace_id=ids["workspace_id"], what="stopped", deadline=deadline
        )

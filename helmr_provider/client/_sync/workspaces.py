# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""Workspaces: create, open, list, and what a handle does (contract/behaviour.md section 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.client._internals import transport_of
from helmr_provider.client._sync.execs import WorkspaceExecs
from helmr_provider.client._sync.ptys import WorkspacePtys
from helmr_provider.client._sync.workspace_files import WorkspaceFiles, WorkspaceVersions
from helmr_provider.client._wire.responses import read, read_list, read_member, same_id
from helmr_provider.client._wire.serialization import NOT_GIVEN
from helmr_provider.client._wire.workspace_serialization import (
    create_workspace_body,
    key_members,
    update_workspace_body,
)
from helmr_provider.client.models.workspaces import Materialization, Workspace, WorkspaceStop

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client._sync.execs import ExecHandle
    from helmr_provider.client._wire.serialization import NotGiven
    from helmr_provider.client.durations import Duration


class Workspaces:
    """The workspaces of the client's environment.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._client = client

    def create(
        self,
        sandbox_id: str,
        *,
        deployment_id: str | None = None,
        external_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | str | None = None,
        timeout: Duration | None = None,
    ) -> Workspace:
        """Create a workspace, or find the one that was created under this key (createWorkspace).

        :param sandbox_id: the sandbox it is for.
        :param deployment_id: deployment of the sandbox; the current one when left out.
        :param external_id: your name for it, unique in the environment and at most 512 bytes.
        :param metadata: JSON object.
        :param tags: at most 10.
        :param idempotency_key: sent unchanged; the same key and options return the same workspace.
        :param idempotency_key_ttl: how long the key holds; text such as ``"48h"``, timedelta or seconds.
            24 hours when left out.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: an option does not fit; nothing was sent.
        :raises HelmrConflictError: the sandbox is not deployed, the external id is taken, or the key was used with
            other options.
        """
        body = create_workspace_body(
            sandbox_id,
            deployment_id=deployment_id,
            external_id=external_id,
            metadata=metadata,
            tags=tags,
            idempotency_key=idempotency_key,
            idempotency_key_ttl=idempotency_key_ttl,
        )
        value = transport_of(self._client).call("createWorkspace", body=body, timeout=timeout)
        return read_member(Workspace, value, "workspace", "createWorkspace")

    def open(self, workspace: str | Workspace | WorkspaceHandle) -> WorkspaceHandle:
        """Return a handle of a workspace; sends nothing.

        :param workspace: workspace id, a workspace, or a handle.
        :raises ValueError: the id is blank.
        """
        workspace_id = workspace if isinstance(workspace, str) else workspace.id
        if not workspace_id.strip():
            raise ValueError("The workspace id must not be blank.")
        return WorkspaceHandle(self._client, workspace_id)

    def list(
        self,
        *,
        state: str | None = None,
        external_id: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        timeout: Duration | None = None,
    ) -> builtins.list[Workspace]:
        """List workspaces, last updated first (listWorkspaces). There is no cursor.

        :param state: active, deleting, recovery_required, archived or deleted.
        :param external_id: the workspace with exactly this external id.
        :param tag: only those with this tag.
        :param limit: 1 to 200; the server's default is 100.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        query = {"state": state, "external_id": external_id, "tag": tag, "limit": limit}
        value = transport_of(self._client).call("listWorkspaces", query=query, timeout=timeout)
        return read_list(Workspace, value, "workspaces", "listWorkspaces")

    def retrieve(self, workspace: str | Workspace | WorkspaceHandle, *, timeout: Duration | None = None) -> Workspace:
        """Retrieve a workspace; see :meth:`WorkspaceHandle.retrieve`."""
        return self.open(workspace).retrieve(timeout=timeout)

    def update(
        self,
        workspace: str | Workspace | WorkspaceHandle,
        *,
        metadata: Mapping[str, Any] | NotGiven = NOT_GIVEN,
        tags: Sequence[str] | NotGiven = NOT_GIVEN,
        timeout: Duration | None = None,
    ) -> Workspace:
        """Change a workspace; see :meth:`WorkspaceHandle.update`."""
        return self.open(workspace).update(metadata=metadata, tags=tags, timeout=timeout)

    def delete(self, workspace: str | Workspace | WorkspaceHandle, *, timeout: Duration | None = None) -> Workspace:
        """Archive a workspace; see :meth:`WorkspaceHandle.delete`."""
        return self.open(workspace).delete(timeout=timeout)

    def materialize(
        self, workspace: str | Workspace | WorkspaceHandle, *, timeout: Duration | None = None
    ) -> Materialization:
        """Put a workspace on a machine; see :meth:`WorkspaceHandle.materialize`."""
        return self.open(workspace).materialize(timeout=timeout)

    def connect(
        self, workspace: str | Workspace | WorkspaceHandle, *, timeout: Duration | None = None
    ) -> Materialization:
        """Put a workspace on a machine; see :meth:`WorkspaceHandle.connect`."""
        return self.open(workspace).connect(timeout=timeout)

    def stop(
        self,
        workspace: str | Workspace | WorkspaceHandle,
        *,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | str | None = None,
        timeout: Duration | None = None,
    ) -> WorkspaceStop:
        """Stop a workspace; see :meth:`WorkspaceHandle.stop`."""
        return self.open(workspace).stop(
            idempotency_key=idempotency_key, idempotency_key_ttl=idempotency_key_ttl, timeout=timeout
        )


class WorkspaceHandle:
    """One workspace. Building it sends nothing.

    :param client: the client to speak through.
    :param workspace_id: id of the workspace.
    """

    def __init__(self, client: HelmrClient, workspace_id: str) -> None:
        self._client = client
        self.id = workspace_id
        self.files = WorkspaceFiles(transport_of(client), workspace_id)
        self.versions = WorkspaceVersions(transport_of(client), workspace_id)
        self.execs = WorkspaceExecs(client, workspace_id)
        self.pty = WorkspacePtys(client, workspace_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"

    def retrieve(self, *, timeout: Duration | None = None) -> Workspace:
        """Retrieve the workspace (getWorkspace).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such workspace in this environment.
        """
        return self._workspace("getWorkspace", timeout=timeout)

    def update(
        self,
        *,
        metadata: Mapping[str, Any] | NotGiven = NOT_GIVEN,
        tags: Sequence[str] | NotGiven = NOT_GIVEN,
        timeout: Duration | None = None,
    ) -> Workspace:
        """Change the workspace (patchWorkspace). Each member is replaced whole; of two writers, the last one wins.

        :param metadata: JSON object.
        :param tags: at most 10.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: no member is passed, or a value does not fit; nothing was sent.
        """
        return self._workspace("patchWorkspace", update_workspace_body(metadata, tags), timeout=timeout)

    def delete(self, *, timeout: Duration | None = None) -> Workspace:
        """Archive the workspace (deleteWorkspace). It can still be retrieved and listed.

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: it is on a machine; stop it first.
        """
        return self._workspace("deleteWorkspace", timeout=timeout)

    def materialize(self, *, timeout: Duration | None = None) -> Materialization:
        """Put the workspace on a machine, or return the materialization that is live (materializeWorkspace).

        It takes its time: repeat, until the state is running.

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such workspace, or it is archived.
        """
        return self._materialization("materializeWorkspace", timeout=timeout)

    def connect(self, *, timeout: Duration | None = None) -> Materialization:
        """Do the same as :meth:`materialize`, by its other name (connectWorkspace)."""
        return self._materialization("connectWorkspace", timeout=timeout)

    def stop(
        self,
        *,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | str | None = None,
        timeout: Duration | None = None,
    ) -> WorkspaceStop:
        """Capture the workspace and take it off its machine (stopWorkspace). What runs in it is ended.

        :param idempotency_key: sent unchanged; the same key is one request to stop.
        :param idempotency_key_ttl: how long the key holds; text such as ``"48h"``, timedelta or seconds.
            24 hours when left out.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: a run holds the workspace.
        """
        body = key_members(idempotency_key, idempotency_key_ttl)
        return read(WorkspaceStop, self._call("stopWorkspace", body, timeout=timeout), "stopWorkspace")

    def exec(
        self,
        command: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        detached: bool | None = None,
        idempotency_key: str | None = None,
        timeout: Duration | None = None,
    ) -> ExecHandle:
        """Start a command (createWorkspaceExec). It materializes the workspace if need be.

        :param command: program and arguments; no shell reads them.
        :param cwd: absolute path to start in.
        :param env: more environment variables. The server stores and shows them: no place for secrets.
        :param detached: passed on to the worker, and kept with the command.
        :param idempotency_key: sent unchanged; the same key and options return the same command for 24 hours.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: the command is empty; nothing was sent.
        :raises HelmrConflictError: something else writes to the workspace, or it is archived.
        """
        return self.execs.create(
            command, cwd=cwd, env=env, detached=detached, idempotency_key=idempotency_key, timeout=timeout
        )

    def _workspace(
        self, operation: str, body: Mapping[str, Any] | None = None, *, timeout: Duration | None
    ) -> Workspace:
        workspace = read_member(Workspace, self._call(operation, body, timeout=timeout), "workspace", operation)
        same_id(workspace.id, self.id, operation)
        return workspace

    def _materialization(self, operation: str, *, timeout: Duration | None) -> Materialization:
        return read(Materialization, self._call(operation, timeout=timeout), operation)

    def _call(self, operation: str, body: Mapping[str, Any] | None = None, *, timeout: Duration | None) -> Any:
        return transport_of(self._client).call(operation, path={"workspace_id": self.id}, body=body, timeout=timeout)

# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""Commands in a workspace (contract/behaviour.md section 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._internals import transport_of, waiter_of
from helmr_provider.client._sync.byte_streams import ByteStream
from helmr_provider.client._waiting.actions import WaitKey
from helmr_provider.client._wire.responses import read, read_list, read_member, same_id
from helmr_provider.client._wire.workspace_serialization import exec_body, write_body
from helmr_provider.client.durations import poll_seconds, seconds
from helmr_provider.client.models.execs import Exec, StreamChunk

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client.durations import Duration


def _is_over(found: Exec) -> bool:
    return found.is_terminal


class WorkspaceExecs:
    """The commands of one workspace.

    :param client: the client to speak through.
    :param workspace_id: id of the workspace.
    """

    def __init__(self, client: HelmrClient, workspace_id: str) -> None:
        self._client = client
        self._workspace_id = workspace_id

    def create(
        self,
        command: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        detached: bool | None = None,
        idempotency_key: str | None = None,
        timeout: Duration | None = None,
    ) -> ExecHandle:
        """Start a command; see :meth:`WorkspaceHandle.exec`."""
        body = exec_body(command, cwd=cwd, env=env, detached=detached, idempotency_key=idempotency_key)
        value = transport_of(self._client).call(
            "createWorkspaceExec", path={"workspace_id": self._workspace_id}, body=body, timeout=timeout
        )
        created = read_member(Exec, value, "exec", "createWorkspaceExec")
        return ExecHandle(self._client, self._workspace_id, created.id, created)

    def open(self, exec_id: str) -> ExecHandle:
        """Return a handle of a command; sends nothing.

        :param exec_id: id of the exec.
        :raises ValueError: it is blank.
        """
        if not exec_id.strip():
            raise ValueError("The exec id must not be blank.")
        return ExecHandle(self._client, self._workspace_id, exec_id)

    def list(
        self, *, state: str | None = None, limit: int | None = None, timeout: Duration | None = None
    ) -> builtins.list[Exec]:
        """List commands, newest first (listWorkspaceExecs). There is no cursor.

        :param state: only those in this state.
        :param limit: 1 to 200; the server's default is 50.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        query = {"state": state, "limit": limit}
        value = transport_of(self._client).call(
            "listWorkspaceExecs", path={"workspace_id": self._workspace_id}, query=query, timeout=timeout
        )
        return read_list(Exec, value, "execs", "listWorkspaceExecs")


class ExecHandle:
    """One command. Building it sends nothing. There is no way to kill one but to stop its workspace.

    :param client: the client to speak through.
    :param workspace_id: id of the workspace.
    :param exec_id: id of the exec.
    :param initial: what its creation was answered.
    """

    def __init__(self, client: HelmrClient, workspace_id: str, exec_id: str, initial: Exec | None = None) -> None:
        self._client = client
        self._path = {"workspace_id": workspace_id, "exec_id": exec_id}
        self.workspace_id = workspace_id
        self.id = exec_id
        self.initial = initial
        self.stdout = ByteStream(client, "listWorkspaceExecStdout", self._path)
        self.stderr = ByteStream(client, "listWorkspaceExecStderr", self._path)
        self.stdin = ExecStdin(client, self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, workspace_id={self.workspace_id!r})"

    def retrieve(self, *, timeout: Duration | None = None) -> Exec:
        """Retrieve the command as it is now (getWorkspaceExec).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such command in this workspace.
        """
        value = transport_of(self._client).call("getWorkspaceExec", path=self._path, timeout=timeout)
        found = read_member(Exec, value, "exec", "getWorkspaceExec")
        same_id(found.id, self.id, "getWorkspaceExec")
        return found

    def wait(
        self,
        *,
        poll_interval: timedelta | float | str = 0.25,
        timeout: Duration | None = None,
    ) -> Exec:
        """Wait until the command is over and return it; a failed or lost one is returned, not raised.

        There is no event for it, so this polls; an asynchronous client does so together with its other
        waits. An outage is survived; without a timeout, a control plane that cannot be reached at first is an error.

        :param poll_interval: timedelta, seconds, or text between two polls; more when so many wait that polls are
            rationed.
        :param timeout: length of the wait: timedelta, seconds, or text such as ``"1h"``; None waits for as long as it
            takes. ``client.with_options(timeout=)`` limits its calls.
        :raises HelmrTimeoutError: the deadline passed. The command continues.
        :raises HelmrNotFoundError: no such command in this workspace.
        """
        interval, limit = poll_seconds(poll_interval), None if timeout is None else seconds(timeout, "timeout")
        if limit is None:
            found = self.retrieve()
            if found.is_terminal:
                return found
        key = WaitKey("exec", self.id, self.workspace_id)
        return waiter_of(self._client).until(key, self._read, _is_over, limit, interval=interval)

    def _read(self, client: HelmrClient) -> Exec:
        return ExecHandle(client, self.workspace_id, self.id).retrieve()


class ExecStdin:
    """Standard input of one command.

    :param client: the client to speak through.
    :param path: path parts.
    """

    def __init__(self, client: HelmrClient, path: Mapping[str, str]) -> None:
        self._client = client
        self._path = path

    def write(self, data: bytes | str, *, offset: int, timeout: Duration | None = None) -> StreamChunk:
        """Write to standard input (writeWorkspaceExecStdin). The same bytes at the same offset are written once.

        :param data: bytes, or text that is sent as UTF-8; 1 byte to 1 MiB.
        :param offset: how many bytes were written before: ``stdin_cursor`` of the command, or ``offset_end`` of the
            chunk before.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: the offset is not the end, or the input is closed, or the command is over.
        """
        operation = "writeWorkspaceExecStdin"
        value = transport_of(self._client).call(
            operation, path=self._path, body=write_body(data, offset), timeout=timeout
        )
        return read(StreamChunk, value, operation)

    def close(self, *, timeout: Duration | None = None) -> Exec:
        """Close standard input (closeWorkspaceExecStdin); repeating it does no harm.

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: the command is over.
        """
        value = transport_of(self._client).call("closeWorkspaceExecStdin", path=self._path, timeout=timeout)
        return read_member(Exec, value, "exec", "closeWorkspaceExecStdin")

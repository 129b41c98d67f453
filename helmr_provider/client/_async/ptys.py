"""Terminals in a workspace (contract/behaviour.md section 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.client._async.byte_streams import AsyncByteStream
from helmr_provider.client._internals import transport_of, waiter_of
from helmr_provider.client._waiting.actions import WaitKey
from helmr_provider.client._wire.responses import read, read_list, read_member, same_id
from helmr_provider.client._wire.workspace_serialization import write_body
from helmr_provider.client.durations import poll_seconds, seconds
from helmr_provider.client.models.execs import Pty, StreamChunk

if TYPE_CHECKING:
    import builtins
    from datetime import timedelta

    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client.durations import Duration


def _has_opened(pty: Pty) -> bool:
    return pty.state != "creating"


class AsyncWorkspacePtys:
    """The terminals of one workspace.

    :param client: the client to speak through.
    :param workspace_id: id of the workspace.
    """

    def __init__(self, client: AsyncHelmrClient, workspace_id: str) -> None:
        self._client = client
        self._workspace_id = workspace_id

    async def create(
        self,
        *,
        cwd: str | None = None,
        cols: int | None = None,
        rows: int | None = None,
        idempotency_key: str | None = None,
        timeout: Duration | None = None,
    ) -> AsyncPtyHandle:
        """Open a terminal (createWorkspacePty). It materializes the workspace if need be.

        It is ``creating`` at first: :meth:`AsyncPtyHandle.wait_until_open` before it is typed into or resized.

        :param cwd: absolute path to start in.
        :param cols: columns, at most 500; 80 when left out.
        :param rows: rows, at most 500; 24 when left out.
        :param idempotency_key: sent unchanged; the same key and options return the same terminal for 24 hours.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: something else writes to the workspace, or it is archived.
        """
        options = {"cwd": cwd, "cols": cols, "rows": rows, "idempotency_key": idempotency_key}
        body: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        value = await transport_of(self._client).call(
            "createWorkspacePty", path={"workspace_id": self._workspace_id}, body=body, timeout=timeout
        )
        created = read_member(Pty, value, "pty", "createWorkspacePty")
        return AsyncPtyHandle(self._client, self._workspace_id, created.id, created)

    def open(self, pty_id: str) -> AsyncPtyHandle:
        """Return a handle of a terminal; sends nothing.

        :param pty_id: id of the pty.
        :raises ValueError: it is blank.
        """
        if not pty_id.strip():
            raise ValueError("The pty id must not be blank.")
        return AsyncPtyHandle(self._client, self._workspace_id, pty_id)

    async def list(
        self, *, state: str | None = None, limit: int | None = None, timeout: Duration | None = None
    ) -> builtins.list[Pty]:
        """List terminals, newest first (listWorkspacePtys). There is no cursor.

        :param state: only those in this state.
        :param limit: 1 to 200; the server's default is 50.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        value = await transport_of(self._client).call(
            "listWorkspacePtys",
            path={"workspace_id": self._workspace_id},
            query={"state": state, "limit": limit},
            timeout=timeout,
        )
        return read_list(Pty, value, "ptys", "listWorkspacePtys")


class AsyncPtyHandle:
    """One terminal. Building it sends nothing.

    :param client: the client to speak through.
    :param workspace_id: id of the workspace.
    :param pty_id: id of the pty.
    :param initial: what its creation was answered.
    """

    def __init__(self, client: AsyncHelmrClient, workspace_id: str, pty_id: str, initial: Pty | None = None) -> None:
        self._client = client
        self._path = {"workspace_id": workspace_id, "pty_id": pty_id}
        self.workspace_id = workspace_id
        self.id = pty_id
        self.initial = initial
        self.output = AsyncByteStream(client, "listWorkspacePtyOutput", self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, workspace_id={self.workspace_id!r})"

    async def retrieve(self, *, timeout: Duration | None = None) -> Pty:
        """Retrieve the terminal as it is now (getWorkspacePty).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such terminal in this workspace.
        """
        return await self._pty("getWorkspacePty", timeout=timeout)

    async def wait_until_open(
        self,
        *,
        poll_interval: timedelta | float | str = 0.25,
        timeout: Duration | None = None,
    ) -> Pty:
        """Wait until the terminal takes input, and return it; one that is over is returned, too (``is_open``).

        A terminal that was just created waits for its workspace, and refuses input until then.

        :param poll_interval: timedelta, seconds, or text between two polls; more when so many wait that polls are
            rationed.
        :param timeout: length of the wait: timedelta, seconds, or text such as ``"1h"``; None waits for as long as it
            takes. ``client.with_options(timeout=)`` limits its calls.
        :raises HelmrTimeoutError: the deadline passed. The terminal may still open.
        :raises HelmrNotFoundError: no such terminal in this workspace.
        """
        interval, limit = poll_seconds(poll_interval), None if timeout is None else seconds(timeout, "timeout")
        if limit is None:
            found = await self.retrieve()
            if _has_opened(found):
                return found
        key = WaitKey("opening of pty", self.id, self.workspace_id)
        return await waiter_of(self._client).until(key, self._read, _has_opened, limit, interval=interval)

    async def input(self, data: bytes | str, *, offset: int, timeout: Duration | None = None) -> StreamChunk:
        """Type into the terminal (writeWorkspacePtyInput). The same bytes at the same offset are written once.

        :param data: bytes, or text that is sent as UTF-8; 1 byte to 1 MiB.
        :param offset: how many bytes were written before: ``input_cursor`` of the terminal, or ``offset_end`` of the
            chunk before.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: the offset is not the end, or the terminal is not open (yet).
        """
        operation = "writeWorkspacePtyInput"
        value = await transport_of(self._client).call(
            operation, path=self._path, body=write_body(data, offset), timeout=timeout
        )
        return read(StreamChunk, value, operation)

    async def resize(self, cols: int, rows: int, *, timeout: Duration | None = None) -> Pty:
        """Change the size (resizeWorkspacePty). The answer still has the old one.

        :param cols: columns, at most 500; 0 means 80.
        :param rows: rows, at most 500; 0 means 24.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: the terminal is not open.
        """
        return await self._pty("resizeWorkspacePty", {"cols": cols, "rows": rows}, timeout=timeout)

    async def close(self, *, timeout: Duration | None = None) -> Pty:
        """Close the terminal (closeWorkspacePty). A second close while it is closing is an error of the server.

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: the terminal is not open.
        """
        return await self._pty("closeWorkspacePty", timeout=timeout)

    async def _read(self, client: AsyncHelmrClient) -> Pty:
        return await AsyncPtyHandle(client, self.workspace_id, self.id).retrieve()

    async def _pty(self, operation: str, body: dict[str, Any] | None = None, *, timeout: Duration | None) -> Pty:
        value = await transport_of(self._client).call(operation, path=self._path, body=body, timeout=timeout)
        found = read_member(Pty, value, "pty", operation)
        same_id(found.id, self.id, operation)
        return found

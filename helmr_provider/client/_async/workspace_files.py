"""Files and versions of a workspace: the captured state, never the live one (contract/behaviour.md section 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from helmr_provider.client._wire.responses import read, read_list, read_member, same_id
from helmr_provider.client._wire.workspace_serialization import file_path, source_query
from helmr_provider.client.models.workspaces import FileEntry, FileList, WorkspaceVersion

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from helmr_provider.client._async.transport import AsyncTransport
    from helmr_provider.client._unasync_pairs import AsyncStream
    from helmr_provider.client.durations import Duration

Source = Literal["current", "version", "live"]


class AsyncWorkspaceFiles:
    """The files of one workspace, to be read only.

    :param transport: what to speak through.
    :param workspace_id: id of the workspace.
    """

    def __init__(self, transport: AsyncTransport, workspace_id: str) -> None:
        self._transport = transport
        self._path = {"workspace_id": workspace_id}

    async def read(
        self,
        path: str,
        *,
        source: Source = "current",
        version_id: str | None = None,
        materialization_id: str | None = None,
        max_bytes: int | None = None,
        timeout: Duration | None = None,
    ) -> bytes:
        """Read a file (readWorkspaceFile): regular files of up to 32 MiB; links are not followed.

        :param path: relative to the root of the workspace.
        :param source: the current version, or another one. The server does not read live files yet.
        :param version_id: with source version.
        :param materialization_id: with source live.
        :param max_bytes: largest file to take into memory, in bytes; None for the client's limit of 60 MiB.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: an option does not fit; nothing was sent.
        :raises HelmrNotFoundError: no such file or version, or nothing was captured yet.
        :raises HelmrProtocolError: the file is larger than ``max_bytes``.
        :raises HelmrApiError: 413 for a file that is too large, 422 for one that is not regular.
        """
        query = {"path": file_path(path), **source_query(source, version_id, materialization_id)}
        content: bytes = await self._transport.call(
            "readWorkspaceFile", path=self._path, query=query, max_body=max_bytes, timeout=timeout
        )
        return content

    async def stat(
        self,
        path: str,
        *,
        source: Source = "current",
        version_id: str | None = None,
        materialization_id: str | None = None,
        timeout: Duration | None = None,
    ) -> FileEntry:
        """Read the metadata of a file, directory or link (statWorkspaceFile).

        :param path: relative to the root of the workspace, which is ``"."``.
        :param source: as for :meth:`read`.
        :param version_id: with source version.
        :param materialization_id: with source live.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: an option does not fit; nothing was sent.
        :raises HelmrNotFoundError: no such file or version, or nothing was captured yet.
        """
        query = {"path": file_path(path), **source_query(source, version_id, materialization_id)}
        value = await self._transport.call("statWorkspaceFile", path=self._path, query=query, timeout=timeout)
        return read_member(FileEntry, value, "entry", "statWorkspaceFile")

    async def list(
        self,
        path: str = "",
        *,
        source: Source = "current",
        version_id: str | None = None,
        materialization_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        timeout: Duration | None = None,
    ) -> FileList:
        """List one page of a directory, by path (listWorkspaceFiles); see :meth:`iter` for all of it.

        :param path: directory; the root when left out.
        :param source: as for :meth:`read`.
        :param version_id: with source version.
        :param materialization_id: with source live.
        :param limit: 1 to 500; the server's default is 200.
        :param cursor: ``next_cursor`` of the page before.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: an option does not fit; nothing was sent.
        :raises HelmrNotFoundError: no such directory or version, or nothing was captured yet.
        """
        query: Mapping[str, Any] = {
            "path": file_path(path) if path.strip() else None,
            **source_query(source, version_id, materialization_id),
            "limit": limit,
            "cursor": cursor,
        }
        return read(
            FileList,
            await self._transport.call("listWorkspaceFiles", path=self._path, query=query, timeout=timeout),
            "listWorkspaceFiles",
        )

    async def iter(
        self,
        path: str = "",
        *,
        source: Source = "current",
        version_id: str | None = None,
        materialization_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        timeout: Duration | None = None,
    ) -> AsyncStream[FileEntry]:
        """Yield all that is directly in a directory, by path, page by page (listWorkspaceFiles).

        :param path: directory; the root when left out.
        :param source: as for :meth:`read`.
        :param version_id: with source version. Name one if the workspace may be captured in between.
        :param materialization_id: with source live.
        :param limit: entries for each request, 1 to 500.
        :param cursor: begin behind this path.
        :param timeout: limit for each request with its repeats: seconds, timedelta or text; the client's when left out.
        """
        while True:
            page = await self.list(
                path,
                source=source,
                version_id=version_id,
                materialization_id=materialization_id,
                limit=limit,
                cursor=cursor,
                timeout=timeout,
            )
            for entry in page.entries:
                yield entry
            # Cursors are paths, which come in order: one that does not move on would be read for ever.
            if page.next_cursor is None or (cursor is not None and page.next_cursor <= cursor):
                return
            cursor = page.next_cursor


class AsyncWorkspaceVersions:
    """The captured states of one workspace.

    :param transport: what to speak through.
    :param workspace_id: id of the workspace.
    """

    def __init__(self, transport: AsyncTransport, workspace_id: str) -> None:
        self._transport = transport
        self._path = {"workspace_id": workspace_id}

    async def retrieve(self, version_id: str, *, timeout: Duration | None = None) -> WorkspaceVersion:
        """Retrieve a version (getWorkspaceVersion).

        :param version_id: id of the version.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such version, or it is not ready.
        """
        path = {**self._path, "version_id": version_id}
        value = await self._transport.call("getWorkspaceVersion", path=path, timeout=timeout)
        found = read_member(WorkspaceVersion, value, "version", "getWorkspaceVersion")
        same_id(found.id, version_id, "getWorkspaceVersion")
        return found

    async def list(
        self, *, kind: str | None = None, limit: int | None = None, timeout: Duration | None = None
    ) -> builtins.list[WorkspaceVersion]:
        """List the versions that are ready, newest first (listWorkspaceVersions). There is no cursor.

        :param kind: user or system.
        :param limit: 1 to 200; the server's default is 50.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        query = {"kind": kind, "limit": limit}
        value = await self._transport.call("listWorkspaceVersions", path=self._path, query=query, timeout=timeout)
        return read_list(WorkspaceVersion, value, "versions", "listWorkspaceVersions")

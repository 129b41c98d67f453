# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""What commands and terminals in a workspace write: pages, and following to the end (contract/behaviour.md §14)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from helmr_provider.client._internals import stream_slots_of, transport_of
from helmr_provider.client._unasync_pairs import sleep
from helmr_provider.client._wire.byte_frames import chunk_or_end
from helmr_provider.client._wire.responses import read_list
from helmr_provider.client._wire.resume import FollowedBytes
from helmr_provider.client.errors import HelmrApiError, HelmrConnectionError, WorkspaceStreamTerminalError
from helmr_provider.client.models.execs import StreamChunk

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client._unasync_pairs import Stream
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.models.execs import StreamTerminal


class ByteStream:
    """One output. Cursors are byte offsets; about the newest 64 MiB are kept.

    :param client: the client to speak through.
    :param operation: operationId.
    :param path: path parts.
    """

    def __init__(self, client: HelmrClient, operation: str, path: Mapping[str, str]) -> None:
        self._client = client
        self._operation = operation
        self._path = path

    def list(
        self, *, cursor: int | None = None, limit: int | None = None, timeout: Duration | None = None
    ) -> builtins.list[StreamChunk]:
        """List the chunks that are there, oldest first (listWorkspaceExecStdout, …Stderr, listWorkspacePtyOutput).

        :param cursor: only what lies behind this offset. The first chunk can begin before it:
            :meth:`~helmr_provider.client.models.execs.StreamChunk.content_from` cuts it.
        :param limit: chunks, 1 to 500; the server's default is 100.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrGoneError: the cursor lies before the kept output.
        """
        value = transport_of(self._client).call(
            self._operation, path=self._path, query={"cursor": cursor, "limit": limit}, timeout=timeout
        )
        return read_list(StreamChunk, value, "chunks", self._operation)

    def stream(self, *, from_cursor: int | None = None, limit: int | None = None) -> Stream[StreamChunk]:
        """Follow the output until its command or terminal is over; each chunk once and in order.

        Dropped connections are opened again.

        Nothing is requested before the iteration begins. Use ``contextlib.closing`` around the iterator if you may
        leave it early: it holds a connection.

        :param from_cursor: only what lies behind this offset. The first chunk can begin before it:
            :meth:`~helmr_provider.client.models.execs.StreamChunk.content_from` cuts it.
        :param limit: most chunks that the server reads together.
        :raises WorkspaceStreamTerminalError: the command or terminal is lost or has failed; what it had written was
            yielded before.
        :raises WorkspaceStreamError: the server cannot continue, for example because the cursor is too old.
        :raises HelmrGoneError: the cursor lies before the kept output.
        :raises HelmrProtocolError: a frame is broken. Bytes are not skipped.
        """
        reconnects = transport_of(self._client).context.reconnects
        place = FollowedBytes(from_cursor, reconnects)
        while True:
            try:
                with stream_slots_of(self._client).explicit():
                    with contextlib.closing(self._connection(place.cursor, limit)) as frames:
                        for frame in frames:
                            place.reached()
                            if not isinstance(frame, StreamChunk):
                                if place.lacks(frame.cursor):
                                    break
                                return
                            if place.lacks(frame.offset_start):
                                break
                            if place.advance(str(frame.offset_end)):
                                yield frame
                place.reached()
                pause = place.reconnect_in()
            except WorkspaceStreamTerminalError as error:
                if not place.lacks(error.terminal.cursor):
                    raise
                pause = place.reconnect_in()
            except (HelmrApiError, HelmrConnectionError) as error:
                pause = place.tolerate(error)
            sleep(pause)

    def _connection(self, cursor: str | None, limit: int | None) -> Stream[StreamChunk | StreamTerminal]:
        """Yield the frames of one connection; ends when the server ends it, and repeats nothing."""
        query = {"cursor": cursor, "limit": limit}
        frames = transport_of(self._client).events(self._operation, path=self._path, query=query)
        with contextlib.closing(frames):
            for frame in frames:
                if frame is not None:
                    yield chunk_or_end(frame, self._operation)

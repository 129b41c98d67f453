"""Output of a run's process (contract/behaviour.md section 10)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from helmr_provider.client._internals import stream_slots_of, transport_of
from helmr_provider.client._unasync_pairs import async_sleep
from helmr_provider.client._wire.event_parsing import chunk_from_frame
from helmr_provider.client._wire.responses import read
from helmr_provider.client._wire.resume import FollowedLogs
from helmr_provider.client.errors import HelmrApiError, HelmrConnectionError, HelmrProtocolError
from helmr_provider.client.models.logs import LogSnapshot

if TYPE_CHECKING:
    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client._unasync_pairs import AsyncStream
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.models.logs import LogChunk
    from helmr_provider.client.models.runs import RunHandle


class AsyncRunLogs:
    """What runs wrote to stdout and stderr.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: AsyncHelmrClient) -> None:
        self._client = client
        self._transport = transport_of(client)

    async def retrieve(self, run: str | RunHandle, *, timeout: Duration | None = None) -> LogSnapshot:
        """Retrieve the newest 1 MiB of both streams (getRunLogs).

        :param run: run id, or a handle or snapshot.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        run_id = run if isinstance(run, str) else run.id
        value = await self._transport.call("getRunLogs", path={"run_id": run_id}, timeout=timeout)
        return read(LogSnapshot, value, "getRunLogs")

    async def follow(self, run: str | RunHandle, *, cursor: str | int | None = None) -> AsyncStream[LogChunk]:
        """Follow both streams until the run is over and everything was sent; each chunk once and in order.

        Use :class:`~helmr_provider.client.models.logs.LogDecoder` for text, and ``contextlib.aclosing`` around the
        iterator if you may leave it early.

        :param run: run id, or a handle or snapshot.
        :param cursor: only what lies behind this chunk, or behind a snapshot with this cursor.
        :raises HelmrProtocolError: a chunk without a readable cursor is broken, or one is too large.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        run_id = run if isinstance(run, str) else run.id
        place = FollowedLogs(cursor, self._transport.context.reconnects)
        while True:
            try:
                snapshot = await self._client.runs.retrieve(run_id)
                place.reached()
                with stream_slots_of(self._client).explicit():
                    async with contextlib.aclosing(self.stream(run_id, cursor=place.cursor)) as chunks:
                        async for chunk in chunks:
                            if place.advance(chunk.id):
                                yield chunk
                # A control plane that shuts down ends a stream as properly as one that has sent everything.
                if snapshot.is_terminal and not place.is_short_of((await self.retrieve(run_id)).cursor):
                    return
                pause = place.reconnect_in()
            except (HelmrApiError, HelmrConnectionError, HelmrProtocolError) as error:
                pause = place.tolerate(error)
            await async_sleep(pause)

    async def stream(self, run: str | RunHandle, *, cursor: str | int | None = None) -> AsyncStream[LogChunk]:
        """Open one log stream (getRunLogs), for callers with a rhythm of their own: it repeats and counts nothing.

        It yields all output behind the cursor, then new output, until the run is over or the server ends the stream.

        :param run: run id, or a handle or snapshot.
        :param cursor: only what lies behind this chunk, or behind a snapshot with this cursor.
        :raises HelmrConnectionError: the stream broke off, or was silent for longer than the client allows.
        :raises HelmrProtocolError: a chunk is broken; its ``cursor`` is where to continue.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        run_id = run if isinstance(run, str) else run.id
        frames = self._transport.events("getRunLogs", path={"run_id": run_id}, query={"cursor": cursor})
        async with contextlib.aclosing(frames):
            async for frame in frames:
                if frame is not None:
                    yield chunk_from_frame(frame)

"""Server-sent events, framed and ended as the control plane does (contract/behaviour.md section 7).

Nothing is sent before the first frame, not even the status: a follower with nothing to replay hears of its stream only
with the first comment.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from helmr_provider.local.common.jsontext import dumps
from helmr_provider.local.state import events, logs, runs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

KEEP_ALIVE = b": keep-alive\n\n"
_PAGE = 200
_HEADERS = [(b"cache-control", b"no-cache"), (b"content-type", b"text/event-stream")]


class EventStream:
    """An ASGI answer that sends frames until they end, the follower leaves, or the time for streams is over.

    :param frames: an asynchronous generator of whole frames.
    :param limit: seconds.
    """

    def __init__(self, frames: AsyncGenerator[bytes], limit: float) -> None:
        self._frames = frames
        self._limit = limit
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        del scope
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            done, _ = await asyncio.wait({sending, leaving}, timeout=self._limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
        if sending in done:
            sending.result()
        elif leaving not in done:
            await self._start(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            async for frame in frames:
                await self._start(send)
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        if not self._started:
            headers = [*_HEADERS, (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})


async def run_events(core: Core, run_id: str, cursor: int) -> AsyncGenerator[bytes]:
    """Yield the frames of a run's events after a cursor.

    A replay is sent whole, and ends the stream if its last record is a terminal one. Afterwards the first record of a
    terminal kind ends it, although a failed attempt may be followed by another. With nothing to replay at the end of a
    finished run it does not end.
    """
    replayed = False
    last_kind = ""
    while True:
        rows = events.after(core, run_id, cursor, _PAGE)
        for row in rows:
            cursor, last_kind = row["sequence"], row["kind"]
            yield frame(str(cursor), "run_event", row["record"])
            if replayed and last_kind in events.TERMINAL_KINDS:
                return
        if len(rows) == _PAGE:
            continue
        if not replayed and last_kind in events.TERMINAL_KINDS:
            return
        replayed = True
        if not await _next_record(core, run_id):
            yield KEEP_ALIVE


async def _next_record(core: Core, run_id: str) -> bool:
    topic, seconds = events.topic(run_id), core.settings.keep_alive
    if core.event_slots is None:
        return await core.notifier.wait(topic, seconds)
    return await core.event_slots.wait(core.notifier, topic, seconds)


async def run_logs(core: Core, run_id: str, cursor: int) -> AsyncGenerator[bytes]:
    """Yield the frames of a run's log chunks after a cursor: a poll and a comment per interval, until it is over."""
    while True:
        run = runs.reread(core, run_id)
        while rows := logs.after(core, run_id, cursor, _PAGE):
            for row in rows:
                cursor = row["sequence"]
                yield frame(str(cursor), "run_log", dumps(logs.rendered(row)))
        if _is_over(run):
            return
        yield KEEP_ALIVE
        await asyncio.sleep(core.settings.log_poll)


def _is_over(run: Row) -> bool:
    return run["status"] not in runs.LIVE


def frame(frame_id: str, name: str, data: str) -> bytes:
    """Write one event."""
    return f"id: {frame_id}\nevent: {name}\ndata: {data}\n\n".encode("utf-8", "replace")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

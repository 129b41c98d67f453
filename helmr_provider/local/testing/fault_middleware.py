"""Apply a planted fault to a request and its connection."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Protocol

from starlette.responses import JSONResponse

from helmr_provider.local.network import sockets
from helmr_provider.local.testing.faults import EXPIRED_CURSOR, STREAM_KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from helmr_provider.local.testing.faults import Fault

_EVENT_FRAME = re.compile(rb"id: (\d+)\nevent: (\w+)\n")


class Connections(Protocol):
    """The listener's operations that faults use."""

    def refuse_for(self, seconds: float) -> None:
        """Refuse new connections for so many seconds."""
        ...


class _Cut(Exception):  # noqa: N818 - an event, not an error
    """The stream has gone wrong as planted; nothing else is to be sent."""


def with_fault(fault: Fault, connections: Connections, app: ASGIApp) -> ASGIApp:
    """Return an application that answers one request with the fault."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        if fault.kind in STREAM_KINDS:
            await _stream(fault, app, scope, receive, send)
        elif fault.kind == "status":
            await _status(fault)(scope, receive, send)
        elif fault.kind == "late_headers":
            await app(scope, receive, _late(send, fault.seconds))
        elif fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
            await app(scope, receive, send)
        elif fault.kind == "lose_answer":
            await app(scope, receive, _nowhere)
            await _reset(scope, receive)
        elif fault.kind == "hang_up":
            _transport(scope).close()
            await _until_left(receive)
        else:
            if fault.kind == "refuse":
                connections.refuse_for(fault.seconds)
            await _reset(scope, receive)

    return respond


async def _stream(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    passed = 0
    started = False

    async def faulty_send(message: Message) -> None:
        nonlocal passed, started
        if message["type"] == "http.response.start":
            # Held back: a stream that is silent from its beginning sends no headers either.
            if fault.after == 0 and fault.kind == "silent_stream":
                raise _Cut
            started = True
            await send(message)
            return
        frame = _EVENT_FRAME.match(message.get("body", b""))
        if frame is not None:
            passed += 1
        if passed <= fault.after or frame is None:
            await send(message)
            if passed == fault.after and frame is not None and fault.kind not in _AT_NEXT_FRAME:
                raise _Cut
            return
        if passed > fault.after + 1 and fault.kind != "drip":
            await send(message)
        else:
            await _spoil(fault, frame, message, send)

    if fault.after == 0 and fault.kind in ("close_stream", "reset_stream"):
        await _end(fault, scope, receive, send, started=False)
        return
    sending: Awaitable[None] = app(scope, receive, faulty_send)
    try:
        await sending
    except _Cut:
        await _end(fault, scope, receive, send, started=started)


_AT_NEXT_FRAME = frozenset(
    ("half_frame", "malformed_frame", "oversize_frame", "drip", "duplicate", "gap", "expired_cursor")
)


async def _spoil(fault: Fault, frame: re.Match[bytes], message: Message, send: Send) -> None:
    body: bytes = message["body"]
    if fault.kind == "half_frame":
        await send({**message, "body": body[: len(body) // 2]})
        raise _Cut
    if fault.kind == "drip":
        for index in range(len(body)):
            await send({**message, "body": body[index : index + 1]})
            await asyncio.sleep(fault.seconds)
        return
    if fault.kind == "gap":
        return
    if fault.kind == "duplicate":
        await send({**message, "body": body + body})
        return
    if fault.kind == "expired_cursor":
        failure = b'{"code":"%s","message":"planted fault","cursor":%s}' % (EXPIRED_CURSOR.encode(), frame[1])
        await send({**message, "body": b"id: %s\nevent: workspace_stream_error\ndata: %s\n\n" % (frame[1], failure)})
        raise _Cut
    head = b"id: %s\nevent: %s\ndata: " % (frame[1], frame[2])
    data = (
        b"{not json"
        if fault.kind == "malformed_frame"
        else b'{"id":"%s","filler":"%s"}' % (frame[1], b"x" * fault.size)
    )
    await send({**message, "body": head + data + b"\n\n"})


async def _end(fault: Fault, scope: Scope, receive: Receive, send: Send, *, started: bool) -> None:
    if fault.kind == "silent_stream":
        await _until_left(receive)
    elif fault.kind == "reset_stream":
        await _reset(scope, receive)
    else:
        if not started:
            headers = [(b"cache-control", b"no-cache"), (b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _status(fault: Fault) -> JSONResponse:
    body = {"error": "planted fault"} if fault.code is None else {"code": fault.code, "error": "planted fault"}
    headers = {} if fault.retry_after is None else {"retry-after": fault.retry_after}
    return JSONResponse(body, fault.status, headers=headers)


def _late(send: Send, seconds: float) -> Send:
    async def later(message: Message) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(seconds)
        await send(message)

    return later


async def _nowhere(message: Message) -> None:
    """Drop sent messages."""
    del message


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reset(scope: Scope, receive: Receive) -> None:
    sockets.reset(_transport(scope))
    await _until_left(receive)


def _transport(scope: Scope) -> asyncio.Transport:
    found: Callable[[], asyncio.Transport] = scope["state"]["transport"]
    return found()

"""The socket that the control plane listens on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import TYPE_CHECKING

import pytest

from helmr_provider.local.network.listener import Listener

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def test_small_pieces_are_sent_immediately() -> None:
    """Else the body of each answer on a kept connection waits for the acknowledgement of its head."""
    options: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        (connection,) = listener._state.connections
        accepted = connection.transport.get_extra_info("socket")
        options.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    listener = Listener(app, "127.0.0.1", 0)
    await listener.open()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        writer.close()
    finally:
        await listener.close()
    assert options == [1]


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_is_being_accepted_when_the_listener_closes_is_reset(turns: int) -> None:
    """Whatever turn of the loop the close comes in; one that was lost would be reported by the garbage collector."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nothing was asked")

    listener = Listener(app, "127.0.0.1", 0)
    await listener.open()
    with socket.create_connection(("127.0.0.1", listener.port)) as caller:
        caller.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.close()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(caller, 1), 30)
    assert listener._state.connections == set()
    gc.collect()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: ",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT",
    ],
    ids=["nothing", "half a head", "half a body", "half of a second request"],
)
async def test_a_request_that_does_not_become_complete_is_abandoned(begun: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    listener = Listener(app, "127.0.0.1", 0, request_seconds=0.05)
    await listener.open()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(begun)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(30):
                await reader.read()
        assert listener._state.connections == set()
        writer.close()
    finally:
        await listener.close()


async def test_a_complete_request_may_be_answered_as_slowly_as_it_takes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b"late"})

    listener = Listener(app, "127.0.0.1", 0, request_seconds=0.05)
    await listener.open()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"late" in await reader.read()
        writer.close()
    finally:
        await listener.close()


async def test_a_shortage_of_descriptors_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener(_nothing, "127.0.0.1", 0)
    await listener.open()
    loop = asyncio.get_running_loop()
    try:
        for _ in range(2048):
            shortage = {
                "message": "socket.accept() out of system resource",
                "exception": OSError(24, "Too many open files"),
            }
            loop.call_exception_handler(shortage)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        loop.call_exception_handler({"message": "something else"})
        assert "something else" in caplog.text
    finally:
        await listener.close()


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None: ...

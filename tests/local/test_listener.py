"""The socket that the control plane listens on."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import TYPE_CHECKING

import pytest

from helmr_provider.local.network.listener import Listener

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def test_small_pieces_are_sent_at_once() -> None:
    """Else the body of each answer on a kept connection waits for the acknowledgement of its head."""
    told: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        (connection,) = listener._state.connections
        accepted = connection.transport.get_extra_info("socket")
        told.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
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
    assert told == [1]


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

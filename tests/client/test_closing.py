"""A client that is closed while other threads or tasks make calls with it."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from helmr_provider.client import AsyncHelmrClient, HelmrClient, HelmrError
from tests.client.run_json import snapshot
from tests.client.scripted_server import API_KEY, ScriptedServer
from tests.support.polling import until_async

if TYPE_CHECKING:
    from anyio.abc import SocketStream

    from tests.client.scripted_server import Reply


def test_closing_a_blocking_client_closes_a_connection_that_is_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection
    connected, closed = threading.Event(), threading.Event()
    sockets: list[socket.socket] = []

    def connect_while_the_client_is_closed(*args: Any, **options: Any) -> socket.socket:
        sockets.append(connect(*args, **options))
        connected.set()
        assert closed.wait(60)
        return sockets[-1]

    monkeypatch.setattr(socket, "create_connection", connect_while_the_client_is_closed)
    with ScriptedServer(snapshot("r", "running")) as server, ThreadPoolExecutor() as pool:
        client = HelmrClient(url=server.url, api_key=API_KEY)
        call = pool.submit(client.runs.retrieve, "r")
        assert connected.wait(60)
        client.close()
        closed.set()
        call.exception(timeout=60)
    assert [one.fileno() for one in sockets] == [-1]


def test_closing_a_blocking_client_ends_calls_of_other_threads() -> None:
    arrived, over = threading.Event(), threading.Event()

    def answer(_: object) -> Reply:
        arrived.set()
        over.wait(60)
        return snapshot("r", "running")

    with ScriptedServer(answer=answer) as server, ThreadPoolExecutor() as pool:
        client = HelmrClient(url=server.url, api_key=API_KEY, timeout=600)
        call = pool.submit(client.runs.retrieve, "r")
        assert arrived.wait(60)
        client.close()
        # Without being interrupted, the call would last as long as its limit.
        with pytest.raises(HelmrError, match="getRun: this client is closed"):
            call.result(timeout=60)
        over.set()
    assert len(server.requests) == 1


async def test_closing_an_asynchronous_client_closes_a_connection_that_is_being_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = anyio.connect_tcp
    connected, closed = asyncio.Event(), asyncio.Event()
    sockets: list[socket.socket] = []

    async def connect_while_the_client_is_closed(*args: Any, **options: Any) -> SocketStream:
        stream: SocketStream = await connect(*args, **options)
        sockets.append(stream.extra(SocketAttribute.raw_socket))
        connected.set()
        await closed.wait()
        return stream

    monkeypatch.setattr(anyio, "connect_tcp", connect_while_the_client_is_closed)
    with ScriptedServer(snapshot("r", "running")) as server:
        client = AsyncHelmrClient(url=server.url, api_key=API_KEY)
        call = asyncio.create_task(client.runs.retrieve("r"))
        async with asyncio.timeout(60):
            await connected.wait()
            await client.aclose()
            closed.set()
            await asyncio.wait([call])
    call.exception()
    # The transport closes its socket in one of the next turns of the loop.
    await until_async(lambda: [one.fileno() for one in sockets] == [-1])


async def test_closing_an_asynchronous_client_ends_calls_of_other_tasks() -> None:
    arrived, over = threading.Event(), threading.Event()

    def answer(_: object) -> Reply:
        arrived.set()
        over.wait(60)
        return snapshot("r", "running")

    with ScriptedServer(answer=answer) as server:
        client = AsyncHelmrClient(url=server.url, api_key=API_KEY, timeout=600)
        call = asyncio.create_task(client.runs.retrieve("r"))
        async with asyncio.timeout(60):
            assert await asyncio.to_thread(arrived.wait, 60)
            await client.aclose()
            with pytest.raises(HelmrError, match="getRun: this client is closed"):
                await call
        over.set()
    assert len(server.requests) == 1

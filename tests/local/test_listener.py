"""The socket that the control plane listens on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helmr_provider.local import LocalControlPlane
from helmr_provider.local.network import listener as listeners
from helmr_provider.local.network import sockets
from helmr_provider.local.network.listener import Listener
from tests.client.hostile.certificates import Authority
from tests.support.polling import until_async

if TYPE_CHECKING:
    from collections.abc import Iterator

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


async def _answers(listener: Listener) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    except ConnectionError:
        return False
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(30):
            return (await reader.readline()).startswith(b"HTTP/1.1 204")
    except TimeoutError:
        # Another program has the port now.
        return False
    finally:
        writer.close()


async def _ends_well(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def _all_timers_are_over() -> None:
    """Return when every timer that was set before has fired, and what it began has had its turns."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, over.set)
    await over.wait()
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_listener_that_is_closed_while_it_refuses_stays_closed(refusals: int) -> None:
    listener = Listener(_ends_well, "127.0.0.1", 0)
    await listener.open()
    for _ in range(refusals):
        listener.refuse_for(0.01)
    await listener.close()
    await _all_timers_are_over()
    assert not await _answers(listener)


async def test_a_listener_that_is_closed_does_not_begin_to_refuse() -> None:
    listener = Listener(_ends_well, "127.0.0.1", 0)
    await listener.open()
    await listener.close()
    listener.refuse_for(0.01)
    await _all_timers_are_over()
    assert not await _answers(listener)


async def test_of_two_refusals_the_longer_one_counts() -> None:
    listener = Listener(_ends_well, "127.0.0.1", 0)
    await listener.open()
    try:
        listener.refuse_for(3600)
        listener.refuse_for(0.01)
        await _all_timers_are_over()
        assert not await _answers(listener)
        await listener.open()
        assert await _answers(listener)
    finally:
        await listener.close()


@pytest.mark.parametrize("turns", range(8))
async def test_a_listener_that_is_closed_while_it_opens_again_can_be_opened(turns: int) -> None:
    """Whatever turn of the loop the close comes in."""
    listener = Listener(_ends_well, "127.0.0.1", 0)
    await listener.open()
    listener.refuse_for(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    await listener.close()
    assert not await _answers(listener)
    await listener.open()
    assert await _answers(listener)
    await listener.close()


async def test_a_request_whose_tls_handshake_outlasts_the_listener_is_not_answered(tmp_path: Path) -> None:
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await _ends_well(scope, receive, send)

    authority = Authority(tmp_path)
    listener = Listener(app, "127.0.0.1", 0, tls=authority.server(authority.issue("server")))
    await listener.open()

    def ask(connection: socket.socket) -> bytes:
        context = ssl.create_default_context(cafile=str(authority.bundle))
        with context.wrap_socket(connection, server_hostname="127.0.0.1") as secured:
            secured.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return secured.recv(1)

    with socket.create_connection(("127.0.0.1", listener.port), 30) as caller:
        # The connection is accepted, and the handshake has not begun.
        for _ in range(8):
            await asyncio.sleep(0)
        await listener.close()
        answered = b""
        with contextlib.suppress(OSError):
            answered = await asyncio.to_thread(ask, caller)
    assert (asked, answered) == ([], b"")


async def test_the_close_waits_for_requests_however_long_they_take_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled, release = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await release.wait()

    listener = Listener(app, "127.0.0.1", 0)
    await listener.open()
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until_async(lambda: listener._state.tasks)
    closing = asyncio.create_task(listener.close())
    async with asyncio.timeout(30):
        await cancelled.wait()
    loop = asyncio.get_running_loop()
    now = loop.time
    # Every timer is due from now on.
    monkeypatch.setattr(loop, "time", lambda: now() + 3600)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not closing.done()
    release.set()
    await closing
    writer.close()


def _can_be_bound(port: int) -> bool:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux only")
@pytest.mark.parametrize("how", ["closed", "refusing"])
async def test_nobody_else_gets_the_port_until_the_listener_opens_again(how: str) -> None:
    listener = Listener(_ends_well, "127.0.0.1", 0)
    for _ in range(3):
        await listener.open()
        with socket.create_connection(("127.0.0.1", listener.port)):
            if how == "closed":
                await listener.close(hold_port=True)
            else:
                listener.refuse_for(3600)
                await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", listener.port))
        assert not _can_be_bound(listener.port)
    await listener.open()
    assert not _can_be_bound(listener.port)
    await listener.close()
    assert listener._holding is None


def test_a_control_plane_that_does_not_listen_keeps_its_port_until_it_is_stopped() -> None:
    with LocalControlPlane([]) as server:
        listener = server.running.listener
        server.stop_listening()
        assert not _can_be_bound(listener.port) or sys.platform != "linux"
    assert listener._holding is None


@contextlib.contextmanager
def _no_descriptors_left() -> Iterator[None]:
    taken: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/dev/fd").iterdir()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in taken:
            os.close(each)


@pytest.mark.parametrize("how", ["closed", "holding", "refusing"])
async def test_a_listener_without_descriptors_can_be_closed(how: str) -> None:
    listener = Listener(_ends_well, "127.0.0.1", 0)
    await listener.open()
    with _no_descriptors_left():
        if how == "refusing":
            listener.refuse_for(3600)
        else:
            await listener.close(hold_port=how == "holding")
        for _ in range(3):
            await asyncio.sleep(0)
    assert not await _answers(listener)
    await listener.open()
    assert await _answers(listener)
    await listener.close()


async def test_a_listener_whose_port_is_taken_while_it_refuses_answers_and_tries_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where ports cannot be held."""
    monkeypatch.setattr(sockets, "hold_port", lambda _: None)
    monkeypatch.setattr(listeners, "_TRY_AGAIN", 0.01)
    listener = Listener(_ends_well, "127.0.0.1", 0)
    await listener.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)

    async def answered() -> bool:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(30):
            return (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")

    # The server has a connection only after its first request.
    assert await answered()
    listener.refuse_for(3600)
    # The listening socket is closed in the next turn.
    await asyncio.sleep(0)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", listener.port))
        other.listen()
        listener._reopen()
        await until_async(lambda: "Cannot listen" in caplog.text)
        assert await answered()
    await until_async(lambda: listener._server is not None)
    assert await _answers(listener)
    writer.close()
    await listener.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a listening socket can be shut down on Linux only")
@pytest.mark.parametrize("hold_port", [True, False])
async def test_a_listener_is_closed_although_a_fork_has_its_socket(hold_port: bool) -> None:
    listener = Listener(_ends_well, "127.0.0.1", 0)
    await listener.open()
    assert listener._server is not None
    copy = os.dup(listener._server.sockets[0].fileno())
    try:
        await listener.close(hold_port=hold_port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", listener.port), 30)
        await listener.open()
        assert await _answers(listener)
    finally:
        await listener.close()
        os.close(copy)

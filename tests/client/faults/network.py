"""Connections in memory, between protocols of one event loop, with the faults of a network.

Bytes take a latency that differs per connection, arrive in order, and in other pieces than they were sent in. A
connection can be cut behind any byte; all of them can be cut, stalled or refused together.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.client.faults.virtual_loop import VirtualLoop

End = Literal["eof", "reset"]


@dataclass(frozen=True)
class Cut:
    """A connection that ends in the middle of an answer.

    :param connection: number of the connection, from 0.
    :param after: bytes of the server that still arrive.
    :param how: closed properly, or reset.
    """

    connection: int
    after: int
    how: End


@dataclass
class Network:
    """All connections of one loop.

    :param loop: whose time counts.
    :param random: source of latencies.
    """

    loop: VirtualLoop
    random: Random
    latency: tuple[float, float] = (0.001, 0.02)
    segment: int = 0
    cuts: dict[int, Cut] = field(default_factory=dict[int, Cut])
    refused_until: float = 0.0
    stalled_until: float = 0.0
    opened: int = 0
    fired: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._servers: dict[int, Callable[[], asyncio.Protocol]] = {}
        self._open: set[Connection] = set()
        # Shown as the descriptor of sockets that have nothing to read.
        self._silence = os.pipe()

    @property
    def silence(self) -> int:
        return self._silence[0]

    def close(self) -> None:
        for descriptor in self._silence:
            os.close(descriptor)

    def listen(self, protocol_factory: Callable[[], asyncio.Protocol], sock: socket.socket) -> _Server:
        port = sock.getsockname()[1]
        self._servers[port] = protocol_factory
        return _Server(self._servers, port, sock)

    async def connect(self, protocol: asyncio.Protocol, port: int) -> asyncio.Transport:
        await asyncio.sleep(self._latency())
        while self.loop.now < self.stalled_until:  # noqa: ASYNC110 - it may be extended
            await asyncio.sleep(self.stalled_until - self.loop.now)
        if self.loop.now < self.refused_until or port not in self._servers:
            self.fired.append("refused")
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        served = self._servers[port]()
        connection = Connection(self, self._latency(), self.cuts.get(self.opened))
        self.opened += 1
        client, server = connection.ends = End_(connection, protocol), End_(connection, served)
        client.peer, server.peer = server, client
        connection.server = server
        self._open.add(connection)
        server.made()
        client.made()
        return client

    def cut_all(self, how: End) -> None:
        """Cut every connection, as a proxy or a host that goes down does."""
        for connection in sorted(self._open, key=lambda one: one.number):
            connection.cut(how)

    def open_connections(self) -> list[int]:
        """Return the numbers of the connections that are open."""
        return sorted(connection.number for connection in self._open)

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)

    def _latency(self) -> float:
        return self.random.uniform(*self.latency)


class _Server:
    """What ``create_server`` returns, as far as the control plane's listener uses it."""

    sockets: tuple[socket.socket, ...] = ()

    def __init__(self, servers: dict[int, Any], port: int, sock: socket.socket) -> None:
        self._servers, self._port, self._socket = servers, port, sock

    async def start_serving(self) -> None:
        await asyncio.sleep(0)

    def close(self) -> None:
        self._servers.pop(self._port, None)
        self._socket.close()


class Connection:
    """Two ends, and the latency between them."""

    ends: tuple[End_, End_]
    server: End_

    def __init__(self, network: Network, latency: float, fault: Cut | None) -> None:
        self.network, self.latency = network, latency
        self.number = network.opened
        self._fault, self._passed = fault, 0

    def pieces(self, sender: End_, data: bytes) -> list[bytes]:
        """Return what of some bytes arrives, in the pieces in which it does; cut the connection behind them."""
        size = self.network.segment
        if sender is not self.server:
            return [data]
        room = None if self._fault is None else self._fault.after - self._passed
        self._passed += len(data)
        if self._fault is not None and room is not None and len(data) > room:
            if room >= 0:
                self.network.fired.append(f"cut ({self._fault.how})")
                self.network.loop.call_soon(self.cut, self._fault.how)
            data = data[: max(room, 0)]
        if not data:
            return []
        return [data[start : start + size] for start in range(0, len(data), size)] if size else [data]

    def cut(self, how: End) -> None:
        client, server = self.ends
        client.enqueue(how)
        server.enqueue("reset")


class End_(asyncio.Transport):  # noqa: N801 - one end of a connection; End is how it ends
    """One end: what its protocol writes to, and what writes to its protocol."""

    peer: End_

    def __init__(self, connection: Connection, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._connection, self._protocol = connection, protocol
        self._loop = connection.network.loop
        self._arriving: deque[bytes | End] = deque()
        self._unread: deque[bytes | End] = deque()
        self._closing = self._lost = self._paused = self._linger_off = self._ended = False
        self._last = 0.0

    def made(self) -> None:
        self._protocol.connection_made(self)

    # What the protocol does

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        for piece in self._connection.pieces(self, bytes(data)):
            self.peer.enqueue(piece)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.peer.enqueue("eof")
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if not self._lost:
            self._closing = True
            self.peer.enqueue("reset" if self._linger_off else "eof")
            self._loop.call_soon(self._lose, None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._read)

    def is_reading(self) -> bool:
        return not self._paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> asyncio.Protocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return Descriptor(self) if name == "socket" else default

    # What the network does

    def enqueue(self, what: bytes | End) -> None:
        """Let something arrive, behind all that is under way already."""
        network = self._connection.network
        self._arriving.append(what)
        self._last = max(self._last, self._loop.now + self._connection.latency, network.stalled_until)
        self._loop.call_at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self._loop.now < self._connection.network.stalled_until:
            self._loop.call_at(self._connection.network.stalled_until, self._arrive)
            return
        self._unread.append(self._arriving.popleft())
        self._read()

    def _read(self) -> None:
        while self._unread and not self._lost:
            if self._unread[0] == "reset":
                self._closing = True
                self._lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
            elif self._paused:
                return
            elif isinstance(what := self._unread.popleft(), bytes):
                self._protocol.data_received(what)
            elif not self._ended:
                self._ended = True
                if not self._protocol.eof_received():
                    self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._connection.network.forget(self._connection)
            self._protocol.connection_lost(error)

    def readable(self) -> bool:
        return self._lost or self._ended or bool(self._unread)

    def reset_on_close(self) -> None:
        self._linger_off = True


class Descriptor:
    """The members of a socket that libraries use."""

    family = socket.AF_INET

    def __init__(self, end: End_) -> None:
        self._end = end

    def fileno(self) -> int:
        return -1 if self._end.readable() else self._end._connection.network.silence

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        if option == socket.SO_LINGER:
            self._end.reset_on_close()

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    getsockname = getpeername

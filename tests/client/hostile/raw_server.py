"""A server on a loopback socket that answers with whatever bytes a scenario writes, HTTP or not."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class Peer:
    """One connection, as a scenario sees it.

    :param connection: its socket.
    :param stopping: set when the server stops.
    """

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._buffer = b""
        self._stopping = stopping

    def request(self) -> bytes:
        """Read one request, head and body; empty at the end of the connection."""
        while b"\r\n\r\n" not in self._buffer:
            if not (data := self._connection.recv(65536)):
                return b""
            self._buffer += data
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(rest) < length:
            rest += self._connection.recv(65536)
        self._buffer = rest[length:]
        return head + b"\r\n\r\n" + rest[:length]

    def write(self, data: bytes) -> None:
        """Write bytes; raises OSError once the client has gone."""
        if self._stopping.is_set():
            raise OSError("stopping")
        self._connection.sendall(data)

    def forever(self, data: bytes, pause: float = 0.0) -> None:
        """Write the same bytes until the client goes."""
        while True:
            self.write(data)
            if pause:
                self._stopping.wait(pause)

    def hold(self) -> None:
        """Say nothing until the server stops."""
        self._stopping.wait()

    def reset(self) -> None:
        """Cut the connection hard."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class RawServer:
    """Run a scenario on every connection.

    :param scenario: writes the answer.
    :param tls: speaks TLS with this context.
    """

    def __init__(self, scenario: Callable[[Peer], None], tls: ssl.SSLContext | None = None) -> None:
        self._scenario = scenario
        self._tls = tls
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: list[socket.socket] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                self._scenario(Peer(connection, self._stopping))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        # Closing alone does not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

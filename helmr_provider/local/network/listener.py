"""The socket: uvicorn's HTTP protocol on a listener that tests may take down and bring back at the same port."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from helmr_provider.local.network import sockets

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

# Strict: a lenient parser would read `[::1]evil.example` as `::1`.
_HOST = re.compile(r"(?:(?P<name>localhost|[0-9.]+)|\[(?P<address>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")
_BACKLOG = 2048
_IDLE_SECONDS = 75
_STOP_SECONDS = 2.0


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_this_machine(host: str) -> bool:
    """Tell whether a Host header names this machine: `localhost` or a loopback address, with or without a port."""
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback(match["name"] or match["address"])


def server_context(certfile: Path, keyfile: Path) -> ssl.SSLContext:
    """Return the TLS context of a server.

    :param certfile: the certificate chain, in PEM.
    :param keyfile: its private key, in PEM.
    :raises ValueError: if the files are no certificate and key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certfile, keyfile)
    except FileNotFoundError:
        missing = next((path for path in (certfile, keyfile) if not path.exists()), certfile)
        raise ValueError(f"{missing} does not exist") from None
    except ssl.SSLError as error:
        raise ValueError(f"{certfile} and {keyfile} are no certificate and private key in PEM: {error}") from None
    return context


class Listener:
    """Accepts connections for an ASGI application on one host and port.

    :param app: what answers.
    :param host: the address to bind.
    :param port: the port, 0 for a free one; from the first :meth:`open` on it stays the same.
    :param tls: the certificate to serve https with.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = port
        self.scheme = "http" if tls is None else "https"
        self._tls = tls
        self._app = app
        self._config = Config(
            self._answer,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            # A header must not be able to say that a caller is on this machine.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen."""
        if self._server is not None:
            return
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # Named, because asyncio sends small pieces at once (TCP_NODELAY) only where it sees that this is TCP: else the
        # body of every answer waits 40 ms for the acknowledgement of its head.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self.host, self.port))
            bound.setblocking(False)
            self.port = bound.getsockname()[1]
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._protocol, sock=bound, backlog=_BACKLOG, ssl=self._tls)
        except BaseException:
            bound.close()
            raise

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        for timer in (self._reopening, self._opening):
            if timer is not None:
                timer.cancel()
        self._stop_accepting()
        # What was being accepted has a transport after one turn of the loop, and is a connection after two.
        for _ in range(2):
            await asyncio.sleep(0)
        for connection in list(self._state.connections):
            sockets.reset(connection.transport)
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)

    def refuse_for(self, seconds: float) -> None:
        """Refuse new connections for so many seconds; open ones stay."""
        self._stop_accepting()
        self._reopening = asyncio.get_running_loop().call_later(seconds, self._reopen)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Only :meth:`close` cancels a request, and there is nobody left to answer.
        with contextlib.suppress(asyncio.CancelledError):
            await self._app(scope, receive, send)

    def _reopen(self) -> None:
        self._opening = asyncio.ensure_future(self.open())

    def _stop_accepting(self) -> None:
        if self._server is None:
            return
        loop = asyncio.get_running_loop()
        for listening in self._server.sockets:
            loop.remove_reader(listening.fileno())
        # Not at once: asyncio would drop, unclosed, a connection that it has accepted in this turn.
        loop.call_soon(self._server.close)
        self._server = None

    def _protocol(self) -> H11Protocol:
        # A request's scope shows its connection, for the faults that cut it.
        state: dict[str, Any] = {}
        protocol = H11Protocol(config=self._config, server_state=self._state, app_state=state)
        state["transport"] = lambda: protocol.transport
        return protocol

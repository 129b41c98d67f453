"""The socket: uvicorn's HTTP protocol on a listener that tests may take down and bring back at the same port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import math
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from helmr_provider.local.network import sockets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

_log = logging.getLogger(__name__)
# Strict: a lenient parser would read `[::1]evil.example` as `::1`.
_HOST = re.compile(r"(?:(?P<name>localhost|[0-9.]+)|\[(?P<address>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")
_COMPLAIN_EVERY = 60.0
_BACKLOG = 2048
_IDLE_SECONDS = 75
_TRY_AGAIN = 1.0


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
    :param request_seconds: seconds after which the connection of a request that is not complete is closed: those for
        the head in all, those for the body since its last piece.
    """

    def __init__(
        self, app: ASGIApp, host: str, port: int, *, tls: ssl.SSLContext | None = None, request_seconds: float = 30.0
    ) -> None:
        self.host = host
        self.port = port
        self.scheme = "http" if tls is None else "https"
        self._tls = tls
        self._request_seconds = request_seconds
        self._complained_at = -math.inf
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
        # Between `open` and `close`. While connections are refused there is no server, but requests are answered.
        self._is_open = False
        self._server: asyncio.Server | None = None
        self._holding: socket.socket | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen.

        :raises OSError: if the port is taken.
        """
        self._stop_reopening()
        if self._server is not None:
            return
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # Named, because asyncio sends small pieces immediately (TCP_NODELAY) only where it sees that this is TCP: else
        # the body of every answer waits 40 ms for the acknowledgement of its head.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        was_open = self._is_open
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._holding is None:
                bound.bind((self.host, self.port))
            else:
                sockets.share_port(bound, True)
                bound.bind((self.host, self.port))
                sockets.share_port(bound, False)
                self._release_port()
            bound.setblocking(False)
            self.port = bound.getsockname()[1]
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(self._handle_exception)
            # Without a turn of the loop in between, so that `close` always finds a server that listens.
            self._server = await loop.create_server(
                self._protocol, sock=bound, backlog=_BACKLOG, ssl=self._tls, start_serving=False
            )
            self._is_open = True
            await self._server.start_serving()
        except OSError:
            self._is_open = was_open
            self._server = None
            bound.close()
            raise

    async def close(self, *, hold_port: bool = False) -> None:
        """Stop listening, reset every connection, end every request; afterwards the application is not called.

        :param hold_port: keep the port from other programs until the next :meth:`open`, where the system allows it.
        """
        self._is_open = False
        self._stop_reopening()
        self._stop_accepting()
        if not hold_port:
            self._release_port()
        # A connection being accepted has a transport after one turn of the loop, and is a connection after two.
        for _ in range(2):
            await asyncio.sleep(0)
        for connection in list(self._state.connections):
            sockets.reset(connection.transport)
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            # Without a limit: the database that they use is closed next.
            await asyncio.wait(tasks)

    def refuse_for(self, seconds: float) -> None:
        """Refuse new connections for so many seconds, or longer if that was asked for before; open ones stay."""
        if not self._is_open:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if self._reopening is not None:
            until = max(until, self._reopening.when())
        self._stop_reopening()
        self._stop_accepting()
        self._reopening = loop.call_at(until, self._reopen)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Only :meth:`close` cancels a request, and its connection is closed by then.
        with contextlib.suppress(asyncio.CancelledError):
            if self._is_open:
                await self._app(scope, receive, send)
            else:
                # It arrived while its connection was being closed.
                await _disconnected(receive)

    def _handle_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say once a minute that there are no descriptors left: asyncio says it for every place in the backlog."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif loop.time() - self._complained_at > _COMPLAIN_EVERY:
            self._complained_at = loop.time()
            _log.error("No connection can be accepted: %s. Raise the limit on open files (ulimit -n).", error.strerror)

    def _reopen(self) -> None:
        self._reopening = None
        self._opening = asyncio.ensure_future(self._open_again())

    async def _open_again(self) -> None:
        try:
            await self.open()
        except OSError as error:
            _log.error("Cannot listen at port %s again: %s. Trying until it is possible.", self.port, error.strerror)
            self.refuse_for(_TRY_AGAIN)

    def _stop_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        if self._opening is not None and self._opening is not asyncio.current_task():
            self._opening.cancel()
            self._opening = None

    def _stop_accepting(self) -> None:
        if self._server is None:
            return
        loop = asyncio.get_running_loop()
        for listening in self._server.sockets:
            loop.remove_reader(listening.fileno())
            # The system could assign a free port to another process.
            self._holding = sockets.hold_port(listening)
        # Not immediately: asyncio would drop, unclosed, a connection that it has accepted in this turn.
        loop.call_soon(_close, self._server)
        self._server = None

    def _release_port(self) -> None:
        if self._holding is not None:
            self._holding.close()
            self._holding = None

    def _protocol(self) -> H11Protocol:
        # A request's scope shows its connection, for the faults that cut it.
        state: dict[str, Any] = {}
        protocol = _PatientProtocol(
            lambda: self._is_open, self._request_seconds, config=self._config, server_state=self._state, app_state=state
        )
        state["transport"] = lambda: protocol.transport
        return protocol


class _PatientProtocol(H11Protocol):
    """uvicorn's protocol, which closes connections whose request does not become complete."""

    def __init__(self, is_open: Callable[[], bool], seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._is_open = is_open
        self._seconds = seconds
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the head of the first request."""
        super().connection_made(transport)
        if self._is_open():
            self._watch()
        else:
            # The TLS handshake has outlasted the listener.
            sockets.reset(transport)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the rest of a request that has begun behind this one."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waits_for_head = self.conn.their_state is h11.IDLE
        if waits_for_head and self._deadline is not None:
            return
        self._stop_watching()
        cycle = self._current()
        answered = cycle is not None and not cycle.response_complete
        if (waits_for_head and not answered) or self.conn.their_state is h11.SEND_BODY:
            self._deadline = self.loop.call_later(self._seconds, self._give_up)

    def _current(self) -> RequestResponseCycle | None:
        # None until the first request, although uvicorn declares otherwise.
        return cast("RequestResponseCycle | None", self.cycle)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.flow.read_paused:
            # The rest has come, and the application has not taken it yet.
            self._watch()
        # Between two requests uvicorn's own limit on idle connections counts.
        elif self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0] or self._current() is None:
            sockets.reset(self.transport)


def _close(server: asyncio.Server) -> None:
    for listening in server.sockets:
        # Closing alone is not enough: a fork of this process has the socket too. Not possible on every system.
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
    server.close()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

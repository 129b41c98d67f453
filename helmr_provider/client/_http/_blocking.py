"""Calls and streams of the blocking client."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, cast

import httpcore

from helmr_provider.client._http._deadline import DeadlineBackend, interrupt, until
from helmr_provider.client._http._exchange import (
    ConnectionOptions,
    ResponseBuilder,
    closed,
    core_request,
    has_surplus,
    out_of_time,
)
from helmr_provider.client._http._forks import forget_in_child
from helmr_provider.client._http._reentrancy import depth, inside, once_outside
from helmr_provider.client._http._translation import translate
from helmr_provider.client.errors import HelmrError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from helmr_provider.client._config import Settings
    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._wire.requests import Request
    from helmr_provider.client._wire.responses import RawResponse

# Our errors are raised behind the except clauses, for the reason stated in _asynchronous.


class Response:
    """An answer whose body has not been read.

    :param response: of httpcore.
    :param request: the request that was sent.
    :param http: the connections that it came by.
    :param level: depth of the pool that it came by.
    :raises HelmrProtocolError: the body cannot be read.
    """

    def __init__(self, response: httpcore.Response, request: Request, http: Http, level: int) -> None:
        self._response = response
        # httpcore closes the response when this iterator is collected. It lives as long as the response, which ``Http``
        # keeps until it is closed.
        self._pieces: Iterator[bytes] = iter(cast("Iterable[bytes]", response.stream))
        self.request = request
        self._http = http
        self._level = level
        self._builder = ResponseBuilder(response, request)
        self.status = self._builder.status
        self.headers = self._builder.headers

    def chunks(self) -> Generator[bytes, None, None]:
        """Yield the body as it comes, decoded, in pieces of at most 16 KiB.

        :raises HelmrConnectionError: it broke off, or fell silent.
        :raises HelmrProtocolError: its compression is broken.
        """
        while True:
            try:
                chunk = inside(self._level, self._next)
            except Exception as error:  # noqa: BLE001 - the boundary of foreign errors
                failure = self._http.failure(error, self.request)
            else:
                if chunk is None:
                    break
                if not self.request.streams:
                    self._builder.received(len(chunk))
                yield from self._builder.decoder.feed(chunk)
                continue
            raise failure
        self._builder.decoder.close()
        if has_surplus(self._response):
            network_stream(self._response).close()

    def _next(self) -> bytes | None:
        return next(self._pieces, None)

    def read(self) -> RawResponse:
        """Read the body: a success whole, of an error only the beginning.

        :raises HelmrProtocolError: a success is too large.
        """
        with contextlib.closing(self.chunks()) as chunks:
            for chunk in chunks:
                if not self._builder.add(chunk):
                    break
        return self._builder.raw()

    def interrupt(self) -> None:
        """Make another thread that reads the body fail now."""
        interrupt(network_stream(self._response))

    def close(self) -> None:
        """Give the connection back, or close it if there is more to read."""
        # The garbage collector may find a stream while this thread holds the lock of the stream's pool.
        once_outside(self._level, self._close)

    def _close(self) -> None:
        if not self._http.forget_response(self):
            return
        with contextlib.suppress(Exception):
            inside(self._level, self._response.close)
            # Collected here, and not where the last reference to this object goes.
            self._pieces = iter(())
            if self._http.is_closed:
                # It was being opened when its pool was closed, and no pool knows it any more.
                network_stream(self._response).close()


def network_stream(response: httpcore.Response) -> httpcore.NetworkStream:
    """Return the connection of an answer."""
    extensions = cast("dict[str, object]", response.extensions)  # pyright: ignore[reportUnknownMemberType]
    return cast("httpcore.NetworkStream", extensions["network_stream"])


class Http:
    """The connections of one blocking client.

    :param settings: of the client.
    :raises HelmrConfigError: certificates or the proxy cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._connection_options = ConnectionOptions(settings)
        self._pools: dict[tuple[Secret | None, bool, int], httpcore.ConnectionPool] = {}
        self._responses: set[Response] = set()
        self._backend = DeadlineBackend()
        # Reentrant, because a signal handler may interrupt its holder.
        self._lock = threading.RLock()
        self._inherited: list[object] = []
        self._closed = False
        forget_in_child(self)

    def forget(self) -> None:
        """Leave all connections to the parent process; the next request opens new ones."""
        # Kept, because a lock in them may have been held by a thread that does not exist in the child.
        self._inherited.append((list(self._pools.values()), self._responses, self._backend))
        self._pools.clear()
        self._responses = set()
        self._backend = DeadlineBackend()
        self._lock = threading.RLock()

    def forget_response(self, response: Response) -> bool:
        """Keep a response no longer; false if it was closed before, or belongs to the parent process."""
        if response not in self._responses:
            return False
        self._responses.discard(response)
        return True

    @property
    def is_closed(self) -> bool:
        """Whether the connections were closed."""
        return self._closed

    def check_owner(self, operation: str) -> None:
        """Make sure that this client may be used here.

        :raises HelmrError: it is closed.
        """
        if self._closed:
            raise closed(operation)

    def failure(self, error: Exception, request: Request) -> HelmrError:
        """Return the client's own error for a foreign one."""
        if self._closed:
            return closed(request.operation)
        return translate(error, request, self.settings, request.limit)

    def send(self, request: Request, deadline: float) -> RawResponse:
        """Send a call and read the answer.

        :param deadline: time of ``time.monotonic`` at which the call ends.
        :raises HelmrCallTimeoutError: there was no whole answer by then.
        :raises HelmrConnectionError: there was no whole answer.
        :raises HelmrProtocolError: the answer is too large, or its compression is broken.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise out_of_time(request, self.settings, request.limit)
        return until(deadline, self._send, request, left)

    def open(self, request: Request) -> Response:
        """Send the request of a stream and return with its headers.

        :raises HelmrConnectionError: there were none within the limit of silence.
        """
        return until(time.monotonic() + request.limit, self._open, request, request.limit)

    def read_error(self, response: Response) -> RawResponse:
        """Read the answer to a stream's request that is none, within the limit of a call.

        :raises HelmrConnectionError: it did not come in time, or broke off.
        """
        return until(time.monotonic() + self.settings.timeout, response.read)

    def _send(self, request: Request, limit: float) -> RawResponse:
        with contextlib.closing(self._open(request, limit)) as response:
            return response.read()

    def _open(self, request: Request, limit: float) -> Response:
        level = depth()
        try:
            pool = self._pool(request, level)
            response = inside(level, pool.handle_request, core_request(request, self.settings, limit))
        except HelmrError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of foreign errors
            failure = self.failure(error, request)
        else:
            try:
                answer = Response(response, request, self, level)
            except BaseException:
                inside(level, response.close)
                raise
            self._responses.add(answer)
            return answer
        raise failure

    def _pool(self, request: Request, level: int) -> httpcore.ConnectionPool:
        key = self._connection_options.proxy_of(request), request.streams, level
        with self._lock:
            self.check_owner(request.operation)
            if key not in self._pools:
                options = self._connection_options.pool_options(key[0], streams=request.streams)
                # A signal handler may have built the pool since.
                self._pools.setdefault(key, httpcore.ConnectionPool(**options, network_backend=self._backend))
            return self._pools[key]

    def close(self) -> None:
        """Close all connections. Calls of other threads fail."""
        with self._lock:
            self._closed = True
            pools = dict(self._pools)
            self._pools.clear()
        self._backend.interrupt()
        _close(pools)

    def close_when_collected(self) -> None:
        """Close all connections when nothing uses this object any more, at the latest when the process ends."""
        weakref.finalize(self, _close, self._pools)


def _close(pools: Mapping[tuple[Secret | None, bool, int], httpcore.ConnectionPool]) -> None:
    for (*_, level), pool in list(pools.items()):
        # A signal handler may close the client while its thread holds the lock of the pool.
        once_outside(level, partial(inside, level, pool.close))

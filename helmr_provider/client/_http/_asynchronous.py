"""Calls and streams of the asynchronous client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, cast

import httpcore

from helmr_provider.client._http._decoding import STEP
from helmr_provider.client._http._exchange import (
    ConnectionOptions,
    ResponseBuilder,
    closed,
    core_request,
    has_surplus,
    out_of_time,
)
from helmr_provider.client._http._forks import forget_in_child
from helmr_provider.client._http._translation import translate
from helmr_provider.client.errors import HelmrConfigError, HelmrError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from helmr_provider.client._config import Settings
    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._wire.requests import Request
    from helmr_provider.client._wire.responses import RawResponse

# Framing costs time, too: this much of it is taken for one chunk, however short.
_CHUNK = 64

# Below, our errors are raised behind the except clauses, so that they have no context: its frames hold the request with
# the credential, and tools that report exceptions walk along the context.


class AsyncResponse:
    """An answer whose body has not been read.

    :param response: of httpcore.
    :param request: the request that was sent.
    :param http: the connections that it came by.
    :raises HelmrProtocolError: the body cannot be read.
    """

    def __init__(self, response: httpcore.Response, request: Request, http: AsyncHttp) -> None:
        self._response = response
        self.request = request
        self._http = http
        self._builder = ResponseBuilder(response, request)
        self.status = self._builder.status
        self.headers = self._builder.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes, decoded, in pieces of at most 16 KiB; other tasks run in between.

        :raises HelmrConnectionError: it broke off, or fell silent.
        :raises HelmrProtocolError: its compression is broken.
        """
        handled = 0
        stream = aiter(cast("AsyncIterable[bytes]", self._response.stream))
        while True:
            try:
                chunk = await anext(stream, None)
            except Exception as error:  # noqa: BLE001 - the boundary of foreign errors
                failure = self._http.failure(error, self.request)
            else:
                if chunk is None:
                    break
                if not self.request.streams:
                    self._builder.received(len(chunk))
                handled += _CHUNK
                for piece in self._builder.decoder.feed(chunk):
                    handled += len(piece)
                    if handled >= STEP:
                        handled = 0
                        await asyncio.sleep(0)
                    yield piece
                continue
            raise failure
        self._builder.decoder.close()
        if has_surplus(self._response):
            await self._close_connection()

    async def read(self) -> RawResponse:
        """Read the body: a success whole, of an error only the beginning.

        :raises HelmrProtocolError: a success is too large.
        """
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                if not self._builder.add(chunk):
                    break
        return self._builder.raw()

    async def aclose(self) -> None:
        """Give the connection back, or close it if there is more to read."""
        with contextlib.suppress(Exception):
            await self._response.aclose()
            if self._http.is_closed:
                # It was being opened when its pool was closed, and no pool knows it any more.
                await self._close_connection()

    async def _close_connection(self) -> None:
        extensions = cast("dict[str, object]", self._response.extensions)  # pyright: ignore[reportUnknownMemberType]
        await cast("httpcore.AsyncNetworkStream", extensions["network_stream"]).aclose()


class AsyncHttp:
    """The connections of one asynchronous client. They belong to the event loop of the first request.

    :param settings: of the client.
    :raises HelmrConfigError: certificates or the proxy cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._connection_options = ConnectionOptions(settings)
        self._pools: dict[tuple[Secret | None, bool], httpcore.AsyncConnectionPool] = {}
        self._inherited: list[object] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        forget_in_child(self)

    def forget(self) -> None:
        """Leave all connections to the parent process; the next request opens new ones."""
        # Kept, because closing them would write to connections that the parent uses.
        self._inherited.append(self._pools)
        self._pools, self._loop = {}, None

    @property
    def is_closed(self) -> bool:
        """Whether the connections were closed."""
        return self._closed

    def check_owner(self, operation: str) -> None:
        """Make sure that this client may be used here.

        :raises HelmrError: it is closed.
        :raises HelmrConfigError: it belongs to another event loop.
        """
        if self._closed:
            raise closed(operation)
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise HelmrConfigError(
                f"{operation}: this client belongs to another event loop; create one client for each loop. "
                "Every asyncio.run makes a new loop."
            )

    def failure(self, error: Exception, request: Request) -> HelmrError:
        """Return the client's own error for a foreign one."""
        if self._closed:
            return closed(request.operation)
        return translate(error, request, self.settings, request.limit)

    async def send(self, request: Request, deadline: float) -> RawResponse:
        """Send a call and read the answer.

        :param deadline: time of ``time.monotonic`` at which the call ends.
        :raises HelmrCallTimeoutError: there was no whole answer by then.
        :raises HelmrConnectionError: there was no whole answer.
        :raises HelmrProtocolError: the answer is too large, or its compression is broken.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise out_of_time(request, self.settings, request.limit)
        try:
            async with asyncio.timeout(left):
                async with contextlib.aclosing(await self._open(request, left)) as response:
                    return await response.read()
        except TimeoutError as error:
            # The client's own time-outs are time-outs, too.
            failure = error if isinstance(error, HelmrError) else None
        raise failure or translate(TimeoutError(), request, self.settings, request.limit)

    async def open(self, request: Request) -> AsyncResponse:
        """Send the request of a stream and return with its headers.

        :raises HelmrConnectionError: there were none within the limit of silence.
        """
        try:
            async with asyncio.timeout(request.limit):
                return await self._open(request, request.limit)
        except TimeoutError as error:
            failure = error if isinstance(error, HelmrError) else None
        raise failure or translate(TimeoutError(), request, self.settings, request.limit)

    async def read_error(self, response: AsyncResponse) -> RawResponse:
        """Read the answer to a stream's request that is none, within the limit of a call.

        :raises HelmrConnectionError: it did not come in time, or broke off.
        """
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await response.read()
        except TimeoutError as error:
            failure = error if isinstance(error, HelmrError) else None
        raise failure or translate(TimeoutError(), response.request, self.settings, self.settings.timeout)

    async def _open(self, request: Request, limit: float) -> AsyncResponse:
        self.check_owner(request.operation)
        try:
            pool = self._pool(request)
            response = await pool.handle_async_request(core_request(request, self.settings, limit))
        except HelmrError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of foreign errors
            failure = self.failure(error, request)
        else:
            try:
                return AsyncResponse(response, request, self)
            except HelmrError:
                await response.aclose()
                raise
        raise failure

    def _pool(self, request: Request) -> httpcore.AsyncConnectionPool:
        key = self._connection_options.proxy_of(request), request.streams
        if key not in self._pools:
            options = self._connection_options.pool_options(key[0], streams=request.streams)
            self._pools[key] = httpcore.AsyncConnectionPool(**options)
        return self._pools[key]

    async def aclose(self) -> None:
        """Close all connections.

        :raises HelmrConfigError: they belong to another event loop.
        """
        if self._pools and not self._closed:
            self.check_owner("aclose")
        self._closed = True
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

"""The wire: the only module that knows httpx, so that a successor of httpx is a change of this module.

HTTP/1.1 only: with HTTP/2 the 101st stream waits for ever behind the first hundred, and events arrive seconds late.
Redirects are not followed, because they would carry the credential elsewhere. Calls and streams have pools of their
own: with 2,000 streams open, a call through the same pool costs ten times as much.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import ssl
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx

from helmr_provider.client._wire.responses import MAX_ERROR_BODY, RawResponse
from helmr_provider.client.errors import HelmrConfigError, HelmrConnectionError, HelmrError, HelmrProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from helmr_provider.client._config import Settings
    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._wire.requests import Request

logger = logging.getLogger("helmr_provider.client")

# What the server accepts as a body is what we accept as one.
MAX_BODY: Final = 128 * 1024 * 1024

C = TypeVar("C", httpx.AsyncClient, httpx.Client)

_FAILURES = (httpx.RequestError, httpx.InvalidURL, httpx.StreamError)
# These come before the first byte of the request, so the server cannot have served it.
_UNDELIVERED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


_speaking: ContextVar[bool] = ContextVar("helmr_speaking", default=False)


class _NotOurs(logging.Filter):
    """Keep httpx from logging our requests: at INFO it writes whole URLs, and one form of them holds a secret.

    It would also write a line for every look at a run, into every task's log.
    """

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the interface of logging
        return not _speaking.get()


logging.getLogger("httpx").addFilter(_NotOurs())


class _Bearer(httpx.Auth):
    """Put the credential on the request at the last moment, so that no frame of ours holds it as text."""

    def __init__(self, credential: Secret) -> None:
        self._credential = credential

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._credential.reveal()}"
        yield request


def _options(settings: Settings, tls: ssl.SSLContext, *, silence: float, pool: httpx.Limits) -> dict[str, Any]:
    return {
        "http1": True,
        "http2": False,
        "follow_redirects": False,
        "verify": tls,
        "limits": pool,
        "timeout": httpx.Timeout(silence, connect=settings.connect_timeout, pool=settings.timeout),
        "proxy": None if settings.proxy is None else settings.proxy.reveal(),
        # A proxy from the environment must not see what plain http sends to this machine.
        "trust_env": not settings.plain,
    }


def _pools(kind: type[C], settings: Settings) -> tuple[C, C]:
    tls = _tls(verify=settings.verify)
    calls = _options(settings, tls, silence=settings.timeout, pool=httpx.Limits(max_connections=100))
    # The stream budget belongs to the waiter; a caller's own streams are never held back by it.
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    streams = _options(settings, tls, silence=settings.stream_silence, pool=unlimited)
    with contextlib.suppress(ValueError, httpx.InvalidURL):
        return kind(**calls), kind(**streams)
    # httpx's own complaint quotes the password in a proxy URL.
    raise HelmrConfigError("proxy must be an http or https URL such as http://proxy.example:3128.")


@functools.cache
def _system_tls(*, verify: bool) -> ssl.SSLContext:
    # Reading the certificates takes longer than anything else about a client, and they are the same for all.
    return httpx.create_ssl_context(verify=verify)


def _tls(*, verify: bool | str) -> ssl.SSLContext:
    if not isinstance(verify, str):
        return _system_tls(verify=verify)
    with contextlib.suppress(OSError):
        # Python would take a blank name for the current folder, or for the system's certificates.
        if verify.strip():
            folder = Path(verify).is_dir()
            return ssl.create_default_context(cafile=None if folder else verify, capath=verify if folder else None)
    raise HelmrConfigError(f"verify: cannot read certificates from {verify!r}.")


def _build(client: httpx.AsyncClient | httpx.Client, request: Request) -> httpx.Request:
    if client.is_closed:
        raise HelmrError(f"{request.operation}: this client is closed; make another one.")
    limits, silence = client.timeout, request.silence
    if silence is not None:
        limits = httpx.Timeout(**{name: min(limit or silence, silence) for name, limit in limits.as_dict().items()})
    return client.build_request(
        request.method, request.url.reveal(), headers=request.headers, content=request.content, timeout=limits
    )


def _send_options(request: Request) -> dict[str, Any]:
    return {
        "stream": True,
        "auth": None if request.credential is None else _Bearer(request.credential),
    }


def _translate(error: Exception, request: Request, settings: Settings) -> HelmrConnectionError:
    """Say what happened without quoting httpx, whose texts may hold URLs and header values."""
    host = settings.base_url
    delivered = not isinstance(error, _UNDELIVERED)
    if isinstance(error, httpx.ConnectTimeout):
        what = f"no connection to {host} within {settings.connect_timeout:g} s; check the address and the network"
    elif isinstance(error, httpx.PoolTimeout):
        what = "all connections were busy for too long; do less at once, or raise timeout="
    elif isinstance(error, httpx.TimeoutException):
        what = f"{host} was silent for too long; the request may have been served all the same"
    elif isinstance(error, httpx.ProxyError):
        what = "the proxy refused to connect; check proxy= and the proxy variables of the environment"
    elif isinstance(error, httpx.ConnectError) and "CERTIFICATE" in str(error).upper():
        what = f"the certificate of {host} is not trusted; pass the CA bundle as verify="
    elif isinstance(error, httpx.ConnectError) and "SSL" in str(error):
        what = f"{host} does not answer in TLS; check the port, and whether it speaks https at all"
    elif isinstance(error, httpx.ConnectError):
        through = "" if settings.proxy is None else " through the proxy"
        what = f"cannot connect to {host}{through}; check the address, and that the control plane is running"
    elif isinstance(error, httpx.DecodingError):
        what = f"{host} sent an answer whose compression is broken"
    elif isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        what, delivered = "the address is not one that can be requested; check url=", False
    else:
        what = f"the connection to {host} broke off"
    return HelmrConnectionError(
        f"{request.operation}: {what} ({type(error).__name__}).", operation=request.operation, delivered=delivered
    )


# Below, our errors are raised behind the except clauses, so that they have no context: httpx's error holds the request
# with its credential, and tools that report exceptions walk along the context.


class _Unread:
    """An answer whose body has not been read.

    :param status: HTTP status.
    :param headers: lower-case names.
    """

    def __init__(self, response: httpx.Response, request: Request, settings: Settings) -> None:
        self._response = response
        self._request = request
        self._settings = settings
        self._limit = MAX_BODY if response.status_code < 300 else MAX_ERROR_BODY
        self.status = response.status_code
        self.headers = dict(response.headers)

    def _answer(self, body: bytearray) -> RawResponse:
        if len(body) > self._limit and self.status < 300:
            operation = self._request.operation
            raise HelmrProtocolError(
                f"{operation}: the answer is larger than {self._limit} bytes; ask for less, for example with limit=.",
                operation=operation,
                oversize=True,
            )
        return RawResponse(self.status, self.headers, bytes(body[: self._limit]))


class AsyncResponse(_Unread):
    """An answer to the asynchronous client."""

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes.

        :raises HelmrConnectionError: it broke off, or fell silent.
        """
        try:
            async for chunk in self._response.aiter_bytes():
                yield chunk
        except _FAILURES as error:
            failure = _translate(error, self._request, self._settings)
        else:
            return
        raise failure

    async def read(self) -> RawResponse:
        """Read the body: a success whole, of an error only the beginning.

        :raises HelmrProtocolError: a success is too large.
        """
        body = bytearray()
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > self._limit:
                    break
        return self._answer(body)

    async def aclose(self) -> None:
        """Give the connection back, or close it if there is more to read."""
        with contextlib.suppress(*_FAILURES):
            await self._response.aclose()


class AsyncHttp:
    """The two pools of one asynchronous client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls, self._streams = _pools(httpx.AsyncClient, settings)

    async def send(self, request: Request) -> RawResponse:
        """Send a call and read the answer.

        :raises HelmrConnectionError: there was no whole answer.
        """
        async with contextlib.aclosing(await self._open(self._calls, request)) as response:
            return await response.read()

    async def open(self, request: Request) -> AsyncResponse:
        """Send the request of a stream and return with its headers.

        :raises HelmrConnectionError: there were none.
        """
        return await self._open(self._streams, request)

    async def _open(self, client: httpx.AsyncClient, request: Request) -> AsyncResponse:
        _speaking.set(True)
        try:
            response = await client.send(_build(client, request), **_send_options(request))
        except _FAILURES as error:
            failure = _translate(error, request, self._settings)
        else:
            logger.debug("%s was answered %d", request.operation, response.status_code)
            return AsyncResponse(response, request, self._settings)
        finally:
            _speaking.set(False)
        raise failure

    async def aclose(self) -> None:
        """Close all connections."""
        await self._calls.aclose()
        await self._streams.aclose()


class Response(_Unread):
    """An answer to the blocking client."""

    def chunks(self) -> Generator[bytes, None, None]:
        """Yield the body as it comes.

        :raises HelmrConnectionError: it broke off, or fell silent.
        """
        try:
            yield from self._response.iter_bytes()
        except _FAILURES as error:
            failure = _translate(error, self._request, self._settings)
        else:
            return
        raise failure

    def read(self) -> RawResponse:
        """Read the body: a success whole, of an error only the beginning.

        :raises HelmrProtocolError: a success is too large.
        """
        body = bytearray()
        with contextlib.closing(self.chunks()) as chunks:
            for chunk in chunks:
                body += chunk
                if len(body) > self._limit:
                    break
        return self._answer(body)

    def interrupt(self) -> None:
        """Make another thread that reads the body fail now."""
        stream = self._response.extensions.get("network_stream")
        connection = None if stream is None else stream.get_extra_info("socket")
        if connection is not None:
            # Closing a socket does not wake a thread that reads it; shutting it down does.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the connection back, or close it if there is more to read."""
        with contextlib.suppress(*_FAILURES):
            self._response.close()


class Http:
    """The two pools of one blocking client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls, self._streams = _pools(httpx.Client, settings)

    def send(self, request: Request) -> RawResponse:
        """Send a call and read the answer.

        :raises HelmrConnectionError: there was no whole answer.
        """
        with contextlib.closing(self._open(self._calls, request)) as response:
            return response.read()

    def open(self, request: Request) -> Response:
        """Send the request of a stream and return with its headers.

        :raises HelmrConnectionError: there were none.
        """
        return self._open(self._streams, request)

    def _open(self, client: httpx.Client, request: Request) -> Response:
        _speaking.set(True)
        try:
            response = client.send(_build(client, request), **_send_options(request))
        except _FAILURES as error:
            failure = _translate(error, request, self._settings)
        else:
            logger.debug("%s was answered %d", request.operation, response.status_code)
            return Response(response, request, self._settings)
        finally:
            _speaking.set(False)
        raise failure

    def close(self) -> None:
        """Close all connections."""
        self._calls.close()
        self._streams.close()

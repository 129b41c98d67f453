"""What both clients share about one exchange: the request for httpcore, the head of the answer, quiet logs."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpcore
import httpx

from helmr_provider.client._http._decoding import BodyDecoder
from helmr_provider.client._http._environment import proxy_for, tls_context
from helmr_provider.client._wire.responses import MAX_ERROR_BODY, RawResponse
from helmr_provider.client.errors import HelmrCallTimeoutError, HelmrError, HelmrProtocolError

if TYPE_CHECKING:
    from helmr_provider.client._config import Settings
    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._wire.requests import Request

logger = logging.getLogger("helmr_provider.client")

# An answer is held in memory once, with the buffers of a connection around it: 64 MiB in all.
MAX_BODY: Final = 60 * 1024 * 1024

# A followed wait reads its snapshot every 18 s at the latest. With a connection that is kept for longer, the read after
# its run's end need not connect first. One that the server has closed is recognized before it is used.
_KEEPALIVE: Final = 20.0


class _OthersOnly(logging.Filter):
    """Hold back httpcore's log lines about this client: they quote headers, and one form of URL holds a secret."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the interface of logging
        # The stack shows whether this client is at work. A flag would have to follow threads and tasks, also abandoned
        # and forked ones, and finalizers would set and clear it during other exchanges. Only lines without content
        # pass: that a read has failed because it was cancelled or garbage-collected.
        frame = inspect.currentframe()
        while frame is not None and frame.f_globals.get("__name__") not in EXCHANGES:
            frame = frame.f_back
        return frame is None


# The modules that call httpcore.
EXCHANGES: Final = frozenset({"helmr_provider.client._http._asynchronous", "helmr_provider.client._http._blocking"})
for _name in ("connection", "http11", "proxy", "socks", "http2"):
    logging.getLogger(f"httpcore.{_name}").addFilter(_OthersOnly())


class ConnectionOptions:
    """Options of the connection pools: TLS, proxy and limits.

    :param settings: of the client.
    :raises HelmrConfigError: certificates cannot be read, or the proxy cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._tls = tls_context(settings)
        parts = urlsplit(settings.base_url)
        self._proxy = proxy_for(settings, parts.hostname or "", parts.port)

    def proxy_of(self, request: Request) -> Secret | None:
        """Return the proxy for a request. A callback URL may lead to another host than the control plane's.

        :raises HelmrConfigError: the environment names a proxy that cannot be used.
        """
        if request.to_base:
            return self._proxy
        parts = urlsplit(request.url.reveal())
        return proxy_for(self.settings, parts.hostname or "", parts.port)

    def pool_options(self, proxy: Secret | None, *, streams: bool) -> dict[str, Any]:
        """Return the options of a pool. Calls and streams have pools of their own: with 2,000 streams open, a call
        through the same pool costs ten times as much.
        """  # noqa: D205
        return {
            "ssl_context": self._tls,
            "proxy": None if proxy is None else _proxy(proxy),
            # The stream budget belongs to the waiter; a caller's own streams are never held back by it.
            "max_connections": None if streams else 100,
            "max_keepalive_connections": 0 if streams else None,
            "keepalive_expiry": _KEEPALIVE,
        }


def _proxy(address: Secret) -> httpcore.Proxy:
    proxy = httpx.Proxy(address.reveal())
    url = httpcore.URL(scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target="/")
    return httpcore.Proxy(url, auth=proxy.raw_auth)


def core_request(request: Request, settings: Settings, limit: float) -> httpcore.Request:
    """Build the request for httpcore, with the credential.

    :param limit: seconds for each step, connecting excepted.
    """
    parts = urlsplit(request.url.reveal())
    headers = {"host": parts.netloc, **request.headers}
    if request.credential is not None:
        headers["authorization"] = f"Bearer {request.credential.reveal()}"
    if request.content is not None:
        headers["content-length"] = str(len(request.content))
    elif request.method in {"POST", "PUT", "PATCH"}:
        headers["content-length"] = "0"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    steps = {"connect": min(settings.connect_timeout, limit), "read": limit, "write": limit, "pool": limit}
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=parts.scheme, host=parts.hostname or "", port=parts.port, target=target),
        headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        content=request.content,
        extensions={"timeout": steps},
    )


class ResponseBuilder:
    """Build a response: its head, and its body piece by piece, within limits.

    :param response: of httpcore.
    :param request: the request that was sent.
    :raises HelmrProtocolError: the body cannot be read within the limit, or not at all.
    """

    def __init__(self, response: httpcore.Response, request: Request) -> None:
        self._request = request
        self.status = response.status
        self.headers = dict(httpx.Headers(response.headers))
        self.ok = 200 <= self.status < 300
        self._limit = (request.max_body or MAX_BODY) if self.ok else MAX_ERROR_BODY
        self._raw_limit = self._limit + 64 * 1024
        self.body = bytearray()
        encoding = self.headers.get("content-encoding", "")
        self.decoder = BodyDecoder(encoding, request.operation, compressed=not request.streams)
        declared = self.headers.get("content-length", "")
        if self.ok and not request.streams and len(declared) < 20 and declared.isdecimal():
            self._check_size(int(declared))
        logger.debug("%s was answered %d", request.operation, self.status)

    def add(self, piece: bytes) -> bool:
        """Take a piece of the body; false once no more is wanted.

        :raises HelmrProtocolError: a success is too large.
        """
        self.body += piece
        if self.ok:
            self._check_size(len(self.body))
        return len(self.body) <= self._limit

    def received(self, size: int) -> None:
        """Count bytes as they were sent: compression that yields nothing must end, too.

        :raises HelmrProtocolError: they are too many.
        """
        self._raw_limit -= size
        if self._raw_limit < 0:
            self._check_size(self._limit + 1)

    def raw(self) -> RawResponse:
        """Return the answer with the body that was read: a success whole, of an error only the beginning."""
        if not self.ok:
            del self.body[self._limit :]
        return RawResponse(self.status, self.headers, self.body)

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            self.body.clear()
            operation = self._request.operation
            raise HelmrProtocolError(
                f"{operation}: the answer is larger than {self._limit} bytes; {self._request.smaller}.",
                operation=operation,
                oversize=True,
            )


def has_surplus(response: httpcore.Response) -> bool:
    """Whether a connection holds bytes behind the end of a complete answer.

    httpcore would read them as the answer to the next request on that connection. They are visible only in its h11
    state, which httpcore does not offer; if it is not where it is expected, the connection counts as unfit.
    """
    connection = getattr(getattr(response.stream, "_stream", None), "_connection", None)
    state = getattr(connection, "_h11_state", None)
    return state is None or bool(state.trailing_data[0])


def closed(operation: str) -> HelmrError:
    """Return the error of a request on a client that is closed."""
    return HelmrError(f"{operation}: this client is closed; create another one.")


def out_of_time(request: Request, settings: Settings, limit: float) -> HelmrCallTimeoutError:
    """Build the error of a call that has no time left to be sent."""
    return HelmrCallTimeoutError(
        f"{request.operation}: no answer from {settings.base_url} within {limit:g} s (timeout=).",
        operation=request.operation,
        delivered=False,
    )

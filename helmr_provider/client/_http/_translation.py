"""The boundary between this client's errors and everything that httpcore, TLS, name resolution or the system raise.

The texts never quote a foreign error, except for the operating system's own words for an error number: others may hold
URLs and header values.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING, cast

import httpcore

from helmr_provider.client.errors import HelmrCallTimeoutError, HelmrConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client._config import Settings
    from helmr_provider.client._wire.requests import Request

# These come before the first byte of the request, so the server cannot have served it.
_UNDELIVERED = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.LocalProtocolError,
    UnicodeError,
)
_SERVED_MAYBE = "the request may have been served all the same"


def translate(error: Exception, request: Request, settings: Settings, limit: float) -> HelmrConnectionError:
    """Return the client's own error for a foreign one.

    :param limit: seconds that the request had.
    """
    root = _root(error)
    delivered = not isinstance(error, _UNDELIVERED)
    kind = HelmrCallTimeoutError if isinstance(error, (httpcore.TimeoutException, TimeoutError)) else None
    translated = (kind or HelmrConnectionError)(
        f"{request.operation}: {_describe(error, root, request, settings, limit)}.",
        operation=request.operation,
        delivered=delivered,
    )
    translated.__cause__ = _copy(root)
    return translated


def _describe(error: Exception, root: OSError | None, request: Request, settings: Settings, limit: float) -> str:
    host = settings.base_url if request.to_base else "the host of the callback URL"
    match error:
        case httpcore.TimeoutException() | TimeoutError():
            return _describe_timeout(error, host, request, settings, limit)
        case httpcore.ProxyError():
            what = "the proxy refused to connect; check proxy= and the proxy variables of the environment"
        case httpcore.ConnectError():
            what = _describe_connect(root, host, settings)
        case httpcore.UnsupportedProtocol() | httpcore.LocalProtocolError() | UnicodeError():
            what = "the request cannot be sent as HTTP; check url= and headers="
        case httpcore.RemoteProtocolError() if not _ended_early(error):
            what = f"the answer of {host} is not HTTP/1.1"
        case _:
            what = f"the connection to {host} broke off{_reason(root)}"
    return what


def _describe_timeout(error: Exception, host: str, request: Request, settings: Settings, limit: float) -> str:
    match error:
        case httpcore.ConnectTimeout():
            seconds = min(settings.connect_timeout, limit)
            return f"no connection to {host} within {seconds:g} s (connect_timeout=); check the address and the network"
        case httpcore.PoolTimeout():
            return f"all connections were busy for {limit:g} s; send fewer requests at the same time, or raise timeout="
        case _ if request.streams:
            return f"{host} was silent for {limit:g} s"
        case _:
            return (
                f"no complete answer from {host} within {limit:g} s (timeout=); "
                f"client.with_options(timeout=...) sets the limit of single calls; {_SERVED_MAYBE}"
            )


def _describe_connect(root: OSError | None, host: str, settings: Settings) -> str:
    if isinstance(root, ssl.SSLCertVerificationError):
        return _describe_certificate(root, host)
    if isinstance(root, ssl.SSLError):
        if "CERTIFICATE_REQUIRED" in (root.reason or "") or "HANDSHAKE_FAILURE" in (root.reason or ""):
            return f"{host} refused the TLS handshake; it may ask for a client certificate (cert=)"
        return f"{host} does not answer in TLS; check the port, and whether it speaks https at all"
    through = "" if settings.proxy is None else " through the proxy"
    return f"cannot connect to {host}{through}{_reason(root)}; check the address, and that the control plane is running"


def _describe_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    # X509_V_ERR_* of OpenSSL.
    match error.verify_code:
        case 9:
            return f"the certificate of {host} is not valid yet; check the clocks of both machines"
        case 10:
            return f"the certificate of {host} has expired; renew it on the server"
        case 62 | 64:
            return f"the certificate of {host} was issued for another host; use the address that it names"
        case _:
            reason = error.verify_message or "unknown issuer"
            return f"the certificate of {host} is not trusted ({reason}); pass the CA bundle as verify="


def _ended_early(error: Exception) -> bool:
    # httpcore has one class for both; h11's text for a missing rest is fixed.
    text = str(error)
    return "disconnected" in text or "closed connection" in text


def _reason(root: OSError | None) -> str:
    """Return the system's words for an error number. asyncio puts other words into ``strerror``."""
    if root is None or not root.errno:
        return ""
    return f" ({root.strerror if isinstance(root, (ssl.SSLError, socket.gaierror)) else os.strerror(root.errno)})"


def _root(error: BaseException) -> OSError | None:
    """Return the operating system's error behind a foreign one."""
    return next((found for found in _chain(error, 0) if found.errno is not None), None)


def _chain(error: BaseException | None, depth: int) -> Iterator[OSError]:
    while error is not None and depth < 20:
        if isinstance(error, OSError):
            yield error
        if isinstance(error, BaseExceptionGroup):
            for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
                yield from _chain(one, depth + 1)
        error, depth = error.__cause__ or error.__context__, depth + 1


def _copy(error: OSError | None) -> OSError | None:
    """Copy an error without its traceback, whose frames hold the request with its credential."""
    if error is None:
        return None
    if isinstance(error, ssl.SSLError):
        return ssl.SSLError(error.errno, error.reason or "TLS error")
    if isinstance(error, socket.gaierror):
        return socket.gaierror(error.errno, error.strerror)
    return OSError(error.errno, os.strerror(error.errno or 0))

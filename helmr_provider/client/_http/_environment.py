"""What a connection needs from the machine: certificates, and the proxy for an address."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from helmr_provider.client._secrets import hide
from helmr_provider.client.errors import HelmrConfigError

if TYPE_CHECKING:
    from helmr_provider.client._config import Settings
    from helmr_provider.client._secrets import Secret


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Build the TLS settings of a client.

    :raises HelmrConfigError: a certificate cannot be read.
    """
    if settings.cert is None and not isinstance(settings.verify, str):
        return _shared_context(settings.verify, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    context = _new_context(settings.verify)
    if settings.cert is not None:
        certificate, key = settings.cert if isinstance(settings.cert, tuple) else (settings.cert, None)
        with contextlib.suppress(OSError):
            # The password is empty, because OpenSSL would ask for it on the terminal.
            context.load_cert_chain(certificate, key, password="")
            return context
        raise HelmrConfigError(f"cert: cannot read a client certificate and its key from {settings.cert!r}.")
    return context


@functools.cache
def _shared_context(verify: bool, file: str | None, folder: str | None) -> ssl.SSLContext:  # noqa: ARG001, FBT001 - a cache key
    # Reading the certificates takes longer than anything else about a client, and they are the same for all.
    return _new_context(verify)


def _new_context(verify: bool | str) -> ssl.SSLContext:  # noqa: FBT001 - the option of that name
    name = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
    path = os.environ.get(name, "")
    with contextlib.suppress(OSError, ValueError):
        if not isinstance(verify, str):
            return httpx.create_ssl_context(verify=verify)
        name, path = "verify", verify
        # Python would take a blank name for the current folder, or for the system's certificates.
        if path.strip():
            folder = Path(path).is_dir()
            return ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
    raise HelmrConfigError(f"{name}: cannot read certificates from {path!r}.")


def proxy_for(settings: Settings, host: str, port: int | None) -> Secret | None:
    """Return the address of the proxy for a host: the client's own, else the environment's.

    :raises HelmrConfigError: it is not one that this client can use.
    """
    if settings.proxy is not None:
        return check_proxy(settings.proxy, "proxy")
    # A proxy from the environment must not see what plain http sends to this machine.
    if settings.plain:
        return None
    proxies = getproxies()
    if bypasses_proxy(proxies.get("no", ""), host, port):
        return None
    address = proxies.get("https") or proxies.get("all")
    if not address:
        return None
    return check_proxy(hide(address if "://" in address else f"http://{address}"), "HTTPS_PROXY or ALL_PROXY")


def check_proxy(proxy: Secret, name: str) -> Secret:
    """Return the address of a proxy. The error does not quote it, because it may hold a password.

    :raises HelmrConfigError: it is not an http or https URL.
    """
    scheme = ""
    with contextlib.suppress(ValueError):
        parts = urlsplit(proxy.reveal())
        scheme = parts.scheme.lower()
        if scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0 and parts.hostname.isascii():
            return proxy
    if scheme.startswith("socks"):
        raise HelmrConfigError(f"{name} names a SOCKS proxy, which this client does not support; use an http proxy.")
    raise HelmrConfigError(f"{name} must be an http or https URL such as http://proxy.example:3128.")


def bypasses_proxy(exceptions: str, host: str, port: int | None) -> bool:
    """Whether ``NO_PROXY`` names a host: by name, domain, address or network, with or without a port.

    An entry that cannot be read matches nothing.

    :param exceptions: entries with commas between them; ``*`` is everything.
    :param host: name or address, without brackets.
    """
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return any(_holds_address(entry, address) for entry in _entries(exceptions, port))
    name = host.lower().rstrip(".")
    return any(
        entry == "*" or name == entry.lstrip(".") or name.endswith("." + entry.lstrip("."))
        for entry in _entries(exceptions, port)
    )


def _entries(exceptions: str, port: int | None) -> list[str]:
    found: list[str] = []
    for text in exceptions.lower().split(","):
        entry = text.strip()
        if entry.startswith("["):
            entry, _, rest = entry[1:].partition("]")
            wanted = rest.removeprefix(":")
        elif entry.count(":") == 1:
            entry, _, wanted = entry.partition(":")
        else:
            wanted = ""
        if entry and wanted in {"", str(port or 443)}:
            found.append(entry)
    return found


def _holds_address(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if entry == "*":
        return True
    with contextlib.suppress(ValueError):
        return address in ipaddress.ip_network(entry, strict=False)
    return False

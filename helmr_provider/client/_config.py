"""Where the control plane is and how to speak to it; checked before anything is sent (contract/behaviour.md §16)."""

from __future__ import annotations

import ipaddress
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from helmr_provider.client._secrets import hide
from helmr_provider.client.durations import seconds
from helmr_provider.client.errors import HelmrConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from helmr_provider.client._secrets import Secret

logger = logging.getLogger("helmr_provider.client")

# The server sends a keep-alive every 25 s and nothing, not even headers, before the first (contract/behaviour.md §7.4):
# two of them and some, so that one late packet does not cut a healthy stream.
STREAM_SILENCE = 65.0

# Seconds that a call may take.
CALL_TIMEOUT = 30.0

# Every follower holds one of the control plane's few Redis connections; 20 of them stop a 2-core server for all clients
# (contract/capacity.md), so the budget of one client is small.
MAX_STREAMS = 4

# Shorter header values are hardly credentials, and are words that error texts may hold.
_LONG_HEADER = 16

_PATH_SAFE = "/%:@!$&'()*+,;=~"

_RESERVED_HEADERS = {"authorization", "host", "content-length", "transfer-encoding", "connection", "cookie"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one set of connections is built from.

    :param base_url: scheme, host, port and path prefix, without a trailing slash.
    :param timeout: seconds that a whole call may take, repeats included.
    :param connect_timeout: seconds that connecting may take.
    :param stream_silence: seconds after which a silent stream counts as dead.
    :param verify: true, false, or the path of a CA bundle (file or directory).
    :param cert: path of a client certificate with its key, or the paths of both.
    :param proxy: proxy URL.
    :param headers: more request headers.
    :param max_streams: event and log streams that this client's waits may hold at the same time.
    :param hidden: header values that may be credentials; kept so that errors do not show them.
    """

    base_url: str
    timeout: float
    connect_timeout: float
    stream_silence: float
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None
    proxy: Secret | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    max_streams: int = MAX_STREAMS
    hidden: tuple[Secret, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether requests travel unencrypted, which only loopback addresses may."""
        return self.base_url.startswith("http:")


def resolve_settings(
    url: str | None,
    *,
    timeout: timedelta | float | str,
    connect_timeout: timedelta | float | str,
    verify: bool | str,
    cert: str | tuple[str, str] | None,
    proxy: str | Secret | None,
    headers: Mapping[str, str] | None,
    max_streams: int,
) -> Settings:
    """Check the options of a client and fill in ``HELMR_API_URL``.

    :raises HelmrConfigError: the base URL is missing or unfit, or an option is out of range.
    """
    address = url if url is not None else os.environ.get("HELMR_API_URL", "")
    if not address.strip():
        raise HelmrConfigError("No control plane address: pass url=, or set HELMR_API_URL.")
    limit = check_limit("timeout", timeout)
    if max_streams < 0:
        raise HelmrConfigError("max_streams must not be negative.")
    settings = Settings(
        base_url=check_base_url(address),
        timeout=limit,
        connect_timeout=check_limit("connect_timeout", connect_timeout),
        stream_silence=max(STREAM_SILENCE, limit),
        verify=verify,
        cert=cert,
        proxy=None if proxy is None else hide(proxy),
        headers=check_headers(headers or {}),
        max_streams=max_streams,
        hidden=tuple(hide(value) for value in (headers or {}).values() if len(value) >= _LONG_HEADER),
    )
    if settings.plain and settings.base_url not in _plain:
        # Plain http is for loopback addresses only, so there is nothing to warn of.
        _plain.add(settings.base_url)
        logger.debug("Using plain http for %s.", settings.base_url)
    return settings


_plain: set[str] = set()


def check_limit(name: str, value: timedelta | float | str) -> float:
    """Return a limit in seconds.

    :raises HelmrConfigError: the limit is not positive and finite.
    """
    try:
        return seconds(value, name, positive=True)
    except (TypeError, ValueError) as error:
        raise HelmrConfigError(str(error)) from None


def check_base_url(url: str) -> str:
    """Return the base URL as it is put in front of every path.

    A path prefix is kept, its trailing slashes are dropped; http is for loopback addresses only.

    :raises HelmrConfigError: not absolute, not https, or with a query, a fragment or a user name.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise HelmrConfigError("The control plane address is not a URL.") from None
    if parts.scheme and parts.scheme not in {"http", "https"} and "://" in url:
        raise HelmrConfigError(
            f"The control plane address must be an absolute https URL, not one with {parts.scheme}://."
        )
    if parts.scheme not in {"http", "https"} or not host:
        raise HelmrConfigError(
            "The control plane address must be an absolute https URL, such as https://helmr.example."
        )
    if parts.username is not None or parts.password is not None:
        raise HelmrConfigError("The control plane address must not hold a user name or password; pass api_key=.")
    if parts.query or parts.fragment or url.strip().endswith(("?", "#")):
        raise HelmrConfigError("The control plane address must not have a query or a fragment.")
    if any(character.isspace() or not character.isprintable() for character in url.strip()):
        raise HelmrConfigError("The control plane address must not hold white space.")
    if parts.scheme == "http" and not is_loopback(host):
        raise HelmrConfigError(
            f"Plain http to {host} would show the API key to the network: use https. "
            "http is for localhost, 127.0.0.0/8 and ::1 only."
        )
    try:
        netloc = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    except UnicodeError:
        raise HelmrConfigError("The host of the control plane address is not a valid name.") from None
    return f"{parts.scheme}://{netloc}{quote(parts.path.rstrip('/'), safe=_PATH_SAFE)}"


def is_loopback(host: str) -> bool:
    """Whether a host name certainly means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def resolve_api_key(api_key: str | Secret | None) -> Secret | None:
    """Take the API key from the option, else from ``HELMR_API_KEY``; a blank variable means none.

    :raises HelmrConfigError: the option is blank, or the key cannot be sent in a header.
    """
    key = hide(os.environ.get("HELMR_API_KEY", ""), "HELMR_API_KEY") if api_key is None else hide(api_key, "api_key=")
    # A key read from a file tends to end in a newline.
    key = hide(key.reveal().strip(), key.source)
    if not key.reveal():
        if api_key is not None:
            raise HelmrConfigError("api_key must not be blank; leave it out for a client without credential.")
        return None
    check_credential(key, "The API key")
    return key


def check_credential(credential: Secret, what: str) -> None:
    """Refuse a credential that the HTTP library would quote in its error text.

    :raises HelmrConfigError: it is empty, or holds white space or characters outside ASCII.
    """
    if not credential.reveal():
        raise HelmrConfigError(f"{what} must not be empty.")
    if not all("!" <= character <= "~" for character in credential.reveal()):
        raise HelmrConfigError(f"{what} must consist of visible ASCII characters without spaces.")


def check_scope(project_id: str | None, environment_id: str | None) -> None:
    """Project and environment go together.

    :raises HelmrConfigError: only one of them is set, or one is blank.
    """
    if (project_id is None) != (environment_id is None):
        raise HelmrConfigError("project_id and environment_id go together: give both or neither.")
    if project_id is not None and not (project_id.strip() and (environment_id or "").strip()):
        raise HelmrConfigError("project_id and environment_id must not be blank.")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a caller adds.

    :raises HelmrConfigError: a header is the client's own, or cannot be sent.
    """
    for name, value in headers.items():
        if name.lower() in _RESERVED_HEADERS or name.lower().startswith("helmr-"):
            raise HelmrConfigError(f"The header {name} is set by the client itself.")
        if not (value.isascii() and value.isprintable() and name.isascii() and name.isprintable() and name):
            raise HelmrConfigError("Header names and values must be printable ASCII text.")
    return dict(headers)


def check_callback_url(url: Secret) -> None:
    """Refuse what cannot be the callback URL of a token, without quoting it.

    :raises ValueError: not an absolute https URL (http only to this machine), or not the path of a callback.
    """
    try:
        parts = urlsplit(url.reveal())
        host = parts.hostname
        fits = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or ""))
        fits = fits and bool(host) and parts.username is None and "/api/v1/tokens/" in parts.path
    except ValueError:
        fits = False
    if not fits or not all("!" <= character <= "~" for character in url.reveal()):
        raise ValueError("This is not the callback URL of a token.")

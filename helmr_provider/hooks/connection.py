"""What an Airflow connection of type ``helmr`` says, parsed and checked in one place, without I/O."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar
from urllib.parse import urlsplit

from helmr_provider import client
from helmr_provider.client._config import MAX_STREAMS, check_base_url, check_headers
from helmr_provider.client._secrets import Secret
from helmr_provider.client.errors import HelmrConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from urllib.parse import SplitResult

    from helmr_provider.client import AsyncHelmrClient, HelmrClient

T = TypeVar("T")

DEFAULT_SESSION_PREFIX: Final = "airflow"
DEFAULT_STREAMS: Final = MAX_STREAMS
DEFAULT_TIMEOUT: Final = 30.0
DEFAULT_CONNECT_TIMEOUT: Final = 5.0

AirflowTab: TypeAlias = Literal["full", "status", "off"]

EXTRAS: Final = frozenset(
    {
        "console_url",
        "session_prefix",
        "streams",
        "timeout",
        "connect_timeout",
        "ca_bundle",
        "client_cert",
        "client_key",
        "headers",
        "verify",
        "proxy",
        "project_id",
        "environment_id",
        "airflow_tab",
    }
)

_API_KEY_PREFIX: Final = "hlmr_sk_"
_PUBLIC_PREFIXES: Final = ("hlmr_pat_", "hlmr_public_access_", "hlmr_callback_")
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


class ConnectionLike(Protocol):
    """The members of an Airflow connection that are read here; Airflow 2 and 3 have a class each."""

    conn_id: Any
    host: Any
    schema: Any
    login: Any
    password: Any
    port: Any
    extra: Any


@dataclass(frozen=True, kw_only=True)
class HelmrSettings:
    """Hold the parsed connection; its ``repr`` shows no secret.

    :param url: Base address of the control plane, path prefix included, without a trailing slash.
    :param console_url: Base address for links that people open; ``url`` unless the connection says otherwise.
    :param session_prefix: First part of the external ids of sessions started by this Airflow.
    :param streams: Event streams that one triggerer may hold open on this connection (capacity of the control plane).
    :param timeout: Limit of one request, in seconds.
    :param connect_timeout: Limit for reaching the control plane, in seconds.
    :param verify: Whether to check the server's certificate, or the path of the CA bundle to check it with.
    :param cert: Path of a client certificate with its key, or the paths of both.
    :param headers: More request headers, for example for an identity-aware proxy.
    :param proxy: Address of an HTTP proxy.
    :param project_id: Project of a user-session credential (contract/behaviour.md §1).
    :param environment_id: Environment of a user-session credential.
    :param airflow_tab: What the tab in Airflow's interface shows of this connection: everything (``full``), no output
        and no reasons of failures (``status``), or nothing (``off``).
    :param api_key: The credential.
    :param unknown_extras: Names of extras that mean nothing here.
    """

    url: str
    console_url: str
    session_prefix: str = DEFAULT_SESSION_PREFIX
    streams: int = DEFAULT_STREAMS
    timeout: float = DEFAULT_TIMEOUT
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: Secret | None = None
    project_id: str | None = None
    environment_id: str | None = None
    airflow_tab: AirflowTab = "full"
    api_key: Secret
    unknown_extras: tuple[str, ...] = ()

    @classmethod
    def parse(cls, connection: ConnectionLike) -> HelmrSettings:
        """Read a connection.

        :param connection: An Airflow connection, of Airflow 2 or 3.
        :raises HelmrConfigError: Names everything that is wrong with the connection, in one message.
        """
        problems: list[str] = []
        extras = _extras(connection.extra, problems)
        read = _Extras(extras, problems)
        url = _api_url(connection, problems)
        api_key = _credential(connection, problems)
        project_id, environment_id = read.text("project_id"), read.text("environment_id")
        if (project_id is None) != (environment_id is None):
            problems.append("extras project_id and environment_id go together: give both or neither")
        if api_key.startswith(_API_KEY_PREFIX) and (project_id or environment_id):
            problems.append(
                "extras project_id and environment_id are for user-session credentials only: "
                "an API key belongs to one environment already, so remove them"
            )
        settings = cls(
            url=url,
            console_url=_console_url(read.text("console_url"), problems) or url,
            session_prefix=_session_prefix(read.text("session_prefix"), problems),
            streams=read.number("streams", DEFAULT_STREAMS, int, at_least=0),
            timeout=read.number("timeout", DEFAULT_TIMEOUT, float, above=0),
            connect_timeout=read.number("connect_timeout", DEFAULT_CONNECT_TIMEOUT, float, above=0),
            verify=read.verify(),
            proxy=read.proxy(),
            project_id=project_id,
            environment_id=environment_id,
            airflow_tab=_airflow_tab(read.text("airflow_tab"), problems),
            cert=read.cert(),
            headers=read.headers(),
            api_key=Secret(api_key, f"the password of the Airflow connection {connection.conn_id!r}"),
            unknown_extras=tuple(sorted(extras.keys() - EXTRAS)),
        )
        if problems:
            raise HelmrConfigError(f"Connection {connection.conn_id!r} is not usable: {'; '.join(problems)}.")
        return settings

    def secrets(self) -> tuple[str, ...]:
        """Return what must be masked in logs: the credential and the password inside the proxy's address."""
        proxy_password = urlsplit(self.proxy.reveal()).password if self.proxy else None
        return tuple(secret for secret in (self.api_key.reveal(), proxy_password, *self.headers.values()) if secret)

    def client(self, *, max_streams: int) -> HelmrClient:
        """Build a client that blocks; the caller closes it.

        :param max_streams: Event streams that it may hold open for waiting.
        """
        with self._in_words_of_the_connection():
            return client.HelmrClient(**self._client_options(), max_streams=max_streams)

    def async_client(self, *, max_streams: int) -> AsyncHelmrClient:
        """Build a client for an event loop; it reads certificates from disk, so not *on* the loop.

        :param max_streams: Event streams that it may hold open for waiting.
        """
        with self._in_words_of_the_connection():
            return client.AsyncHelmrClient(**self._client_options(), max_streams=max_streams)

    @contextlib.contextmanager
    def _in_words_of_the_connection(self) -> Iterator[None]:
        try:
            yield
        except HelmrConfigError as error:
            # The author of the connection does not know the client's option.
            text = re.sub("^verify:", "Extra ca_bundle:", str(error))
            raise HelmrConfigError(re.sub("^cert:", "Extra client_cert:", text)) from None

    def _client_options(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "api_key": self.api_key,
            "project_id": self.project_id,
            "environment_id": self.environment_id,
            "timeout": self.timeout,
            "connect_timeout": self.connect_timeout,
            "verify": self.verify,
            "cert": self.cert,
            "headers": self.headers,
            "proxy": self.proxy,
        }


class _Extras:
    """Reads extras as the connection form, a URI and JSON give them: typed, as text, or empty for "not given"."""

    def __init__(self, extras: Mapping[str, Any], problems: list[str]) -> None:
        self._extras = extras
        self._problems = problems

    def _value(self, name: str) -> Any:
        value = self._extras.get(name)
        if isinstance(value, str):
            value = value.strip()
        return None if value == "" else value

    def text(self, name: str) -> str | None:
        value = self._value(name)
        if value is None or isinstance(value, str):
            return value
        self._problems.append(f"extra {name} must be text")
        return None

    def number(
        self, name: str, default: T, kind: Callable[[Any], T], *, at_least: float = -math.inf, above: float = -math.inf
    ) -> T:
        value = self._value(name)
        if value is None:
            return default
        bound = f"of at least {at_least:g}" if at_least > -math.inf else f"above {above:g}"
        try:
            # int(1.5) would round silently, and True is an int.
            number = float("nan") if isinstance(value, bool) else float(value)
            usable = math.isfinite(number) and number >= at_least and number > above and kind(number) == number
        except (TypeError, ValueError, OverflowError):
            usable = False
        if not usable:
            what = "a whole number" if kind is int else "a number of seconds"
            self._problems.append(f"extra {name} must be {what} {bound}")
            return default
        return kind(float(value))

    def verify(self) -> bool | str:
        verify, bundle = self._value("verify"), self.text("ca_bundle")
        if isinstance(verify, str) and verify.lower() in _TRUE | _FALSE:
            verify = verify.lower() in _TRUE
        if verify is not None and not isinstance(verify, bool):
            self._problems.append("extra verify must be true or false; the path of a CA bundle belongs in ca_bundle")
            return True
        if verify is False and bundle is not None:
            self._problems.append("extras ca_bundle and verify=false contradict each other")
        return verify is not False if bundle is None else bundle

    def cert(self) -> str | tuple[str, str] | None:
        certificate, key = self.text("client_cert"), self.text("client_key")
        if key is not None and certificate is None:
            self._problems.append("extra client_key goes with client_cert")
        return certificate if certificate is None or key is None else (certificate, key)

    def headers(self) -> dict[str, str]:
        headers = self._value("headers")
        if isinstance(headers, str):
            # The form has text fields only.
            with contextlib.suppress(ValueError):
                headers = json.loads(headers)
        if headers is None:
            return {}
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            self._problems.append("extra headers must be a JSON object whose values are text")
            return {}
        try:
            return check_headers(headers)
        except HelmrConfigError as error:
            self._problems.append(f"extra headers: {str(error).rstrip('.')}")
            return {}

    def proxy(self) -> Secret | None:
        proxy = self.text("proxy")
        if proxy is not None and not re.match(r"(?i)https?://[^/]", proxy):
            self._problems.append("extra proxy must be the address of an HTTP proxy, such as http://proxy.example:3128")
        return None if proxy is None else Secret(proxy)


def _extras(text: Any, problems: list[str]) -> dict[str, Any]:
    if not text:
        return {}
    try:
        extras = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        extras = None
    if not isinstance(extras, dict):
        problems.append("extra must be a JSON object")
        return {}
    return extras


def _api_url(connection: ConnectionLike, problems: list[str]) -> str:
    host = str(connection.host or "").strip()
    schema = str(connection.schema or "").strip()
    if not host:
        problems.append(
            "host is missing: give the address of the Helmr control plane, such as https://helmr.example.com"
        )
        return ""
    if "://" in host:
        # A connection given as helmr://https://:key@host/prefix arrives with "prefix" as its schema.
        prefix = "" if schema.lower() in {"", host.split("://", 1)[0].lower()} else f"/{schema}"
    else:
        if schema.lower() not in {"", "http", "https"}:
            problems.append("schema must be http or https; a path prefix belongs in a full URL in host")
            return ""
        # Airflow takes the brackets off an IPv6 address.
        host = f"[{host}]" if _is_ipv6(host) else host
        host, prefix = f"{schema.lower() or 'https'}://{host}", ""
    try:
        parts = urlsplit(host)
        host_port = parts.port
    except ValueError:
        problems.append("host is not a usable address")
        return ""
    if connection.port and host_port is not None and int(connection.port) != host_port:
        problems.append(f"port {connection.port} contradicts the port in host, {host_port}")
        return ""
    if parts.username is not None or parts.password is not None:
        problems.append("host must not hold a user name or password: the API key belongs in password")
        return ""
    if connection.port and host_port is None:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    return _checked(parts._replace(path=parts.path.rstrip("/") + prefix), problems)


def _is_ipv6(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).version == 6
    return False


def _checked(parts: SplitResult, problems: list[str]) -> str:
    try:
        return check_base_url(parts.geturl())
    except HelmrConfigError as error:
        problems.append(str(error).rstrip("."))
        return ""


def _console_url(text: str | None, problems: list[str]) -> str:
    if text is None:
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        usable = usable and not (parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        problems.append("extra console_url must be an absolute http or https address without query or fragment")
    return text.rstrip("/")


def _session_prefix(text: str | None, problems: list[str]) -> str:
    prefix = text or DEFAULT_SESSION_PREFIX
    # A colon separates the parts of a session's external id.
    if ":" in prefix or len(prefix) > 64 or not prefix.isprintable():
        problems.append("extra session_prefix must be 1 to 64 printable characters without a colon")
    return prefix


def _airflow_tab(text: str | None, problems: list[str]) -> AirflowTab:
    match (text or "full").lower():
        case "full":
            return "full"
        case "status":
            return "status"
        case "off":
            return "off"
        case _:
            problems.append("extra airflow_tab must be full, status or off")
            # Nothing is shown that the author may have meant to hide.
            return "off"


def _credential(connection: ConnectionLike, problems: list[str]) -> str:
    # A key read from a file often ends in a newline.
    key = str(connection.password or "").strip()
    if not key:
        where = " (it stands in login now)" if connection.login else ""
        problems.append(f"the API key is missing: it belongs in password{where}")
    elif key.startswith(_PUBLIC_PREFIXES):
        problems.append("password holds a public access token or callback secret, not an API key")
    elif not re.fullmatch(r"[\x21-\x7e]+", key):
        problems.append("password holds characters that cannot be part of an API key")
    return key

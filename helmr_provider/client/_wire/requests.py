"""One HTTP request as a value, built from an endpoint. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from helmr_provider import __version__
from helmr_provider.client._retry import CALLS, STREAMS
from helmr_provider.client._secrets import Secret
from helmr_provider.client._wire.json_values import encode
from helmr_provider.client.errors import HelmrConfigError, PayloadValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.client._retry import Backoff
    from helmr_provider.client._wire.endpoints import Endpoint

API_VERSION: Final = "2026-06-06"
_HEADERS: Final = {"Helmr-API-Version": API_VERSION, "Helmr-SDK-Version": f"airflow-provider-helmr/{__version__}"}


@dataclass(frozen=True, slots=True)
class Context:
    """On whose behalf, and for which environment, a client speaks.

    :param base_url: what stands in front of every path.
    :param api_key: credential of the client.
    :param project_id: project of the scoped form.
    :param environment_id: environment of the scoped form.
    :param headers: more request headers.
    :param backoff: how plain calls are repeated.
    :param reconnects: pauses between the streams of a follower.
    :param silence: seconds that a call or a stream may be silent, if less than the client's own limits.
    """

    base_url: str
    api_key: Secret | None
    project_id: str | None = None
    environment_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    backoff: Backoff = CALLS
    reconnects: Backoff = STREAMS
    silence: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What goes on the wire.

    :param operation: operationId, for errors.
    :param method: HTTP method.
    :param url: whole URL; hidden, because a callback URL is a credential.
    :param headers: without the credential.
    :param content: body.
    :param credential: bearer.
    :param silence: seconds without a byte, if less than the client's own limit.
    """

    operation: str
    method: str
    url: Secret
    headers: dict[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    credential: Secret | None = None
    silence: float | None = None


def build_request(
    context: Context,
    endpoint: Endpoint,
    *,
    path: Mapping[str, str],
    query: Mapping[str, Any],
    body: Mapping[str, Any] | None,
    content: bytes | None = None,
    credential: Secret | None = None,
    url: Secret | None = None,
) -> Request:
    """Build the request for an endpoint.

    :param body: JSON body; ``{}`` is sent when an endpoint reads one and there is nothing to say.
    :param content: the encoded body, if there is one already.
    :param credential: public access token, for the endpoints that take one.
    :param url: whole URL instead of base and path, for callbacks.
    :raises HelmrConfigError: the client has no API key, and the endpoint needs one.
    :raises PayloadValidationError: the body is not JSON, or a value holds a NUL character.
    """
    if endpoint.credential == "client":
        credential = context.api_key
        if credential is None:
            raise HelmrConfigError(f"{endpoint.operation} needs an API key: pass api_key=, or set HELMR_API_KEY.")
    for name, value in (*path.items(), *query.items()):
        if isinstance(value, str) and "\0" in value:
            raise PayloadValidationError(f"{endpoint.operation}: {name} contains a NUL character; Helmr stores none.")
    if url is None:
        target = endpoint.target(path, query, project_id=context.project_id, environment_id=context.environment_id)
        url = Secret(context.base_url + target)
    follow = endpoint.follows and query.get("follow") == "1"
    headers = {**context.headers, **_HEADERS, "Accept": "text/event-stream" if follow else "application/json"}
    if follow:
        # A compressing proxy holds small events back until its buffer is full.
        headers |= {"Accept-Encoding": "identity", "Cache-Control": "no-store"}
    if endpoint.reads == "bytes":
        headers["Accept"] = "application/octet-stream"
    if endpoint.sends:
        content = content or encode(body or {}, f"The body of {endpoint.operation}")
        headers["Content-Type"] = "application/json"
    return Request(endpoint.operation, endpoint.method, url, headers, content, credential, context.silence)

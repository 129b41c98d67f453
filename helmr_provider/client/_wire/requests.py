"""One HTTP request as a value, built from an endpoint. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from helmr_provider import __version__
from helmr_provider.client._config import CALL_TIMEOUT, STREAM_SILENCE, check_limit
from helmr_provider.client._retry import CALLS, STREAMS
from helmr_provider.client._secrets import Secret
from helmr_provider.client._wire.json_values import encode
from helmr_provider.client.errors import HelmrConfigError, PayloadValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.client._retry import Backoff
    from helmr_provider.client._wire.endpoints import Endpoint
    from helmr_provider.client.durations import Duration

API_VERSION: Final = "2026-06-06"
_AGENT: Final = f"airflow-provider-helmr/{__version__}"
_HEADERS: Final = {"user-agent": _AGENT, "helmr-api-version": API_VERSION, "helmr-sdk-version": _AGENT}


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
    :param timeout: seconds that a whole call may take, repeats included.
    :param stream_silence: seconds after which a silent stream counts as dead.
    :param silence: a lower limit for both.
    """

    base_url: str
    api_key: Secret | None
    project_id: str | None = None
    environment_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    backoff: Backoff = CALLS
    reconnects: Backoff = STREAMS
    timeout: float = CALL_TIMEOUT
    stream_silence: float = STREAM_SILENCE
    silence: float | None = None

    def with_timeout(self, timeout: Duration | None) -> Context:
        """Return this context with another limit for whole calls; None leaves it as it is.

        :raises HelmrConfigError: the limit is not positive and finite.
        """
        return self if timeout is None else replace(self, timeout=check_limit("timeout", timeout))


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    :param operation: operationId, for errors.
    :param method: HTTP method.
    :param url: whole URL; hidden, because a callback URL is a credential.
    :param headers: without the credential.
    :param content: body.
    :param credential: bearer.
    :param limit: seconds that a whole call may take, or that a stream may be silent.
    :param streams: whether the answer is followed.
    :param to_base: whether it goes to the control plane's own address.
    :param max_body: bytes that the answer may have; None for the client's own limit.
    :param smaller: advice for an answer that is larger.
    """

    operation: str
    method: str
    url: Secret
    headers: dict[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    credential: Secret | None = None
    limit: float = CALL_TIMEOUT
    streams: bool = False
    to_base: bool = True
    max_body: int | None = None
    smaller: str = "ask for less, for example with limit="


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
    max_body: int | None = None,
) -> Request:
    """Build the request for an endpoint.

    :param body: JSON body; ``{}`` is sent when an endpoint reads one and there is nothing to say.
    :param content: the encoded body, if there is one already.
    :param credential: public access token, for the endpoints that take one.
    :param url: whole URL instead of base and path, for callbacks.
    :param max_body: bytes that the answer may have.
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
    to_base = url is None
    if url is None:
        target = endpoint.target(path, query, project_id=context.project_id, environment_id=context.environment_id)
        url = Secret(context.base_url + target)
    follow = endpoint.follows and query.get("follow") == "1"
    # Event streams are not compressed: a compressing proxy holds small events back until its buffer is full.
    headers = {
        **_HEADERS,
        "accept": "text/event-stream" if follow else "application/json",
        "accept-encoding": "identity" if follow else "gzip",
    }
    if follow:
        headers["cache-control"] = "no-store"
    if endpoint.reads == "bytes":
        headers["accept"] = "application/octet-stream"
    if endpoint.sends:
        content = content or encode(body or {}, f"The body of {endpoint.operation}")
        headers["content-type"] = "application/json"
    # The caller's own headers replace these.
    headers |= {name.lower(): value for name, value in context.headers.items()}
    limit = context.stream_silence if follow else context.timeout
    return Request(
        endpoint.operation,
        endpoint.method,
        url,
        headers,
        content,
        credential,
        limit=limit if context.silence is None else min(limit, context.silence),
        streams=follow,
        to_base=to_base,
        max_body=max_body,
        smaller="raise max_bytes=" if endpoint.reads == "bytes" else "ask for less, for example with limit=",
    )

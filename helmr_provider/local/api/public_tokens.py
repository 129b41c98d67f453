"""Public access tokens over HTTP, and the routes that they open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import request_body, streams, values
from helmr_provider.local.api.request import SCOPE_WITH_KEY, answer
from helmr_provider.local.api.sessions import addressed
from helmr_provider.local.common import json_bodies
from helmr_provider.local.common.clock import DAY
from helmr_provider.local.common.errors import ApiError, stream_not_found
from helmr_provider.local.common.ids import is_uuid
from helmr_provider.local.common.jsontext import as_object, without_surrogates
from helmr_provider.local.state import public_tokens, sessions
from helmr_provider.local.state import streams as streams_state
from helmr_provider.local.state.api_keys import Caller, bearer

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_DEFAULT_LIFETIME = 30 * DAY
_SCOPES = {
    public_tokens.INPUT_SEND: ("session-input:send", "input"),
    public_tokens.OUTPUT_READ: ("session-streams:read", "output"),
}
_SESSION = request_body.Struct(
    "api.SessionAddress", {"type": request_body.string, "id": request_body.string, "external_id": request_body.string}
)


def _session(value: Any, path: str) -> dict[str, Any]:
    return _SESSION.read(value, path)


_SCOPE = request_body.Struct(
    "api.PublicAccessTokenScope",
    {
        "type": request_body.string,
        "session": _session,
        "stream": request_body.string,
        "correlation_id": request_body.string,
    },
)


def _scope(value: Any, path: str) -> dict[str, Any]:
    return _SCOPE.read(value, path)


_CREATE = request_body.Struct(
    "api.CreatePublicAccessTokenRequest",
    {
        "project_id": request_body.string,
        "environment_id": request_body.string,
        "scope": _scope,
        "expires_at": request_body.instant,
        "max_uses": request_body.int32,
    },
)


async def create_public_access_token(request: ApiRequest) -> ASGIApp:
    """Mint a token (createPublicAccessToken); the key needs the scope that the token gives."""
    core = request.core
    members = request.body("public access token request", _CREATE)
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)
    scope: dict[str, Any] = members.get("scope") or {}
    kind = (scope.get("type") or "").strip()
    if kind not in _SCOPES:
        raise ApiError(400, f'unsupported public access token scope type "{kind}"')
    key_scope, direction = _SCOPES[kind]
    request.caller.require(key_scope)
    stream = values.stream_name(scope.get("stream") or "")
    session = _named_session(request, scope.get("session") or {})
    max_uses = members.get("max_uses")
    if max_uses is not None and max_uses < 1:
        raise ApiError(400, "max_uses must be a positive integer")
    expires_at = members.get("expires_at")
    if expires_at is not None and expires_at <= core.clock.now():
        raise ApiError(410, "token expired", "token_expired")
    streams_state.opened(core, session["id"], direction, stream)
    correlation_id = (scope.get("correlation_id") or "").strip() or None
    grant = public_tokens.Grant(kind, session["id"], stream, correlation_id)
    until = core.clock.now() + _DEFAULT_LIFETIME if expires_at is None else expires_at
    return answer(public_tokens.mint(core, request.environment_id, grant, until, max_uses), 201)


async def public_append_session_input(request: ApiRequest) -> ASGIApp:
    """Append an input record with a public access token (publicAppendSessionInput)."""
    token = _token(request)
    members = as_object(_parsed(request.raw_body())) or {}
    correlation_id = members.get("correlation_id")
    named = without_surrogates(correlation_id).strip() or None if isinstance(correlation_id, str) else None
    return await _with_token(request, token, public_tokens.INPUT_SEND, named, streams.append_session_input)


async def public_read_session_output(request: ApiRequest) -> ASGIApp:
    """Read an output record with a public access token (publicReadSessionOutput); an empty read counts too."""
    return await _with_token(
        request,
        _token(request),
        public_tokens.OUTPUT_READ,
        request.text("correlation_id"),
        streams.read_session_output_record,
    )


async def _with_token(request: ApiRequest, token: Row, kind: str, correlation_id: str | None, handler: Any) -> ASGIApp:
    """Do what the same operation does for an API key, if the token allows it, and count the use."""
    granted = replace(request, caller=Caller(token["environment_id"], frozenset()))
    stream = values.stream_name(request.params["stream"])
    session = addressed(granted)
    # The stream's row comes into being when a key or the minting of a token first names the stream.
    streams_state.existing(request.core, session["id"], _SCOPES[kind][1], stream)
    public_tokens.require(token, public_tokens.Grant(kind, session["id"], stream, correlation_id))
    response: ASGIApp = await handler(granted)
    public_tokens.use(request.core, token)
    return response


def _token(request: ApiRequest) -> Row:
    return public_tokens.by_secret(request.core, bearer(request.headers.get("authorization")))


def _parsed(raw: bytes) -> Any:
    try:
        return json_bodies.parse(raw)
    except json_bodies.DecodeError:
        # The operation itself refuses it, in its own words.
        return None


def _named_session(request: ApiRequest, address: dict[str, Any]) -> Row:
    kind = (address.get("type") or "").strip()
    if kind == "id":
        session_id = (address.get("id") or "").strip()
        if not is_uuid(session_id):
            raise ApiError(400, "session.id must be a UUID")
        try:
            return sessions.find(request.core, request.environment_id, session_id.lower())
        except ApiError:
            raise stream_not_found() from None
    if kind != "external_id":
        raise ApiError(400, "session.type must be id or external_id")
    external_id = values.external_id(address.get("external_id"))
    if external_id is None:
        raise ApiError(400, "session.external_id is required")
    found = sessions.by_external_id(request.core, request.environment_id, external_id)
    if found is None:
        raise stream_not_found()
    return found

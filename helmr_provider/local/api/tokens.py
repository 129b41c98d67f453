"""Tokens over HTTP: with an API key, with a public access token, by callback URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import request_body, values
from helmr_provider.local.api.request import SCOPE_WITH_KEY, answer
from helmr_provider.local.common.durations import token_timeout
from helmr_provider.local.common.errors import ApiError, token_not_found
from helmr_provider.local.common.ids import is_uuid
from helmr_provider.local.common.jsontext import fingerprint
from helmr_provider.local.state import tokens
from helmr_provider.local.state.api_keys import bearer

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_DEFAULT_TIMEOUT = "168h"
_CREATE = request_body.Struct(
    "api.CreateTokenRequest",
    {
        "project_id": request_body.string,
        "environment_id": request_body.string,
        "timeout": request_body.raw,
        "tags": request_body.strings,
        "metadata": request_body.raw,
        "idempotency_key": request_body.string,
    },
)
_COMPLETE = request_body.Struct("api.CompleteTokenRequest", {"data": request_body.raw})


async def create_token(request: ApiRequest) -> ASGIApp:
    """Create a token (createToken)."""
    members = request.body("token create request", _CREATE)
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)
    timeout = members.get("timeout")
    try:
        timeout_us = token_timeout(_DEFAULT_TIMEOUT if timeout is None else timeout)
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    tags = values.tags(members.get("tags"))
    metadata = values.metadata(members.get("metadata", {}))
    new = tokens.NewToken(
        timeout_us,
        tags,
        metadata,
        values.idempotency_key(members.get("idempotency_key")),
        fingerprint([timeout, metadata, tags]),
    )
    token, is_new = tokens.create(request.core, request.environment_id, new)
    return answer(tokens.rendered_with_secrets(request.core, token), 201 if is_new else 200)


async def list_tokens(request: ApiRequest) -> ASGIApp:
    """List tokens, oldest first, a page at a time (listTokens)."""
    request.refuse_project_query()
    status = request.text("state") or request.text("status")
    if status is not None and status not in tokens.STATUSES:
        raise ApiError(400, "state must be pending, completed, expired, or cancelled")
    after = request.text("after") or request.text("cursor")
    if after is not None and not is_uuid(after):
        raise ApiError(400, "after must be a token UUID")
    limit = request.limit(100, 500)
    rows = tokens.listed(request.core, request.environment_id, status, after, limit + 1)
    page: dict[str, Any] = {"tokens": [tokens.rendered(row) for row in rows[:limit]]}
    if len(rows) > limit:
        page["next_cursor"] = rows[limit - 1]["id"]
    return answer(page)


async def get_token(request: ApiRequest) -> ASGIApp:
    """Retrieve a token (getToken)."""
    return answer(tokens.rendered(_token(request)))


async def complete_token(request: ApiRequest) -> ASGIApp:
    """Complete a token with an API key (completeToken)."""
    token = _token(request)
    return _complete(request, token, "token complete request")


async def cancel_token(request: ApiRequest) -> ASGIApp:
    """Cancel a token (cancelToken); a body is not read."""
    return answer(tokens.rendered(tokens.cancel(request.core, _token(request))))


async def public_complete_token(request: ApiRequest) -> ASGIApp:
    """Complete a token with its public access token (publicCompleteToken)."""
    secret = bearer(request.headers.get("authorization")) or ""
    granted = tokens.by_public_secret(request.core, secret) if secret.startswith(tokens.PUBLIC_PREFIX) else None
    if granted is None:
        raise _denied(401)
    token = tokens.by_id(request.core, request.uuid("token_id", "tokenID"))
    if token is None:
        raise token_not_found()
    if token["id"] != granted["id"]:
        raise _denied(403)
    return _complete(request, token, "token complete request")


async def callback_complete_token(request: ApiRequest) -> ASGIApp:
    """Complete a token by its callback URL (callbackCompleteToken)."""
    token = tokens.by_id(request.core, request.uuid("token_id", "tokenID"))
    if token is None:
        raise token_not_found()
    if not tokens.has_callback_secret(token, request.params["callback_secret"]):
        raise _denied(401)
    # The callback ends with a token that was cancelled or swept, unlike the API-key route (contract/behaviour.md §11).
    if token["status"] in ("cancelled", "expired"):
        raise _denied(401)
    return _complete(request, token, "token callback request")


def _complete(request: ApiRequest, token: Row, what: str) -> ASGIApp:
    members = request.body(what, _COMPLETE)
    status, completed = tokens.complete(request.core, token, members.get("data"))
    return answer({"status": status, "token": tokens.rendered(completed)})


def _token(request: ApiRequest) -> Row:
    return tokens.find(request.core, request.environment_id, request.uuid("token_id", "tokenID"))


def _denied(status: int) -> ApiError:
    return ApiError(status, "token scope denied", "token_scope_denied")

"""Sessions over HTTP. Each operation on one session exists by id and by external id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import request_body, values
from helmr_provider.local.api.request import answer
from helmr_provider.local.common.errors import ApiError, session_not_found
from helmr_provider.local.state import sessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_PATCH = request_body.Struct(
    "api.PatchSessionRequest",
    {"metadata": request_body.raw, "tags": request_body.strings, "expires_at": request_body.instant},
)
_REASON = request_body.Struct("api.SessionReasonRequest", {"reason": request_body.string})


def addressed(request: ApiRequest) -> Row:
    """Return the session that a request is about, by the path's id or the query's external id.

    :raises ApiError: 400 without a usable address, 404 if the environment has no such session.
    """
    if "session_id" in request.params:
        return sessions.find(request.core, request.environment_id, request.uuid("session_id", "sessionID"))
    external_id = values.external_id(request.query.get("external_id"))
    if external_id is None:
        raise ApiError(400, "external_id is required")
    if "\0" in external_id:
        raise ApiError(400, "external_id must not contain NUL bytes")
    session = sessions.by_external_id(request.core, request.environment_id, external_id)
    if session is None:
        raise session_not_found()
    return session


async def list_sessions(request: ApiRequest) -> ASGIApp:
    """List sessions (listSessions)."""
    request.refuse_project_query()
    rows = sessions.listed(
        request.core,
        request.environment_id,
        status=request.text("status"),
        task_id=request.text("task_id"),
        external_id=request.text("external_id"),
        limit=request.limit(100, 200),
    )
    return answer({"sessions": [sessions.rendered(request.core, row) for row in rows]})


async def get_session(request: ApiRequest) -> ASGIApp:
    """Retrieve a session (getSession)."""
    return answer(sessions.rendered(request.core, addressed(request)))


async def patch_session(request: ApiRequest) -> ASGIApp:
    """Replace metadata or tags, extend the expiry (patchSession)."""
    session = addressed(request)
    members = request.body("session patch", _PATCH)
    changes: dict[str, Any] = {}
    if "metadata" in members:
        changes["metadata"] = values.metadata(members["metadata"])
    if members.get("tags") is not None:
        changes["tags"] = values.tags(members["tags"])
    if members.get("expires_at") is not None:
        changes["expires_at"] = members["expires_at"]
    return answer(sessions.rendered(request.core, sessions.patch(request.core, session, changes)))


async def close_session(request: ApiRequest) -> ASGIApp:
    """Close an idle session (closeSession)."""
    session = addressed(request)
    reason = _reason(request, "session close", "closed")
    return answer(sessions.rendered(request.core, sessions.close(request.core, session, reason)))


async def cancel_session(request: ApiRequest) -> ASGIApp:
    """Cancel a session and its run (cancelSession); the first cancel answers the row as it was."""
    session = addressed(request)
    reason = _reason(request, "session cancel", "cancelled")
    before = sessions.cancel(request.core, session, reason)
    if before["status"] == "open":
        return answer(sessions.rendered_before_cancel(request.core, before))
    return answer(sessions.rendered(request.core, before))


async def list_session_runs(request: ApiRequest) -> ASGIApp:
    """List the session's runs (listSessionRuns)."""
    return answer({"runs": sessions.rendered_runs(request.core, addressed(request)["id"])})


def _reason(request: ApiRequest, what: str, default: str) -> str:
    members = request.body(what, _REASON)
    return values.storable((members.get("reason") or "").strip()) or default

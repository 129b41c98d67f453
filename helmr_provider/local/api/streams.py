"""Session streams over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import request_body, values
from helmr_provider.local.api.request import answer
from helmr_provider.local.api.sessions import addressed
from helmr_provider.local.common.errors import ApiError, session_terminal
from helmr_provider.local.state import sessions, streams

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_APPEND = request_body.Struct(
    "api.AppendStreamRecordRequest",
    {
        "data": request_body.raw,
        "content_type": request_body.string,
        "correlation_id": request_body.string,
        "idempotency_key": request_body.string,
    },
)


async def list_session_streams(request: ApiRequest) -> ASGIApp:
    """List every stream that the deployment declares (listSessionStreams)."""
    rows = streams.catalogue(request.core, addressed(request)["id"])
    return answer({"streams": [streams.rendered(row) for row in rows]})


async def append_session_input(request: ApiRequest) -> ASGIApp:
    """Append an input record (appendSessionInput): a waiting run takes it, or it makes a follow-up run."""
    name = values.stream_name(request.params["stream"])
    session = addressed(request)
    new = _new_record(request)
    core = request.core
    with core.db.transaction():
        session = sessions.find(core, request.environment_id, session["id"])
        _require_open(request, session)
        stream = streams.opened(core, session["id"], "input", name)
        record, is_new = streams.append(core, stream, new)
        body = _appended(record, is_new=is_new)
        if not is_new:
            body["continuation_status"] = "duplicate"
        elif not streams.offer(core, stream, record):
            started = sessions.start_follow_up(core, session)
            body["continuation_status"] = "created" if started else "accepted_run_pending"
    return answer(body, 201)


async def append_session_output(request: ApiRequest) -> ASGIApp:
    """Append an output record from outside (appendSessionOutput); the session may be over."""
    name = values.stream_name(request.params["stream"])
    session = addressed(request)
    new = _new_record(request)
    with request.core.db.transaction():
        stream = streams.opened(request.core, session["id"], "output", name)
        record, is_new = streams.append(request.core, stream, new)
    return answer(_appended(record, is_new=is_new), 201)


async def list_session_input_records(request: ApiRequest) -> ASGIApp:
    """List input records (listSessionInputRecords)."""
    return _list(request, "input")


async def list_session_output_records(request: ApiRequest) -> ASGIApp:
    """List output records (listSessionOutputRecords)."""
    return _list(request, "output")


async def read_session_output_record(request: ApiRequest) -> ASGIApp:
    """Return the first output record after a sequence, or null without waiting (readSessionOutputRecord)."""
    rows = _records(request, "output", 1)
    return answer({"record": streams.rendered_record(rows[0]) if rows else None})


def _list(request: ApiRequest, direction: str) -> ASGIApp:
    rows = _records(request, direction, request.limit(100, 500))
    return answer({"records": [streams.rendered_record(row) for row in rows]})


def _records(request: ApiRequest, direction: str, limit: int) -> list[Row]:
    name = values.stream_name(request.params["stream"])
    session = addressed(request)
    after = values.sequence(request.query.get("after_sequence") or request.query.get("cursor", ""), "after_sequence")
    stream = streams.opened(request.core, session["id"], direction, name)
    return streams.after(request.core, stream, after, request.text("correlation_id"), limit)


def _new_record(request: ApiRequest) -> streams.NewRecord:
    members = request.body("stream record request", _APPEND)
    return streams.NewRecord(
        members.get("data"),
        (members.get("correlation_id") or "").strip() or None,
        (members.get("content_type") or "").strip() or "application/json",
        values.idempotency_key(members.get("idempotency_key")),
    )


def _require_open(request: ApiRequest, session: Row) -> None:
    if session["status"] == "expired" or (
        session["status"] == "open" and sessions.is_past_expiry(request.core, session)
    ):
        raise ApiError(410, "session is expired", "session_expired")
    if session["status"] != "open":
        raise session_terminal()


def _appended(record: Row, *, is_new: bool) -> dict[str, Any]:
    return {
        "record": streams.rendered_record(record),
        "idempotency_status": "created" if is_new else "duplicate",
    }

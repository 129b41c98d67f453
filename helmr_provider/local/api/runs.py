"""Runs, their events and their logs over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.local.api import request_body, sse, values
from helmr_provider.local.api.request import answer
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import is_uuid
from helmr_provider.local.common.jsontext import loads
from helmr_provider.local.state import cancelling, events, logs, runs

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_CANCEL = request_body.Struct(
    "api.CancelRunRequest",
    {"reason": request_body.string, "force": request_body.boolean, "idempotency_key": request_body.string},
)


async def list_runs(request: ApiRequest) -> ASGIApp:
    """List runs, live ones unless another status is requested (listRuns)."""
    request.refuse_project_query()
    status = request.text("status") or "live"
    statuses = {"live": runs.LIVE, "all": runs.STATUSES}.get(status, (status,))
    if not set(statuses) <= set(runs.STATUSES):
        raise ApiError(400, "status must be live, all, or a run status")
    limit = request.limit(100, 200)
    session_id = request.text("session_id")
    if session_id is not None and not is_uuid(session_id):
        raise ApiError(400, "session_id must be a UUID")
    rows = runs.listed(request.core, request.environment_id, statuses, session_id, limit)
    return answer({"runs": [runs.rendered(request.core, row) for row in rows]})


async def count_runs(request: ApiRequest) -> ASGIApp:
    """Count the environment's runs by status (countRuns)."""
    request.refuse_project_query()
    return answer(runs.counts(request.core, request.environment_id))


async def get_run(request: ApiRequest) -> ASGIApp:
    """Retrieve a run (getRun)."""
    return answer(runs.rendered(request.core, _run(request)))


async def cancel_run(request: ApiRequest) -> ASGIApp:
    """Cancel a run (cancelRun)."""
    run = _run(request)
    members = request.body("cancel request", _CANCEL)
    operation = cancelling.request(
        request.core,
        run,
        reason=values.storable((members.get("reason") or "").strip()) or None,
        force=bool(members.get("force")),
        idempotency_key=values.idempotency_key(members.get("idempotency_key")),
    )
    return answer(
        {
            "run": runs.rendered(request.core, runs.reread(request.core, run["id"])),
            "operation": cancelling.rendered(operation),
        }
    )


async def get_run_events(request: ApiRequest) -> ASGIApp:
    """Page through a run's events or follow them (getRunEvents)."""
    run = _run(request)
    cursor = _cursor(request)
    if request.follows:
        return sse.EventStream(sse.run_events(request.core, run["id"], cursor), request.core.settings.stream_limit)
    limit = request.limit(200, 200)
    rows = events.after(request.core, run["id"], cursor, limit + 1)
    page: dict[str, object] = {"events": [loads(row["record"]) for row in rows[:limit]], "cursor": cursor}
    if len(rows) > limit:
        page["next_cursor"] = rows[limit - 1]["sequence"]
    return answer(page)


async def get_run_logs(request: ApiRequest) -> ASGIApp:
    """Return the newest logs of a run or follow them (getRunLogs)."""
    run = _run(request)
    if request.follows:
        cursor = _cursor(request)
        return sse.EventStream(sse.run_logs(request.core, run["id"], cursor), request.core.settings.stream_limit)
    return answer(logs.snapshot(request.core, run))


def _run(request: ApiRequest) -> Row:
    return runs.find(request.core, request.environment_id, request.uuid("run_id", "id"))


def _cursor(request: ApiRequest) -> int:
    """Return where to begin: the resume header beats the query (contract/behaviour.md section 7.4)."""
    return values.sequence(request.headers.get("last-event-id") or request.query.get("cursor", ""), "cursor")

"""Schedules over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from helmr_provider.local.api import request_body
from helmr_provider.local.api.request import SCOPE_WITH_KEY, answer
from helmr_provider.local.api.starts import RUN_OPTIONS, checked
from helmr_provider.local.common import json_bodies
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.definitions import cron
from helmr_provider.local.definitions.tasks import TASK_ID
from helmr_provider.local.state import schedules

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_BODY = "schedule request"
_OPTIONS = request_body.Struct("api.ScheduleRunOptions", RUN_OPTIONS, strict=False)


def _options(value: Any, path: str) -> dict[str, Any]:
    members = _OPTIONS.read(value, path)
    for name in ("deployment_id", "version"):
        if value is not None and name in value:
            raise json_bodies.DecodeError(f"{name} is not accepted for scheduled session starts")
    return members


_SCHEDULE = request_body.Struct(
    "api.CreateScheduleRequest",
    {
        "project_id": request_body.string,
        "environment_id": request_body.string,
        "deduplication_key": request_body.string,
        "external_id": request_body.string,
        "task": request_body.string,
        "cron": request_body.string,
        "timezone": request_body.string,
        "options": _options,
        "active": request_body.boolean,
    },
)


async def create_schedule(request: ApiRequest) -> ASGIApp:
    """Create the schedule of a deduplication key or replace it (createSchedule)."""
    members = _members(request)
    key = (members.get("deduplication_key") or "").strip()
    if not key:
        raise ApiError(400, "deduplication_key is required")
    if TASK_ID.fullmatch(key) is None:
        raise ApiError(400, f'schedule id "{key}" must match ^{TASK_ID.pattern}$')
    row = schedules.upsert(request.core, request.environment_id, key, _wanted(request, members, "create schedule"))
    return answer(schedules.rendered(request.core, row), 201)


async def update_schedule(request: ApiRequest) -> ASGIApp:
    """Replace a schedule (updateSchedule)."""
    schedule = _own(request)
    members = _members(request)
    key = (members.get("deduplication_key") or "").strip()
    if key not in ("", schedule["deduplication_key"]):
        raise ApiError(400, "deduplication_key cannot be updated")
    row = schedules.replace(request.core, schedule, _wanted(request, members, "update schedule"))
    return answer(schedules.rendered(request.core, row))


async def list_schedules(request: ApiRequest) -> ASGIApp:
    """List schedules (listSchedules); there is no paging."""
    request.refuse_project_query()
    rows = schedules.listed(request.core, request.environment_id)
    return answer({"schedules": [schedules.rendered(request.core, row) for row in rows]})


async def get_schedule(request: ApiRequest) -> ASGIApp:
    """Retrieve a schedule (getSchedule)."""
    return answer(schedules.rendered(request.core, _schedule(request)))


async def delete_schedule(request: ApiRequest) -> ASGIApp:
    """Delete a schedule (deleteSchedule)."""
    schedules.delete(request.core, _own(request))
    return Response(status_code=204)


async def activate_schedule(request: ApiRequest) -> ASGIApp:
    """Let a schedule fire (activateSchedule); a body is not read."""
    row = schedules.set_active(request.core, _own(request), active=True)
    return answer(schedules.rendered(request.core, row))


async def deactivate_schedule(request: ApiRequest) -> ASGIApp:
    """Let a schedule fire no more (deactivateSchedule); a body is not read."""
    row = schedules.set_active(request.core, _own(request), active=False)
    return answer(schedules.rendered(request.core, row))


def _members(request: ApiRequest) -> dict[str, Any]:
    members = request.body(_BODY, _SCHEDULE)
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)
    return members


def _wanted(request: ApiRequest, members: dict[str, Any], what: str) -> schedules.Wanted:
    task_id = members.get("task") or ""
    start = checked({"task_id": task_id, **(members.get("options") or {})}, None)
    timezone = (members.get("timezone") or "").strip() or "UTC"
    timing = schedules.Timing((members.get("cron") or "").strip(), "UTC" if timezone.upper() == "UTC" else timezone)
    try:
        cron.parse(timing.cron)
    except cron.CronError as error:
        raise ApiError(400, f"cron must be a valid 5-field expression: {error}") from None
    try:
        schedules.zone(timing.timezone)
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    deployment = request.core.deployment
    if task_id not in deployment.tasks:
        raise ApiError(400, f'task "{task_id}" is not deployed in the selected deployment')
    if start.queue is not None and start.queue not in deployment.queues:
        raise ApiError(400, f'queue "{start.queue}" is not declared in the selected deployment')
    if not timing.after(request.core.clock.now(), 1):
        raise request.defect(ApiError(500, what), ApiError(400, "cron never fires"))
    options = {name: getattr(start, name) for name in schedules.OPTIONS}
    external_id = (members.get("external_id") or "").strip() or None
    return schedules.Wanted(task_id, external_id, timing, options, members.get("active"))


def _schedule(request: ApiRequest) -> Row:
    return schedules.find(request.core, request.environment_id, request.uuid("schedule_id", "schedule id"))


def _own(request: ApiRequest) -> Row:
    schedule = _schedule(request)
    if schedule["type"] == "declarative":
        raise ApiError(400, "declarative schedules are managed by task definitions")
    return schedule

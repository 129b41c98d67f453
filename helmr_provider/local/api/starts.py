"""startSession and startSessionAndWait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import request_body, values
from helmr_provider.local.api.request import SCOPE_WITH_KEY, answer
from helmr_provider.local.common.clock import DAY
from helmr_provider.local.common.durations import parse_duration
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import is_uuid
from helmr_provider.local.common.jsontext import plain
from helmr_provider.local.definitions.retry_policy import read_policy
from helmr_provider.local.definitions.tasks import TASK_ID
from helmr_provider.local.state import events, runs, starting

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest

_BODY = "session start request"
_DEFAULT_KEY_TTL = 30 * DAY
_MIN_SECONDS, _MAX_SECONDS = 5, 86_400
_REFUSED = {
    "options": "options wrapper is not accepted for session start",
    "bundle": "bundle is not accepted for session start",
    "source": "source is not accepted for session start",
    "deployment_id": "deployment_id is not accepted for session start",
    "version": "version is not accepted for session start",
}
_QUEUE = request_body.Struct("api.RunQueueOption", {"name": request_body.string})


def _queue(value: Any, path: str) -> dict[str, Any]:
    return _QUEUE.read(value, path)


RUN_OPTIONS = {
    "queue": _queue,
    "concurrency_key": request_body.string,
    "priority": request_body.int32,
    "ttl": request_body.string,
    "max_duration_seconds": request_body.int32,
}
_START = request_body.Struct(
    "sessionStartWire",
    {
        "project_id": request_body.string,
        "environment_id": request_body.string,
        "task_id": request_body.string,
        "payload": request_body.raw,
        "external_id": request_body.string,
        **RUN_OPTIONS,
        "retry": request_body.raw,
        "metadata": request_body.raw,
        "tags": request_body.strings,
        "idempotency_key": request_body.string,
        "idempotency_key_ttl": request_body.string,
        "expires_at": request_body.instant,
        "workspace_id": request_body.string,
        **dict.fromkeys(_REFUSED, request_body.raw),
    },
    strict=False,
)


async def start_session(request: ApiRequest) -> ASGIApp:
    """Start or reuse a session (startSession)."""
    started = await _start(request)
    return answer(starting.answer(request.core, request.environment_id, started), 200 if started.is_cached else 201)


async def start_session_and_wait(request: ApiRequest) -> ASGIApp:
    """Start or reuse a session and wait for its run (startSessionAndWait); how long is not the request's choice."""
    core = request.core
    started = await _start(request)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + core.settings.start_and_wait
    while (live := runs.reread(core, started.run_id)["status"] in runs.LIVE) and loop.time() < deadline:
        await core.notifier.wait(events.topic(started.run_id), deadline - loop.time())
    return answer(starting.answer(core, request.environment_id, started, timed_out=live))


async def _start(request: ApiRequest) -> starting.Started:
    members = request.body(_BODY, _START)
    for name, text in _REFUSED.items():
        if name in members:
            raise ApiError(400, f"invalid {_BODY} JSON: {text}")
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)
    sdk_version = request.headers.get("helmr-sdk-version")
    return await request.starter.start(
        request.environment_id, checked(members, sdk_version, quirks=request.core.settings.quirks)
    )


def checked(members: dict[str, Any], sdk_version: str | None, *, quirks: bool = True) -> starting.CheckedStart:
    """Check a start's members, those of a schedule's later starts included.

    :param quirks: fail where the server fails instead of refusing (contract/behaviour.md section 21).
    :raises ApiError: 400, or 500 where the server fails instead of refusing.
    """
    task_id = members.get("task_id") or ""
    if TASK_ID.fullmatch(task_id) is None:
        shown = task_id.replace("\0", r"\x00")
        raise ApiError(400, f'task_id "{shown}" must match ^{TASK_ID.pattern}$')
    ttl = members.get("ttl") or None
    seconds = members.get("max_duration_seconds") or None
    if seconds is not None and seconds < _MIN_SECONDS:
        raise ApiError(400, f"max_duration_seconds must be >= {_MIN_SECONDS}")
    if seconds is not None and seconds > _MAX_SECONDS:
        raise ApiError(400, f"max_duration_seconds must be <= {_MAX_SECONDS}")
    concurrency_key = values.storable((members.get("concurrency_key") or "").strip()) or None
    if concurrency_key is not None and len(concurrency_key) > values.MAX_KEY:
        raise ApiError(400, "concurrency_key must be 512 characters or less")
    external_id = values.external_id(members.get("external_id"))
    key = values.idempotency_key(members.get("idempotency_key"))
    key_ttl = members.get("idempotency_key_ttl") or None
    key_us = _DEFAULT_KEY_TTL if key_ttl is None else _duration(key_ttl, "idempotency_key_ttl")
    unbound_ttl, has_nul = key_ttl is not None and key is None, "\0" in (external_id or "")
    if quirks and (unbound_ttl or has_nul or _breaks_tags(members.get("tags"))):
        raise ApiError(500, "start task")
    if unbound_ttl:
        raise ApiError(400, "idempotency_key_ttl requires idempotency_key")
    if has_nul:
        raise ApiError(400, "external_id must not contain NUL")
    return starting.CheckedStart(
        task_id=task_id,
        payload=members.get("payload", {}),
        external_id=external_id,
        queue=members["queue"].get("name") or None if "queue" in members else None,
        concurrency_key=concurrency_key,
        priority=members.get("priority") or 0,
        ttl=ttl,
        ttl_us=None if ttl is None else _duration(ttl, "ttl"),
        max_duration_seconds=seconds,
        retry=_retry(members),
        metadata=values.metadata(members.get("metadata", {})),
        tags=values.tags(members.get("tags")),
        idempotency_key=key,
        idempotency_key_us=key_us,
        expires_at=members.get("expires_at"),
        workspace_id=_workspace_id(members.get("workspace_id") or None),
        sdk_version=(sdk_version or "").strip() or None,
    )


def _duration(text: str, name: str) -> int:
    parsed = parse_duration(text)
    if parsed is None:
        raise ApiError(400, f"{name} must be a positive duration")
    return parsed


def _retry(members: dict[str, Any]) -> dict[str, Any] | None:
    if "retry" not in members:
        return None
    try:
        return read_policy(plain(members["retry"]))
    except ValueError as error:
        raise ApiError(400, str(error)) from None


def _workspace_id(value: str | None) -> str | None:
    if value is None or is_uuid(value):
        return value
    raise ApiError(400, f"workspace_id is invalid: invalid UUID length: {len(value.encode())}")


def _breaks_tags(tags: list[str] | None) -> bool:
    return tags is not None and (len(tags) > 10 or any(not tag.strip() for tag in tags))

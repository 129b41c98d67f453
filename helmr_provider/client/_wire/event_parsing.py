"""Raw event records to typed events (contract/behaviour.md section 7.2). No I/O."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

from pydantic import ValidationError
from pydantic_core import from_json

from helmr_provider.client._wire.json_values import json_object
from helmr_provider.client._wire.responses import MAX_RAW, read
from helmr_provider.client.errors import HelmrConnectionError, HelmrProtocolError
from helmr_provider.client.models.events import (
    EventRecord,
    LogEvent,
    RunCancelledEvent,
    RunExpiredEvent,
    RunFailedEvent,
    TaskResultEvent,
    UnknownEvent,
    WaitCompletedEvent,
    WaitEvent,
    WaitTimedOutEvent,
)
from helmr_provider.client.models.logs import LogChunk

if TYPE_CHECKING:
    from helmr_provider.client._wire.sse import ServerSentEvent
    from helmr_provider.client.models.events import BaseRunEvent, RunEvent

_BY_MESSAGE: Final[dict[str, tuple[type[BaseRunEvent], dict[str, Any]]]] = {
    "log.stdout": (LogEvent, {"type": "log", "stream": "stdout"}),
    "log.stderr": (LogEvent, {"type": "log", "stream": "stderr"}),
    "run.completed": (TaskResultEvent, {"type": "task_result"}),
    "run.failed": (RunFailedEvent, {"type": "run_failed"}),
    "run.cancelled": (RunCancelledEvent, {"type": "run_cancelled"}),
    "run.expired": (RunExpiredEvent, {"type": "run_expired"}),
}
_WAITS: Final[dict[str, tuple[type[BaseRunEvent], str]]] = {
    "run_wait.created": (WaitEvent, "_wait"),
    "run_wait.completed": (WaitCompletedEvent, "_wait_completed"),
    "run_wait.timed_out": (WaitTimedOutEvent, "_wait_timed_out"),
}
_LARGEST_ID = 2**53 - 1
_LONGEST_ID = len(str(_LARGEST_ID))


def record_from_frame(frame: ServerSentEvent) -> EventRecord:
    """Read the record of one ``run_event`` frame.

    :raises HelmrProtocolError: it is not a record. The cursor is the frame's id, or the record's own once that is
        known to be good.
    :raises HelmrConnectionError: the stream was cut inside it.
    """
    value, record_id = _numbered(frame, "getRunEvents")
    get = value.get
    # Spelled out: a stream has many records, and a generator costs as much as the checks.
    if not (isinstance(get("kind"), str) and isinstance(get("message"), str) and isinstance(get("at"), str)):
        raise _bad_frame("lacks kind, message or at", "getRunEvents", record_id, frame.data)
    return read(EventRecord, value, "getRunEvents", cursor=record_id)


def chunk_from_frame(frame: ServerSentEvent) -> LogChunk:
    """Read the chunk of one ``run_log`` frame.

    :raises HelmrProtocolError: it is not a chunk.
    :raises HelmrConnectionError: the stream was cut inside it.
    """
    value, chunk_id = _numbered(frame, "getRunLogs")
    return read(LogChunk, value, "getRunLogs", cursor=chunk_id)


def _numbered(frame: ServerSentEvent, operation: str) -> tuple[dict[str, Any], str]:
    members = _members(frame.data)
    record_id = members.get("id")
    if _is_position(record_id):
        return members, record_id
    cursor = frame.id if _is_position(frame.id) else None
    if not frame.complete:
        # Not a bad event but half a good one: it comes again on the next connection, and must not be skipped.
        raise HelmrConnectionError(f"{operation}: the stream was cut inside an event.", operation=operation)
    raise _bad_frame("is not a JSON object with a numeric id", operation, cursor, frame.data)


def _members(text: str) -> dict[str, Any]:
    """Return the members of a JSON object; none if it is not one."""
    try:
        return json_object(from_json(text)) or {}
    except ValueError:
        # It is three times as fast as the standard library, but refuses lone surrogates and deep nesting.
        with suppress(ValueError, RecursionError):
            return json_object(json.loads(text)) or {}
    return {}


def record_from_page(value: Any) -> EventRecord | None:
    """Read one record of a JSON page; None if it has no text ``message`` or ``at`` (contract/behaviour.md §7.2)."""
    if not isinstance(value, dict):
        return None
    try:
        return EventRecord.model_validate(value)
    except ValidationError:
        return None


def event_from_record(record: EventRecord) -> RunEvent:
    """Choose the event for a record by its message, else its kind; :class:`UnknownEvent` when neither is known.

    :raises HelmrProtocolError: the kind is known, but its attributes do not fit; the error holds the raw text.
    """
    attributes = json_object(record.attributes) or {}
    # Absent and null attributes take the event's own default.
    present = attributes
    if None in attributes.values():
        present = {name: value for name, value in attributes.items() if value is not None}
    name = record.message if record.message in _BY_MESSAGE or record.message in _WAITS else record.kind
    model: type[BaseRunEvent] = UnknownEvent
    more: dict[str, Any] = {"type": "unknown", "kind": name}
    if name in _BY_MESSAGE:
        model, more = _BY_MESSAGE[name]
    elif name in _WAITS:
        wait_id = present.get("run_wait_id") or present.get("wait_id")
        kind = present.get("kind")
        if isinstance(kind, str) and kind in {"token", "stream", "timer"} and isinstance(wait_id, str):
            model, suffix = _WAITS[name]
            more = {"type": f"{kind}{suffix}", "kind": kind, "wait_id": wait_id}
    named = attributes.get("run_id")
    fixed: dict[str, Any] = {
        **more,
        "run_id": record.run_id or (named if isinstance(named, str) else ""),
        "at": record.at,
        "cursor": record.id,
        "raw": record,
    }
    try:
        return cast("RunEvent", model.model_validate({**present, **fixed}))
    except ValidationError as error:
        unreadable = {issue["loc"][0] for issue in error.errors(include_url=False, include_input=False)}
    # Unreadable attributes take the event's own default, too; the record has them as they are.
    readable = {name: value for name, value in present.items() if name not in unreadable}
    with suppress(ValidationError):
        return cast("RunEvent", model.model_validate({**readable, **fixed}))
    raise _bad_frame(f"is a {name} that does not fit", "getRunEvents", record.id, json.dumps(record.raw))


def _is_position(value: Any) -> TypeGuard[str]:
    # Python refuses to read thousands of digits.
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        return False
    return value.isascii() and value.isdigit() and int(value) <= _LARGEST_ID


def _bad_frame(why: str, operation: str, cursor: str | None, text: str) -> HelmrProtocolError:
    return HelmrProtocolError(
        f"{operation}: an event {why}. The control plane, or something in between, does not follow the contract.",
        operation=operation,
        cursor=cursor,
        raw=text[:MAX_RAW],
    )

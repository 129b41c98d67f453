"""Schedules: what they are on the wire, how they change, and how they fire (contract/behaviour.md section 15)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from helmr_provider.local.common.clock import SECOND, rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.common.jsontext import jsonb, loads
from helmr_provider.local.definitions import cron
from helmr_provider.local.state.starting import CheckedStart, Starter

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

OPTIONS = ("queue", "concurrency_key", "priority", "ttl", "ttl_us", "max_duration_seconds")
_UPCOMING = 5
_MOST = 200
_RETRY = 60 * SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Timing(NamedTuple):
    """When a schedule fires: an expression that parses and a zone that exists."""

    cron: str
    timezone: str

    def after(self, instant: int, count: int) -> list[int]:
        """Return up to so many moments after an instant, in microseconds."""
        moments = cron.parse(self.cron).after(_EPOCH + timedelta(microseconds=instant), zone(self.timezone))
        return [(moment - _EPOCH) // timedelta(microseconds=1) for moment in islice(moments, count)]


class Wanted(NamedTuple):
    """The checked options of a creation or an update; `active` is None where the request has no such member."""

    task_id: str
    external_id: str | None
    timing: Timing
    options: dict[str, Any]
    active: bool | None


def zone(name: str) -> ZoneInfo:
    """Return a zone by its name; `Local` is this control plane's own, which is UTC.

    :raises ValueError: if there is no such zone.
    """
    try:
        return ZoneInfo("UTC" if name == "Local" else name)
    except (OSError, KeyError, ValueError):
        raise ValueError("timezone must be an IANA timezone") from None


def find(core: Core, environment_id: str, schedule_id: str) -> Row:
    """Return a schedule's row if the environment has it.

    :raises ApiError: 404 if not.
    """
    row = core.db.one("SELECT * FROM schedules WHERE id = ? AND environment_id = ?", schedule_id, environment_id)
    if row is None:
        raise ApiError(404, "schedule not found")
    return row


def listed(core: Core, environment_id: str) -> list[Row]:
    """Return the newest schedules, declared ones included."""
    return core.db.all(
        "SELECT * FROM schedules WHERE environment_id = ? ORDER BY created_at DESC, id DESC LIMIT ?",
        environment_id,
        _MOST,
    )


def upsert(core: Core, environment_id: str, key: str, wanted: Wanted) -> Row:
    """Create the schedule of a deduplication key, or replace it; an absent `active` means true."""
    with core.db.transaction():
        present = core.db.one(
            "SELECT * FROM schedules WHERE environment_id = ? AND type = 'imperative' AND deduplication_key = ?",
            environment_id,
            key,
        )
        if present is None:
            schedule_id = _insert(core, environment_id, wanted, kind="imperative", key=key)
        else:
            schedule_id = present["id"]
            _replace(core, schedule_id, wanted, active=wanted.active is not False)
        return find(core, environment_id, schedule_id)


def replace(core: Core, schedule: Row, wanted: Wanted) -> Row:
    """Replace a schedule; an absent `active` keeps what it is."""
    active = bool(schedule["active"]) if wanted.active is None else wanted.active
    _replace(core, schedule["id"], wanted, active=active)
    return find(core, schedule["environment_id"], schedule["id"])


def set_active(core: Core, schedule: Row, *, active: bool) -> Row:
    """Let a schedule fire, from the next moment on, or not; an error is forgotten."""
    now = core.clock.now()
    timing = Timing(schedule["cron"], schedule["timezone"])
    core.db.update(
        "schedules",
        schedule["id"],
        active=active,
        last_error=None,
        failures=0,
        updated_at=now,
        **_next(core, schedule["id"], timing, now, active=active),
    )
    return find(core, schedule["environment_id"], schedule["id"])


def delete(core: Core, schedule: Row) -> None:
    """Delete a schedule."""
    core.db.execute("DELETE FROM schedules WHERE id = ?", schedule["id"])


def declare_everywhere(core: Core) -> None:
    """Make every environment's declared schedules those of the present deployment."""
    for environment in core.db.all("SELECT id FROM environments"):
        declare(core, environment["id"])


def declare(core: Core, environment_id: str) -> None:
    """Make an environment's declared schedules those that the deployed tasks declare."""
    declared = {
        f"{task.id}.{schedule.id}": (task.id, Timing(schedule.cron, schedule.timezone))
        for task in core.deployment.tasks.values()
        for schedule in task.schedules
    }
    with core.db.transaction():
        for row in core.db.all(
            "SELECT * FROM schedules WHERE environment_id = ? AND type = 'declarative'", environment_id
        ):
            wanted = declared.get(row["deduplication_key"])
            if wanted == (row["task_id"], Timing(row["cron"], row["timezone"])):
                del declared[row["deduplication_key"]]
            else:
                delete(core, row)
        for name, (task_id, timing) in declared.items():
            wanted_now = Wanted(task_id, name, timing, {}, active=True)
            _insert(core, environment_id, wanted_now, kind="declarative", key=name)


def fire_due(core: Core) -> None:
    """Start a session for each schedule whose moment has come; missed moments are not made up for."""
    for row in core.db.all("SELECT * FROM schedules WHERE due_at <= ? ORDER BY due_at", core.clock.now()):
        try:
            with core.db.transaction():
                _fire(core, row)
        except ApiError as error:
            failures = row["failures"] + 1
            retry_at = core.clock.now() + failures * failures * _RETRY
            core.db.update("schedules", row["id"], last_error=error.message, failures=failures, due_at=retry_at)


def rendered(core: Core, schedule: Row) -> dict[str, Any]:
    """Return a schedule as the API answers it; without its run options."""
    answer: dict[str, Any] = {
        "id": schedule["id"],
        "type": schedule["type"],
        "project_id": core.project_id(schedule["environment_id"]),
        "environment_id": schedule["environment_id"],
        "task": schedule["task_id"],
    }
    if schedule["type"] == "imperative":
        answer["deduplication_key"] = schedule["deduplication_key"]
    if schedule["external_id"] is not None:
        answer["external_id"] = schedule["external_id"]
    answer |= {
        "cron": schedule["cron"],
        "timezone": schedule["timezone"],
        "active": bool(schedule["active"]),
        "status": "active" if schedule["active"] else "inactive",
    }
    if schedule["last_error"] is not None:
        answer |= {"status": "errored", "last_error": schedule["last_error"]}
    for name in ("next_fire_at", "last_fire_at"):
        if schedule[name] is not None:
            answer[name] = rfc3339(schedule[name])
    return answer | {"created_at": rfc3339(schedule["created_at"]), "updated_at": rfc3339(schedule["updated_at"])}


def _fire(core: Core, row: Row) -> None:
    now, slot = core.clock.now(), row["next_fire_at"]
    timing = Timing(row["cron"], row["timezone"])
    payload: dict[str, Any] = {
        "timestamp": rfc3339(slot),
        "timezone": row["timezone"],
        "scheduleId": row["id"],
        "scheduleType": row["type"],
        "upcoming": [rfc3339(moment) for moment in timing.after(slot, _UPCOMING)],
    }
    if row["last_fire_at"] is not None:
        payload["lastTimestamp"] = rfc3339(row["last_fire_at"])
    if row["external_id"] is not None:
        payload["externalId"] = row["external_id"]
    stored = loads(row["options"])
    Starter(core).start_new(
        row["environment_id"],
        CheckedStart(
            task_id=row["task_id"],
            payload=payload,
            external_id=None,
            queue=stored.get("queue"),
            concurrency_key=stored.get("concurrency_key"),
            priority=stored.get("priority") or 0,
            ttl=stored.get("ttl"),
            ttl_us=stored.get("ttl_us"),
            max_duration_seconds=stored.get("max_duration_seconds"),
            retry=None,
            metadata={},
            tags=[],
            idempotency_key=None,
            idempotency_key_us=0,
            expires_at=None,
            workspace_id=None,
            sdk_version=None,
        ),
    )
    following = _next(core, row["id"], timing, now, active=True)
    core.db.update("schedules", row["id"], last_fire_at=slot, last_error=None, failures=0, **following)


def _insert(core: Core, environment_id: str, wanted: Wanted, *, kind: str, key: str) -> str:
    now = core.clock.now()
    schedule_id = uuid7(now)
    active = wanted.active is not False
    core.db.insert(
        "schedules",
        id=schedule_id,
        environment_id=environment_id,
        type=kind,
        task_id=wanted.task_id,
        deduplication_key=key,
        external_id=wanted.external_id,
        cron=wanted.timing.cron,
        timezone=wanted.timing.timezone,
        options=jsonb(wanted.options),
        active=active,
        created_at=now,
        updated_at=now,
        **_next(core, schedule_id, wanted.timing, now, active=active),
    )
    return schedule_id


def _replace(core: Core, schedule_id: str, wanted: Wanted, *, active: bool) -> None:
    now = core.clock.now()
    core.db.update(
        "schedules",
        schedule_id,
        task_id=wanted.task_id,
        external_id=wanted.external_id,
        cron=wanted.timing.cron,
        timezone=wanted.timing.timezone,
        options=jsonb(wanted.options),
        active=active,
        last_error=None,
        failures=0,
        updated_at=now,
        **_next(core, schedule_id, wanted.timing, now, active=active),
    )


def _next(core: Core, schedule_id: str, timing: Timing, now: int, *, active: bool) -> dict[str, int | None]:
    moments = timing.after(now, 1) if active else []
    if not moments:
        return {"next_fire_at": None, "due_at": None}
    # Each schedule is late by its own constant amount, so that schedules of the same minute do not all fire together.
    spread = int.from_bytes(hashlib.sha256(schedule_id.encode()).digest()[:4]) / 2**32
    return {"next_fire_at": moments[0], "due_at": moments[0] + int(spread * core.settings.schedule_jitter * SECOND)}

"""Sessions: their form in the API, how they are found, and how they end (contract/behaviour.md section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError, session_not_found, session_terminal
from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.common.jsontext import jsonb, loads
from helmr_provider.local.state import runs, streams

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


def find(core: Core, environment_id: str, session_id: str) -> Row:
    """Return a session's row if the environment has it.

    :raises ApiError: 404 if not.
    """
    row = core.db.one("SELECT * FROM sessions WHERE id = ? AND environment_id = ?", session_id, environment_id)
    if row is None:
        raise session_not_found()
    return row


def by_external_id(core: Core, environment_id: str, external_id: str) -> Row | None:
    """Return the session that has an external id, or None."""
    return core.db.one(
        "SELECT * FROM sessions WHERE environment_id = ? AND external_id = ?", environment_id, external_id
    )


def listed(
    core: Core, environment_id: str, *, status: str | None, task_id: str | None, external_id: str | None, limit: int
) -> list[Row]:
    """Return sessions, the latest changed first. A status that does not exist matches nothing."""
    return core.db.all(
        "SELECT * FROM sessions WHERE environment_id = ? AND (? IS NULL OR status = ?) AND (? IS NULL OR task_id = ?)"
        " AND (? IS NULL OR external_id = ?) ORDER BY updated_at DESC, id DESC LIMIT ?",
        environment_id,
        status,
        status,
        task_id,
        task_id,
        external_id,
        external_id,
        limit,
    )


def run_rows(core: Core, session_id: str) -> list[Row]:
    """Return the session's runs in the order of their turns."""
    return core.db.all("SELECT * FROM runs WHERE session_id = ? ORDER BY turn_index", session_id)


def is_past_expiry(core: Core, session: Row) -> bool:
    """Tell whether the session's time is over, swept or not."""
    return session["expires_at"] is not None and session["expires_at"] <= core.clock.now()


def rendered(core: Core, session: Row) -> dict[str, Any]:
    """Return a session as the API answers it."""
    run = runs.reread(core, session["current_run_id"])
    can_close = _is_idle(core, session, run) and session["status"] == "open" and not is_past_expiry(core, session)
    return _members(core, session, activity=_activity(core, session, run), can_close=can_close)


def rendered_before_cancel(core: Core, session: Row) -> dict[str, Any]:
    """Render the first cancel's answer: the stored row, derived members unchanged (contract/behaviour.md §21.2)."""
    return _members(core, session, activity="idle", can_close=False)


def rendered_runs(core: Core, session_id: str) -> list[dict[str, Any]]:
    """Return the session's runs as its run list answers them."""
    answers: list[dict[str, Any]] = []
    for run in run_rows(core, session_id):
        answer = {"id": run["link_id"], "run_id": run["id"], "deployment_id": core.deployment.id}
        if run["previous_run_id"] is not None:
            answer["previous_run_id"] = run["previous_run_id"]
        answer |= {
            "turn_index": run["turn_index"],
            "status": run["status"],
            "execution_status": run["execution"],
        }
        if run["status"] not in runs.LIVE:
            answer["terminal_outcome"] = run["status"]
        answer["created_at"] = rfc3339(run["created_at"])
        if run["ended_at"] is not None:
            answer["ended_at"] = rfc3339(run["ended_at"])
        answers.append(answer)
    return answers


def patch(core: Core, session: Row, changes: dict[str, Any]) -> Row:
    """Replace metadata and tags, extend the expiry.

    :param changes: any of `metadata`, `tags` and `expires_at` (microseconds).
    :raises ApiError: 409 if the session is over, 400 for an expiry that extends none.
    """
    with core.db.transaction():
        session = find(core, session["environment_id"], session["id"])
        if session["status"] != "open":
            raise session_terminal()
        now = core.clock.now()
        columns: dict[str, object] = {"updated_at": now}
        if "metadata" in changes:
            columns["metadata"] = jsonb(changes["metadata"])
        if "tags" in changes:
            columns["tags"] = jsonb(changes["tags"])
        if "expires_at" in changes:
            present = session["expires_at"]
            if present is None or present <= now or changes["expires_at"] <= present:
                raise ApiError(
                    400,
                    "session expires_at can only extend an existing future expiry",
                    "session_expires_at_not_extendable",
                )
            columns["expires_at"] = changes["expires_at"]
        core.db.update("sessions", session["id"], **columns)
        return find(core, session["environment_id"], session["id"])


def close(core: Core, session: Row, reason: str) -> Row:
    """Close an idle session; one whose expiry is due becomes expired instead.

    :raises ApiError: 409 if a run or input is pending, or the session is over.
    """
    with core.db.transaction():
        session = find(core, session["environment_id"], session["id"])
        if session["status"] != "open":
            raise session_terminal()
        if not _is_idle(core, session, runs.reread(core, session["current_run_id"])):
            raise ApiError(409, "close_run_active", "close_run_active")
        if is_past_expiry(core, session):
            _expire(core, session, "api")
        else:
            terminal_reason = {"origin": "api", "reason": reason}
            _end(core, session, "closed", terminal_reason=jsonb(terminal_reason))
        return find(core, session["environment_id"], session["id"])


def cancel(core: Core, session: Row, reason: str) -> Row:
    """Cancel a session and its run; a cancelled one stays as it is. Return the row as it was before.

    :raises ApiError: 409 if the session is closed or expired.
    """
    with core.db.transaction():
        session = find(core, session["environment_id"], session["id"])
        if session["status"] == "cancelled":
            return session
        if session["status"] != "open":
            raise session_terminal()
        error = {"name": "TaskCancelled", "details": {"origin": "api"}, "message": reason}
        terminal_reason = {"origin": "api", "reason": reason}
        _end(core, session, "cancelled", error=jsonb(error), terminal_reason=jsonb(terminal_reason))
        run = runs.reread(core, session["current_run_id"])
        if run["status"] in runs.LIVE:
            runs.cancel(core, run, reason)
        return session


def expire_due(core: Core) -> None:
    """Expire the open sessions whose time is over and whose run is not live."""
    due = core.db.all(
        "SELECT * FROM sessions WHERE status = 'open' AND expires_at IS NOT NULL AND expires_at <= ?", core.clock.now()
    )
    for session in due:
        if runs.reread(core, session["current_run_id"])["status"] not in runs.LIVE:
            with core.db.transaction():
                _expire(core, session, "sweeper")


def start_follow_ups(core: Core) -> None:
    """Start the next turn of every idle session that has input which no run consumed."""
    owing = core.db.all(
        "SELECT DISTINCT sessions.* FROM stream_records JOIN sessions ON sessions.id = stream_records.session_id"
        " WHERE stream_records.direction = 'input' AND consumed_by IS NULL AND turn_run_id IS NULL"
        " AND sessions.status = 'open'"
    )
    for session in owing:
        start_follow_up(core, session)


def start_follow_up(core: Core, session: Row) -> bool:
    """Start the session's next turn if its run is over and input is pending; tell whether it was started."""
    with core.db.transaction():
        current = runs.reread(core, session["current_run_id"])
        record = streams.pending_input(core, session["id"])
        if record is None or current["execution"] != "finished" or is_past_expiry(core, session):
            return False
        now = core.clock.now()
        run_id = uuid7(now)
        runs.create(
            core,
            session_id=session["id"],
            run_id=run_id,
            environment_id=session["environment_id"],
            task_id=session["task_id"],
            turn_index=current["turn_index"] + 1,
            options=loads(session["run_options"]),
            payload=session["payload"],
            metadata=session["metadata"],
            tags=loads(session["tags"]),
            now=now,
            previous_run_id=current["id"],
            cause={
                "kind": "stream_record",
                "sequence": record["sequence"],
                "record_id": record["id"],
                "stream_id": record["stream_id"],
            },
        )
        core.db.update("stream_records", record["id"], turn_run_id=run_id)
        core.db.update("sessions", session["id"], current_run_id=run_id, updated_at=now)
        return True


def _members(core: Core, session: Row, *, activity: str, can_close: bool) -> dict[str, Any]:
    environment = core.db.one("SELECT project_id FROM environments WHERE id = ?", session["environment_id"])
    answer: dict[str, Any] = {
        "id": session["id"],
        "project_id": environment["project_id"] if environment is not None else None,
        "environment_id": session["environment_id"],
        "task_id": session["task_id"],
        "initial_deployment_id": core.deployment.id,
        "active_deployment_id": core.deployment.id,
    }
    if session["external_id"] is not None:
        answer["external_id"] = session["external_id"]
    answer |= {
        "status": session["status"],
        "activity": activity,
        "can_close": can_close,
        "current_run_id": session["current_run_id"],
        "workspace_id": session["workspace_id"],
        "metadata": loads(session["metadata"]),
    }
    tags = loads(session["tags"])
    if tags:
        answer["tags"] = tags
    if session["error"] is not None:
        answer["error"] = loads(session["error"])
    answer["terminal_reason"] = loads(session["terminal_reason"])
    for name in ("expires_at", "expired_at"):
        if session[name] is not None:
            answer[name] = rfc3339(session[name])
    return answer | {"created_at": rfc3339(session["created_at"]), "updated_at": rfc3339(session["updated_at"])}


def _activity(core: Core, session: Row, run: Row) -> str:
    if session["status"] != "open":
        return "idle"
    if streams.pending_input(core, session["id"]) is not None:
        return "queued"
    return run["status"] if run["status"] in runs.LIVE else "idle"


def _is_idle(core: Core, session: Row, run: Row) -> bool:
    return run["status"] not in runs.LIVE and streams.pending_input(core, session["id"]) is None


def _expire(core: Core, session: Row, origin: str) -> None:
    error = {"name": "SessionExpired", "details": {"origin": origin}, "message": "session expired"}
    terminal_reason = {"origin": origin, "reason": "session_expired"}
    now = core.clock.now()
    _end(core, session, "expired", error=jsonb(error), terminal_reason=jsonb(terminal_reason), expired_at=now)


def _end(core: Core, session: Row, status: str, **columns: object) -> None:
    core.db.update("sessions", session["id"], status=status, updated_at=core.clock.now(), **columns)

"""Runs: their form in the API, how they are found, and every change of their state (contract/behaviour.md §6).

Two columns describe a run's state: `status` is the API's; `execution` is the worker's, and outlives the
status only while a worker still holds a run that is cancelled already (`pending_cancel`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local._core import API_VERSION
from helmr_provider.local.common.clock import SECOND, postgres_text, rfc3339
from helmr_provider.local.common.errors import ApiError, run_not_found
from helmr_provider.local.common.ids import span_id, stable_uuid, trace_id, uuid7
from helmr_provider.local.common.jsontext import jsonb, loads
from helmr_provider.local.definitions.queues import DEFAULT
from helmr_provider.local.definitions.retry_policy import delay_ms
from helmr_provider.local.state import events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

STATUSES: tuple[str, ...] = ("queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired")
LIVE: tuple[str, ...] = ("queued", "running", "waiting")

_NO_WAIT = {
    "wait_step": None,
    "wait_kind": None,
    "wait_ref": None,
    "wait_correlation": None,
    "wait_due": None,
    "wait_after": None,
}
_NO_LEASE = {"lease_id": None, "lease_span": None, "lease_at": None}


def create(
    core: Core,
    *,
    session_id: str,
    run_id: str,
    environment_id: str,
    task_id: str,
    turn_index: int,
    options: Mapping[str, Any],
    payload: str,
    metadata: str,
    tags: list[str],
    now: int,
    previous_run_id: str | None = None,
    cause: Mapping[str, Any] | None = None,
) -> None:
    """Queue a session's run for its first attempt.

    :param options: `queue`, `concurrency_key`, `retry`, `priority`, `ttl`, `ttl_us`, `max_duration_us` and
        `sdk_version`, as the start set them.
    :param cause: the input record that caused a later turn, as its `run.created` event names it.
    """
    core.db.insert(
        "runs",
        id=run_id,
        environment_id=environment_id,
        session_id=session_id,
        link_id=uuid7(now),
        turn_index=turn_index,
        previous_run_id=previous_run_id,
        cause_record_id=cause["record_id"] if cause else None,
        task_id=task_id,
        status="queued",
        execution="queued",
        payload=payload,
        metadata=metadata,
        # Sessions of an older release have no queue in their options.
        queue=options.get("queue", DEFAULT.name),
        concurrency_key=options.get("concurrency_key"),
        retry=jsonb(options["retry"]),
        priority=options["priority"],
        ttl=options["ttl"],
        expires_at=None if options["ttl_us"] is None else now + options["ttl_us"],
        max_duration_us=options["max_duration_us"],
        attempt_number=1,
        attempt_id=uuid7(now),
        sdk_version=options["sdk_version"],
        trace_id=trace_id(),
        span_id=span_id(),
        created_at=now,
        updated_at=now,
    )
    _begin_phase(core, run_id, "queued", 1, now)
    attributes = {
        "tags": tags,
        "cause": dict(cause or {}),
        "reason": "input" if cause else "initial",
        "payload": loads(payload),
        "task_id": task_id,
        "metadata": loads(metadata),
        "retry_policy": options["retry"],
        "secret_names": [],
        "max_duration_seconds": max(options["max_duration_us"] // SECOND, 1),
    }
    events.append(core, reread(core, run_id), "run.created", attributes, at=now)
    core.db.after_commit(lambda: core.notifier.notify("dispatch"))


def reread(core: Core, run_id: str) -> Row:
    """Return a run's row.

    :raises ApiError: 404 if there is none.
    """
    row = core.db.one("SELECT * FROM runs WHERE id = ?", run_id)
    if row is None:
        raise run_not_found()
    return row


def find(core: Core, environment_id: str, run_id: str) -> Row:
    """Return a run's row if the environment has it.

    :raises ApiError: 404 if not.
    """
    row = core.db.one("SELECT * FROM runs WHERE id = ? AND environment_id = ?", run_id, environment_id)
    if row is None:
        raise run_not_found()
    return row


def listed(core: Core, environment_id: str, statuses: tuple[str, ...], session_id: str | None, limit: int) -> list[Row]:
    """Return the newest runs with one of the statuses, all statuses if none is named."""
    wanted = statuses or STATUSES
    marks = ", ".join("?" for _ in wanted)
    return core.db.all(
        f"SELECT * FROM runs WHERE environment_id = ? AND status IN ({marks}) AND (? IS NULL OR session_id = ?)"  # noqa: S608 - only marks
        " ORDER BY created_at DESC, id DESC LIMIT ?",
        environment_id,
        *wanted,
        session_id,
        session_id,
        limit,
    )


def counts(core: Core, environment_id: str) -> dict[str, int]:
    """Return how many runs of the environment have each status."""
    found = dict.fromkeys(STATUSES, 0)
    for row in core.db.all(
        "SELECT status, count(*) AS number FROM runs WHERE environment_id = ? GROUP BY status", environment_id
    ):
        found[row["status"]] = row["number"]
    return found


def rendered(core: Core, run: Row) -> dict[str, Any]:
    """Return a run as the API answers it."""
    session = core.db.one("SELECT environment_id FROM sessions WHERE id = ?", run["session_id"])
    environment = core.db.one("SELECT project_id FROM environments WHERE id = ?", run["environment_id"])
    answer: dict[str, Any] = {
        "id": run["id"],
        "project_id": environment["project_id"] if environment is not None else None,
        "environment_id": session["environment_id"] if session is not None else None,
        "deployment_id": core.deployment.id,
        "deployment_task_id": stable_uuid("task", run["task_id"]),
        "session_id": run["session_id"],
        "version": core.deployment.version,
        "deployment_version": core.deployment.version,
        "api_version": API_VERSION,
        "sdk_version": run["sdk_version"],
        "cli_version": core.deployment.build_version,
        "task_id": run["task_id"],
        "status": run["status"],
        "metadata": loads(run["metadata"]),
        "attempt_number": run["attempt_number"],
        "exit_code": run["exit_code"],
    }
    if run["output"] is not None:
        answer["output"] = loads(run["output"])
    return answer | {"created_at": rfc3339(run["created_at"]), "updated_at": rfc3339(run["updated_at"])}


def lease(core: Core, run: Row) -> Row:
    """Give a queued run to the worker."""
    with core.db.transaction():
        now = core.clock.now()
        _change(
            core,
            run,
            now,
            status="running",
            execution="executing",
            # A ttl ends only the wait for a first execution.
            expires_at=None,
            not_before=None,
            lease_id=uuid7(now),
            lease_span=span_id(),
            lease_at=now,
            parked_version_id=None,
        )
    return reread(core, run["id"])


def suspend(
    core: Core,
    run: Row,
    *,
    step: int,
    kind: str,
    ref: str | None = None,
    correlation: str | None = None,
    due: int | None = None,
    after: int | None = None,
) -> None:
    """Let a running run wait for a token, a stream or a timer; the worker returns its lease.

    :param step: the step that waits.
    :param kind: `token`, `stream` or `timer`.
    :param ref: the id of the token or the stream.
    :param correlation: the correlation id that a record must carry.
    :param due: when the wait times out, in microseconds.
    :param after: the sequence after which a record counts.
    """
    now = core.clock.now()
    wait = {
        "wait_step": step,
        "wait_kind": kind,
        "wait_ref": ref,
        "wait_correlation": correlation,
        "wait_due": due,
        "wait_after": after,
        "active_us": run["active_us"] + now - run["lease_at"],
        "parked_version_id": workspace_of(core, run)["current_version_id"],
    }
    _change(core, run, now, status="waiting", execution="waiting", **_NO_LEASE, **wait)
    # Its place in its queue is free.
    core.db.after_commit(lambda: core.notifier.notify("dispatch"))


def resolve_wait(core: Core, run: Row, outcome: Mapping[str, Any]) -> None:
    """End a run's wait: its outcome becomes the result of the step that waits, and the run queues for resumption."""
    core.db.insert(
        "run_steps",
        run_id=run["id"],
        attempt_number=run["attempt_number"],
        step=run["wait_step"],
        kind=f"wait.{run['wait_kind']}",
        result=jsonb(dict(outcome)),
    )
    _change(core, run, core.clock.now(), status="queued", execution="queued", **_NO_WAIT)
    core.db.after_commit(lambda: core.notifier.notify("dispatch"))


def waiting_for(core: Core, kind: str, ref: str) -> list[Row]:
    """Return the runs that wait for one thing, longest waiting first."""
    return core.db.all("SELECT * FROM runs WHERE wait_kind = ? AND wait_ref = ? ORDER BY updated_at", kind, ref)


def succeed(core: Core, run: Row, output: str | None) -> None:
    """End a run with its output, JSON text, or None for no output."""
    with core.db.transaction():
        now = core.clock.now()
        events.append(core, run, "run.completed", {"exit_code": 0}, at=now, leased=True, worker_span=True)
        _finish(core, run, now, status="succeeded", exit_code=0, output=output)


def fail(core: Core, run: Row, failure_kind: str, detail: Mapping[str, Any], exit_code: int | None = None) -> None:
    """End an attempt that failed: queue the next one if the run's policy has one left, else end the run."""
    with core.db.transaction():
        now = core.clock.now()
        attributes = {"detail": dict(detail), "failure_kind": failure_kind}
        events.append(core, run, "run.failed", attributes, at=now, leased=True, worker_span=True)
        delay = delay_ms(loads(run["retry"]), run["attempt_number"])
        if delay is None:
            _finish(core, run, now, status="failed", exit_code=exit_code)
        else:
            _schedule_retry(core, run, now, delay)


def lose(core: Core, run: Row) -> None:
    """Record that the worker which executed a run is gone, then fail the attempt."""
    with core.db.transaction():
        if run["execution"] == "pending_cancel":
            release(core, run)
            return
        attributes = {"origin": "lease_sweeper", "reason": "lease_expired"}
        events.append(core, run, "run.execution_lost", attributes, at=core.clock.now(), leased=True)
        fail(core, reread(core, run["id"]), "worker_failed", {"message": "execution lost: the worker is gone"})


def cancel(core: Core, run: Row, reason: str | None, *, force: bool = False) -> None:
    """Cancel a live run; the events of a running one end when the worker has released it."""
    with core.db.transaction():
        now = core.clock.now()
        attributes = {"force": force, "reason": reason or "run cancelled"}
        if run["execution"] == "executing" and not force:
            events.append(core, run, "run.cancel_requested", attributes, at=now, leased=True)
            _change(core, run, now, status="cancelled", execution="pending_cancel", ended_at=now)
        else:
            events.append(core, run, "run.cancelled", attributes, at=now)
            _finish(core, run, now, status="cancelled")
        core.db.after_commit(lambda: core.executor.cancel(run["id"]))


def release(core: Core, run: Row) -> None:
    """Record that the worker has released a cancelled run."""
    with core.db.transaction():
        now = core.clock.now()
        attributes = {"origin": "cancel_operation", "reason": "worker execution cancelled"}
        events.append(core, run, "run.cancelled", attributes, at=now, leased=True, worker_span=True, severity="error")
        _finish(core, run, now, status="cancelled")


def expire(core: Core, run: Row) -> None:
    """Expire a run that was still queued when its ttl passed."""
    with core.db.transaction():
        now = core.clock.now()
        attributes = {"ttl": run["ttl"], "message": "run ttl expired before execution started"}
        events.append(core, run, "run.expired", attributes, at=now)
        _finish(core, run, now, status="expired")


def fail_resume(core: Core, run: Row, workspace: Row) -> None:
    """Fail a run whose workspace has a newer version than when its wait began (contract/behaviour.md section 22)."""
    attributes = {
        "origin": "run_wait_resume",
        "reason": "workspace_version_mismatch",
        "message": "workspace advanced while run was parked",
        "runtime_checkpoint_id": stable_uuid("checkpoint", run["id"], str(run["wait_step"])),
        "base_workspace_version_id": run["parked_version_id"],
        "current_workspace_version_id": workspace["current_version_id"],
        "runtime_checkpoint_expires_at": None,
    }
    _fail_unleased(core, run, attributes)


def fail_for_workspace(core: Core, run: Row, workspace_id: str, materialization_id: str | None) -> None:
    """Fail a queued run whose workspace needs recovery (contract/behaviour.md section 22)."""
    code = "workspace_materialization_recovery_required"
    attributes = {
        "error": {"code": code},
        "origin": "workspace_materialization",
        "message": code,
        "workspace_id": workspace_id,
        "materialization_id": materialization_id,
    }
    _fail_unleased(core, run, attributes)


def queued_on(core: Core, workspace_id: str) -> list[Row]:
    """Return the queued runs of the sessions that use a workspace."""
    return core.db.all(
        "SELECT runs.* FROM runs JOIN sessions ON sessions.id = runs.session_id"
        " WHERE sessions.workspace_id = ? AND runs.execution = 'queued' ORDER BY runs.created_at, runs.id",
        workspace_id,
    )


def workspace_of(core: Core, run: Row) -> Row:
    """Return the workspace of a run's session.

    :raises ApiError: 404 if there is none.
    """
    row = core.db.one(
        "SELECT workspaces.* FROM workspaces JOIN sessions ON sessions.workspace_id = workspaces.id"
        " WHERE sessions.id = ?",
        run["session_id"],
    )
    if row is None:
        raise ApiError(404, "workspace not found")
    return row


def phases(core: Core, run_id: str) -> list[Row]:
    """Return when the run began each phase of its life: `status`, `attempt_number`, `at`."""
    return core.db.all("SELECT * FROM run_phases WHERE run_id = ? ORDER BY at, rowid", run_id)


def set_metadata(core: Core, run: Row, changes: Mapping[str, Any]) -> None:
    """Set members of a run's metadata, with one event each."""
    with core.db.transaction():
        metadata = loads(run["metadata"])
        for name, value in changes.items():
            metadata[name] = value
            now = core.clock.now()
            core.db.update("runs", run["id"], metadata=jsonb(metadata), updated_at=now)
            events.append(core, run, "run.metadata.updated", at=now, leased=True, worker_span=True)


def _schedule_retry(core: Core, run: Row, now: int, delay: int) -> None:
    next_attempt = uuid7(now)
    not_before = now + delay * 1000
    _change(
        core,
        run,
        now,
        status="queued",
        execution="queued",
        attempt_number=run["attempt_number"] + 1,
        attempt_id=next_attempt,
        active_us=0,
        not_before=not_before,
        **_NO_LEASE,
        **_NO_WAIT,
    )
    attributes = {
        "reason": "transient_error",
        "delay_ms": delay,
        "retry_after": postgres_text(not_before),
        "next_attempt_id": next_attempt,
        "next_attempt_number": run["attempt_number"] + 1,
        "previous_attempt_id": run["attempt_id"],
        "previous_attempt_number": run["attempt_number"],
    }
    events.append(core, reread(core, run["id"]), "run.retry_scheduled", attributes, at=now)


def _fail_unleased(core: Core, run: Row, attributes: Mapping[str, Any]) -> None:
    with core.db.transaction():
        now = core.clock.now()
        events.append(core, run, "run.failed", attributes, at=now)
        _finish(core, run, now, status="failed")
        core.db.after_commit(lambda: core.executor.cancel(run["id"]))


def _finish(core: Core, run: Row, now: int, **columns: object) -> None:
    _change(core, run, now, execution="finished", ended_at=now, **columns, **_NO_LEASE, **_NO_WAIT)


def _change(core: Core, run: Row, now: int, **columns: object) -> None:
    core.db.update("runs", run["id"], updated_at=now, **columns)
    if "status" in columns:
        attempt = columns.get("attempt_number", run["attempt_number"])
        _begin_phase(core, run["id"], str(columns["status"]), attempt, now)
    core.db.after_commit(lambda: core.notifier.notify(events.topic(run["id"])))


def _begin_phase(core: Core, run_id: str, status: str, attempt_number: object, now: int) -> None:
    core.db.insert("run_phases", run_id=run_id, status=status, attempt_number=attempt_number, at=now)

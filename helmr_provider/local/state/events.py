"""Run events: a per-run sequence of records, stored as the text that is sent (contract/behaviour.md section 7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.jsontext import dumps, jsonb, loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

TERMINAL_KINDS = frozenset(("run.completed", "run.failed", "run.cancelled", "run.expired"))

_KINDS = {
    "run.created": ("lifecycle", "info", "control"),
    "log.stdout": ("log", "info", "worker"),
    "log.stderr": ("log", "info", "worker"),
    "log": ("log", "info", "worker"),
    "run.metadata.updated": ("guest", "info", "worker"),
    "run.execution_lost": ("worker", "warn", "lease_sweeper"),
    "run.retry_scheduled": ("lifecycle", "warn", "control"),
    "run.cancel_requested": ("lifecycle", "warn", "control"),
    "run.completed": ("lifecycle", "info", "control"),
    "run.failed": ("lifecycle", "error", "control"),
    "run.cancelled": ("lifecycle", "warn", "control"),
    "run.expired": ("lifecycle", "warn", "control"),
}
_REDACTED = frozenset(("log.stdout", "log.stderr", "log", "run.metadata.updated"))


def append(
    core: Core,
    run: Row,
    kind: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    at: int,
    leased: bool = False,
    worker_span: bool = False,
    severity: str | None = None,
) -> None:
    """Append a record and wake the run's followers once it is committed.

    :param run: the run's row as it is now: attempt and lease are taken from it.
    :param kind: the event's kind, which is its message too.
    :param attributes: ignored for the kinds whose attributes the server redacts.
    :param at: when it happened.
    :param leased: name the worker's lease, if there is one.
    :param worker_span: belong to the lease's span, if there is one, not to the run's.
    :param severity: another severity than the kind's usual one.
    """
    row = core.db.one("UPDATE runs SET last_event = last_event + 1 WHERE id = ? RETURNING last_event", run["id"])
    sequence: int = row["last_event"] if row is not None else 1
    category, usual_severity, source = _KINDS[kind]
    redacted = kind in _REDACTED
    span = run["lease_span"] if worker_span and run["lease_span"] is not None else run["span_id"]
    record: dict[str, Any] = {"id": str(sequence), "run_id": run["id"]}
    if leased and run["lease_id"] is not None:
        record["run_lease_id"] = run["lease_id"]
    record |= {
        "attempt_id": run["attempt_id"],
        "attempt_number": run["attempt_number"],
        "trace": {
            "trace_id": run["trace_id"],
            "span_id": span,
            "traceparent": f"00-{run['trace_id']}-{span}-01",
        },
        "category": category,
        "severity": severity or usual_severity,
        "source": source,
        "kind": kind,
        "message": kind,
        "at": rfc3339(at),
        "occurred_at": rfc3339(at),
        "redaction_class": "sensitive" if redacted else "internal",
        "attributes": {"redacted": True} if redacted else loads(jsonb(dict(attributes or {}))),
    }
    core.db.insert("events", run_id=run["id"], sequence=sequence, kind=kind, record=dumps(record))
    core.db.after_commit(lambda: core.notifier.notify(topic(run["id"])))


def after(core: Core, run_id: str, cursor: int, limit: int) -> list[Row]:
    """Return up to `limit` records after a cursor: `sequence`, `kind`, `record` (JSON text)."""
    return core.db.all(
        "SELECT sequence, kind, record FROM events WHERE run_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        run_id,
        min(cursor, 2**63 - 1),
        limit,
    )


def topic(run_id: str) -> str:
    """Name what is notified whenever the run has a new event or another status."""
    return f"run:{run_id}"

"""Session streams: records of one session, per direction and name, numbered from 1 (contract/behaviour.md §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import fingerprint_mismatch, stream_not_found
from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.common.jsontext import fingerprint, jsonb, loads
from helmr_provider.local.state import runs

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


class NewRecord(NamedTuple):
    """What an append brings."""

    data: Any
    correlation_id: str | None = None
    content_type: str = "application/json"
    idempotency_key: str | None = None

    def fingerprint(self) -> str:
        """Hash what two appends with one idempotency key must have in common."""
        return fingerprint([self.data, self.correlation_id, self.content_type])


def opened(core: Core, session_id: str, direction: str, name: str) -> Row:
    """Return a stream's row, made at its first use.

    :raises ApiError: 404 if the deployment does not declare the stream in this direction.
    """
    if not core.deployment.declares(direction, name):
        raise stream_not_found()
    query = "SELECT * FROM streams WHERE session_id = ? AND direction = ? AND name = ?"
    row = core.db.one(query, session_id, direction, name)
    if row is None:
        now = core.clock.now()
        core.db.insert("streams", id=uuid7(now), session_id=session_id, name=name, direction=direction, created_at=now)
        row = core.db.one(query, session_id, direction, name)
    if row is None:
        raise stream_not_found()
    return row


def existing(core: Core, session_id: str, direction: str, name: str) -> Row:
    """Return a stream's row if a key or a task has used the stream before.

    :raises ApiError: 404 if not, also for a declared stream.
    """
    query = "SELECT * FROM streams WHERE session_id = ? AND direction = ? AND name = ?"
    row = core.db.one(query, session_id, direction, name)
    if row is None:
        raise stream_not_found()
    return row


def catalogue(core: Core, session_id: str) -> list[Row]:
    """Return every declared stream of a session, by name and direction."""
    rows = [
        opened(core, session_id, direction, name)
        for direction, names in core.deployment.streams.items()
        for name in names
    ]
    return sorted(rows, key=lambda row: (row["name"], row["direction"]))


def append(core: Core, stream: Row, new: NewRecord) -> tuple[Row, bool]:
    """Append a record, or find the one that the idempotency key made; tell whether it is new.

    :raises ApiError: 409 if the key was used with another record.
    """
    with core.db.transaction():
        if new.idempotency_key is not None:
            earlier = core.db.one(
                "SELECT * FROM stream_records WHERE stream_id = ? AND idempotency_key = ?",
                stream["id"],
                new.idempotency_key,
            )
            if earlier is not None:
                if earlier["fingerprint"] != new.fingerprint():
                    raise fingerprint_mismatch()
                return earlier, False
        now = core.clock.now()
        numbered = core.db.one(
            "UPDATE streams SET sequence = sequence + 1 WHERE id = ? RETURNING sequence", stream["id"]
        )
        record_id = uuid7(now)
        core.db.insert(
            "stream_records",
            id=record_id,
            stream_id=stream["id"],
            session_id=stream["session_id"],
            direction=stream["direction"],
            sequence=numbered["sequence"] if numbered is not None else 1,
            data=jsonb(new.data),
            correlation_id=new.correlation_id,
            content_type=new.content_type,
            idempotency_key=new.idempotency_key,
            fingerprint=new.fingerprint(),
            created_at=now,
        )
        return record(core, record_id), True


def record(core: Core, record_id: str) -> Row:
    """Return a record's row.

    :raises ApiError: 404 if there is none.
    """
    row = core.db.one("SELECT * FROM stream_records WHERE id = ?", record_id)
    if row is None:
        raise stream_not_found()
    return row


def after(core: Core, stream: Row, sequence: int, correlation_id: str | None, limit: int) -> list[Row]:
    """Return records after a sequence, ascending."""
    return core.db.all(
        "SELECT * FROM stream_records WHERE stream_id = ? AND sequence > ? AND (? IS NULL OR correlation_id = ?)"
        " ORDER BY sequence LIMIT ?",
        stream["id"],
        min(sequence, 2**63 - 1),
        correlation_id,
        correlation_id,
        limit,
    )


def read(core: Core, stream: Row, run: Row, sequence: int, correlation_id: str | None) -> Row | None:
    """Return the first input record after a sequence to a run that waits for it, if there is one.

    The record stays in the stream for every later wait; it only causes no follow-up run any more.
    """
    found = after(core, stream, sequence, correlation_id, 1)
    if not found:
        return None
    if found[0]["consumed_by"] is None:
        core.db.update("stream_records", found[0]["id"], consumed_by=run["id"])
    return found[0]


def resolution(stream_name: str, row: Row) -> dict[str, Any]:
    """Return what a stream wait gives the task: no id and no correlation id (contract/behaviour.md section 22)."""
    return {"data": loads(row["data"]), "stream": stream_name, "sequence": row["sequence"]}


def offer(core: Core, stream: Row, new: Row) -> bool:
    """Give a new input record to the run that waits for it; tell whether there was one."""
    for run in runs.waiting_for(core, "stream", stream["id"]):
        if run["wait_correlation"] in (None, new["correlation_id"]) and new["sequence"] > (run["wait_after"] or 0):
            core.db.update("stream_records", new["id"], consumed_by=run["id"])
            runs.resolve_wait(core, run, {"status": "received", "record": resolution(stream["name"], new)})
            return True
    return False


def pending_input(core: Core, session_id: str) -> Row | None:
    """Return the oldest input record that still owes its session a follow-up run."""
    return core.db.one(
        "SELECT * FROM stream_records WHERE session_id = ? AND direction = 'input' AND consumed_by IS NULL"
        " AND turn_run_id IS NULL ORDER BY created_at, id LIMIT 1",
        session_id,
    )


def rendered(stream: Row) -> dict[str, Any]:
    """Return a stream as the API answers it."""
    return {
        "id": stream["id"],
        "session_id": stream["session_id"],
        "name": stream["name"],
        "direction": stream["direction"],
        "sequence": stream["sequence"],
        "metadata": {},
        "created_at": rfc3339(stream["created_at"]),
    }


def rendered_record(row: Row) -> dict[str, Any]:
    """Return a record as the API answers it."""
    answer: dict[str, Any] = {
        "id": row["id"],
        "stream_id": row["stream_id"],
        "sequence": row["sequence"],
        "data": loads(row["data"]),
    }
    if row["correlation_id"]:
        answer["correlation_id"] = row["correlation_id"]
    return answer | {"content_type": row["content_type"], "created_at": rfc3339(row["created_at"])}

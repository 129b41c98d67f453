"""Log chunks: raw bytes of stdout and stderr in one per-run sequence (contract/behaviour.md section 10)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.state import events

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_SNAPSHOT_BYTES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024


def append(core: Core, run: Row, stream: str, content: bytes) -> None:
    """Append bytes to one of the run's two streams, with an event for each chunk."""
    with core.db.transaction():
        for start in range(0, len(content), _CHUNK_BYTES):
            now = core.clock.now()
            row = core.db.one("UPDATE runs SET last_log = last_log + 1 WHERE id = ? RETURNING last_log", run["id"])
            core.db.insert(
                "log_chunks",
                run_id=run["id"],
                sequence=row["last_log"] if row is not None else 1,
                stream=stream,
                content=content[start : start + _CHUNK_BYTES],
                attempt_number=run["attempt_number"],
                lease_id=run["lease_id"],
                at=now,
            )
            events.append(core, run, f"log.{stream}", at=now, leased=True, worker_span=True)


def snapshot(core: Core, run: Row) -> dict[str, Any]:
    """Return the newest mebibyte of each stream with the totals."""
    tails: dict[str, str] = {}
    totals: dict[str, int] = {}
    for stream in ("stdout", "stderr"):
        row = core.db.one(
            "SELECT coalesce(sum(length(content)), 0) AS total FROM log_chunks WHERE run_id = ? AND stream = ?",
            run["id"],
            stream,
        )
        totals[stream] = row["total"] if row is not None else 0
        tails[stream] = base64.b64encode(tail(core, run["id"], stream, _SNAPSHOT_BYTES)).decode()
    return {
        "stdout_base64": tails["stdout"],
        "stderr_base64": tails["stderr"],
        "cursor": str(run["last_log"]),
        "stdout_bytes": totals["stdout"],
        "stderr_bytes": totals["stderr"],
        "truncated": max(totals.values()) > _SNAPSHOT_BYTES,
    }


def tail(core: Core, run_id: str, stream: str, size: int) -> bytes:
    """Return the newest bytes of one stream."""
    chunks: list[bytes] = []
    missing = size
    for row in core.db.execute(
        "SELECT content FROM log_chunks WHERE run_id = ? AND stream = ? ORDER BY sequence DESC", run_id, stream
    ):
        chunks.append(row["content"][-missing:])
        missing -= len(chunks[-1])
        if missing <= 0:
            break
    return b"".join(reversed(chunks))


def after(core: Core, run_id: str, cursor: int, limit: int) -> list[Row]:
    """Return up to `limit` chunks after a cursor."""
    return core.db.all(
        "SELECT * FROM log_chunks WHERE run_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        run_id,
        min(cursor, 2**63 - 1),
        limit,
    )


def rendered(chunk: Row) -> dict[str, Any]:
    """Return a chunk as the `run_log` frame carries it."""
    return {
        "id": str(chunk["sequence"]),
        "run_id": chunk["run_id"],
        "run_lease_id": chunk["lease_id"],
        "attempt_number": chunk["attempt_number"],
        "stream": chunk["stream"],
        "content_base64": base64.b64encode(chunk["content"]).decode(),
        "bytes": len(chunk["content"]),
        "observed_seq": chunk["sequence"],
        "at": rfc3339(chunk["at"]),
    }

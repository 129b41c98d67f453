"""Byte streams of execs and terminals: chunks with offsets, the newest are kept (contract/behaviour.md §14)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import uuid7

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

MAX_WRITE = 1024 * 1024


def topic(resource_id: str) -> str:
    """Return the topic that is notified whenever an exec or a terminal has new bytes or another state."""
    return f"bytes:{resource_id}"


def cursor(core: Core, resource_id: str, stream: str) -> int:
    """Return how many bytes a stream has had."""
    row = core.db.one("SELECT cursor FROM byte_streams WHERE resource_id = ? AND stream = ?", resource_id, stream)
    return 0 if row is None else int(row["cursor"])


def append(core: Core, resource_id: str, stream: str, content: bytes) -> Row:
    """Append bytes as one chunk and delete chunks that are too old; return the chunk."""
    with core.db.transaction():
        start = cursor(core, resource_id, stream)
        end = start + len(content)
        now = core.clock.now()
        core.db.execute("INSERT OR REPLACE INTO byte_streams VALUES (?, ?, ?)", resource_id, stream, end)
        core.db.insert(
            "byte_chunks",
            id=uuid7(now),
            resource_id=resource_id,
            stream=stream,
            offset_start=start,
            offset_end=end,
            content=content,
            created_at=now,
        )
        core.db.execute(
            "DELETE FROM byte_chunks WHERE resource_id = ? AND stream = ? AND offset_end <= ?",
            resource_id,
            stream,
            end - core.settings.stream_retention,
        )
        core.db.after_commit(lambda: core.notifier.notify(topic(resource_id)))
    return _chunk(core, resource_id, stream, start)


def write(core: Core, resource_id: str, stream: str, offset: int, content: bytes) -> Row:
    """Append bytes at the stream's end, or find the chunk that the same write made before.

    :raises ApiError: 409 for any other offset or other bytes.
    """
    if offset == cursor(core, resource_id, stream):
        return append(core, resource_id, stream, content)
    earlier = core.db.one(
        "SELECT * FROM byte_chunks WHERE resource_id = ? AND stream = ? AND offset_start = ?",
        resource_id,
        stream,
        offset,
    )
    if earlier is None or bytes(earlier["content"]) != content:
        raise ApiError(409, "workspace_stream_offset_conflict", "workspace_stream_offset_conflict")
    return earlier


def after(core: Core, resource_id: str, stream: str, offset: int, limit: int) -> list[Row]:
    """Return up to so many chunks that end beyond an offset; the first may begin before it.

    :raises ApiError: 410 if bytes behind the offset are forgotten.
    """
    rows = core.db.all(
        "SELECT * FROM byte_chunks WHERE resource_id = ? AND stream = ? AND offset_end > ? ORDER BY offset_end LIMIT ?",
        resource_id,
        stream,
        min(offset, 2**63 - 1),
        limit,
    )
    if rows and rows[0]["offset_start"] > offset:
        raise ApiError(410, "workspace stream cursor expired", "workspace_stream_cursor_expired")
    return rows


def tail(core: Core, resource_id: str, stream: str, size: int) -> bytes:
    """Return the newest bytes that are kept, at most so many."""
    rows = core.db.all(
        "SELECT content FROM byte_chunks WHERE resource_id = ? AND stream = ? AND offset_end > ? ORDER BY offset_end",
        resource_id,
        stream,
        cursor(core, resource_id, stream) - size,
    )
    return b"".join(row["content"] for row in rows)[-size:]


def rendered(chunk: Row) -> dict[str, Any]:
    """Return a chunk as the API answers it."""
    created_at = rfc3339(chunk["created_at"])
    return {
        "id": chunk["id"],
        "stream": chunk["stream"],
        "offset_start": chunk["offset_start"],
        "offset_end": chunk["offset_end"],
        "data": base64.b64encode(chunk["content"]).decode(),
        "observed_at": created_at,
        "created_at": created_at,
    }


def _chunk(core: Core, resource_id: str, stream: str, start: int) -> Row:
    rows = core.db.all(
        "SELECT * FROM byte_chunks WHERE resource_id = ? AND stream = ? AND offset_start = ?",
        resource_id,
        stream,
        start,
    )
    return rows[0]

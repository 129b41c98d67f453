"""Versions of workspaces: archives that never change, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.storage.archives import EMPTY, EMPTY_DIGEST, Packed

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

KINDS = ("user", "system")


def insert_first(core: Core, workspace_id: str, version_id: str, now: int) -> None:
    """Insert the empty version that every workspace begins with."""
    core.db.insert(
        "workspace_versions",
        id=version_id,
        workspace_id=workspace_id,
        kind="system",
        content_digest=EMPTY_DIGEST,
        size_bytes=len(EMPTY),
        entry_count=0,
        message="initial empty workspace",
        created_at=now,
    )


def promote(core: Core, workspace: Row, packed: Packed, kind: str, message: str | None = None) -> str:
    """Make an archive the workspace's current version; return the version's id.

    A `user` version is a run's. What commands have written stays dirty then.
    """
    return _promote(core, workspace, packed, kind, message)


def repeat(core: Core, workspace: Row) -> str:
    """Make the current version's content a new version, as every run does that has succeeded; return its id."""
    current = find(core, workspace, workspace["current_version_id"])
    content = Packed(current["content_digest"], current["size_bytes"], current["entry_count"])
    return _promote(core, workspace, content, "user", None)


def _promote(core: Core, workspace: Row, content: Packed, kind: str, message: str | None) -> str:
    now = core.clock.now()
    version_id = uuid7(now)
    with core.db.transaction():
        core.db.insert(
            "workspace_versions",
            id=version_id,
            workspace_id=workspace["id"],
            parent_version_id=workspace["current_version_id"],
            kind=kind,
            content_digest=content.digest,
            size_bytes=content.size,
            entry_count=content.entries,
            message=message,
            created_at=now,
        )
        state = {"last_activity_at": now} if kind == "user" else {"dirty_state": "clean"}
        core.db.update("workspaces", workspace["id"], current_version_id=version_id, updated_at=now, **state)
    return version_id


def find(core: Core, workspace: Row, version_id: str) -> Row:
    """Return a version's row if the workspace has it.

    :raises ApiError: 404 if not.
    """
    row = core.db.one("SELECT * FROM workspace_versions WHERE id = ? AND workspace_id = ?", version_id, workspace["id"])
    if row is None:
        raise ApiError(404, "workspace version is not readable", "workspace_version_not_readable")
    return row


def listed(core: Core, workspace: Row, kind: str | None, limit: int) -> list[Row]:
    """Return the newest versions."""
    return core.db.all(
        "SELECT * FROM workspace_versions WHERE workspace_id = ? AND (? IS NULL OR kind = ?)"
        " ORDER BY created_at DESC, id DESC LIMIT ?",
        workspace["id"],
        kind,
        kind,
        limit,
    )


def rendered(version: Row) -> dict[str, Any]:
    """Return a version as the API answers it."""
    answer: dict[str, Any] = {"id": version["id"], "workspace_id": version["workspace_id"]}
    if version["parent_version_id"] is not None:
        answer["parent_version_id"] = version["parent_version_id"]
    answer |= {
        "kind": version["kind"],
        "state": "ready",
        "content_digest": version["content_digest"],
        "size_bytes": version["size_bytes"],
        "artifact_encoding": "tar",
        "artifact_entry_count": version["entry_count"],
    }
    if version["message"] is not None:
        answer["message"] = version["message"]
    created_at = rfc3339(version["created_at"])
    return answer | {"promoted_at": created_at, "created_at": created_at}

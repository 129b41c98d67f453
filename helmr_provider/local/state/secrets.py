"""Secrets: their names and times. Nothing here could use a value, so none is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_MOST = 200


def put(core: Core, environment_id: str, name: str) -> Row:
    """Note that a secret was set."""
    now = core.clock.now()
    core.db.execute(
        "INSERT INTO secrets VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET updated_at = excluded.updated_at",
        environment_id,
        name,
        now,
        now,
    )
    return find(core, environment_id, name)


def find(core: Core, environment_id: str, name: str) -> Row:
    """Return a secret's row if the environment has it.

    :raises ApiError: 404 if not.
    """
    row = core.db.one("SELECT * FROM secrets WHERE environment_id = ? AND name = ?", environment_id, name)
    if row is None:
        raise ApiError(404, "secret not found")
    return row


def listed(core: Core, environment_id: str) -> list[Row]:
    """Return the environment's secrets by name."""
    return core.db.all("SELECT * FROM secrets WHERE environment_id = ? ORDER BY name LIMIT ?", environment_id, _MOST)


def delete(core: Core, secret: Row) -> None:
    """Delete a secret."""
    core.db.execute(
        "DELETE FROM secrets WHERE environment_id = ? AND name = ?", secret["environment_id"], secret["name"]
    )


def rendered(core: Core, secret: Row) -> dict[str, Any]:
    """Return a secret as the API answers it, which is never its value."""
    return {
        "project_id": core.project_id(secret["environment_id"]),
        "environment_id": secret["environment_id"],
        "name": secret["name"],
        "created_at": rfc3339(secret["created_at"]),
        "updated_at": rfc3339(secret["updated_at"]),
    }

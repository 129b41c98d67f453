"""Idempotency keys of what is done to workspaces: per environment or workspace, per kind, for a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from helmr_provider.local.common.clock import DAY
from helmr_provider.local.common.ids import hashed

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

MISMATCH = "idempotency_fingerprint_mismatch"


class Key(NamedTuple):
    """A key and how long it counts, in microseconds."""

    text: str
    lifetime: int = DAY


def used(core: Core, scope_id: str, kind: str, key: Key) -> Row | None:
    """Return what a key that still counts was used for: `fingerprint`, `resource_id`, `response`."""
    return core.db.one(
        "SELECT * FROM workspace_keys WHERE scope_id = ? AND kind = ? AND key_hash = ? AND expires_at > ?",
        scope_id,
        kind,
        hashed(key.text),
        core.clock.now(),
    )


def bind(
    core: Core,
    scope_id: str,
    kind: str,
    key: Key,
    *,
    fingerprint: str,
    resource_id: str,
    response: str | None = None,
) -> None:
    """Note what a key is used for.

    :param response: the answer to repeat, JSON text, where a repeat does not read the resource.
    """
    core.db.execute(
        "INSERT OR REPLACE INTO workspace_keys VALUES (?, ?, ?, ?, ?, ?, ?)",
        scope_id,
        kind,
        hashed(key.text),
        fingerprint,
        resource_id,
        response,
        core.clock.now() + key.lifetime,
    )

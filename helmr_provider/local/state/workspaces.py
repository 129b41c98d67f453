"""Workspaces: their form in the API, how they are found, made, changed and archived (contract/behaviour.md §13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.common.jsontext import fingerprint, jsonb, loads
from helmr_provider.local.state import deployments, materializations, versions, workspace_keys

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

STATES = ("active", "deleting", "recovery_required", "archived", "deleted")


class NewWorkspace(NamedTuple):
    """The checked options of a creation."""

    sandbox_id: str
    external_id: str | None = None
    metadata: dict[str, Any] | None = None
    tags: list[str] | None = None
    deployment_id: str | None = None
    key: workspace_keys.Key | None = None

    def fingerprint(self) -> str:
        """Hash what two creates with one idempotency key must have in common."""
        return fingerprint(
            [self.sandbox_id, self.deployment_id, self.external_id, self.metadata or {}, self.tags or []]
        )


def create(core: Core, environment_id: str, new: NewWorkspace) -> tuple[Row, bool]:
    """Create a workspace with its first, empty version; tell whether it is new.

    :raises ApiError: 409 if the key was used with another request, the sandbox is not deployed or the external id is
        taken.
    """
    with core.db.transaction():
        if new.key is not None:
            earlier = workspace_keys.used(core, environment_id, "workspace", new.key)
            if earlier is not None:
                if earlier["fingerprint"] != new.fingerprint():
                    raise ApiError(
                        409,
                        "idempotency_key was already used with different workspace create parameters",
                        workspace_keys.MISMATCH,
                    )
                return find(core, environment_id, earlier["resource_id"]), False
        if new.sandbox_id not in core.deployment.sandboxes or new.deployment_id not in (None, core.deployment.id):
            raise ApiError(409, "task sandbox is not deployed", "sandbox_not_deployed")
        if new.external_id is not None and _by_external_id(core, environment_id, new.external_id) is not None:
            raise ApiError(
                409,
                'ERROR: duplicate key value violates unique constraint "workspaces_external_id_idx" (SQLSTATE 23505)',
            )
        workspace_id = insert(core, environment_id, new)
        if new.key is not None:
            workspace_keys.bind(
                core,
                environment_id,
                "workspace",
                new.key,
                fingerprint=new.fingerprint(),
                resource_id=workspace_id,
            )
        return find(core, environment_id, workspace_id), True


def insert(core: Core, environment_id: str, new: NewWorkspace) -> str:
    """Insert a workspace and its first version; return its id."""
    now = core.clock.now()
    workspace_id, version_id = uuid7(now), uuid7(now)
    core.db.insert(
        "workspaces",
        id=workspace_id,
        environment_id=environment_id,
        sandbox_id=new.sandbox_id,
        external_id=new.external_id,
        current_version_id=version_id,
        state="active",
        desired_state="active",
        dirty_state="clean",
        metadata=jsonb(new.metadata or {}),
        tags=jsonb(new.tags or []),
        last_activity_at=now,
        created_at=now,
        updated_at=now,
    )
    versions.insert_first(core, workspace_id, version_id, now)
    return workspace_id


def find(core: Core, environment_id: str, workspace_id: str) -> Row:
    """Return a workspace's row if the environment has it.

    :raises ApiError: 404 if not.
    """
    row = core.db.one("SELECT * FROM workspaces WHERE id = ? AND environment_id = ?", workspace_id, environment_id)
    if row is None:
        raise not_found()
    return row


def fits(core: Core, environment_id: str, workspace_id: str, sandbox_id: str) -> bool:
    """Tell whether a session of a task with this sandbox may use a workspace."""
    return (
        core.db.one(
            "SELECT 1 FROM workspaces WHERE id = ? AND environment_id = ? AND sandbox_id = ? AND state = 'active'",
            workspace_id,
            environment_id,
            sandbox_id,
        )
        is not None
    )


def listed(
    core: Core, environment_id: str, *, state: str | None, external_id: str | None, tag: str | None, limit: int
) -> list[Row]:
    """Return the newest workspaces, archived ones included."""
    return core.db.all(
        "SELECT * FROM workspaces WHERE environment_id = ? AND (? IS NULL OR state = ?)"
        " AND (? IS NULL OR external_id = ?)"
        " AND (? IS NULL OR EXISTS (SELECT 1 FROM json_each(workspaces.tags) WHERE value = ?))"
        " ORDER BY created_at DESC, id DESC LIMIT ?",
        environment_id,
        state,
        state,
        external_id,
        external_id,
        tag,
        tag,
        limit,
    )


def patch(core: Core, workspace: Row, changes: dict[str, Any]) -> Row:
    """Replace metadata and tags.

    :param changes: any of `metadata` and `tags`.
    """
    columns = {name: jsonb(value) for name, value in changes.items()}
    core.db.update("workspaces", workspace["id"], updated_at=core.clock.now(), **columns)
    return find(core, workspace["environment_id"], workspace["id"])


def archive(core: Core, workspace: Row) -> Row:
    """Archive a workspace; one that is archived stays so.

    :raises ApiError: 409 while it is live.
    """
    with core.db.transaction():
        if materializations.live(core, workspace["id"]) is not None:
            raise ApiError(409, "workspace has an active materialization")
        now = core.clock.now()
        core.db.update(
            "workspaces",
            workspace["id"],
            state="archived",
            desired_state="archived",
            archived_at=workspace["archived_at"] or now,
            updated_at=now,
        )
        return find(core, workspace["environment_id"], workspace["id"])


def require_recovery(core: Core, workspace_id: str) -> None:
    """Record that the changes of a workspace could not be captured: nothing but archiving is left."""
    core.db.update(
        "workspaces",
        workspace_id,
        state="recovery_required",
        dirty_state="capture_failed",
        updated_at=core.clock.now(),
    )


def rendered(core: Core, workspace: Row) -> dict[str, Any]:
    """Return a workspace as the API answers it."""
    answer: dict[str, Any] = {
        "id": workspace["id"],
        "project_id": core.project_id(workspace["environment_id"]),
        "environment_id": workspace["environment_id"],
        "deployment_sandbox_id": deployments.sandbox_row_id(workspace["sandbox_id"]),
        "sandbox_id": workspace["sandbox_id"],
        "sandbox_fingerprint": deployments.fingerprint(workspace["sandbox_id"]),
    }
    if workspace["external_id"] is not None:
        answer["external_id"] = workspace["external_id"]
    answer |= {
        "current_version_id": workspace["current_version_id"],
        "state": workspace["state"],
        "desired_state": workspace["desired_state"],
        "dirty_state": workspace["dirty_state"],
        "metadata": loads(workspace["metadata"]),
    }
    tags = loads(workspace["tags"])
    if tags:
        answer["tags"] = tags
    for name in ("last_activity_at", "created_at", "updated_at"):
        answer[name] = rfc3339(workspace[name])
    if workspace["archived_at"] is not None:
        answer["archived_at"] = rfc3339(workspace["archived_at"])
    return answer


def not_found() -> ApiError:
    """Build the answer for a workspace that this environment does not have."""
    return ApiError(404, "workspace not found")


def _by_external_id(core: Core, environment_id: str, external_id: str) -> Row | None:
    return core.db.one(
        "SELECT * FROM workspaces WHERE environment_id = ? AND external_id = ?", environment_id, external_id
    )

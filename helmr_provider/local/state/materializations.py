"""Materializations: a workspace while it is live, from the request to its stop (contract/behaviour.md section 13).

`requested` → `materializing` → `running` → `capturing` or `stopping` → `stopped`; `lost` or `failed` from anywhere.

In Helmr the worker decides whether a run may finish when its workspace is stopped. Here the run fails at its end or
next wait, so that DAGs do not depend on that choice; a stop that comes while the run's version is being packed waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import SECOND, rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.state import deployments

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

ENDED = ("stopped", "lost", "failed")
ENDING = ("capturing", "stopping")
TOPIC = "workspaces"
_RESERVATION = 300 * SECOND


def topic(workspace_id: str) -> str:
    """Name what is notified whenever there is something to do for a workspace."""
    return f"workspace:{workspace_id}"


def live(core: Core, workspace_id: str) -> Row | None:
    """Return the workspace's materialization that has not ended."""
    return core.db.one(
        "SELECT * FROM materializations WHERE workspace_id = ? AND state NOT IN ('stopped', 'lost', 'failed')",
        workspace_id,
    )


def reread(core: Core, materialization_id: str) -> Row:
    """Return a materialization's row.

    :raises ApiError: 404 if there is none.
    """
    row = core.db.one("SELECT * FROM materializations WHERE id = ?", materialization_id)
    if row is None:
        raise ApiError(404, "workspace not found")
    return row


def ensure(core: Core, workspace: Row, run_id: str | None = None) -> tuple[Row, bool]:
    """Return the live materialization, requested now if there is none; tell whether it was.

    :param run_id: the run that needs it; it then lives only as long as the run, unless another caller asks for it.
    :raises ApiError: 409 while one is being stopped.
    """
    with core.db.transaction():
        now = core.clock.now()
        present = live(core, workspace["id"])
        if present is not None:
            if present["state"] in ENDING:
                text = "workspace has an active materialization that is not runnable"
                raise ApiError(409, text, "workspace_materialization_not_runnable")
            if run_id is None and present["run_id"] is not None:
                core.db.update("materializations", present["id"], run_id=None)
            return present, False
        if workspace["desired_state"] != "active" or workspace["dirty_state"] != "clean":
            # Changes that nothing live holds any more are gone.
            core.db.update("workspaces", workspace["id"], desired_state="active", dirty_state="clean", updated_at=now)
        materialization_id = uuid7(now)
        core.db.insert(
            "materializations",
            id=materialization_id,
            workspace_id=workspace["id"],
            base_version_id=workspace["current_version_id"],
            state="requested",
            run_id=run_id,
            created_at=now,
            updated_at=now,
        )
        notify(core, workspace["id"])
        return reread(core, materialization_id), True


def claim(core: Core, materialization: Row, worker_id: str, state: str) -> None:
    """Assign a materialization to the worker, or move it to its next state."""
    now = core.clock.now()
    core.db.update(
        "materializations",
        materialization["id"],
        state=state,
        worker_instance_id=worker_id,
        claim_attempt=1,
        reservation_expires_at=now + _RESERVATION,
        last_heartbeat_at=now,
        updated_at=now,
    )
    notify(core, materialization["workspace_id"])


def take_writer(core: Core, materialization_id: str) -> None:
    """Count a new holder of the right to write."""
    core.db.execute(
        "UPDATE materializations SET fencing_generation = fencing_generation + 1 WHERE id = ?", materialization_id
    )


def soil(core: Core, materialization_id: str) -> None:
    """Note that something began to write."""
    row = reread(core, materialization_id)
    core.db.update("materializations", row["id"], dirty_generation=row["dirty_generation"] + 1)
    core.db.update("workspaces", row["workspace_id"], dirty_state="dirty", updated_at=core.clock.now())


def stop(core: Core, workspace: Row) -> Row | None:
    """Ask the live materialization to stop; return it, or None if nothing is live."""
    with core.db.transaction():
        present = live(core, workspace["id"])
        now = core.clock.now()
        if workspace["state"] == "active":
            core.db.update("workspaces", workspace["id"], desired_state="stopped", updated_at=now)
        if present is None or present["state"] in ENDING:
            return present
        begin_stop(core, present)
        return reread(core, present["id"])


def begin_stop(core: Core, materialization: Row) -> None:
    """Let a live materialization end: its changes are captured first, if there are any."""
    workspace = core.db.one("SELECT dirty_state FROM workspaces WHERE id = ?", materialization["workspace_id"])
    state = "capturing" if workspace is not None and workspace["dirty_state"] == "dirty" else "stopping"
    core.db.update("materializations", materialization["id"], state=state, updated_at=core.clock.now())
    notify(core, materialization["workspace_id"])


def end(core: Core, materialization: Row, state: str) -> None:
    """Record that a materialization has ended."""
    now = core.clock.now()
    core.db.update("materializations", materialization["id"], state=state, updated_at=now)
    if state == "stopped":
        core.db.update("workspaces", materialization["workspace_id"], updated_at=now)
    core.db.after_commit(lambda: core.notifier.notify("dispatch"))


def notify(core: Core, workspace_id: str) -> None:
    """Tell the worker that there is something to do for a workspace."""

    def tell() -> None:
        core.notifier.notify(topic(workspace_id))
        core.notifier.notify(TOPIC)

    core.db.after_commit(tell)


def rendered(core: Core, materialization: Row) -> dict[str, Any]:
    """Return a materialization as the API answers it."""
    workspace = core.db.one(
        "SELECT environment_id, sandbox_id FROM workspaces WHERE id = ?", materialization["workspace_id"]
    )
    if workspace is None:
        raise ApiError(404, "workspace not found")
    answer: dict[str, Any] = {
        "id": materialization["id"],
        "project_id": core.project_id(workspace["environment_id"]),
        "environment_id": workspace["environment_id"],
        "workspace_id": materialization["workspace_id"],
        "deployment_sandbox_id": deployments.sandbox_row_id(workspace["sandbox_id"]),
        "base_version_id": materialization["base_version_id"],
    }
    if materialization["worker_instance_id"] is not None:
        answer["worker_instance_id"] = materialization["worker_instance_id"]
    for name in ("state", "claim_attempt", "fencing_generation", "dirty_generation"):
        answer[name] = materialization[name]
    for name in ("reservation_expires_at", "last_heartbeat_at", "created_at", "updated_at"):
        if materialization[name] is not None:
            answer[name] = rfc3339(materialization[name])
    return answer

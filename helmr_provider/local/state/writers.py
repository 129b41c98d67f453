"""One writer per workspace: an exec, a terminal or a run (contract/behaviour.md section 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.state import materializations

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_COMMANDS = """
    SELECT 1 FROM workspace_execs WHERE workspace_id = ? AND state IN ('materializing', 'queued', 'running')
    UNION ALL
    SELECT 1 FROM workspace_ptys WHERE workspace_id = ? AND state IN ('creating', 'open', 'resizing', 'closing')
"""
_RUNS = """
    SELECT 1 FROM runs JOIN sessions ON sessions.id = runs.session_id
    WHERE runs.execution IN ('executing', 'pending_cancel') AND sessions.workspace_id = ?
"""


def runs_hold(core: Core, workspace_id: str) -> bool:
    """Tell whether a run that executes holds the workspace."""
    return core.db.one(f"{_RUNS} LIMIT 1", workspace_id) is not None


def commands_hold(core: Core, workspace_id: str) -> bool:
    """Tell whether an exec or a terminal holds the workspace."""
    return core.db.one(f"{_COMMANDS} LIMIT 1", workspace_id, workspace_id) is not None


def is_ending(core: Core, workspace_id: str) -> bool:
    """Tell whether the workspace is being stopped."""
    present = materializations.live(core, workspace_id)
    return present is not None and present["state"] in materializations.ENDING


def is_stopping(core: Core, workspace: Row) -> bool:
    """Tell whether the workspace is being stopped because a caller asked for it, not because its run is over."""
    return workspace["desired_state"] == "stopped" and is_ending(core, workspace["id"])


def can_run(core: Core, workspace_id: str) -> bool:
    """Tell whether a run may begin to execute on the workspace."""
    if is_ending(core, workspace_id):
        return False
    return not commands_hold(core, workspace_id) and not runs_hold(core, workspace_id)


def take(core: Core, workspace: Row) -> Row:
    """Let a new exec or terminal hold the workspace; return the materialization that it gets.

    :raises ApiError: 409 if the workspace is not active or has a writer; 404 while it is being stopped.
    """
    if workspace["state"] != "active":
        raise ApiError(409, "workspace is not active", "workspace_not_active")
    if commands_hold(core, workspace["id"]) or runs_hold(core, workspace["id"]):
        raise ApiError(409, "workspace already has an active write primitive", "workspace_writer_active")
    if is_stopping(core, workspace) and core.settings.quirks:
        raise ApiError(404, "workspace primitive not found")
    materialization, _ = materializations.ensure(core, workspace)
    materializations.take_writer(core, materialization["id"])
    return materialization

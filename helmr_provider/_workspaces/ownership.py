"""Whose a workspace is, and what may be done to it for the sake of a task: shared by operators and triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from helmr_provider._sessions.epoch import given_up, was_given_up
from helmr_provider._sessions.identity import ownership_member

if TYPE_CHECKING:
    from helmr_provider._sessions.identity import OwnershipMetadata
    from helmr_provider.client import AsyncHelmrClient, HelmrClient
    from helmr_provider.client.errors import HelmrApiError
    from helmr_provider.client.models.workspaces import Workspace, WorkspaceStop

HOLDER: Final = "airflow_holder"
"""Member of a workspace's metadata: the try whose command was started last."""

HOLDING_TRY: Final = "airflow_holding_try"
"""Member of a workspace's metadata: number and epoch of the last try of each task instance that ran a command in it."""

_MOST_NOTES: Final = 20
"""Of the task instances that share a workspace; the oldest notes are dropped."""

MARK: Final = "AIRFLOW_HELMR_EXEC"
"""Environment variable of the command that tells which task instance has started it: its idempotency key."""

BUSY: Final = frozenset({"workspace_writer_active", "workspace_materialization_not_runnable"})
"""Codes of temporary conflicts: another writer is active, or the workspace is being stopped."""

# The control plane has no code for a command in a workspace that stops (contract/behaviour.md section 22.5). The text
# for a workspace that does not exist differs.
_STOPPING: Final = (404, "workspace primitive not found")

ENDED: Final = frozenset({"archived", "deleted"})
"""States that a workspace never leaves."""


def is_busy(error: HelmrApiError) -> bool:
    """Tell whether a command was refused only for now: the workspace has a writer or is being stopped.

    :param error: the control plane's answer to the creation of the command.
    """
    return error.code in BUSY or (error.status, error.message) == _STOPPING


def is_ours(workspace: Workspace, stamp: OwnershipMetadata, prefix: str) -> bool:
    """Say whether a task of the same DAG run has created the workspace, and named it.

    One with an external id of the author's own may serve others.

    :param workspace: as it is now.
    :param stamp: of the try that asks.
    :param prefix: the connection's ``session_prefix``.
    """
    created_by: Any = workspace.metadata.get("airflow")
    return (
        isinstance(created_by, dict)
        and (created_by.get("dag_id"), created_by.get("run_id")) == (stamp.dag_id, stamp.run_id)
        and (workspace.external_id or "").startswith(f"{prefix}:")
    )


def refuse_given_up(client: HelmrClient, workspace_id: str, stamp: OwnershipMetadata) -> Workspace:
    """Refuse to act for a try that Airflow has given up, if a later one has noted its command on the workspace.

    :param client: of the worker.
    :param workspace_id: the workspace.
    :param stamp: of the try.
    :return: the workspace.
    :raises HelmrError: the request failed.
    :raises IdentityError: Airflow has given up the try.
    """
    workspace = client.workspaces.retrieve(workspace_id)
    noted = _notes(workspace).get(_task(stamp))
    if noted is not None:
        later, epoch = noted["try_number"], noted["epoch"]
        if was_given_up(epoch=stamp.epoch, try_number=stamp.try_number, stamped_epoch=epoch, stamped_try=later):
            raise given_up(f"the command in workspace {workspace_id}", later, stamp.try_number)
    return workspace


def hold(client: HelmrClient, workspace_id: str, stamp: OwnershipMetadata, prefix: str) -> bool:
    """Note on our workspace which try owns the command in it; return whether it is ours.

    :param client: of the worker.
    :param workspace_id: the workspace.
    :param stamp: of the try.
    :param prefix: the connection's ``session_prefix``.
    :raises HelmrError: a request failed.
    :raises IdentityError: Airflow has given up the try.
    """
    workspace = refuse_given_up(client, workspace_id, stamp)
    if not is_ours(workspace, stamp, prefix):
        return False
    if workspace.metadata.get(HOLDER) != stamp.owner:
        notes = _notes(workspace)
        number = 1 + max((note["number"] for note in notes.values()), default=0)
        notes[_task(stamp)] = {"epoch": stamp.epoch, "try_number": stamp.try_number, "number": number}
        newest = sorted(notes, key=lambda task: -notes[task]["number"])[:_MOST_NOTES]
        members = {HOLDER: stamp.owner, HOLDING_TRY: {task: notes[task] for task in newest}}
        client.workspaces.update(workspace_id, metadata={**workspace.metadata, **members})
    return True


def _notes(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return the notes of tries by task instance; what was edited by hand into another form is left out."""
    found: Any = workspace.metadata.get(HOLDING_TRY)
    types = {"epoch": str, "try_number": int, "number": int}
    return {
        task: note
        for task, note in (found.items() if isinstance(found, dict) else ())
        if isinstance(note, dict) and all(isinstance(note.get(name), kind) for name, kind in types.items())
    }


def _task(stamp: OwnershipMetadata) -> str:
    return f"{stamp.dag_id}/{stamp.run_id}/{stamp.task_id}/{stamp.map_index}"


def stop_if_held(client: HelmrClient, *, workspace_id: str, exec_id: str, owner: str) -> bool:
    """End a command with its workspace, if the try still owns it and it still runs; return whether it was ended.

    Check and stop are not atomic. What the workspace holds is captured, and its next command starts it again.

    :param client: of the worker.
    :param workspace_id: the workspace.
    :param exec_id: the command.
    :param owner: the try.
    :raises HelmrError: a request failed.
    """
    handle = client.workspaces.open(workspace_id)
    if handle.retrieve().metadata.get(HOLDER) != owner or handle.execs.open(exec_id).retrieve().is_terminal:
        return False
    handle.stop()
    return True


async def astop_if_held(client: AsyncHelmrClient, *, workspace_id: str, exec_id: str, owner: str) -> bool:
    """Do as :func:`stop_if_held`, in the triggerer.

    :param client: the triggerer's shared client.
    :param workspace_id: the workspace.
    :param exec_id: the command.
    :param owner: the try.
    :raises HelmrError: a request failed.
    """
    handle = client.workspaces.open(workspace_id)
    if (await handle.retrieve()).metadata.get(HOLDER) != owner:
        return False
    if (await handle.execs.open(exec_id).retrieve()).is_terminal:
        return False
    await handle.stop()
    return True


def is_stopped(stop: WorkspaceStop, materialization_id: str | None) -> bool:
    """Say whether the machine to be stopped is gone, by the answer to a repeated stop.

    :param stop: the answer.
    :param materialization_id: materialization to stop; the workspace may have been started again since.
    """
    live = stop.materialization
    return live is None or live.is_terminal or (materialization_id is not None and live.id != materialization_id)


def created_in(workspace: Workspace, stamp: OwnershipMetadata) -> bool:
    """Say whether the task instance has created the workspace since it was cleared last.

    :param workspace: found by the task instance's name.
    :param stamp: of the try that asks.
    """
    return workspace.state == "active" and ownership_member(workspace.metadata, "epoch") == stamp.epoch


def left_over_exec(workspace_id: str, exec_id: str) -> str:
    """Describe what continues when a workspace cannot be stopped, and how to end it.

    :param workspace_id: the workspace.
    :param exec_id: the command in it.
    """
    return (
        f"exec {exec_id} of workspace {workspace_id} continues if it has not ended by itself; "
        "HelmrStopWorkspaceOperator or the console stops the workspace."
    )

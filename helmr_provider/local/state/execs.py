"""Execs: commands in a workspace.

`materializing` or `queued` → `running` → `exited` | `terminated` | `lost` | `failed` (contract/behaviour.md §14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.common.jsontext import fingerprint, jsonb, loads
from helmr_provider.local.state import chunks, materializations, writers
from helmr_provider.local.state.workspace_primitives import Primitive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.local._core import Core
    from helmr_provider.local.state import workspace_keys
    from helmr_provider.local.storage.database import Row

EXECS = Primitive(
    "workspace_exec",
    "workspace_execs",
    "exec",
    states=("queued", "materializing", "running", "exited", "terminated", "lost", "failed"),
    live=("materializing", "queued", "running"),
)


class NewExec(NamedTuple):
    """The checked options of a creation."""

    command: list[str]
    cwd: str
    env: dict[str, str]
    detached: bool
    key: workspace_keys.Key | None

    def fingerprint(self) -> str:
        """Hash what two creates with one idempotency key must have in common."""
        return fingerprint([self.command, self.cwd, self.env, self.detached])


def create(core: Core, workspace: Row, new: NewExec) -> tuple[Row, bool]:
    """Create an exec, or find the one that the key made; tell whether it is new.

    :raises ApiError: 409, or 500 where the server fails for a key that was used with another request.
    """
    with core.db.transaction():
        earlier = EXECS.made_before(core, workspace, new.key, new.fingerprint())
        if earlier is not None:
            return earlier, False
        materialization = writers.take(core, workspace)
        now = core.clock.now()
        exec_id = uuid7(now)
        core.db.insert(
            "workspace_execs",
            id=exec_id,
            workspace_id=workspace["id"],
            materialization_id=materialization["id"],
            command=jsonb(new.command),
            cwd=new.cwd,
            env=jsonb(new.env),
            state="queued" if materialization["state"] == "running" else "materializing",
            detached=new.detached,
            created_at=now,
            updated_at=now,
        )
        return EXECS.made(core, workspace, exec_id, new.key, new.fingerprint()), True


def write_stdin(core: Core, row: Row, offset: int, content: bytes) -> Row:
    """Write bytes to the command's stdin; return the chunk.

    :raises ApiError: 409 if it has ended, its stdin is closed, or the offset is wrong.
    """
    _require_live(row)
    if row["stdin_closed_at"] is not None:
        raise ApiError(409, "workspace_exec_stdin_closed", "workspace_exec_stdin_closed")
    return chunks.write(core, row["id"], "stdin", offset, content)


def close_stdin(core: Core, row: Row) -> Row:
    """Close the command's stdin; closing it again changes nothing.

    :raises ApiError: 409 if it has ended.
    """
    _require_live(row)
    EXECS.change(core, row["id"], at=None if row["stdin_closed_at"] is not None else "stdin_closed_at")
    return EXECS.reread(core, row["id"])


def start(core: Core, row: Row, process_id: int) -> None:
    """Record that the command runs."""
    with core.db.transaction():
        materializations.soil(core, row["materialization_id"])
        EXECS.change(core, row["id"], at="started_at", state="running", process_id=str(process_id))


def end(
    core: Core,
    exec_id: str,
    state: str,
    *,
    exit_code: int | None = None,
    signal: str | None = None,
    error: Mapping[str, str] | None = None,
) -> None:
    """Record how the command ended; nothing changes if it has ended already."""
    EXECS.end(
        core,
        exec_id,
        at="exited_at",
        state=state,
        exit_code=exit_code,
        signal=signal,
        error=jsonb(dict(error or {})),
    )


def rendered(core: Core, row: Row) -> dict[str, Any]:
    """Return an exec as the API answers it."""
    answer: dict[str, Any] = {
        "id": row["id"],
        "workspace_id": row["workspace_id"],
        "materialization_id": row["materialization_id"],
        "command": loads(row["command"]),
        "cwd": row["cwd"],
        "env_shape": loads(row["env"]),
        "filesystem_mode": "write",
        "state": row["state"],
        "detached": bool(row["detached"]),
    }
    for name in ("process_id", "exit_code", "signal"):
        if row[name] is not None:
            answer[name] = row[name]
    answer["error"] = loads(row["error"])
    for stream in ("stdout", "stderr", "stdin"):
        answer[f"{stream}_cursor"] = chunks.cursor(core, row["id"], stream)
    for name in ("stdin_closed_at", "created_at", "started_at", "exited_at", "updated_at"):
        if row[name] is not None:
            answer[name] = rfc3339(row[name])
    return answer


def _require_live(row: Row) -> None:
    if row["state"] not in EXECS.live:
        raise ApiError(409, "workspace_exec_terminal", "workspace_exec_terminal")

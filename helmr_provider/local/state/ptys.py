"""Terminals in a workspace.

`creating` → `open` ⇄ `resizing` → `closing` → `closed` | `lost` | `failed` (behaviour.md section 14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.local.clock import rfc3339
from helmr_provider.local.errors import ApiError
from helmr_provider.local.ids import uuid7
from helmr_provider.local.jsontext import fingerprint, jsonb, loads
from helmr_provider.local.state import chunks, materializations, workspace_keys, writers
from helmr_provider.local.state.execs import mismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.local.core import Core
    from helmr_provider.local.database import Row

KIND = "workspace_pty"
STATES = ("creating", "open", "resizing", "closing", "closed", "lost", "failed")
LIVE = ("creating", "open", "resizing", "closing")
OPEN = ("open", "resizing")
DEFAULT_SIZE = (80, 24)


class NewPty(NamedTuple):
    """What a create asks for, checked."""

    cwd: str
    cols: int
    rows: int
    key: workspace_keys.Key | None

    def fingerprint(self) -> str:
        """Hash what two creates with one idempotency key must have in common."""
        return fingerprint([self.cwd, self.cols, self.rows])


def create(core: Core, workspace: Row, new: NewPty) -> tuple[Row, bool]:
    """Create a terminal, or find the one that the key made; tell whether it is new.

    :raises ApiError: 409, or 500 where the server fails for a key that was used with another request.
    """
    with core.db.transaction():
        if new.key is not None:
            earlier = workspace_keys.used(core, workspace["id"], KIND, new.key)
            if earlier is not None:
                if earlier["fingerprint"] != new.fingerprint():
                    raise mismatch(core, "pty")
                return find(core, workspace, earlier["resource_id"]), False
        materialization = writers.take(core, workspace)
        now = core.clock.now()
        pty_id = uuid7(now)
        core.db.insert(
            "workspace_ptys",
            id=pty_id,
            workspace_id=workspace["id"],
            materialization_id=materialization["id"],
            cwd=new.cwd,
            cols=new.cols,
            rows=new.rows,
            wanted_cols=new.cols,
            wanted_rows=new.rows,
            state="creating",
            created_at=now,
            updated_at=now,
        )
        if new.key is not None:
            workspace_keys.bind(core, workspace["id"], KIND, new.key, fingerprint=new.fingerprint(), resource_id=pty_id)
        materializations.notify(core, workspace["id"])
        return find(core, workspace, pty_id), True


def find(core: Core, workspace: Row, pty_id: str) -> Row:
    """Return a terminal's row if the workspace has it.

    :raises ApiError: 404 if not.
    """
    row = core.db.one("SELECT * FROM workspace_ptys WHERE id = ? AND workspace_id = ?", pty_id, workspace["id"])
    if row is None:
        raise ApiError(404, "workspace pty not found")
    return row


def reread(core: Core, pty_id: str) -> Row:
    """Return a terminal's row.

    :raises ApiError: 404 if there is none.
    """
    row = core.db.one("SELECT * FROM workspace_ptys WHERE id = ?", pty_id)
    if row is None:
        raise ApiError(404, "workspace pty not found")
    return row


def listed(core: Core, workspace: Row, state: str | None, limit: int) -> list[Row]:
    """Return the newest terminals."""
    return core.db.all(
        "SELECT * FROM workspace_ptys WHERE workspace_id = ? AND (? IS NULL OR state = ?)"
        " ORDER BY created_at DESC, id DESC LIMIT ?",
        workspace["id"],
        state,
        state,
        limit,
    )


def live(core: Core, materialization_id: str) -> list[Row]:
    """Return the terminals of a materialization that have not ended."""
    return core.db.all(
        "SELECT * FROM workspace_ptys WHERE materialization_id = ?"
        " AND state IN ('creating', 'open', 'resizing', 'closing') ORDER BY created_at",
        materialization_id,
    )


def write_input(core: Core, row: Row, offset: int, content: bytes) -> Row:
    """Type into the terminal; return the chunk.

    :raises ApiError: 409 if it is not open, or the offset is wrong.
    """
    if row["state"] not in LIVE:
        raise ApiError(409, "workspace_pty_terminal", "workspace_pty_terminal")
    require_open(row)
    return chunks.write(core, row["id"], "input", offset, content)


def resize(core: Core, row: Row, cols: int, rows: int) -> Row:
    """Ask for another size; the row shows the old one until it is applied.

    :raises ApiError: 409 if it is not open.
    """
    require_open(row)
    change(core, row["id"], state="resizing", wanted_cols=cols, wanted_rows=rows)
    return reread(core, row["id"])


def close(core: Core, row: Row) -> Row:
    """Ask for the terminal's end.

    :raises ApiError: 409 if it is not open; 500 where the server fails because it is being closed already.
    """
    if row["state"] == "closing":
        if not core.settings.quirks:
            return row
        raise ApiError(
            500,
            "close workspace pty: ERROR: current transaction is aborted, commands ignored until end of transaction"
            " block (SQLSTATE 25P02)",
        )
    require_open(row)
    change(core, row["id"], state="closing")
    return reread(core, row["id"])


def require_open(row: Row) -> None:
    """Refuse what only an open terminal can do.

    :raises ApiError: 409.
    """
    if row["state"] not in OPEN:
        raise ApiError(409, "workspace_pty_not_open", "workspace_pty_not_open")


def start(core: Core, row: Row, process_id: int) -> None:
    """Record that the terminal is open."""
    with core.db.transaction():
        materializations.soil(core, row["materialization_id"])
        change(core, row["id"], at="started_at", state="open", process_id=str(process_id))


def resized(core: Core, row: Row) -> None:
    """Record that the size asked for is applied."""
    change(core, row["id"], state="open", cols=row["wanted_cols"], rows=row["wanted_rows"])


def end(core: Core, pty_id: str, state: str, error: Mapping[str, str] | None = None) -> None:
    """Record how the terminal ended; nothing changes if it has ended already."""
    if reread(core, pty_id)["state"] in LIVE:
        change(core, pty_id, at="closed_at", state=state, error=jsonb(dict(error or {})))
        # The workspace has no writer any more: a run may be waiting for that.
        core.db.after_commit(lambda: core.hub.notify("dispatch"))


def change(core: Core, pty_id: str, at: str | None = None, **columns: object) -> None:
    """Change a terminal's columns and wake whoever follows or serves it.

    :param at: a column that holds when the change was made.
    """
    now = core.clock.now()
    times = {"updated_at": now} if at is None else {"updated_at": now, at: now}
    core.db.update("workspace_ptys", pty_id, **times, **columns)
    workspace_id = reread(core, pty_id)["workspace_id"]
    core.db.after_commit(lambda: core.hub.notify(chunks.topic(pty_id)))
    materializations.notify(core, workspace_id)


def rendered(core: Core, row: Row) -> dict[str, Any]:
    """Return a terminal as the API answers it."""
    answer: dict[str, Any] = {
        "id": row["id"],
        "workspace_id": row["workspace_id"],
        "materialization_id": row["materialization_id"],
        "cwd": row["cwd"],
        "cols": row["cols"],
        "rows": row["rows"],
        "filesystem_mode": "write",
        "state": row["state"],
    }
    if row["process_id"] is not None:
        answer["process_id"] = row["process_id"]
    answer["output_cursor"] = chunks.cursor(core, row["id"], "output")
    answer["input_cursor"] = chunks.cursor(core, row["id"], "input")
    answer["error"] = loads(row["error"])
    for name in ("created_at", "started_at", "closed_at", "updated_at"):
        if row[name] is not None:
            answer[name] = rfc3339(row[name])
    return answer

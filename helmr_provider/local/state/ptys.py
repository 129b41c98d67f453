"""Terminals in a workspace.

`creating` → `open` ⇄ `resizing` → `closing` → `closed` | `lost` | `failed` (contract/behaviour.md section 14).
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

PTYS = Primitive(
    "workspace_pty",
    "workspace_ptys",
    "pty",
    states=("creating", "open", "resizing", "closing", "closed", "lost", "failed"),
    live=("creating", "open", "resizing", "closing"),
)
OPEN = ("open", "resizing")
DEFAULT_SIZE = (80, 24)


class NewPty(NamedTuple):
    """The checked options of a creation."""

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
        earlier = PTYS.made_before(core, workspace, new.key, new.fingerprint())
        if earlier is not None:
            return earlier, False
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
        return PTYS.made(core, workspace, pty_id, new.key, new.fingerprint()), True


def write_input(core: Core, row: Row, offset: int, content: bytes) -> Row:
    """Type into the terminal; return the chunk.

    :raises ApiError: 409 if it is not open, or the offset is wrong.
    """
    if row["state"] not in PTYS.live:
        raise ApiError(409, "workspace_pty_terminal", "workspace_pty_terminal")
    require_open(row)
    return chunks.write(core, row["id"], "input", offset, content)


def resize(core: Core, row: Row, cols: int, rows: int) -> Row:
    """Ask for another size; the row shows the old one until it is applied.

    :raises ApiError: 409 if it is not open.
    """
    require_open(row)
    PTYS.change(core, row["id"], state="resizing", wanted_cols=cols, wanted_rows=rows)
    return PTYS.reread(core, row["id"])


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
    PTYS.change(core, row["id"], state="closing")
    return PTYS.reread(core, row["id"])


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
        PTYS.change(core, row["id"], at="started_at", state="open", process_id=str(process_id))


def resized(core: Core, row: Row) -> None:
    """Record that the size asked for is applied."""
    PTYS.change(core, row["id"], state="open", cols=row["wanted_cols"], rows=row["wanted_rows"])


def end(core: Core, pty_id: str, state: str, error: Mapping[str, str] | None = None) -> None:
    """Record how the terminal ended; nothing changes if it has ended already."""
    PTYS.end(core, pty_id, at="closed_at", state=state, error=jsonb(dict(error or {})))


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

"""The page of a workspace: its state and its newest commands."""

from __future__ import annotations

import shlex
from html import escape
from typing import TYPE_CHECKING

from helmr_provider.local.common.jsontext import loads
from helmr_provider.local.console.layout import facts, moment, page, section, short, status, table
from helmr_provider.local.state import chunks, execs, materializations, workspaces

if TYPE_CHECKING:
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_NEWEST = 25
_TAIL_BYTES = 16 * 1024


def workspace(core: Core, row: Row) -> Response:
    """Return a workspace's page."""
    live = materializations.live(core, row["id"])
    shown = workspaces.rendered(core, row) | {
        "status": row["state"],
        "on_a_machine": "no" if live is None else live["state"],
    }
    names = (
        "status",
        "on_a_machine",
        "dirty_state",
        "sandbox_id",
        "external_id",
        "current_version_id",
        "created_at",
        "updated_at",
        "archived_at",
    )
    commands = execs.EXECS.listed(core, row, None, _NEWEST)
    return page(
        f"Workspace {row['external_id'] or row['id']}",
        section("facts", "Workspace", facts(shown, names))
        + section("execs", "Newest commands", _summary(core, commands))
        + "".join(_command(core, command) for command in commands),
        live=live is not None,
    )


def link(row: Row) -> str:
    """Return a link to a workspace's page."""
    shown = short(row["id"]) if row["external_id"] is None else escape(row["external_id"])
    return f'<a href="/workspaces/{escape(row["id"])}">{shown}</a>'


def _summary(core: Core, commands: list[Row]) -> str:
    cells = (
        (
            f'<a href="#exec-{escape(command["id"])}"><code>{escape(_text(command))}</code></a>',
            status(command["state"], _tone(command)),
            escape(_outcome(command)),
            moment(core, command["created_at"]),
        )
        for command in commands
    )
    return table(("Command", "Status", "Ended with", "Created"), cells, "Nothing was run in it yet.")


def _command(core: Core, command: Row) -> str:
    outputs = "".join(
        f"<h3>{stream}</h3><pre>{escape(content.decode('utf-8', 'replace'))}</pre>"
        for stream in ("stdout", "stderr")
        if (content := chunks.tail(core, command["id"], stream, _TAIL_BYTES))
    )
    body = outputs or '<p class="none">Nothing was written.</p>'
    return section(f"exec-{escape(command['id'])}", escape(_text(command)), body)


def _text(command: Row) -> str:
    return shlex.join(loads(command["command"]))


def _tone(command: Row) -> str:
    return "" if command["state"] != "exited" else "good" if command["exit_code"] == 0 else "bad"


def _outcome(command: Row) -> str:
    if command["exit_code"] is not None:
        return f"code {command['exit_code']}"
    error = loads(command["error"])
    return command["signal"] or error.get("message") or error.get("code") or ""

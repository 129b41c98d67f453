"""The page of a workspace: its state and its newest commands."""

from __future__ import annotations

import shlex
from html import escape
from typing import TYPE_CHECKING

from helmr_provider.local.common.jsontext import loads
from helmr_provider.local.console.layout import code, facts, moment, page, section, status, table, tags, whole_id
from helmr_provider.local.console.links import name_of
from helmr_provider.local.state import chunks, execs, materializations

if TYPE_CHECKING:
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_NEWEST = 25
_TAIL_BYTES = 16 * 1024


def workspace(core: Core, row: Row) -> Response:
    """Return a workspace's page."""
    live = materializations.live(core, row["id"])
    members = facts(
        (
            ("Status", status(row["state"])),
            ("On a machine", "no" if live is None else status(live["state"])),
            ("Unsaved changes", escape(row["dirty_state"])),
            ("Sandbox", escape(row["sandbox_id"])),
            ("External id", code(row["external_id"])),
            ("Id", whole_id(row["id"])),
            ("Version", whole_id(row["current_version_id"])),
            ("Tags", tags(loads(row["tags"]))),
            ("Created", moment(core, row["created_at"], exact=True)),
            ("Last used", moment(core, row["last_activity_at"], exact=True)),
            ("Archived", moment(core, row["archived_at"], exact=True)),
        )
    )
    commands = execs.EXECS.listed(core, row, None, _NEWEST)
    outputs = {command["id"]: _output(core, command) for command in commands}
    return page(
        f"Workspace {name_of(row)}",
        section("facts", "Workspace", members)
        + section("execs", "Newest commands", _summary(core, commands, outputs))
        + "".join(section(f"exec-{command['id']}", _code(command), outputs[command["id"]]) for command in commands),
        above=(("Workspaces", "/workspaces"),),
        live=live is not None,
    )


def _summary(core: Core, commands: list[Row], outputs: dict[str, str]) -> str:
    cells = (
        (
            f'<a href="#exec-{command["id"]}">{_code(command)}</a>' if outputs[command["id"]] else _code(command),
            status(command["state"], _tone(command)),
            escape(_outcome(command)),
            moment(core, command["created_at"]),
        )
        for command in commands
    )
    return table(("Command", "Status", "Ended with", "Created"), cells, "Nothing was run in it yet.")


def _output(core: Core, command: Row) -> str:
    """Return what a command wrote."""
    return "".join(
        f"<h3>{stream}</h3><pre>{escape(content.decode('utf-8', 'replace'))}</pre>"
        for stream in ("stdout", "stderr")
        if (content := chunks.tail(core, command["id"], stream, _TAIL_BYTES))
    )


def _code(command: Row) -> str:
    return f'<code class="name">{escape(shlex.join(loads(command["command"])))}</code>'


def _tone(command: Row) -> str:
    return "" if command["state"] != "exited" else "good" if command["exit_code"] == 0 else "bad"


def _outcome(command: Row) -> str:
    if command["exit_code"] is not None:
        return f"code {command['exit_code']}"
    error = loads(command["error"])
    return command["signal"] or error.get("message") or error.get("code") or ""

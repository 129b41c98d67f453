"""Client calls for the recorded exchanges of workspaces, their files, commands and terminals."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from tests.client.recordings.recorded import recordings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.recordings.recorded import Recording


# operation -> member of the answer that the call returns; None for all of it
OPERATIONS: dict[str, str | None] = {
    "createWorkspace": "workspace",
    "listWorkspaces": "workspaces",
    "getWorkspace": "workspace",
    "patchWorkspace": "workspace",
    "deleteWorkspace": "workspace",
    "materializeWorkspace": None,
    "connectWorkspace": None,
    "stopWorkspace": None,
    "listWorkspaceFiles": None,
    "readWorkspaceFile": None,
    "statWorkspaceFile": "entry",
    "listWorkspaceVersions": "versions",
    "getWorkspaceVersion": "version",
    "createWorkspaceExec": "exec",
    "listWorkspaceExecs": "execs",
    "getWorkspaceExec": "exec",
    "writeWorkspaceExecStdin": None,
    "closeWorkspaceExecStdin": "exec",
    "listWorkspaceExecStdout": "chunks",
    "listWorkspaceExecStderr": "chunks",
    "createWorkspacePty": "pty",
    "listWorkspacePtys": "ptys",
    "getWorkspacePty": "pty",
    "writeWorkspacePtyInput": None,
    "listWorkspacePtyOutput": "chunks",
    "resizeWorkspacePty": "pty",
    "closeWorkspacePty": "pty",
}
NO_CALL = {
    535: "sandbox_id is needed",
    552: "unknown member",
    558: "no body",
    597: "the path is needed",
    606: "the path is needed",
    641: "a cursor that is not a number",
    649: "data that are not base64",
    676: "the command is needed",
    684: "unknown member",
    1120: "refused before it is sent: a number beyond doubles",
}
FOUND = [found for found in recordings(*OPERATIONS) if found.frames is None]
STREAMS = [found for found in recordings(*OPERATIONS) if found.frames is not None]


def number(found: Recording) -> int:
    return int(found.name.partition("-")[0])


def query(found: Recording) -> dict[str, Any]:
    """Limits are numbers, and so are the cursors of bytes; those of files are paths."""
    numbers = {"limit"} if "File" in found.endpoint.operation else {"limit", "cursor"}
    return {name: int(value) if name in numbers else value for name, value in found.query.items()}


def written(found: Recording) -> dict[str, Any]:
    data: str = found.body["data"]
    described = re.fullmatch(r"\(base64 of (\d+) bytes\)", data)
    return {"data": bytes(int(described[1])) if described else base64.b64decode(data), "offset": found.body["offset"]}


def workspace(client: Any, found: Recording) -> Any:
    return client.workspaces.open(found.path["workspace_id"])


def command(client: Any, found: Recording) -> Any:
    return workspace(client, found).execs.open(found.path["exec_id"])


def terminal(client: Any, found: Recording) -> Any:
    return workspace(client, found).pty.open(found.path["pty_id"])


CALLS: dict[str, Callable[[Any, Recording], Any]] = {
    "createWorkspace": lambda c, found: c.workspaces.create(**found.body),
    "listWorkspaces": lambda c, found: c.workspaces.list(**query(found)),
    "getWorkspace": lambda c, found: c.workspaces.retrieve(found.path["workspace_id"]),
    "patchWorkspace": lambda c, found: c.workspaces.update(found.path["workspace_id"], **found.body),
    "deleteWorkspace": lambda c, found: c.workspaces.delete(found.path["workspace_id"]),
    "materializeWorkspace": lambda c, found: c.workspaces.materialize(found.path["workspace_id"]),
    "connectWorkspace": lambda c, found: c.workspaces.connect(found.path["workspace_id"]),
    "stopWorkspace": lambda c, found: c.workspaces.stop(found.path["workspace_id"], **found.body),
    "listWorkspaceFiles": lambda c, found: workspace(c, found).files.list(**query(found)),
    "readWorkspaceFile": lambda c, found: workspace(c, found).files.read(**query(found)),
    "statWorkspaceFile": lambda c, found: workspace(c, found).files.stat(**query(found)),
    "listWorkspaceVersions": lambda c, found: workspace(c, found).versions.list(**query(found)),
    "getWorkspaceVersion": lambda c, found: workspace(c, found).versions.retrieve(found.path["version_id"]),
    "createWorkspaceExec": lambda c, found: workspace(c, found).exec(**found.body),
    "listWorkspaceExecs": lambda c, found: workspace(c, found).execs.list(**query(found)),
    "getWorkspaceExec": lambda c, found: command(c, found).retrieve(),
    "writeWorkspaceExecStdin": lambda c, found: command(c, found).stdin.write(**written(found)),
    "closeWorkspaceExecStdin": lambda c, found: command(c, found).stdin.close(),
    "listWorkspaceExecStdout": lambda c, found: command(c, found).stdout.list(**query(found)),
    "listWorkspaceExecStderr": lambda c, found: command(c, found).stderr.list(**query(found)),
    "createWorkspacePty": lambda c, found: workspace(c, found).pty.create(**found.body),
    "listWorkspacePtys": lambda c, found: workspace(c, found).pty.list(**query(found)),
    "getWorkspacePty": lambda c, found: terminal(c, found).retrieve(),
    "writeWorkspacePtyInput": lambda c, found: terminal(c, found).input(**written(found)),
    "listWorkspacePtyOutput": lambda c, found: terminal(c, found).output.list(**query(found)),
    "resizeWorkspacePty": lambda c, found: terminal(c, found).resize(**found.body),
    "closeWorkspacePty": lambda c, found: terminal(c, found).close(),
}


def public_call(found: Recording) -> Callable[[Any], Any]:
    return lambda client: CALLS[found.endpoint.operation](client, found)

"""Execs over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import bytestreams, request_body
from helmr_provider.local.api.request import answer
from helmr_provider.local.api.workspaces import addressed
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.state import chunks, execs

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_CREATE = request_body.Struct(
    "api.WorkspaceExecCreateRequest",
    {
        "project_id": request_body.string,
        "environment_id": request_body.string,
        "command": request_body.strings,
        "cwd": request_body.string,
        "env": request_body.string_map,
        "detached": request_body.boolean,
        "idempotency_key": request_body.string,
    },
)


async def create_workspace_exec(request: ApiRequest) -> ASGIApp:
    """Run a command (createWorkspaceExec)."""
    workspace = addressed(request)
    members = request.body("workspace exec request", _CREATE)
    bytestreams.refuse_project(members)
    new = execs.NewExec(
        _command(members),
        bytestreams.working_directory(members),
        _env(members),
        bool(members.get("detached")),
        bytestreams.key(members),
    )
    bytestreams.require_execution(request)
    row, is_new = execs.create(request.core, workspace, new)
    body: dict[str, Any] = {"exec": execs.rendered(request.core, row)}
    if not is_new:
        body["is_cached"] = True
    return answer(body, 201 if is_new else 200)


async def list_workspace_execs(request: ApiRequest) -> ASGIApp:
    """List execs (listWorkspaceExecs)."""
    workspace = addressed(request)
    state = request.text("state")
    if state is not None and state not in execs.EXECS.states:
        raise ApiError(400, f"state must be one of {', '.join(execs.EXECS.states)}")
    rows = execs.EXECS.listed(request.core, workspace, state, request.limit_at_most(50, 200))
    return answer({"execs": [execs.rendered(request.core, row) for row in rows]})


async def get_workspace_exec(request: ApiRequest) -> ASGIApp:
    """Retrieve an exec (getWorkspaceExec)."""
    return answer({"exec": execs.rendered(request.core, _exec(request))})


async def list_workspace_exec_stdout(request: ApiRequest) -> ASGIApp:
    """Page through or follow stdout (listWorkspaceExecStdout)."""
    return await _read(request, "stdout")


async def list_workspace_exec_stderr(request: ApiRequest) -> ASGIApp:
    """Page through or follow stderr (listWorkspaceExecStderr)."""
    return await _read(request, "stderr")


async def write_workspace_exec_stdin(request: ApiRequest) -> ASGIApp:
    """Write to stdin (writeWorkspaceExecStdin)."""
    exec_id = _exec(request)["id"]
    offset, content = bytestreams.written(request, "workspace exec stdin request")
    chunk = execs.write_stdin(request.core, execs.EXECS.reread(request.core, exec_id), offset, content)
    return answer(chunks.rendered(chunk))


async def close_workspace_exec_stdin(request: ApiRequest) -> ASGIApp:
    """Close stdin (closeWorkspaceExecStdin); a body is not read."""
    row = execs.close_stdin(request.core, _exec(request))
    return answer({"exec": execs.rendered(request.core, row)})


async def _read(request: ApiRequest, stream: str) -> ASGIApp:
    source = bytestreams.Source(execs.EXECS.name, _exec(request)["id"], stream, execs.EXECS.reread, execs.EXECS.live)
    return await bytestreams.read(request, source)


def _exec(request: ApiRequest) -> Row:
    workspace = addressed(request)
    return execs.EXECS.find(request.core, workspace, request.uuid("exec_id"))


def _command(members: dict[str, Any]) -> list[str]:
    command: list[str] = members.get("command") or []
    if not command:
        raise ApiError(400, "command is required")
    if any(not part.strip() for part in command):
        raise ApiError(400, "command entries cannot be empty")
    if any("\0" in part for part in command):
        raise ApiError(400, "command entries cannot contain NUL")
    return command


def _env(members: dict[str, Any]) -> dict[str, str]:
    env: dict[str, str] = members.get("env") or {}
    if any(not name.strip() for name in env):
        raise ApiError(400, "env names cannot be empty")
    if any("\0" in text for entry in env.items() for text in entry):
        raise ApiError(400, "env cannot contain NUL")
    return env

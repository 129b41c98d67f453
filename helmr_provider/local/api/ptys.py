"""Terminals over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import bytestreams, request_body
from helmr_provider.local.api.request import answer
from helmr_provider.local.api.workspaces import addressed
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.state import chunks, ptys

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_MOST = 500
_CREATE = request_body.Struct(
    "api.WorkspacePtyCreateRequest",
    {
        "project_id": request_body.string,
        "environment_id": request_body.string,
        "cwd": request_body.string,
        "cols": request_body.int32,
        "rows": request_body.int32,
        "idempotency_key": request_body.string,
    },
)
_RESIZE = request_body.Struct("api.WorkspacePtyResizeRequest", {"cols": request_body.int32, "rows": request_body.int32})


async def create_workspace_pty(request: ApiRequest) -> ASGIApp:
    """Open a terminal (createWorkspacePty)."""
    workspace = addressed(request)
    members = request.body("workspace pty request", _CREATE)
    bytestreams.refuse_project(members)
    new = ptys.NewPty(bytestreams.working_directory(members), *_size(members), bytestreams.key(members))
    bytestreams.require_execution(request)
    row, is_new = ptys.create(request.core, workspace, new)
    body: dict[str, Any] = {"pty": ptys.rendered(request.core, row)}
    if not is_new:
        body["is_cached"] = True
    return answer(body, 201 if is_new else 200)


async def list_workspace_ptys(request: ApiRequest) -> ASGIApp:
    """List terminals (listWorkspacePtys)."""
    workspace = addressed(request)
    state = request.text("state")
    if state is not None and state not in ptys.PTYS.states:
        raise ApiError(400, f"state must be one of {', '.join(ptys.PTYS.states)}")
    rows = ptys.PTYS.listed(request.core, workspace, state, request.limit_at_most(50, 200))
    return answer({"ptys": [ptys.rendered(request.core, row) for row in rows]})


async def get_workspace_pty(request: ApiRequest) -> ASGIApp:
    """Retrieve a terminal (getWorkspacePty)."""
    return answer({"pty": ptys.rendered(request.core, _pty(request))})


async def list_workspace_pty_output(request: ApiRequest) -> ASGIApp:
    """Page through or follow a terminal's output (listWorkspacePtyOutput)."""
    source = bytestreams.Source(ptys.PTYS.name, _pty(request)["id"], "output", ptys.PTYS.reread, ptys.PTYS.live)
    return await bytestreams.read(request, source)


async def write_workspace_pty_input(request: ApiRequest) -> ASGIApp:
    """Type into a terminal (writeWorkspacePtyInput)."""
    pty_id = _pty(request)["id"]
    offset, content = bytestreams.written(request, "workspace pty input request")
    chunk = ptys.write_input(request.core, ptys.PTYS.reread(request.core, pty_id), offset, content)
    return answer(chunks.rendered(chunk))


async def resize_workspace_pty(request: ApiRequest) -> ASGIApp:
    """Resize a terminal (resizeWorkspacePty); the answer shows the size that it still has."""
    pty_id = _pty(request)["id"]
    members = request.body("workspace pty resize request", _RESIZE)
    cols, rows = _size(members)
    row = ptys.resize(request.core, ptys.PTYS.reread(request.core, pty_id), cols, rows)
    return answer({"pty": ptys.rendered(request.core, row)})


async def close_workspace_pty(request: ApiRequest) -> ASGIApp:
    """Close a terminal (closeWorkspacePty); a body is not read."""
    row = ptys.close(request.core, _pty(request))
    return answer({"pty": ptys.rendered(request.core, row)})


def _pty(request: ApiRequest) -> Row:
    workspace = addressed(request)
    return ptys.PTYS.find(request.core, workspace, request.uuid("pty_id"))


def _size(members: dict[str, Any]) -> tuple[int, int]:
    cols, rows = members.get("cols") or 0, members.get("rows") or 0
    if cols > _MOST or rows > _MOST:
        raise ApiError(400, f"pty size must be at most {_MOST}x{_MOST}")
    default_cols, default_rows = ptys.DEFAULT_SIZE
    return cols if cols > 0 else default_cols, rows if rows > 0 else default_rows

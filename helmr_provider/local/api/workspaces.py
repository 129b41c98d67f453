"""Workspaces and their versions over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import request_body, values
from helmr_provider.local.api.request import SCOPE_WITH_KEY, answer
from helmr_provider.local.common.clock import DAY
from helmr_provider.local.common.durations import parse_duration
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import is_uuid
from helmr_provider.local.common.jsontext import dumps, fingerprint, loads
from helmr_provider.local.state import materializations, versions, workspace_keys, workspaces
from helmr_provider.local.state.api_keys import SCOPES

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

ANY_WORKSPACE_SCOPE = tuple(scope for scope in SCOPES if scope.startswith("workspace-"))
_CONNECT_SCOPE = tuple(scope for scope in ANY_WORKSPACE_SCOPE if scope != "workspace-versions:diff")
_STOP_SCOPE = (
    "workspace-lifecycle:manage",
    "workspace-files:write",
    "workspace-versions:capture",
    "workspace-versions:restore",
    "workspace-exec:manage",
    "workspace-pty:manage",
    "workspace-ports:close",
)
_PROJECT = {"project_id": request_body.string, "environment_id": request_body.string}
_KEY = {"idempotency_key": request_body.string, "idempotency_key_ttl": request_body.string}
_CREATE = request_body.Struct(
    "api.CreateWorkspaceRequest",
    {
        **_PROJECT,
        **_KEY,
        "sandbox_id": request_body.string,
        "deployment_id": request_body.string,
        "external_id": request_body.string,
        "metadata": request_body.raw,
        "tags": request_body.strings,
    },
)
_PATCH = request_body.Struct("api.PatchWorkspaceRequest", {"metadata": request_body.raw, "tags": request_body.strings})
_MATERIALIZE = request_body.Struct("api.MaterializeWorkspaceRequest", _PROJECT)
_STOP = request_body.Struct("api.StopWorkspaceRequest", {**_PROJECT, **_KEY})


def addressed(request: ApiRequest) -> Row:
    """Return the workspace that a request is about.

    :raises ApiError: 400 unless the path has a UUID, 404 if the environment has no such workspace.
    """
    return workspaces.find(request.core, request.environment_id, request.uuid("workspace_id", "workspaceID"))


async def create_workspace(request: ApiRequest) -> ASGIApp:
    """Create a workspace (createWorkspace); a repeated key answers 201 too."""
    members = request.body("workspace create request", _CREATE)
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)
    try:
        new = _new(members)
    except ApiError as refusal:
        raise request.defect(ApiError(500, "create workspace"), refusal) from None
    row, is_new = workspaces.create(request.core, request.environment_id, new)
    body: dict[str, Any] = {"workspace": workspaces.rendered(request.core, row)}
    if not is_new:
        body["is_cached"] = True
    return answer(body, 201)


async def list_workspaces(request: ApiRequest) -> ASGIApp:
    """List workspaces (listWorkspaces)."""
    request.caller.require_any(ANY_WORKSPACE_SCOPE)
    request.refuse_project_query()
    state = request.text("state")
    if state is not None and state not in workspaces.STATES:
        raise ApiError(400, "state must be active, deleting, recovery_required, archived, or deleted")
    rows = workspaces.listed(
        request.core,
        request.environment_id,
        state=state,
        external_id=request.text("external_id"),
        tag=request.text("tag"),
        limit=request.limit_at_most(100, 200, "limit must be {} or less"),
    )
    return answer({"workspaces": [workspaces.rendered(request.core, row) for row in rows]})


async def get_workspace(request: ApiRequest) -> ASGIApp:
    """Retrieve a workspace (getWorkspace)."""
    request.caller.require_any(ANY_WORKSPACE_SCOPE)
    return _answer(request, addressed(request))


async def patch_workspace(request: ApiRequest) -> ASGIApp:
    """Replace metadata or tags (patchWorkspace)."""
    workspace = addressed(request)
    members = request.body("workspace patch request", _PATCH)
    changes: dict[str, Any] = {}
    if "metadata" in members:
        changes["metadata"] = values.metadata(members["metadata"])
    if members.get("tags") is not None:
        changes["tags"] = values.tags(members["tags"])
    return _answer(request, workspaces.patch(request.core, workspace, changes))


async def delete_workspace(request: ApiRequest) -> ASGIApp:
    """Archive a workspace (deleteWorkspace)."""
    return _answer(request, workspaces.archive(request.core, addressed(request)))


async def materialize_workspace(request: ApiRequest) -> ASGIApp:
    """Make a workspace live, or find what makes it live (materializeWorkspace, connectWorkspace)."""
    request.caller.require_any(_CONNECT_SCOPE)
    workspace = addressed(request)
    members = request.body("workspace materialize request", _MATERIALIZE)
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)
    if workspace["state"] != "active":
        raise workspaces.not_found()
    row, is_new = materializations.ensure(request.core, workspace)
    return answer(materializations.rendered(request.core, row), 201 if is_new else 200)


async def stop_workspace(request: ApiRequest) -> ASGIApp:
    """Ask a live workspace to stop (stopWorkspace); a repeated key returns the first answer."""
    request.caller.require_any(_STOP_SCOPE)
    core = request.core
    workspace = addressed(request)
    members = request.body("workspace stop request", _STOP)
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)
    try:
        key = _key(members)
    except ApiError as refusal:
        raise request.defect(ApiError(500, "stop workspace"), refusal) from None
    with core.db.transaction():
        if key is not None:
            earlier = workspace_keys.used(core, workspace["id"], "stop", key)
            if earlier is not None and earlier["response"] is not None:
                return answer(loads(earlier["response"]))
        stopping = materializations.stop(core, workspace)
        body: dict[str, Any] = {"workspace_id": workspace["id"], "state": "no_active_materialization"}
        if stopping is not None:
            body |= {"state": stopping["state"], "materialization": materializations.rendered(core, stopping)}
        if key is not None:
            workspace_keys.bind(
                core,
                workspace["id"],
                "stop",
                key,
                fingerprint=fingerprint([]),
                resource_id=workspace["id"],
                response=dumps(body),
            )
    return answer(body)


async def list_workspace_versions(request: ApiRequest) -> ASGIApp:
    """List versions (listWorkspaceVersions)."""
    workspace = addressed(request)
    kind = request.text("kind")
    if kind is not None and kind not in versions.KINDS:
        raise ApiError(400, "kind must be user or system")
    rows = versions.listed(request.core, workspace, kind, request.limit_at_most(50, 200))
    return answer({"versions": [versions.rendered(row) for row in rows]})


async def get_workspace_version(request: ApiRequest) -> ASGIApp:
    """Retrieve a version (getWorkspaceVersion)."""
    workspace = addressed(request)
    return answer({"version": versions.rendered(versions.find(request.core, workspace, request.uuid("version_id")))})


def _new(members: dict[str, Any]) -> workspaces.NewWorkspace:
    sandbox_id = (members.get("sandbox_id") or "").strip()
    if not sandbox_id:
        raise ApiError(400, "sandbox_id is required")
    deployment_id = (members.get("deployment_id") or "").strip() or None
    if deployment_id is not None and not is_uuid(deployment_id):
        raise ApiError(400, "deployment_id must be a UUID")
    return workspaces.NewWorkspace(
        sandbox_id,
        values.external_id(members.get("external_id")),
        values.metadata(members.get("metadata", {})),
        values.tags(members.get("tags")),
        deployment_id,
        _key(members),
    )


def _key(members: dict[str, Any]) -> workspace_keys.Key | None:
    text = values.idempotency_key(members.get("idempotency_key"))
    lifetime = (members.get("idempotency_key_ttl") or "").strip()
    # Days are not among the units that are read here, unlike anywhere else.
    microseconds = parse_duration(lifetime) if lifetime and not lifetime.endswith("d") else DAY
    if microseconds is None or lifetime.endswith("d"):
        raise ApiError(400, "idempotency_key_ttl must be a positive duration")
    return None if text is None else workspace_keys.Key(text, microseconds)


def _answer(request: ApiRequest, workspace: Row) -> ASGIApp:
    return answer({"workspace": workspaces.rendered(request.core, workspace)})

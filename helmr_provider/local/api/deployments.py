"""Tasks, sandboxes and the one deployment, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.api import request_body, sse, values
from helmr_provider.local.api.request import SCOPE_WITH_KEY, answer
from helmr_provider.local.api.workspaces import ANY_WORKSPACE_SCOPE
from helmr_provider.local.common import json_bodies
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.jsontext import dumps
from helmr_provider.local.state import deployments

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest

_READ = ("runs:read", "tasks:deploy")
_PROMOTE = request_body.Struct(
    "api.PromoteDeploymentRequest",
    {"project_id": request_body.string, "environment_id": request_body.string, "reason": request_body.string},
)


async def list_tasks(request: ApiRequest) -> ASGIApp:
    """List the deployed tasks (listTasks)."""
    request.caller.require_any(_READ)
    request.refuse_project_query()
    return answer({"tasks": deployments.tasks(request.core)})


async def get_task(request: ApiRequest) -> ASGIApp:
    """Retrieve a deployed task (getTask)."""
    request.caller.require_any(_READ)
    return answer(deployments.task(request.core, request.params["task_id"]))


async def list_sandboxes(request: ApiRequest) -> ASGIApp:
    """List the deployed sandboxes (listSandboxes)."""
    request.caller.require_any((*_READ, *ANY_WORKSPACE_SCOPE))
    request.refuse_project_query()
    return answer({"sandboxes": deployments.sandboxes(request.core)})


async def get_sandbox(request: ApiRequest) -> ASGIApp:
    """Retrieve a deployed sandbox (getSandbox)."""
    request.caller.require_any((*_READ, *ANY_WORKSPACE_SCOPE))
    return answer(deployments.sandbox(request.core, request.params["sandbox_id"]))


async def get_current_deployment(request: ApiRequest) -> ASGIApp:
    """Retrieve the current deployment (getCurrentDeployment)."""
    request.refuse_project_query()
    return answer({"deployment": deployments.rendered(request.core, request.environment_id, with_tasks=True)})


async def list_deployments(request: ApiRequest) -> ASGIApp:
    """List the deployments, of which there is one (listDeployments)."""
    request.caller.require_any(_READ)
    request.refuse_project_query()
    request.limit(50, 200)
    return answer({"deployments": [deployments.rendered(request.core, request.environment_id, with_tasks=False)]})


async def get_deployment(request: ApiRequest) -> ASGIApp:
    """Retrieve a deployment (getDeployment)."""
    request.caller.require_any(_READ)
    _require(request, request.uuid("deployment_id", "deployment id"))
    return answer(deployments.rendered(request.core, request.environment_id, with_tasks=True))


async def get_deployment_events(request: ApiRequest) -> ASGIApp:
    """Page through a deployment's events or follow them to the last (getDeploymentEvents)."""
    request.caller.require_any(_READ)
    _require(request, request.uuid("deployment_id", "deployment id"))
    cursor = values.sequence(request.headers.get("last-event-id") or request.query.get("cursor", ""), "cursor")
    later = [event for event in deployments.events(request.core) if int(event["id"]) > cursor]
    if request.follows:
        return sse.EventStream(_frames(later), request.core.settings.stream_limit)
    limit = request.limit(200, 200)
    page: dict[str, object] = {"events": later[:limit], "cursor": cursor}
    if len(later) > limit:
        page["next_cursor"] = int(later[limit - 1]["id"])
    return answer(page)


async def promote_deployment(request: ApiRequest) -> ASGIApp:
    """Make a deployment current (promoteDeployment): the only one is current already."""
    _require(request, request.params["deployment"])
    raw = request.raw_body()
    if raw.strip():
        try:
            members = _PROMOTE.read(json_bodies.parse(raw))
        except json_bodies.DecodeError as error:
            raise ApiError(400, f"invalid promote deployment request JSON: {error}") from None
        if members.get("project_id") or members.get("environment_id"):
            raise ApiError(400, SCOPE_WITH_KEY)
    return answer(deployments.rendered(request.core, request.environment_id, with_tasks=False))


def _require(request: ApiRequest, named: str) -> None:
    if named not in (request.core.deployment.id, request.core.deployment.version):
        raise ApiError(404, "deployment not found")


async def _frames(events: Sequence[dict[str, Any]]) -> AsyncGenerator[bytes]:
    for event in events:
        yield sse.frame(event["id"], "deployment_event", dumps(event))

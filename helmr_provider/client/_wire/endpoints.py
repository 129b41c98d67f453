"""Every HTTP operation of the runtime API, as data (openapi.yaml).

An operation is added here first; the transport knows nothing else about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

# What encodeURIComponent leaves alone besides letters and digits (contract/behaviour.md section 16).
_COMPONENT_SAFE = "-_.!~*'()"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation.

    :param operation: operationId.
    :param method: HTTP method.
    :param path: path below the base URL, with ``{name}`` parts.
    :param query: names of the query members it takes.
    :param sends: whether it reads a JSON body; then one is always sent, ``{}`` for nothing.
    :param reads: what a success carries.
    :param scoped: whether the path form for one project and environment exists.
    :param credential: the client's own, a public access token, or none.
    :param repeat: whether the same request may be sent again when its fate is unknown: always, never, or only with
        the named member in the body. A start is repeatable by its external id only, because newer servers silently
        ignore its idempotency key (contract/behaviour.md section 20).
    :param pending: whether it may answer ``idempotency_pending``, with a 202 or a 500 (contract/behaviour.md §3.3).
    :param follows: whether ``follow=1`` turns the answer into server-sent events.
    """

    operation: str
    method: str
    path: str
    query: tuple[str, ...] = ()
    sends: bool = False
    reads: Literal["json", "bytes", "nothing"] = "json"
    scoped: bool = True
    credential: Literal["client", "public", "none"] = "client"
    repeat: str = "never"
    pending: bool = False
    follows: bool = False

    def target(
        self,
        path: Mapping[str, str],
        query: Mapping[str, Any],
        *,
        project_id: str | None = None,
        environment_id: str | None = None,
    ) -> str:
        """Fill in path and query, ready for the wire.

        :param path: value of each ``{name}`` part.
        :param query: query members; those that are None are left out.
        :param project_id: project of the scoped form.
        :param environment_id: environment of the scoped form.
        :raises ValueError: a path part is blank, or would change the path.
        """
        filled = self.path.format_map({name: _component(name, value) for name, value in path.items()})
        if self.scoped and project_id is not None and environment_id is not None:
            scope = f"/api/projects/{_component('project_id', project_id)}"
            scope += f"/environments/{_component('environment_id', environment_id)}"
            filled = scope + filled.removeprefix("/api")
        members = [(name, str(query[name])) for name in self.query if query.get(name) is not None]
        return f"{filled}?{urlencode(members)}" if members else filled

    def repeatable(self, body: Any) -> bool:
        """Whether this request may be sent again when the fate of the first one is unknown.

        :param body: the JSON body.
        """
        if self.repeat == "never":
            return False
        return self.repeat == "always" or (isinstance(body, dict) and self.repeat in body)


def _component(name: str, value: str) -> str:
    if not value.strip() or value in {".", ".."}:
        raise ValueError(f"{name} must not be {'blank' if not value.strip() else repr(value)}")
    return quote(value, safe=_COMPONENT_SAFE)


def _get(operation: str, path: str, *query: str, repeat: str = "always", **more: Any) -> Endpoint:
    return Endpoint(operation, "GET", path, query, repeat=repeat, **more)


def _send(operation: str, method: str, path: str, *query: str, **more: Any) -> Endpoint:
    return Endpoint(operation, method, path, query, sends=True, **more)


_SESSION = "/api/sessions/{session_id}"
_EXTERNAL = "/api/sessions/by-external-id"
_PUBLIC = "/api/v1/sessions/{session_id}"
_PUBLIC_EXTERNAL = "/api/v1/sessions/by-external-id"
_WORKSPACE = "/api/workspaces/{workspace_id}"
_EXEC = _WORKSPACE + "/execs/{exec_id}"
_PTY = _WORKSPACE + "/pty/{pty_id}"
_PAGE = ("after_sequence", "limit", "correlation_id")
_READ = ("after_sequence", "correlation_id")
_SOURCE = ("source", "version_id", "materialization_id")
_BYTES = ("cursor", "limit", "follow")

ENDPOINTS: Final[dict[str, Endpoint]] = {
    endpoint.operation: endpoint
    for endpoint in (
        # sessions
        _send("startSession", "POST", "/api/sessions", repeat="external_id", pending=True),
        _get("listSessions", "/api/sessions", "status", "task_id", "external_id", "limit"),
        _send("startSessionAndWait", "POST", "/api/sessions/start-and-wait", repeat="external_id", pending=True),
        _get("getSession", _SESSION),
        _get("getSessionByExternalId", _EXTERNAL, "external_id"),
        _send("patchSession", "PATCH", _SESSION),
        _send("patchSessionByExternalId", "PATCH", _EXTERNAL, "external_id"),
        _send("closeSession", "POST", _SESSION + "/close"),
        _send("closeSessionByExternalId", "POST", _EXTERNAL + "/close", "external_id"),
        _send("cancelSession", "POST", _SESSION + "/cancel", repeat="always"),
        _send("cancelSessionByExternalId", "POST", _EXTERNAL + "/cancel", "external_id", repeat="always"),
        _get("listSessionRuns", _SESSION + "/runs"),
        _get("listSessionRunsByExternalId", _EXTERNAL + "/runs", "external_id"),
        # session streams
        _get("listSessionStreams", _SESSION + "/streams"),
        _get("listSessionStreamsByExternalId", _EXTERNAL + "/streams", "external_id"),
        _send("appendSessionInput", "POST", _SESSION + "/inputs/{stream}", repeat="idempotency_key"),
        _send(
            "appendSessionInputByExternalId",
            "POST",
            _EXTERNAL + "/inputs/{stream}",
            "external_id",
            repeat="idempotency_key",
        ),
        _get("listSessionInputRecords", _SESSION + "/inputs/{stream}", *_PAGE),
        _get("listSessionInputRecordsByExternalId", _EXTERNAL + "/inputs/{stream}", "external_id", *_PAGE),
        _send("appendSessionOutput", "POST", _SESSION + "/outputs/{stream}", repeat="idempotency_key"),
        _send(
            "appendSessionOutputByExternalId",
            "POST",
            _EXTERNAL + "/outputs/{stream}",
            "external_id",
            repeat="idempotency_key",
        ),
        _get("listSessionOutputRecords", _SESSION + "/outputs/{stream}", *_PAGE),
        _get("listSessionOutputRecordsByExternalId", _EXTERNAL + "/outputs/{stream}", "external_id", *_PAGE),
        _get("readSessionOutputRecord", _SESSION + "/outputs/{stream}/read", *_READ),
        _get("readSessionOutputRecordByExternalId", _EXTERNAL + "/outputs/{stream}/read", "external_id", *_READ),
        # Public stream calls each use up one use of their token, repeats included (contract/behaviour.md section 12).
        _send("publicAppendSessionInput", "POST", _PUBLIC + "/inputs/{stream}", scoped=False, credential="public"),
        _send(
            "publicAppendSessionInputByExternalId",
            "POST",
            _PUBLIC_EXTERNAL + "/inputs/{stream}",
            "external_id",
            scoped=False,
            credential="public",
        ),
        _get(
            "publicReadSessionOutput",
            _PUBLIC + "/outputs/{stream}/read",
            *_READ,
            scoped=False,
            credential="public",
            repeat="never",
        ),
        _get(
            "publicReadSessionOutputByExternalId",
            _PUBLIC_EXTERNAL + "/outputs/{stream}/read",
            "external_id",
            *_READ,
            scoped=False,
            credential="public",
            repeat="never",
        ),
        # runs
        _get("listRuns", "/api/runs", "status", "limit", "session_id"),
        _get("countRuns", "/api/runs/counts"),
        _get("getRun", "/api/runs/{run_id}"),
        _send("cancelRun", "POST", "/api/runs/{run_id}/cancel", repeat="always"),
        _get("getRunEvents", "/api/runs/{run_id}/events", *_BYTES, follows=True),
        _get("getRunLogs", "/api/runs/{run_id}/logs", "cursor", "follow", follows=True),
        # tokens: completing with the same data again is answered as the first time, so it may be repeated
        _send("createToken", "POST", "/api/tokens", repeat="idempotency_key"),
        _get("listTokens", "/api/tokens", "status", "cursor", "limit"),
        _get("getToken", "/api/tokens/{token_id}"),
        _send("completeToken", "POST", "/api/tokens/{token_id}/complete", repeat="always"),
        Endpoint("cancelToken", "POST", "/api/tokens/{token_id}/cancel"),
        _send(
            "publicCompleteToken",
            "POST",
            "/api/v1/tokens/{token_id}/complete",
            scoped=False,
            credential="public",
            repeat="always",
        ),
        _send(
            "callbackCompleteToken",
            "POST",
            "/api/v1/tokens/{token_id}/callback/{callback_secret}",
            scoped=False,
            credential="none",
            repeat="always",
        ),
        _send("createPublicAccessToken", "POST", "/api/public-access-tokens", scoped=False),
        # workspaces
        _send("createWorkspace", "POST", "/api/workspaces", repeat="idempotency_key", pending=True),
        _get("listWorkspaces", "/api/workspaces", "state", "external_id", "tag", "limit"),
        _get("getWorkspace", _WORKSPACE),
        _send("patchWorkspace", "PATCH", _WORKSPACE),
        Endpoint("deleteWorkspace", "DELETE", _WORKSPACE, repeat="always"),
        _send("materializeWorkspace", "POST", _WORKSPACE + "/materialize", repeat="always"),
        _send("connectWorkspace", "POST", _WORKSPACE + "/connect", repeat="always"),
        _send("stopWorkspace", "POST", _WORKSPACE + "/stop", repeat="idempotency_key", pending=True),
        _get("listWorkspaceFiles", _WORKSPACE + "/files", "path", *_SOURCE, "limit", "cursor"),
        _get("readWorkspaceFile", _WORKSPACE + "/files/content", "path", *_SOURCE, reads="bytes"),
        _get("statWorkspaceFile", _WORKSPACE + "/files/stat", "path", *_SOURCE),
        _get("listWorkspaceVersions", _WORKSPACE + "/versions", "kind", "limit"),
        _get("getWorkspaceVersion", _WORKSPACE + "/versions/{version_id}"),
        # exec and pty: a repeated write is recognised by its offset; a pty that closes twice is a 500
        _send("createWorkspaceExec", "POST", _WORKSPACE + "/execs", repeat="idempotency_key", pending=True),
        _get("listWorkspaceExecs", _WORKSPACE + "/execs", "state", "limit"),
        _get("getWorkspaceExec", _EXEC),
        _send("writeWorkspaceExecStdin", "POST", _EXEC + "/stdin", repeat="always"),
        Endpoint("closeWorkspaceExecStdin", "POST", _EXEC + "/stdin/close", repeat="always"),
        _get("listWorkspaceExecStdout", _EXEC + "/stdout", *_BYTES, follows=True),
        _get("listWorkspaceExecStderr", _EXEC + "/stderr", *_BYTES, follows=True),
        _send("createWorkspacePty", "POST", _WORKSPACE + "/pty", repeat="idempotency_key", pending=True),
        _get("listWorkspacePtys", _WORKSPACE + "/pty", "state", "limit"),
        _get("getWorkspacePty", _PTY),
        _send("writeWorkspacePtyInput", "POST", _PTY + "/input", repeat="always"),
        _get("listWorkspacePtyOutput", _PTY + "/output", *_BYTES, follows=True),
        _send("resizeWorkspacePty", "POST", _PTY + "/resize", repeat="always"),
        Endpoint("closeWorkspacePty", "POST", _PTY + "/close"),
        # schedules
        _send("createSchedule", "POST", "/api/schedules", repeat="always"),
        _get("listSchedules", "/api/schedules"),
        _get("getSchedule", "/api/schedules/{schedule_id}"),
        _send("updateSchedule", "PUT", "/api/schedules/{schedule_id}", repeat="always"),
        Endpoint("deleteSchedule", "DELETE", "/api/schedules/{schedule_id}", reads="nothing"),
        Endpoint("activateSchedule", "POST", "/api/schedules/{schedule_id}/activate", repeat="always"),
        Endpoint("deactivateSchedule", "POST", "/api/schedules/{schedule_id}/deactivate", repeat="always"),
        # deployments
        _get("listTasks", "/api/tasks"),
        _get("getTask", "/api/tasks/{task_id}"),
        _get("listSandboxes", "/api/sandboxes"),
        _get("getSandbox", "/api/sandboxes/{sandbox_id}"),
        _get("listDeployments", "/api/deployments", "limit"),
        _get("getCurrentDeployment", "/api/deployments/current"),
        _get("getDeployment", "/api/deployments/{deployment_id}"),
        _get("getDeploymentEvents", "/api/deployments/{deployment_id}/events", *_BYTES, follows=True),
        _send("promoteDeployment", "POST", "/api/deployments/{deployment}/promote"),
        _get("listSecrets", "/api/secrets"),
        _get("getSecret", "/api/secrets/{name}"),
        _send("setSecret", "PUT", "/api/secrets/{name}", repeat="always"),
        Endpoint("deleteSecret", "DELETE", "/api/secrets/{name}", reads="nothing"),
        # health
        _get("healthz", "/healthz", scoped=False, credential="none"),
        _get("readyz", "/readyz", scoped=False, credential="none"),
    )
}

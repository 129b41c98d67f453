"""Every operation of the API: its name, where it is, what it takes. One without a handler is not built yet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from helmr_provider.local.api import runs, sessions, starts, streams, tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from helmr_provider.local.api.request import Handler

PUBLIC = "public"
BY_EXTERNAL_ID = "ByExternalId"


@dataclass(frozen=True)
class Operation:
    """One operation.

    :param name: its operationId.
    :param method: the HTTP method.
    :param path: the path with placeholders.
    :param scope: the scope that an API key needs; `public` for routes without API keys; None for any key.
    :param handler: what does it; None if the local control plane does not have it.
    """

    name: str
    method: str
    path: str
    scope: str | None
    handler: Handler | None = None


class Match(NamedTuple):
    """What a path leads to: an operation or none, the placeholders' values, and the methods that the path has."""

    operation: Operation | None
    params: Mapping[str, str]
    methods: list[str]


class Router:
    """Finds the operation of a request.

    :param operations: all of them; where two paths fit, the one with fewer placeholders wins.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        ordered = sorted(operations, key=lambda operation: operation.path.count("{"))
        self._routes = [(_pattern(operation.path), operation) for operation in ordered]

    def match(self, method: str, raw_path: str) -> Match | None:
        """Find the operation of a method and a path as it was sent; None if there is no such path."""
        path: str | None = None
        methods: list[str] = []
        for pattern, operation in self._routes:
            found = pattern.fullmatch(raw_path)
            if found is None or path not in (None, operation.path):
                continue
            if operation.method == method:
                params = {name: unquote(value) for name, value in found.groupdict().items()}
                return Match(operation, params, [method])
            path = operation.path
            methods.append(operation.method)
        return Match(None, {}, methods) if methods else None


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def _session(name: str, method: str, tail: str, scope: str, handler: Handler) -> tuple[Operation, Operation]:
    return (
        Operation(name, method, f"/api/sessions/{{session_id}}{tail}", scope, handler),
        Operation(f"{name}{BY_EXTERNAL_ID}", method, f"/api/sessions/by-external-id{tail}", scope, handler),
    )


def _absent(scope: str | None, *lines: str) -> list[Operation]:
    """Name operations that exist but are not built here: `name METHOD path` each."""
    found: list[Operation] = []
    for line in lines:
        name, method, path = line.split()
        found.append(Operation(name, method, f"/api{path}", scope))
    return found


_WORKSPACE = "/workspaces/{workspace_id}"

OPERATIONS: tuple[Operation, ...] = (
    Operation("startSession", "POST", "/api/sessions", "runs:create", starts.start_session),
    Operation("listSessions", "GET", "/api/sessions", "runs:read", sessions.list_sessions),
    Operation(
        "startSessionAndWait", "POST", "/api/sessions/start-and-wait", "runs:create", starts.start_session_and_wait
    ),
    *_session("getSession", "GET", "", "runs:read", sessions.get_session),
    *_session("patchSession", "PATCH", "", "runs:manage", sessions.patch_session),
    *_session("closeSession", "POST", "/close", "runs:manage", sessions.close_session),
    *_session("cancelSession", "POST", "/cancel", "runs:manage", sessions.cancel_session),
    *_session("listSessionRuns", "GET", "/runs", "runs:read", sessions.list_session_runs),
    *_session("listSessionStreams", "GET", "/streams", "session-streams:read", streams.list_session_streams),
    *_session("appendSessionInput", "POST", "/inputs/{stream}", "session-input:send", streams.append_session_input),
    *_session(
        "listSessionInputRecords", "GET", "/inputs/{stream}", "session-streams:read", streams.list_session_input_records
    ),
    *_session(
        "appendSessionOutput", "POST", "/outputs/{stream}", "session-output:append", streams.append_session_output
    ),
    *_session(
        "listSessionOutputRecords",
        "GET",
        "/outputs/{stream}",
        "session-streams:read",
        streams.list_session_output_records,
    ),
    *_session(
        "readSessionOutputRecord",
        "GET",
        "/outputs/{stream}/read",
        "session-streams:read",
        streams.read_session_output_record,
    ),
    Operation("listRuns", "GET", "/api/runs", "runs:read", runs.list_runs),
    Operation("countRuns", "GET", "/api/runs/counts", "runs:read", runs.count_runs),
    Operation("getRun", "GET", "/api/runs/{run_id}", "runs:read", runs.get_run),
    Operation("cancelRun", "POST", "/api/runs/{run_id}/cancel", "runs:manage", runs.cancel_run),
    Operation("getRunEvents", "GET", "/api/runs/{run_id}/events", "runs:read", runs.get_run_events),
    Operation("getRunLogs", "GET", "/api/runs/{run_id}/logs", "runs:read", runs.get_run_logs),
    Operation("createToken", "POST", "/api/tokens", "tokens:create", tokens.create_token),
    Operation("listTokens", "GET", "/api/tokens", "tokens:read", tokens.list_tokens),
    Operation("getToken", "GET", "/api/tokens/{token_id}", "tokens:read", tokens.get_token),
    Operation("completeToken", "POST", "/api/tokens/{token_id}/complete", "tokens:complete", tokens.complete_token),
    Operation("cancelToken", "POST", "/api/tokens/{token_id}/cancel", "tokens:cancel", tokens.cancel_token),
    Operation(
        "publicCompleteToken", "POST", "/api/v1/tokens/{token_id}/complete", PUBLIC, tokens.public_complete_token
    ),
    Operation(
        "callbackCompleteToken",
        "POST",
        "/api/v1/tokens/{token_id}/callback/{callback_secret}",
        PUBLIC,
        tokens.callback_complete_token,
    ),
    *_absent(
        PUBLIC,
        "publicAppendSessionInput POST /v1/sessions/{session_id}/inputs/{stream}",
        "publicReadSessionOutput GET /v1/sessions/{session_id}/outputs/{stream}/read",
        "publicAppendSessionInputByExternalId POST /v1/sessions/by-external-id/inputs/{stream}",
        "publicReadSessionOutputByExternalId GET /v1/sessions/by-external-id/outputs/{stream}/read",
    ),
    *_absent(
        None,
        "createPublicAccessToken POST /public-access-tokens",
        "listWorkspaces GET /workspaces",
        f"getWorkspace GET {_WORKSPACE}",
        f"materializeWorkspace POST {_WORKSPACE}/materialize",
        f"connectWorkspace POST {_WORKSPACE}/connect",
        f"stopWorkspace POST {_WORKSPACE}/stop",
        "listTasks GET /tasks",
        "getTask GET /tasks/{task_id}",
        "listSandboxes GET /sandboxes",
        "getSandbox GET /sandboxes/{sandbox_id}",
        "listDeployments GET /deployments",
        "getDeployment GET /deployments/{deployment_id}",
        "getDeploymentEvents GET /deployments/{deployment_id}/events",
    ),
    *_absent(
        "workspace-lifecycle:manage",
        "createWorkspace POST /workspaces",
        f"patchWorkspace PATCH {_WORKSPACE}",
        f"deleteWorkspace DELETE {_WORKSPACE}",
    ),
    *_absent(
        "workspace-files:read",
        f"listWorkspaceFiles GET {_WORKSPACE}/files",
        f"readWorkspaceFile GET {_WORKSPACE}/files/content",
        f"statWorkspaceFile GET {_WORKSPACE}/files/stat",
    ),
    *_absent(
        "workspace-versions:read",
        f"listWorkspaceVersions GET {_WORKSPACE}/versions",
        f"getWorkspaceVersion GET {_WORKSPACE}/versions/{{version_id}}",
    ),
    *_absent("workspace-exec:create", f"createWorkspaceExec POST {_WORKSPACE}/execs"),
    *_absent(
        "workspace-exec:read",
        f"listWorkspaceExecs GET {_WORKSPACE}/execs",
        f"getWorkspaceExec GET {_WORKSPACE}/execs/{{exec_id}}",
        f"listWorkspaceExecStdout GET {_WORKSPACE}/execs/{{exec_id}}/stdout",
        f"listWorkspaceExecStderr GET {_WORKSPACE}/execs/{{exec_id}}/stderr",
    ),
    *_absent(
        "workspace-exec:manage",
        f"writeWorkspaceExecStdin POST {_WORKSPACE}/execs/{{exec_id}}/stdin",
        f"closeWorkspaceExecStdin POST {_WORKSPACE}/execs/{{exec_id}}/stdin/close",
    ),
    *_absent("workspace-pty:create", f"createWorkspacePty POST {_WORKSPACE}/pty"),
    *_absent(
        "workspace-pty:read",
        f"listWorkspacePtys GET {_WORKSPACE}/pty",
        f"getWorkspacePty GET {_WORKSPACE}/pty/{{pty_id}}",
        f"listWorkspacePtyOutput GET {_WORKSPACE}/pty/{{pty_id}}/output",
    ),
    *_absent(
        "workspace-pty:manage",
        f"writeWorkspacePtyInput POST {_WORKSPACE}/pty/{{pty_id}}/input",
        f"resizeWorkspacePty POST {_WORKSPACE}/pty/{{pty_id}}/resize",
        f"closeWorkspacePty POST {_WORKSPACE}/pty/{{pty_id}}/close",
    ),
    *_absent(
        "runs:create",
        "createSchedule POST /schedules",
        "updateSchedule PUT /schedules/{schedule_id}",
        "deleteSchedule DELETE /schedules/{schedule_id}",
        "activateSchedule POST /schedules/{schedule_id}/activate",
        "deactivateSchedule POST /schedules/{schedule_id}/deactivate",
    ),
    *_absent(
        "runs:read",
        "listSchedules GET /schedules",
        "getSchedule GET /schedules/{schedule_id}",
        "getCurrentDeployment GET /deployments/current",
    ),
    *_absent("tasks:deploy", "promoteDeployment POST /deployments/{deployment}/promote"),
    *_absent(
        "secrets:write",
        "listSecrets GET /secrets",
        "getSecret GET /secrets/{name}",
        "setSecret PUT /secrets/{name}",
        "deleteSecret DELETE /secrets/{name}",
    ),
)

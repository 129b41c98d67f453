"""Every operation of the API: its name, where it is, what it takes and what does it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from helmr_provider.local.api import (
    deployments,
    execs,
    files,
    ptys,
    public_tokens,
    runs,
    schedules,
    secrets,
    sessions,
    starts,
    streams,
    tokens,
    workspaces,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from helmr_provider.local.api.request import Handler

PUBLIC = "public"
BY_EXTERNAL_ID = "ByExternalId"

_WORKSPACES = "/api/workspaces"
_WORKSPACE = f"{_WORKSPACES}/{{workspace_id}}"
_FILES = f"{_WORKSPACE}/files"
_EXECS = f"{_WORKSPACE}/execs"
_EXEC = f"{_EXECS}/{{exec_id}}"
_PTYS = f"{_WORKSPACE}/pty"
_PTY = f"{_PTYS}/{{pty_id}}"
_SCHEDULES = "/api/schedules"
_SCHEDULE = f"{_SCHEDULES}/{{schedule_id}}"
_DEPLOYMENTS = "/api/deployments"
_DEPLOYMENT = f"{_DEPLOYMENTS}/{{deployment_id}}"
_SECRET = "/api/secrets/{name}"  # noqa: S105 - a path

_LIFECYCLE, _FILES_READ, _VERSIONS_READ = (
    "workspace-lifecycle:manage",
    "workspace-files:read",
    "workspace-versions:read",
)
_EXEC_CREATE, _EXEC_READ, _EXEC_MANAGE = "workspace-exec:create", "workspace-exec:read", "workspace-exec:manage"
_PTY_CREATE, _PTY_READ, _PTY_MANAGE = "workspace-pty:create", "workspace-pty:read", "workspace-pty:manage"
_RUNS_CREATE, _RUNS_READ, _SECRETS, _DEPLOY = "runs:create", "runs:read", "secrets:write", "tasks:deploy"


@dataclass(frozen=True)
class Operation:
    """One operation.

    :param name: its operationId.
    :param method: the HTTP method.
    :param path: the path with placeholders.
    :param scope: the scope that an API key needs; `public` for routes without API keys; None for any key, also where
        the handler checks which of several scopes the key has.
    :param handler: what does it.
    """

    name: str
    method: str
    path: str
    scope: str | None
    handler: Handler


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


def _public(name: str, method: str, tail: str, handler: Handler) -> tuple[Operation, Operation]:
    return (
        Operation(name, method, f"/api/v1/sessions/{{session_id}}{tail}", PUBLIC, handler),
        Operation(f"{name}{BY_EXTERNAL_ID}", method, f"/api/v1/sessions/by-external-id{tail}", PUBLIC, handler),
    )


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
    *_public("publicAppendSessionInput", "POST", "/inputs/{stream}", public_tokens.public_append_session_input),
    *_public("publicReadSessionOutput", "GET", "/outputs/{stream}/read", public_tokens.public_read_session_output),
    Operation(
        "createPublicAccessToken", "POST", "/api/public-access-tokens", None, public_tokens.create_public_access_token
    ),
    Operation("createWorkspace", "POST", _WORKSPACES, _LIFECYCLE, workspaces.create_workspace),
    Operation("listWorkspaces", "GET", _WORKSPACES, None, workspaces.list_workspaces),
    Operation("getWorkspace", "GET", _WORKSPACE, None, workspaces.get_workspace),
    Operation("patchWorkspace", "PATCH", _WORKSPACE, _LIFECYCLE, workspaces.patch_workspace),
    Operation("deleteWorkspace", "DELETE", _WORKSPACE, _LIFECYCLE, workspaces.delete_workspace),
    Operation("materializeWorkspace", "POST", f"{_WORKSPACE}/materialize", None, workspaces.materialize_workspace),
    Operation("connectWorkspace", "POST", f"{_WORKSPACE}/connect", None, workspaces.materialize_workspace),
    Operation("stopWorkspace", "POST", f"{_WORKSPACE}/stop", None, workspaces.stop_workspace),
    Operation(
        "listWorkspaceVersions", "GET", f"{_WORKSPACE}/versions", _VERSIONS_READ, workspaces.list_workspace_versions
    ),
    Operation(
        "getWorkspaceVersion",
        "GET",
        f"{_WORKSPACE}/versions/{{version_id}}",
        _VERSIONS_READ,
        workspaces.get_workspace_version,
    ),
    Operation("listWorkspaceFiles", "GET", _FILES, _FILES_READ, files.list_workspace_files),
    Operation("readWorkspaceFile", "GET", f"{_FILES}/content", _FILES_READ, files.read_workspace_file),
    Operation("statWorkspaceFile", "GET", f"{_FILES}/stat", _FILES_READ, files.stat_workspace_file),
    Operation("createWorkspaceExec", "POST", _EXECS, _EXEC_CREATE, execs.create_workspace_exec),
    Operation("listWorkspaceExecs", "GET", _EXECS, _EXEC_READ, execs.list_workspace_execs),
    Operation("getWorkspaceExec", "GET", _EXEC, _EXEC_READ, execs.get_workspace_exec),
    Operation("writeWorkspaceExecStdin", "POST", f"{_EXEC}/stdin", _EXEC_MANAGE, execs.write_workspace_exec_stdin),
    Operation(
        "closeWorkspaceExecStdin", "POST", f"{_EXEC}/stdin/close", _EXEC_MANAGE, execs.close_workspace_exec_stdin
    ),
    Operation("listWorkspaceExecStdout", "GET", f"{_EXEC}/stdout", _EXEC_READ, execs.list_workspace_exec_stdout),
    Operation("listWorkspaceExecStderr", "GET", f"{_EXEC}/stderr", _EXEC_READ, execs.list_workspace_exec_stderr),
    Operation("createWorkspacePty", "POST", _PTYS, _PTY_CREATE, ptys.create_workspace_pty),
    Operation("listWorkspacePtys", "GET", _PTYS, _PTY_READ, ptys.list_workspace_ptys),
    Operation("getWorkspacePty", "GET", _PTY, _PTY_READ, ptys.get_workspace_pty),
    Operation("listWorkspacePtyOutput", "GET", f"{_PTY}/output", _PTY_READ, ptys.list_workspace_pty_output),
    Operation("writeWorkspacePtyInput", "POST", f"{_PTY}/input", _PTY_MANAGE, ptys.write_workspace_pty_input),
    Operation("resizeWorkspacePty", "POST", f"{_PTY}/resize", _PTY_MANAGE, ptys.resize_workspace_pty),
    Operation("closeWorkspacePty", "POST", f"{_PTY}/close", _PTY_MANAGE, ptys.close_workspace_pty),
    Operation("createSchedule", "POST", _SCHEDULES, _RUNS_CREATE, schedules.create_schedule),
    Operation("listSchedules", "GET", _SCHEDULES, _RUNS_READ, schedules.list_schedules),
    Operation("updateSchedule", "PUT", _SCHEDULE, _RUNS_CREATE, schedules.update_schedule),
    Operation("deleteSchedule", "DELETE", _SCHEDULE, _RUNS_CREATE, schedules.delete_schedule),
    Operation("getSchedule", "GET", _SCHEDULE, _RUNS_READ, schedules.get_schedule),
    Operation("activateSchedule", "POST", f"{_SCHEDULE}/activate", _RUNS_CREATE, schedules.activate_schedule),
    Operation("deactivateSchedule", "POST", f"{_SCHEDULE}/deactivate", _RUNS_CREATE, schedules.deactivate_schedule),
    Operation("listTasks", "GET", "/api/tasks", None, deployments.list_tasks),
    Operation("getTask", "GET", "/api/tasks/{task_id}", None, deployments.get_task),
    Operation("listSandboxes", "GET", "/api/sandboxes", None, deployments.list_sandboxes),
    Operation("getSandbox", "GET", "/api/sandboxes/{sandbox_id}", None, deployments.get_sandbox),
    Operation("listDeployments", "GET", _DEPLOYMENTS, None, deployments.list_deployments),
    Operation("getCurrentDeployment", "GET", f"{_DEPLOYMENTS}/current", _RUNS_READ, deployments.get_current_deployment),
    Operation("getDeployment", "GET", _DEPLOYMENT, None, deployments.get_deployment),
    Operation("getDeploymentEvents", "GET", f"{_DEPLOYMENT}/events", None, deployments.get_deployment_events),
    Operation(
        "promoteDeployment", "POST", f"{_DEPLOYMENTS}/{{deployment}}/promote", _DEPLOY, deployments.promote_deployment
    ),
    Operation("listSecrets", "GET", "/api/secrets", _SECRETS, secrets.list_secrets),
    Operation("getSecret", "GET", _SECRET, _SECRETS, secrets.get_secret),
    Operation("setSecret", "PUT", _SECRET, _SECRETS, secrets.set_secret),
    Operation("deleteSecret", "DELETE", _SECRET, _SECRETS, secrets.delete_secret),
)

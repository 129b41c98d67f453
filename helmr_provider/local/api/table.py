"""The operations on workspaces, schedules, deployments and secrets: name, method, path, scope, handler.

A scope of None is for operations that check by themselves which of several scopes a key has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.local.api import deployments, execs, files, ptys, public_tokens, schedules, secrets, workspaces

if TYPE_CHECKING:
    from helmr_provider.local.api.request import Handler

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

TABLE: tuple[tuple[str, str, str, str | None, Handler], ...] = (
    ("createPublicAccessToken", "POST", "/api/public-access-tokens", None, public_tokens.create_public_access_token),
    ("createWorkspace", "POST", _WORKSPACES, _LIFECYCLE, workspaces.create_workspace),
    ("listWorkspaces", "GET", _WORKSPACES, None, workspaces.list_workspaces),
    ("getWorkspace", "GET", _WORKSPACE, None, workspaces.get_workspace),
    ("patchWorkspace", "PATCH", _WORKSPACE, _LIFECYCLE, workspaces.patch_workspace),
    ("deleteWorkspace", "DELETE", _WORKSPACE, _LIFECYCLE, workspaces.delete_workspace),
    ("materializeWorkspace", "POST", f"{_WORKSPACE}/materialize", None, workspaces.materialize_workspace),
    ("connectWorkspace", "POST", f"{_WORKSPACE}/connect", None, workspaces.materialize_workspace),
    ("stopWorkspace", "POST", f"{_WORKSPACE}/stop", None, workspaces.stop_workspace),
    ("listWorkspaceVersions", "GET", f"{_WORKSPACE}/versions", _VERSIONS_READ, workspaces.list_workspace_versions),
    (
        "getWorkspaceVersion",
        "GET",
        f"{_WORKSPACE}/versions/{{version_id}}",
        _VERSIONS_READ,
        workspaces.get_workspace_version,
    ),
    ("listWorkspaceFiles", "GET", _FILES, _FILES_READ, files.list_workspace_files),
    ("readWorkspaceFile", "GET", f"{_FILES}/content", _FILES_READ, files.read_workspace_file),
    ("statWorkspaceFile", "GET", f"{_FILES}/stat", _FILES_READ, files.stat_workspace_file),
    ("createWorkspaceExec", "POST", _EXECS, _EXEC_CREATE, execs.create_workspace_exec),
    ("listWorkspaceExecs", "GET", _EXECS, _EXEC_READ, execs.list_workspace_execs),
    ("getWorkspaceExec", "GET", _EXEC, _EXEC_READ, execs.get_workspace_exec),
    ("writeWorkspaceExecStdin", "POST", f"{_EXEC}/stdin", _EXEC_MANAGE, execs.write_workspace_exec_stdin),
    ("closeWorkspaceExecStdin", "POST", f"{_EXEC}/stdin/close", _EXEC_MANAGE, execs.close_workspace_exec_stdin),
    ("listWorkspaceExecStdout", "GET", f"{_EXEC}/stdout", _EXEC_READ, execs.list_workspace_exec_stdout),
    ("listWorkspaceExecStderr", "GET", f"{_EXEC}/stderr", _EXEC_READ, execs.list_workspace_exec_stderr),
    ("createWorkspacePty", "POST", _PTYS, _PTY_CREATE, ptys.create_workspace_pty),
    ("listWorkspacePtys", "GET", _PTYS, _PTY_READ, ptys.list_workspace_ptys),
    ("getWorkspacePty", "GET", _PTY, _PTY_READ, ptys.get_workspace_pty),
    ("listWorkspacePtyOutput", "GET", f"{_PTY}/output", _PTY_READ, ptys.list_workspace_pty_output),
    ("writeWorkspacePtyInput", "POST", f"{_PTY}/input", _PTY_MANAGE, ptys.write_workspace_pty_input),
    ("resizeWorkspacePty", "POST", f"{_PTY}/resize", _PTY_MANAGE, ptys.resize_workspace_pty),
    ("closeWorkspacePty", "POST", f"{_PTY}/close", _PTY_MANAGE, ptys.close_workspace_pty),
    ("createSchedule", "POST", _SCHEDULES, _RUNS_CREATE, schedules.create_schedule),
    ("listSchedules", "GET", _SCHEDULES, _RUNS_READ, schedules.list_schedules),
    ("updateSchedule", "PUT", _SCHEDULE, _RUNS_CREATE, schedules.update_schedule),
    ("deleteSchedule", "DELETE", _SCHEDULE, _RUNS_CREATE, schedules.delete_schedule),
    ("getSchedule", "GET", _SCHEDULE, _RUNS_READ, schedules.get_schedule),
    ("activateSchedule", "POST", f"{_SCHEDULE}/activate", _RUNS_CREATE, schedules.activate_schedule),
    ("deactivateSchedule", "POST", f"{_SCHEDULE}/deactivate", _RUNS_CREATE, schedules.deactivate_schedule),
    ("listTasks", "GET", "/api/tasks", None, deployments.list_tasks),
    ("getTask", "GET", "/api/tasks/{task_id}", None, deployments.get_task),
    ("listSandboxes", "GET", "/api/sandboxes", None, deployments.list_sandboxes),
    ("getSandbox", "GET", "/api/sandboxes/{sandbox_id}", None, deployments.get_sandbox),
    ("listDeployments", "GET", _DEPLOYMENTS, None, deployments.list_deployments),
    ("getCurrentDeployment", "GET", f"{_DEPLOYMENTS}/current", _RUNS_READ, deployments.get_current_deployment),
    ("getDeployment", "GET", _DEPLOYMENT, None, deployments.get_deployment),
    ("getDeploymentEvents", "GET", f"{_DEPLOYMENT}/events", None, deployments.get_deployment_events),
    ("promoteDeployment", "POST", f"{_DEPLOYMENTS}/{{deployment}}/promote", _DEPLOY, deployments.promote_deployment),
    ("listSecrets", "GET", "/api/secrets", _SECRETS, secrets.list_secrets),
    ("getSecret", "GET", _SECRET, _SECRETS, secrets.get_secret),
    ("setSecret", "PUT", _SECRET, _SECRETS, secrets.set_secret),
    ("deleteSecret", "DELETE", _SECRET, _SECRETS, secrets.delete_secret),
)

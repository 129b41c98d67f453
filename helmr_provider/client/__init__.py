"""The Helmr runtime client. Knows nothing of Airflow.

Importing this package imports neither httpx nor pydantic: names are loaded at first use, because DAG files that only
name a :class:`Task` or an error class are parsed again and again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helmr_provider.client._async.client import AsyncHelmrClient as AsyncHelmrClient
    from helmr_provider.client._async.execs import AsyncExecHandle as AsyncExecHandle
    from helmr_provider.client._async.ptys import AsyncPtyHandle as AsyncPtyHandle
    from helmr_provider.client._async.schedules import AsyncScheduleHandle as AsyncScheduleHandle
    from helmr_provider.client._async.session_streams import AsyncSessionInput as AsyncSessionInput
    from helmr_provider.client._async.session_streams import AsyncSessionOutput as AsyncSessionOutput
    from helmr_provider.client._async.sessions import AsyncSessionHandle as AsyncSessionHandle
    from helmr_provider.client._async.tokens import AsyncTokenHandle as AsyncTokenHandle
    from helmr_provider.client._async.workspaces import AsyncWorkspaceHandle as AsyncWorkspaceHandle
    from helmr_provider.client._default_client import close as close
    from helmr_provider.client._default_client import default_client as default_client
    from helmr_provider.client._idempotency import IdempotencyKey as IdempotencyKey
    from helmr_provider.client._idempotency import idempotency_key as idempotency_key
    from helmr_provider.client._sync.auth import Auth
    from helmr_provider.client._sync.client import HelmrClient as HelmrClient
    from helmr_provider.client._sync.execs import ExecHandle as ExecHandle
    from helmr_provider.client._sync.ptys import PtyHandle as PtyHandle
    from helmr_provider.client._sync.runs import Runs
    from helmr_provider.client._sync.schedules import ScheduleHandle as ScheduleHandle
    from helmr_provider.client._sync.schedules import Schedules
    from helmr_provider.client._sync.session_streams import SessionInput as SessionInput
    from helmr_provider.client._sync.session_streams import SessionOutput as SessionOutput
    from helmr_provider.client._sync.sessions import SessionHandle as SessionHandle
    from helmr_provider.client._sync.sessions import Sessions
    from helmr_provider.client._sync.tokens import TokenHandle as TokenHandle
    from helmr_provider.client._sync.tokens import Tokens
    from helmr_provider.client._sync.workspaces import WorkspaceHandle as WorkspaceHandle
    from helmr_provider.client._sync.workspaces import Workspaces
    from helmr_provider.client._wire.schedule_serialization import ScheduleRunOptions as ScheduleRunOptions
    from helmr_provider.client._wire.serialization import RetryPolicy as RetryPolicy
    from helmr_provider.client._wire.start_request import StartRequest as StartRequest
    from helmr_provider.client.errors import HelmrApiError as HelmrApiError
    from helmr_provider.client.errors import HelmrAuthError as HelmrAuthError
    from helmr_provider.client.errors import HelmrCallTimeoutError as HelmrCallTimeoutError
    from helmr_provider.client.errors import HelmrConfigError as HelmrConfigError
    from helmr_provider.client.errors import HelmrConflictError as HelmrConflictError
    from helmr_provider.client.errors import HelmrConnectionError as HelmrConnectionError
    from helmr_provider.client.errors import HelmrError as HelmrError
    from helmr_provider.client.errors import HelmrGoneError as HelmrGoneError
    from helmr_provider.client.errors import HelmrNotFoundError as HelmrNotFoundError
    from helmr_provider.client.errors import HelmrPermissionError as HelmrPermissionError
    from helmr_provider.client.errors import HelmrProtocolError as HelmrProtocolError
    from helmr_provider.client.errors import HelmrTimeoutError as HelmrTimeoutError
    from helmr_provider.client.errors import PayloadValidationError as PayloadValidationError
    from helmr_provider.client.errors import WorkspaceStreamError as WorkspaceStreamError
    from helmr_provider.client.errors import WorkspaceStreamTerminalError as WorkspaceStreamTerminalError
    from helmr_provider.client.models.auth import PublicAccessToken as PublicAccessToken
    from helmr_provider.client.models.auth import PublicScope as PublicScope
    from helmr_provider.client.models.deployments import DeployedTask as DeployedTask
    from helmr_provider.client.models.deployments import Deployment as Deployment
    from helmr_provider.client.models.deployments import Sandbox as Sandbox
    from helmr_provider.client.models.deployments import StoredSecret as StoredSecret
    from helmr_provider.client.models.events import EventRecord as EventRecord
    from helmr_provider.client.models.events import LogEvent as LogEvent
    from helmr_provider.client.models.events import RunCancelledEvent as RunCancelledEvent
    from helmr_provider.client.models.events import RunEvent as RunEvent
    from helmr_provider.client.models.events import RunExpiredEvent as RunExpiredEvent
    from helmr_provider.client.models.events import RunFailedEvent as RunFailedEvent
    from helmr_provider.client.models.events import TaskResultEvent as TaskResultEvent
    from helmr_provider.client.models.events import UnknownEvent as UnknownEvent
    from helmr_provider.client.models.events import WaitCompletedEvent as WaitCompletedEvent
    from helmr_provider.client.models.events import WaitEvent as WaitEvent
    from helmr_provider.client.models.events import WaitTimedOutEvent as WaitTimedOutEvent
    from helmr_provider.client.models.execs import Exec as Exec
    from helmr_provider.client.models.execs import Pty as Pty
    from helmr_provider.client.models.execs import StreamChunk as StreamChunk
    from helmr_provider.client.models.execs import StreamTerminal as StreamTerminal
    from helmr_provider.client.models.health import Health as Health
    from helmr_provider.client.models.logs import LogChunk as LogChunk
    from helmr_provider.client.models.logs import LogDecoder as LogDecoder
    from helmr_provider.client.models.logs import LogSnapshot as LogSnapshot
    from helmr_provider.client.models.runs import RunCancellation as RunCancellation
    from helmr_provider.client.models.runs import RunCounts as RunCounts
    from helmr_provider.client.models.runs import RunHandle as RunHandle
    from helmr_provider.client.models.runs import RunOperation as RunOperation
    from helmr_provider.client.models.runs import RunSnapshot as RunSnapshot
    from helmr_provider.client.models.schedules import Schedule as Schedule
    from helmr_provider.client.models.schedules import ScheduledRunPayload as ScheduledRunPayload
    from helmr_provider.client.models.sessions import SessionRun as SessionRun
    from helmr_provider.client.models.sessions import SessionSnapshot as SessionSnapshot
    from helmr_provider.client.models.sessions import SessionStart as SessionStart
    from helmr_provider.client.models.sessions import SessionStartAndWait as SessionStartAndWait
    from helmr_provider.client.models.streams import SentRecord as SentRecord
    from helmr_provider.client.models.streams import SessionStream as SessionStream
    from helmr_provider.client.models.streams import StreamRecord as StreamRecord
    from helmr_provider.client.models.tokens import Token as Token
    from helmr_provider.client.models.tokens import TokenCompletion as TokenCompletion
    from helmr_provider.client.models.tokens import TokenPage as TokenPage
    from helmr_provider.client.models.workspaces import FileEntry as FileEntry
    from helmr_provider.client.models.workspaces import FileList as FileList
    from helmr_provider.client.models.workspaces import Materialization as Materialization
    from helmr_provider.client.models.workspaces import Workspace as Workspace
    from helmr_provider.client.models.workspaces import WorkspaceStop as WorkspaceStop
    from helmr_provider.client.models.workspaces import WorkspaceVersion as WorkspaceVersion
    from helmr_provider.client.streams import InputStream as InputStream
    from helmr_provider.client.streams import OutputStream as OutputStream
    from helmr_provider.client.tasks import Task as Task

    auth: Auth
    runs: Runs
    schedules: Schedules
    sessions: Sessions
    tokens: Tokens
    workspaces: Workspaces

_HOMES = {
    "_async.client": ["AsyncHelmrClient"],
    "_async.execs": ["AsyncExecHandle"],
    "_async.ptys": ["AsyncPtyHandle"],
    "_async.schedules": ["AsyncScheduleHandle"],
    "_async.session_streams": ["AsyncSessionInput", "AsyncSessionOutput"],
    "_async.sessions": ["AsyncSessionHandle"],
    "_async.tokens": ["AsyncTokenHandle"],
    "_async.workspaces": ["AsyncWorkspaceHandle"],
    "_default_client": ["close", "default_client"],
    "_idempotency": ["IdempotencyKey", "idempotency_key"],
    "_sync.client": ["HelmrClient"],
    "_sync.execs": ["ExecHandle"],
    "_sync.ptys": ["PtyHandle"],
    "_sync.schedules": ["ScheduleHandle"],
    "_sync.session_streams": ["SessionInput", "SessionOutput"],
    "_sync.sessions": ["SessionHandle"],
    "_sync.tokens": ["TokenHandle"],
    "_sync.workspaces": ["WorkspaceHandle"],
    "_wire.schedule_serialization": ["ScheduleRunOptions"],
    "_wire.serialization": ["RetryPolicy"],
    "_wire.start_request": ["StartRequest"],
    "errors": [
        "HelmrApiError",
        "HelmrAuthError",
        "HelmrCallTimeoutError",
        "HelmrConfigError",
        "HelmrConflictError",
        "HelmrConnectionError",
        "HelmrError",
        "HelmrGoneError",
        "HelmrNotFoundError",
        "HelmrPermissionError",
        "HelmrProtocolError",
        "HelmrTimeoutError",
        "PayloadValidationError",
        "WorkspaceStreamError",
        "WorkspaceStreamTerminalError",
    ],
    "models.auth": ["PublicAccessToken", "PublicScope"],
    "models.deployments": ["DeployedTask", "Deployment", "Sandbox", "StoredSecret"],
    "models.events": [
        "EventRecord",
        "LogEvent",
        "RunCancelledEvent",
        "RunEvent",
        "RunExpiredEvent",
        "RunFailedEvent",
        "TaskResultEvent",
        "UnknownEvent",
        "WaitCompletedEvent",
        "WaitEvent",
        "WaitTimedOutEvent",
    ],
    "models.execs": ["Exec", "Pty", "StreamChunk", "StreamTerminal"],
    "models.health": ["Health"],
    "models.logs": ["LogChunk", "LogDecoder", "LogSnapshot"],
    "models.runs": ["RunCancellation", "RunCounts", "RunHandle", "RunOperation", "RunSnapshot"],
    "models.schedules": ["Schedule", "ScheduledRunPayload"],
    "models.sessions": ["SessionRun", "SessionSnapshot", "SessionStart", "SessionStartAndWait"],
    "models.streams": ["SentRecord", "SessionStream", "StreamRecord"],
    "models.tokens": ["Token", "TokenCompletion", "TokenPage"],
    "models.workspaces": ["FileEntry", "FileList", "Materialization", "Workspace", "WorkspaceStop", "WorkspaceVersion"],
    "streams": ["InputStream", "OutputStream"],
    "tasks": ["Task"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_NAMESPACES = ("auth", "runs", "schedules", "sessions", "tokens", "workspaces")


def __getattr__(name: str) -> Any:
    if name in _NAMESPACES:
        from helmr_provider.client._default_client import LazyNamespace, default_client

        value: Any = LazyNamespace(name, default_client)
    elif name == "__all__":
        # Star imports ask for it. As a variable, it would hide from mypy what it cannot work out.
        value = [*_HOME_OF, *_NAMESPACES]
    elif name in _HOME_OF:
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, *_NAMESPACES})

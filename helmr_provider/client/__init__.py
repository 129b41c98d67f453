"""The Helmr runtime client. Knows nothing of Airflow.

Importing this package imports neither httpx nor pydantic: names are loaded at first use, because DAG files that only
name a :class:`Task` or an error class are parsed again and again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helmr_provider.client._async.client import AsyncHelmrClient as AsyncHelmrClient
    from helmr_provider.client._async.sessions import AsyncSessionHandle as AsyncSessionHandle
    from helmr_provider.client._async.tokens import AsyncTokenHandle as AsyncTokenHandle
    from helmr_provider.client._facade import default_client as default_client
    from helmr_provider.client._sync.client import HelmrClient as HelmrClient
    from helmr_provider.client._sync.runs import Runs
    from helmr_provider.client._sync.sessions import SessionHandle as SessionHandle
    from helmr_provider.client._sync.sessions import Sessions
    from helmr_provider.client._sync.tokens import TokenHandle as TokenHandle
    from helmr_provider.client._sync.tokens import Tokens
    from helmr_provider.client.bodies import RetryPolicy as RetryPolicy
    from helmr_provider.client.errors import HelmrApiError as HelmrApiError
    from helmr_provider.client.errors import HelmrAuthError as HelmrAuthError
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
    from helmr_provider.client.idempotency import IdempotencyKey as IdempotencyKey
    from helmr_provider.client.idempotency import idempotency_key as idempotency_key
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
    from helmr_provider.client.models.health import Health as Health
    from helmr_provider.client.models.logs import LogChunk as LogChunk
    from helmr_provider.client.models.logs import LogDecoder as LogDecoder
    from helmr_provider.client.models.logs import LogSnapshot as LogSnapshot
    from helmr_provider.client.models.runs import RunCancellation as RunCancellation
    from helmr_provider.client.models.runs import RunCounts as RunCounts
    from helmr_provider.client.models.runs import RunHandle as RunHandle
    from helmr_provider.client.models.runs import RunOperation as RunOperation
    from helmr_provider.client.models.runs import RunSnapshot as RunSnapshot
    from helmr_provider.client.models.sessions import SessionRun as SessionRun
    from helmr_provider.client.models.sessions import SessionSnapshot as SessionSnapshot
    from helmr_provider.client.models.sessions import SessionStart as SessionStart
    from helmr_provider.client.models.sessions import SessionStartAndWait as SessionStartAndWait
    from helmr_provider.client.models.tokens import Token as Token
    from helmr_provider.client.models.tokens import TokenCompletion as TokenCompletion
    from helmr_provider.client.models.tokens import TokenPage as TokenPage
    from helmr_provider.client.tasks import Task as Task

    runs: Runs
    sessions: Sessions
    tokens: Tokens

_HOMES = {
    "_async.client": ["AsyncHelmrClient"],
    "_async.sessions": ["AsyncSessionHandle"],
    "_async.tokens": ["AsyncTokenHandle"],
    "_facade": ["default_client"],
    "_sync.client": ["HelmrClient"],
    "_sync.sessions": ["SessionHandle"],
    "_sync.tokens": ["TokenHandle"],
    "bodies": ["RetryPolicy"],
    "errors": [
        "HelmrApiError",
        "HelmrAuthError",
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
    "idempotency": ["IdempotencyKey", "idempotency_key"],
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
    "models.health": ["Health"],
    "models.logs": ["LogChunk", "LogDecoder", "LogSnapshot"],
    "models.runs": ["RunCancellation", "RunCounts", "RunHandle", "RunOperation", "RunSnapshot"],
    "models.sessions": ["SessionRun", "SessionSnapshot", "SessionStart", "SessionStartAndWait"],
    "models.tokens": ["Token", "TokenCompletion", "TokenPage"],
    "tasks": ["Task"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_FACADES = ("runs", "sessions", "tokens")


def __getattr__(name: str) -> Any:
    if name in _FACADES:
        from helmr_provider.client._facade import Facade, default_client

        value: Any = Facade(name, default_client)
    elif name in _HOME_OF:
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, *_FACADES})

"""The local control plane: the Helmr API on this machine, for tests, examples and trying things out.

It shares no code with the client and knows nothing of Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local._environment import LocalEnvironment
from helmr_provider.local.common.settings import Settings
from helmr_provider.local.definitions.queues import Queue
from helmr_provider.local.definitions.tasks import DeclaredSchedule, TaskDefinition, TaskFailure
from helmr_provider.local.example_tasks import EXAMPLE_TASKS
from helmr_provider.local.execution.context import (
    TaskContext,
    TaskInput,
    TaskRecord,
    TaskToken,
    TokenCancelled,
    TokenExpired,
    TurnCause,
    WaitTimedOut,
)
from helmr_provider.local.execution.tasks import task
from helmr_provider.local.state.api_keys import SCOPES
from helmr_provider.local.testing import faults
from helmr_provider.local.testing.faults import Fault
from helmr_provider.local.testing.journal import JournalEntry

if TYPE_CHECKING:
    from helmr_provider.local._control_plane import LocalControlPlane

__all__ = [
    "EXAMPLE_TASKS",
    "SCOPES",
    "DeclaredSchedule",
    "Fault",
    "JournalEntry",
    "LocalControlPlane",
    "LocalEnvironment",
    "Queue",
    "Settings",
    "TaskContext",
    "TaskDefinition",
    "TaskFailure",
    "TaskInput",
    "TaskRecord",
    "TaskToken",
    "TokenCancelled",
    "TokenExpired",
    "TurnCause",
    "WaitTimedOut",
    "faults",
    "task",
]


def __getattr__(name: str) -> Any:
    # Loaded at first use: only the server needs the packages of the extra, so that commands can say what is missing.
    if name != "LocalControlPlane":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from helmr_provider.local._control_plane import LocalControlPlane
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("helmr_provider"):
            raise
        package = error.name.partition(".")[0]
        text = f"the package {package} is missing; install airflow-provider-helmr[local]"
        raise ModuleNotFoundError(text, name=error.name) from error
    return LocalControlPlane

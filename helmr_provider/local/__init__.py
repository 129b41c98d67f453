"""The local control plane: the Helmr API on this machine, for tests, examples and trying things out.

It shares no code with the client and knows nothing of Airflow.
"""

from __future__ import annotations

from helmr_provider.local._control_plane import LocalControlPlane
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

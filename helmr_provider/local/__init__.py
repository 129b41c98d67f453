"""The local control plane: the Helmr API on this machine, for tests, examples and trying things out.

It shares no code with the client and knows nothing of Airflow.
"""

from __future__ import annotations

from helmr_provider.local import faults
from helmr_provider.local.auth import SCOPES
from helmr_provider.local.context import TaskContext, TaskInput, TaskToken, TokenCancelled, TokenExpired, WaitTimedOut
from helmr_provider.local.control_plane import LocalControlPlane
from helmr_provider.local.environment import LocalEnvironment
from helmr_provider.local.example_tasks import EXAMPLE_TASKS
from helmr_provider.local.faults import Fault
from helmr_provider.local.journal import JournalEntry
from helmr_provider.local.queues import Queue
from helmr_provider.local.settings import Settings
from helmr_provider.local.tasks import DeclaredSchedule, TaskDefinition, TaskFailure, task

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
    "TaskToken",
    "TokenCancelled",
    "TokenExpired",
    "WaitTimedOut",
    "faults",
    "task",
]

"""Tasks that start sessions, and the requests that the control plane received from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.operators.session import HelmrStartSessionOperator
from tests.support.journal import requests_of
from tests.support.task_attempts import TaskRun

if TYPE_CHECKING:
    from helmr_provider.local import JournalEntry, LocalControlPlane


def a_task(**options: Any) -> TaskRun:
    """A task that starts a session; ``retries`` and the like belong to the task run."""
    own = {name: options.pop(name) for name in ("retries", "map_index", "dag_id", "run_id") if name in options}
    options = {"task_id": "summary", "task": "echo", **options}
    run = TaskRun(lambda: HelmrStartSessionOperator(**options), **own)
    run.max_tries = run.retries
    return run


LIVE: dict[str, Any] = {"task": "work", "payload": {"seconds": 3600, "waiting": True}}
"""A run that lasts until the test ends it."""


def starts(control_plane: LocalControlPlane) -> list[JournalEntry]:
    """Return the requests that started sessions."""
    return requests_of(control_plane, "startSession")

"""Answers of Airflow about the state of a task instance; to ask it for real takes a supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider._common import task_state

if TYPE_CHECKING:
    import pytest


def set_task_state(monkeypatch: pytest.MonkeyPatch, state: str | None) -> None:
    """Let Airflow answer with a state, on every version."""
    for name in ("_find_in_airflow_3", "_find_in_airflow_2"):
        monkeypatch.setattr(task_state, name, lambda ti: [state])


def fail_task_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every question about a task instance fail."""

    def fail(ti: object) -> list[str]:
        raise RuntimeError("no answer")

    for name in ("_find_in_airflow_3", "_find_in_airflow_2"):
        monkeypatch.setattr(task_state, name, fail)


def set_no_task_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow answer that there is no such task instance."""
    for name in ("_find_in_airflow_3", "_find_in_airflow_2"):
        monkeypatch.setattr(task_state, name, lambda ti: [])

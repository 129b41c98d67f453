"""A run as the server answers it."""

from __future__ import annotations

from typing import Any

from tests.client.scripted_server import Reply

RUN = {
    "id": "r",
    "task_id": "t",
    "session_id": "s",
    "project_id": "p",
    "environment_id": "e",
    "deployment_id": "d",
    "deployment_task_id": "dt",
    "status": "succeeded",
    "created_at": "2026-11-23T17:28:10.35579Z",
    "updated_at": "2026-11-23T17:28:10.355790123Z",
}


def run_json(run_id: str, status: str) -> dict[str, Any]:
    """A run with this ID and status."""
    return RUN | {"id": run_id, "status": status}


def snapshot(run_id: str, status: str) -> Reply:
    """A reply with this run."""
    return Reply(json=run_json(run_id, status))

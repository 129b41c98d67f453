"""Links between the pages, by names where there are names."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from helmr_provider.local.console.layout import short

if TYPE_CHECKING:
    from helmr_provider.local.storage.database import Row


def session_path(session_id: str) -> str:
    """Return the path of a session's page."""
    return f"/sessions/{session_id}"


def session_link(session_id: str, external_id: str | None) -> str:
    """Return a link to a session's page, by its external id if it has one."""
    shown = short(session_id) if external_id is None else escape(external_id)
    return f'<a class="name" href="{escape(session_path(session_id))}">{shown}</a>'


def workspace_link(workspace: Row) -> str:
    """Return a link to a workspace's page."""
    shown = short(workspace["id"]) if workspace["external_id"] is None else escape(workspace["external_id"])
    return f'<a class="name" href="/workspaces/{escape(workspace["id"])}">{shown}</a>'


def task_link(task_id: str) -> str:
    """Return a link to the runs of a task."""
    return f'<a href="/runs?{escape(urlencode({"task": task_id}))}">{escape(task_id)}</a>'


def name_of(row: Row) -> str:
    """Return the external id of a session or workspace, or else its id."""
    return str(row["external_id"] or row["id"])

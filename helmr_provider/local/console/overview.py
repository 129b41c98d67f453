"""The first page: what waits for somebody, what runs, what will run, and what was asked."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.console.forms import form
from helmr_provider.local.console.layout import moment, page, run_link, section, status, table
from helmr_provider.local.console.workspaces import link

if TYPE_CHECKING:
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.testing.journal import Journal

_NEWEST = 25


def shown(core: Core, journal: Journal) -> Response:
    """Return the page."""
    return page(
        "What is going on",
        _tokens(core) + _runs(core) + _sessions(core) + _workspaces(core) + _schedules(core) + _requests(journal),
        live=True,
    )


def _tokens(core: Core) -> str:
    rows = core.db.all(
        "SELECT * FROM tokens WHERE status = 'pending' AND timeout_at > ? ORDER BY created_at LIMIT ?",
        core.clock.now(),
        _NEWEST,
    )
    body = "".join(form(core, row) for row in rows) or '<p class="none">Nothing waits for a decision.</p>'
    return section("tokens", "Waiting tokens", body)


def _runs(core: Core) -> str:
    rows = core.db.all("SELECT * FROM runs ORDER BY created_at DESC, id DESC LIMIT ?", _NEWEST)
    cells = (
        (
            run_link(row["session_id"], row["id"]),
            escape(row["task_id"]),
            status(row["status"]),
            str(row["attempt_number"]),
            moment(rfc3339(row["created_at"])),
        )
        for row in rows
    )
    body = table(("Run", "Task", "Status", "Attempt", "Created (UTC)"), cells, "Nothing has run yet.")
    return section("runs", "Newest runs", body)


def _sessions(core: Core) -> str:
    rows = core.db.all("SELECT * FROM sessions ORDER BY created_at DESC, id DESC LIMIT ?", _NEWEST)
    cells = (
        (
            f'<a href="/sessions/{escape(row["id"])}"><code>{escape(row["external_id"] or row["id"])}</code></a>',
            escape(row["task_id"]),
            status(row["status"]),
            moment(rfc3339(row["created_at"])),
        )
        for row in rows
    )
    return section(
        "sessions", "Newest sessions", table(("Session", "Task", "Status", "Created (UTC)"), cells, "There is none.")
    )


def _workspaces(core: Core) -> str:
    rows = core.db.all("SELECT * FROM workspaces ORDER BY created_at DESC, id DESC LIMIT ?", _NEWEST)
    cells = (
        (link(row), escape(row["sandbox_id"]), status(row["state"]), moment(rfc3339(row["created_at"]))) for row in rows
    )
    return section(
        "workspaces",
        "Newest workspaces",
        table(("Workspace", "Sandbox", "Status", "Created (UTC)"), cells, "There is none."),
    )


def _schedules(core: Core) -> str:
    rows = core.db.all("SELECT * FROM schedules ORDER BY next_fire_at IS NULL, next_fire_at LIMIT ?", _NEWEST)
    cells = (
        (
            escape(row["task_id"]),
            f"<code>{escape(row['cron'])}</code> {escape(row['timezone'])}",
            status("errored" if row["last_error"] else "active" if row["active"] else "inactive"),
            "" if row["next_fire_at"] is None else moment(rfc3339(row["next_fire_at"])),
        )
        for row in rows
    )
    return section(
        "schedules", "Schedules", table(("Task", "When", "Status", "Next fire (UTC)"), cells, "There is none.")
    )


def _requests(journal: Journal) -> str:
    cells = (
        (
            escape(entry.operation or "no operation"),
            f"<code>{escape(entry.method)} {escape(entry.path)}</code>",
            "unanswered" if entry.status is None else str(entry.status),
            escape(entry.fault or ""),
        )
        for entry in reversed(journal.entries()[-_NEWEST:])
    )
    body = table(("Operation", "Request", "Answer", "Fault"), cells, "Nothing was asked yet.")
    return section("journal", "Newest requests", body)

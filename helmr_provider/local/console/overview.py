"""The first page: pending tokens, the newest runs, sessions and workspaces, schedules, and recent requests."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from helmr_provider.local.console import listings
from helmr_provider.local.console.forms import form
from helmr_provider.local.console.layout import moment, page, section, status, table
from helmr_provider.local.console.workspaces import link

if TYPE_CHECKING:
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.testing.journal import Journal

_NEWEST = 15


def shown(core: Core, journal: Journal) -> Response:
    """Return the page."""
    return page(
        "Overview",
        _tokens(core) + _runs(core) + _sessions(core) + _workspaces(core) + _schedules(core) + _requests(journal),
        live=True,
    )


def _tokens(core: Core) -> str:
    rows = core.db.all(
        "SELECT * FROM tokens WHERE status = 'pending' AND timeout_at > ? ORDER BY created_at LIMIT ?",
        core.clock.now(),
        _NEWEST,
    )
    body = "".join(form(core, row) for row in rows) or '<p class="none">No token is pending.</p>'
    return section("tokens", "Pending tokens", body)


def _runs(core: Core) -> str:
    rows = listings.newest_runs(core, limit=_NEWEST + 1)
    more = '<nav class="pages"><a href="/runs">All runs</a></nav>' if len(rows) > _NEWEST else ""
    return section("runs", "Newest runs", listings.run_table(core, rows[:_NEWEST]) + more)


def _sessions(core: Core) -> str:
    rows = listings.newest_sessions(core, limit=_NEWEST + 1)
    more = '<nav class="pages"><a href="/sessions">All sessions</a></nav>' if len(rows) > _NEWEST else ""
    return section("sessions", "Newest sessions", listings.session_table(core, rows[:_NEWEST]) + more)


def _workspaces(core: Core) -> str:
    rows = core.db.all("SELECT * FROM workspaces ORDER BY created_at DESC, id DESC LIMIT ?", _NEWEST)
    cells = (
        (link(row), escape(row["sandbox_id"]), status(row["state"]), moment(core, row["created_at"])) for row in rows
    )
    return section(
        "workspaces",
        "Newest workspaces",
        table(("Workspace", "Sandbox", "Status", "Created"), cells, "There are none."),
    )


def _schedules(core: Core) -> str:
    rows = core.db.all("SELECT * FROM schedules ORDER BY next_fire_at IS NULL, next_fire_at LIMIT ?", _NEWEST)
    cells = (
        (
            escape(row["task_id"]),
            f"<code>{escape(row['cron'])}</code> {escape(row['timezone'])}",
            status("errored" if row["last_error"] else "active" if row["active"] else "inactive"),
            "" if row["next_fire_at"] is None else moment(core, row["next_fire_at"]),
        )
        for row in rows
    )
    return section("schedules", "Schedules", table(("Task", "When", "Status", "Next fire"), cells, "There are none."))


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
    body = table(("Operation", "Request", "Answer", "Fault"), cells, "There were no requests yet.")
    return section("journal", "Newest requests", body)

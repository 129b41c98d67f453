"""The first page: pending tokens, the newest runs, sessions and workspaces, schedules, and recent requests."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from helmr_provider.local.console import listings
from helmr_provider.local.console.forms import form
from helmr_provider.local.console.layout import page, section, table

if TYPE_CHECKING:
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row
    from helmr_provider.local.testing.journal import Journal

_NEWEST = 10
# Each brings a form; more of them would hide what follows.
_FORMS = 3


def shown(core: Core, journal: Journal) -> Response:
    """Return the page."""
    runs = listings.newest_runs(core, limit=_NEWEST + 1)
    sessions = listings.newest_sessions(core, limit=_NEWEST + 1)
    workspaces = listings.newest_workspaces(core, limit=_NEWEST + 1)
    schedules = listings.next_schedules(core, limit=_NEWEST + 1)
    return page(
        "Overview",
        _tokens(core)
        + _part("runs", "Newest runs", listings.run_table(core, runs[:_NEWEST]), runs)
        + _part("sessions", "Newest sessions", listings.session_table(core, sessions[:_NEWEST]), sessions)
        + _part("workspaces", "Newest workspaces", listings.workspace_table(core, workspaces[:_NEWEST]), workspaces)
        + _part("schedules", "Schedules", listings.schedule_table(core, schedules[:_NEWEST]), schedules)
        + _requests(journal),
        live=True,
    )


def _part(name: str, heading: str, listed: str, rows: list[Row]) -> str:
    """Return a table, with a link to its page if there are more rows than the table shows."""
    more = f'<nav class="pages"><a href="/{name}">All {name}</a></nav>' if len(rows) > _NEWEST else ""
    return section(name, heading, listed + more)


def _tokens(core: Core) -> str:
    """Return the forms of the pending tokens: first those that runs wait for, the newest first."""
    rows = core.db.all(
        "SELECT tokens.*, EXISTS (SELECT 1 FROM runs WHERE wait_kind = 'token' AND wait_ref = tokens.id) AS awaited,"
        " count(*) OVER () AS total FROM tokens WHERE status = 'pending' AND timeout_at > ?"
        " ORDER BY awaited DESC, created_at DESC, id DESC LIMIT ?",
        core.clock.now(),
        _FORMS,
    )
    body = "".join(form(core, row) for row in rows) or '<p class="none">No token is pending.</p>'
    total = rows[0]["total"] if rows else 0
    if total > len(rows):
        body += f'<nav class="pages"><a href="/tokens?status=pending">All {total} pending tokens</a></nav>'
    return section("tokens", "Pending tokens", body)


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

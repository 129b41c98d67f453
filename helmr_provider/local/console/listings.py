"""Tables of runs, sessions, tokens, workspaces and schedules, and the pages that list them, newest first."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.jsontext import loads
from helmr_provider.local.console.details import attempt
from helmr_provider.local.console.filters import PAGE, Chosen
from helmr_provider.local.console.forms import subject, waiting_for
from helmr_provider.local.console.layout import moment, page, run_link, section, short, short_id, status, table, tags
from helmr_provider.local.console.links import session_link, task_link, workspace_link
from helmr_provider.local.console.phases import bar
from helmr_provider.local.state import runs, sessions, workspaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.datastructures import QueryParams
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_SESSION_STATUSES = ("open", "closed", "cancelled", "expired")
_TOKEN_STATUSES = ("pending", "completed", "expired", "cancelled")
_SCHEDULE_STATUSES = ("active", "inactive", "errored")


def run_table(core: Core, rows: Iterable[Row]) -> str:
    """Return a table of runs."""
    cells = (
        (
            escape(row["task_id"]),
            session_link(row["session_id"], row["external_id"]),
            status(row["status"]) + attempt(row),
            bar(core, row),
            moment(core, row["created_at"]),
            run_link(row["session_id"], row["id"]),
        )
        for row in rows
    )
    return table(("Task", "Session", "Status", "Phases", "Created", "Run"), cells, "There are no runs.")


def session_table(core: Core, rows: Iterable[Row]) -> str:
    """Return a table of sessions."""
    cells = (
        (
            escape(row["task_id"]),
            session_link(row["id"], row["external_id"]),
            status(row["status"]),
            status(sessions.rendered(core, row)["activity"]),
            moment(core, row["created_at"]),
            short_id(row["id"]),
        )
        for row in rows
    )
    return table(("Task", "Session", "Status", "Activity", "Created", "Id"), cells, "There are no sessions.")


def token_table(core: Core, rows: Iterable[Row]) -> str:
    """Return a table of tokens."""
    cells = (
        (
            f'<a class="name" href="/tokens/{escape(row["id"])}">{escape(subject(row)) or short(row["id"])}</a>',
            status(row["status"]),
            waiting_for(core, row),
            tags(loads(row["tags"])),
            moment(core, row["created_at"]),
            moment(core, row["timeout_at"]) if row["status"] == "pending" else "",
            short_id(row["id"]),
        )
        for row in rows
    )
    heads = ("Token", "Status", "Waiting", "Tags", "Created", "Expires", "Id")
    return table(heads, cells, "There are no tokens.")


def workspace_table(core: Core, rows: Iterable[Row]) -> str:
    """Return a table of workspaces."""
    cells = (
        (
            workspace_link(row),
            escape(row["sandbox_id"]),
            status(row["state"]),
            moment(core, row["created_at"]),
            moment(core, row["last_activity_at"]),
            short_id(row["id"]),
        )
        for row in rows
    )
    heads = ("Workspace", "Sandbox", "Status", "Created", "Last used", "Id")
    return table(heads, cells, "There are no workspaces.")


def schedule_table(core: Core, rows: Iterable[Row]) -> str:
    """Return a table of schedules."""
    cells = (
        (
            task_link(row["task_id"]),
            escape(row["external_id"] or row["deduplication_key"]),
            f"<code>{escape(row['cron'])}</code> {escape(row['timezone'])}",
            status(row["status"]) + (f"<div>{escape(row['last_error'])}</div>" if row["last_error"] else ""),
            moment(core, row["next_fire_at"]),
            moment(core, row["last_fire_at"]),
        )
        for row in rows
    )
    heads = ("Task", "Schedule", "When", "Status", "Next run", "Last run")
    return table(heads, cells, "There are no schedules.")


def newest_runs(
    core: Core, *, status: str | None = None, task_id: str | None = None, limit: int, skip: int = 0
) -> list[Row]:
    """Return the newest runs of all environments, each with the external id of its session."""
    return core.db.all(
        "SELECT runs.*, sessions.external_id FROM runs JOIN sessions ON sessions.id = runs.session_id"
        " WHERE (? IS NULL OR runs.status = ?) AND (? IS NULL OR runs.task_id = ?)"
        " ORDER BY runs.created_at DESC, runs.id DESC LIMIT ? OFFSET ?",
        status,
        status,
        task_id,
        task_id,
        limit,
        skip,
    )


def newest_sessions(
    core: Core, *, status: str | None = None, task_id: str | None = None, limit: int, skip: int = 0
) -> list[Row]:
    """Return the newest sessions of all environments."""
    return core.db.all(
        "SELECT * FROM sessions WHERE (? IS NULL OR status = ?) AND (? IS NULL OR task_id = ?)"
        " ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?",
        status,
        status,
        task_id,
        task_id,
        limit,
        skip,
    )


def newest_tokens(core: Core, *, status: str | None, limit: int, skip: int = 0) -> list[Row]:
    """Return the newest tokens of all environments."""
    return core.db.all(
        "SELECT * FROM tokens WHERE (? IS NULL OR status = ?) ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?",
        status,
        status,
        limit,
        skip,
    )


def newest_workspaces(core: Core, *, status: str | None = None, limit: int, skip: int = 0) -> list[Row]:
    """Return the newest workspaces of all environments."""
    return core.db.all(
        "SELECT * FROM workspaces WHERE (? IS NULL OR state = ?) ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?",
        status,
        status,
        limit,
        skip,
    )


def next_schedules(
    core: Core, *, status: str | None = None, task_id: str | None = None, limit: int, skip: int = 0
) -> list[Row]:
    """Return the schedules of all environments with their status, the next to run first."""
    return core.db.all(
        "SELECT * FROM (SELECT *, CASE WHEN last_error IS NOT NULL THEN 'errored' WHEN active THEN 'active'"
        " ELSE 'inactive' END AS status FROM schedules) WHERE (? IS NULL OR status = ?) AND (? IS NULL OR task_id = ?)"
        " ORDER BY next_fire_at IS NULL, next_fire_at, id LIMIT ? OFFSET ?",
        status,
        status,
        task_id,
        task_id,
        limit,
        skip,
    )


def runs_page(core: Core, query: QueryParams) -> Response:
    """Return the page that lists runs."""
    chosen = Chosen("/runs", query)
    rows = newest_runs(core, status=chosen.status, task_id=chosen.task_id, limit=PAGE + 1, skip=chosen.skip)
    return _page("Runs", chosen, chosen.form(core, runs.STATUSES, tasks=True), run_table(core, rows[:PAGE]), rows)


def sessions_page(core: Core, query: QueryParams) -> Response:
    """Return the page that lists sessions."""
    chosen = Chosen("/sessions", query)
    rows = newest_sessions(core, status=chosen.status, task_id=chosen.task_id, limit=PAGE + 1, skip=chosen.skip)
    form = chosen.form(core, _SESSION_STATUSES, tasks=True)
    return _page("Sessions", chosen, form, session_table(core, rows[:PAGE]), rows)


def tokens_page(core: Core, query: QueryParams) -> Response:
    """Return the page that lists tokens."""
    chosen = Chosen("/tokens", query)
    rows = newest_tokens(core, status=chosen.status, limit=PAGE + 1, skip=chosen.skip)
    return _page("Tokens", chosen, chosen.form(core, _TOKEN_STATUSES), token_table(core, rows[:PAGE]), rows)


def workspaces_page(core: Core, query: QueryParams) -> Response:
    """Return the page that lists workspaces."""
    chosen = Chosen("/workspaces", query)
    rows = newest_workspaces(core, status=chosen.status, limit=PAGE + 1, skip=chosen.skip)
    return _page("Workspaces", chosen, chosen.form(core, workspaces.STATES), workspace_table(core, rows[:PAGE]), rows)


def schedules_page(core: Core, query: QueryParams) -> Response:
    """Return the page that lists schedules."""
    chosen = Chosen("/schedules", query)
    rows = next_schedules(core, status=chosen.status, task_id=chosen.task_id, limit=PAGE + 1, skip=chosen.skip)
    form = chosen.form(core, _SCHEDULE_STATUSES, tasks=True)
    return _page("Schedules", chosen, form, schedule_table(core, rows[:PAGE]), rows, order="Next run first")


def _page(
    title: str, chosen: Chosen, form: str, listed: str, rows: list[Any], *, order: str = "Newest first"
) -> Response:
    return page(title, section(title.lower(), order, form + listed + chosen.pages(len(rows))), live=True)

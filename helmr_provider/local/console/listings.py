"""Tables of runs and sessions, and the pages that list them with filters, newest first."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from helmr_provider.local.console.layout import copy_button, moment, page, run_link, section, short, status, table
from helmr_provider.local.console.phases import bar
from helmr_provider.local.state import runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.datastructures import QueryParams
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_PAGE = 50
_SESSION_STATUSES = ("open", "closed", "cancelled", "expired")


def run_table(core: Core, rows: Iterable[Row]) -> str:
    """Return a table of runs."""
    cells = (
        (
            escape(row["task_id"]),
            session_link(row["session_id"], row["external_id"]),
            status(row["status"]) + (f" (attempt {row['attempt_number']})" if row["attempt_number"] > 1 else ""),
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
            moment(core, row["created_at"]),
            short(row["id"]) + copy_button(row["id"]),
        )
        for row in rows
    )
    return table(("Task", "Session", "Status", "Created", "Id"), cells, "There are no sessions.")


def session_link(session_id: str, external_id: str | None) -> str:
    """Return a link to a session's page, by its name if it has one."""
    shown = short(session_id) if external_id is None else escape(external_id)
    return f'<a href="/sessions/{escape(session_id)}">{shown}</a>'


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


def runs_page(core: Core, query: QueryParams) -> Response:
    """Return the page that lists runs."""
    chosen = _Chosen(query)
    rows = newest_runs(core, status=chosen.status, task_id=chosen.task_id, limit=_PAGE + 1, skip=chosen.skip)
    body = _filter(core, "/runs", runs.STATUSES, chosen) + run_table(core, rows[:_PAGE])
    return page("Runs", section("runs", "Newest first", body + chosen.pages("/runs", len(rows))), live=True)


def sessions_page(core: Core, query: QueryParams) -> Response:
    """Return the page that lists sessions."""
    chosen = _Chosen(query)
    rows = newest_sessions(core, status=chosen.status, task_id=chosen.task_id, limit=_PAGE + 1, skip=chosen.skip)
    body = _filter(core, "/sessions", _SESSION_STATUSES, chosen) + session_table(core, rows[:_PAGE])
    return page("Sessions", section("sessions", "Newest first", body + chosen.pages("/sessions", len(rows))), live=True)


class _Chosen:
    """The filters and the page of a listing.

    :param query: the query of its URL.
    """

    def __init__(self, query: QueryParams) -> None:
        self.status = query.get("status") or None
        self.task_id = query.get("task") or None
        number = query.get("page", "1")
        self._number = int(number) if number.isascii() and number.isdigit() and 1 <= len(number) < 7 else 1
        self.skip = max(self._number - 1, 0) * _PAGE

    def pages(self, path: str, found: int) -> str:
        """Return links to the neighbouring pages.

        :param path: of the listing.
        :param found: the rows found, one more than a page holds if there is another page.
        """
        links = ""
        if self._number > 1:
            links += f'<a href="{escape(self._url(path, self._number - 1))}" rel="prev">Newer</a>'
        if found > _PAGE:
            links += f'<a href="{escape(self._url(path, self._number + 1))}" rel="next">Older</a>'
        return f'<nav class="pages" aria-label="Pages">{links}</nav>' if links else ""

    def _url(self, path: str, number: int) -> str:
        members = {"status": self.status, "task": self.task_id, "page": str(number)}
        return f"{path}?{urlencode({name: value for name, value in members.items() if value})}"


def _filter(core: Core, path: str, statuses: Sequence[str], chosen: _Chosen) -> str:
    tasks = [row["task_id"] for row in core.db.all("SELECT DISTINCT task_id FROM sessions ORDER BY task_id")]
    return (
        f'<form class="filter" method="get" action="{path}">'
        + _select("status", "Status", statuses, chosen.status)
        + _select("task", "Task", tasks, chosen.task_id)
        + "<button>Filter</button></form>"
    )


def _select(name: str, label: str, values: Sequence[str], chosen: str | None) -> str:
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(value)}</option>'
        for value in values
    )
    return f'<label>{label} <select name="{name}"><option value="">all</option>{options}</select></label>'

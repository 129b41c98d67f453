"""The filters and the pages of a listing."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import QueryParams

    from helmr_provider.local._core import Core

PAGE = 50


class Chosen:
    """The filters and the page of a listing.

    :param path: of the listing.
    :param query: the query of its URL.
    """

    def __init__(self, path: str, query: QueryParams) -> None:
        self._path = path
        self.status = query.get("status") or None
        self.task_id = query.get("task") or None
        number = query.get("page", "1")
        self._number = int(number) if number.isascii() and number.isdigit() and 1 <= len(number) < 7 else 1
        self.skip = max(self._number - 1, 0) * PAGE

    def pages(self, found: int) -> str:
        """Return links to the neighbouring pages.

        :param found: the rows found, one more than a page holds if there is another page.
        """
        links = ""
        if self._number > 1:
            links += f'<a href="{escape(self._url(self._number - 1))}" rel="prev">Newer</a>'
        if found > PAGE:
            links += f'<a href="{escape(self._url(self._number + 1))}" rel="next">Older</a>'
        return f'<nav class="pages" aria-label="Pages">{links}</nav>' if links else ""

    def form(self, core: Core, statuses: Sequence[str], *, tasks: bool = False) -> str:
        """Return the form that chooses the filters.

        :param statuses: the statuses to choose from.
        :param tasks: whether a task can be chosen.
        """
        selects = _select("status", "Status", statuses, self.status)
        if tasks:
            known = [row["task_id"] for row in core.db.all("SELECT DISTINCT task_id FROM sessions ORDER BY task_id")]
            selects += _select("task", "Task", known, self.task_id)
        return f'<form class="filter" method="get" action="{self._path}">{selects}<button>Filter</button></form>'

    def _url(self, number: int) -> str:
        members = {"status": self.status, "task": self.task_id, "page": str(number)}
        return f"{self._path}?{urlencode({name: value for name, value in members.items() if value})}"


def _select(name: str, label: str, values: Sequence[str], chosen: str | None) -> str:
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(value)}</option>'
        for value in values
    )
    return f'<label>{label} <select name="{name}"><option value="">all</option>{options}</select></label>'

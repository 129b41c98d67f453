"""Print tables and members: in colour for people, plain for pipes, as JSON for scripts."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_COLOURS = {
    "succeeded": "green",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "expired": "yellow",
    "running": "cyan",
    "waiting": "magenta",
    "pending": "magenta",
}


def print_json(value: Any) -> None:
    """Print one JSON value on a line of its own."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Print rows below their columns.

    :param columns: the heads.
    :param rows: texts, one for each column.
    :param empty: the text in place of a table without rows.
    """
    cells = [list(row) for row in rows]
    if not cells:
        sys.stderr.write(f"{empty}\n")
        return
    if _is_rich():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, header_style="bold", box=None, pad_edge=False)
        for row in cells:
            table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (list(columns), *cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def print_members(members: dict[str, str]) -> None:
    """Print names and values, one pair on a line."""
    width = max(map(len, members))
    for name, value in members.items():
        sys.stdout.write(f"{name.ljust(width)}  {value}".rstrip() + "\n")


def ago(moment: datetime) -> str:
    """Return how long ago a moment was, in its largest unit."""
    seconds = max(int((datetime.now(UTC) - moment).total_seconds()), 0)
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "now"


def until(moment: datetime) -> str:
    """Return how long it is until a moment, in its largest unit."""
    seconds = int((moment - datetime.now(UTC)).total_seconds())
    for size, unit in _UNITS:
        if seconds >= size:
            return f"in {seconds // size} {unit}"
    return "now" if seconds >= 0 else ago(moment)


def _is_rich() -> bool:
    return sys.stdout.isatty() and find_spec("rich") is not None

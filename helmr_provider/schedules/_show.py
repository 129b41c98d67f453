"""A plan of schedules as a table of plain text, for the log of a task. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from helmr_provider.schedules._plan import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from helmr_provider.schedules._plan import Change

_HEADINGS: Final = ("ACTION", "DEDUPLICATION KEY", "WHAT CHANGES", "NEXT FIRES")
_GAP: Final = "  "


def summary(changes: Sequence[Change]) -> str:
    """Count the changes by action, such as ``1 create, 4 keep``.

    :param changes: the plan.
    """
    counts = Counter(change.action for change in changes)
    return ", ".join(f"{counts[action]} {action}" for action in ACTIONS if counts[action]) or "nothing declared"


def table(changes: Sequence[Change], after: datetime, count: int) -> list[str]:
    """Return the lines of a table: one row for each schedule, as many lines as it needs.

    :param changes: the plan.
    :param after: the present, for the next fires.
    :param count: how many next fires to show; none are shown of what does not fire.
    """
    rows = [[[heading] for heading in _HEADINGS]]
    rows += [[[change.action], [change.key], _changing(change), _firing(change, after, count)] for change in changes]
    widths = [max(len(line) for row in rows for line in row[column]) for column in range(len(_HEADINGS))]
    lines = []
    for row in rows:
        for number in range(max(map(len, row))):
            cells = (cell[number] if number < len(cell) else "" for cell in row)
            lines.append(_GAP.join(text.ljust(width) for text, width in zip(cells, widths, strict=True)).rstrip())
    return lines


def _changing(change: Change) -> list[str]:
    if change.action in {"create", "delete"}:
        side = 1 if change.action == "create" else 0
        return [f"{name}: {_shown(pair[side])}" for name, pair in change.fields.items()]
    lines = [f"{name}: {_shown(old)} -> {_shown(new)}" for name, (old, new) in change.fields.items()]
    if change.present is not None and change.present.last_error:
        lines.append(f"(its last fire failed: {change.present.last_error})")
    return lines


def _firing(change: Change, after: datetime, count: int) -> list[str]:
    fires = change.fires(after, count)
    if fires:
        return [fire.format("ddd YYYY-MM-DD HH:mm zz") for fire in fires]
    return ["-" if change.action == "delete" or not count else "inactive"]


def _shown(value: Any) -> str:
    if value is None:
        return "(none)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

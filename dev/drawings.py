"""Draw the diagrams of the documentation: python -m dev.drawings writes docs/images/*.svg.

The drawings take their colours from variables of the page that shows them, and from the reader's system elsewhere.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from html import escape
from itertools import dropwhile, takewhile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
STYLE = """
  .drawing-scope { --ink: var(--color-foreground-primary, #1f2328); --soft: var(--color-foreground-muted, #656d76);
    --line: var(--color-foreground-border, #878787); --paper: var(--color-background-secondary, #f6f8fa);
    --accent: var(--color-brand-primary, #5b45c9) }
  .drawing-scope text { fill: var(--ink); font: 14px system-ui, sans-serif; paint-order: stroke;
    stroke: var(--color-background-primary, #fff); stroke-width: 5px }
  .drawing-scope .title { stroke: none }
  .drawing-scope .small { fill: var(--soft); font-size: 12px }
  .drawing-scope .title { font-weight: 600 }
  .drawing-scope .box { fill: var(--paper); stroke: var(--line) }
  .drawing-scope .life { stroke: var(--line); stroke-dasharray: 3 4 }
  .drawing-scope .busy { fill: var(--accent); opacity: .85 }
  .drawing-scope .idle { fill: var(--paper); stroke: var(--accent) }
  .drawing-scope .arrow { stroke: var(--ink); fill: none }
  .drawing-scope .head { fill: var(--ink) }
"""
DARK = """
  @media (prefers-color-scheme: dark) { .standalone { --color-foreground-primary: #e6edf3;
    --color-foreground-muted: #9198a1; --color-foreground-border: #6e7681; --color-background-secondary: #161b22;
    --color-brand-primary: #a99bff; --color-background-primary: #0d1117 } }
"""


def drawing(width: int, height: int, title: str, parts: list[str]) -> str:
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
                f'height="{height}">'
            ),
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}{DARK}</style>",
            '<g class="drawing-scope standalone">',
            *parts,
            "</g>",
            "</svg>",
            "",
        ]
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "box") -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="{kind}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw an arrow along one of the axes."""
    if x1 == x2:
        tip = 8 if y2 > y1 else -8
        head = f"M{x2} {y2} l-4 {-tip} h8 z"
    else:
        tip = 8 if x2 > x1 else -8
        head = f"M{x2} {y2} l{-tip} -4 v8 z"
    return f'<path class="arrow" d="M{x1} {y1} L{x2} {y2}"/><path class="head" d="{head}"/>'


def deferred_wait() -> str:
    """Return the sequence of a deferred session, from its start to its result."""
    lanes = {"Worker slot": 90, "Triggerer": 320, "Helmr": 560}
    top, bottom = 60, 430
    parts = [box(x - 75, 16, 150, 34) + text(x, 38, name, "title") for name, x in lanes.items()]
    parts += [f'<path class="life" d="M{x} {top} V{bottom}"/>' for x in lanes.values()]
    worker, triggerer, helmr = lanes.values()
    parts += [box(worker - 7, 76, 14, 78, "busy"), box(worker - 7, 352, 14, 62, "busy")]
    parts += [box(triggerer - 7, 150, 14, 200, "idle"), box(helmr - 7, 96, 14, 224, "busy")]

    def step(y: float, start: float, end: float, words: str) -> None:
        direction = 1 if end > start else -1
        parts.append(arrow(start + 9 * direction, y, end - 9 * direction, y))
        parts.append(text((start + end) / 2, y - 7, words, "small"))

    step(96, worker, helmr, "start the session, or find it")
    step(148, worker, triggerer, "defer: ids and deadline")
    parts.append(text(worker, 250, "the slot is free", "small"))
    step(196, triggerer, helmr, "one request for up to 200 waits")
    step(246, triggerer, helmr, "…")
    step(316, helmr, triggerer, "the run has ended")
    step(352, triggerer, worker, "resume")
    step(384, worker, helmr, "read the result")
    parts.append(text(worker, 446, "return value", "small"))
    parts.append(text(helmr + 16, 214, "run", "small", "start"))
    return drawing(660, 460, "A deferred wait", parts)


LAYERS = (
    (
        ("decorators", "@task.helmr_session"),
        ("notifications", "callbacks, alerts"),
        ("common_ai", "agents' interfaces"),
        ("airflow_ui", "the Helmr tab"),
    ),
    (("operators", "start, send, run, ask, sync"), ("sensors", "wait")),
    (("triggers", "wait in the triggerer; one shared client per connection"),),
    (("_approvals", "questions and answers"), ("_workspaces", "owners of workspaces")),
    (("_sessions", "names, owners, turns"), ("_logs", "output"), ("schedules", "declarations")),
    (("hooks", "connection to client"), ("links", "pages of the console")),
    (("_common", "errors, validation, metrics, Airflow versions"),),
    (("client", "HTTP and waits; no Airflow"), ("local", "control plane for tests; HTTP only")),
)


def layers() -> str:
    """Return the packages in layers."""
    parts: list[str] = []
    height, gap, whole = 50, 24, 620
    for row, packages in enumerate(LAYERS):
        y = 16 + row * (height + gap)
        width = (whole - 20 * (len(packages) - 1)) / len(packages)
        for column, (name, words) in enumerate(packages):
            x = 20 + column * (width + 20)
            parts += [box(x, y, width, height), text(x + width / 2, y + 21, name, "title")]
            parts += [text(x + width / 2, y + 39, words, "small")]
        if row:
            parts.append(arrow(20 + whole / 2, y - gap + 2, 20 + whole / 2, y - 3))
    return drawing(whole + 40, 16 + len(LAYERS) * (height + gap), "The packages in layers; imports point down", parts)


def table_under(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table under a heading of a page of the documentation."""
    section = (FOLDER.parent / page).read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = dropwhile(lambda line: not line.startswith("| "), section.splitlines())
    rows = [line.strip("| ").split(" | ") for line in takewhile(lambda line: line.startswith("| "), lines)]
    return [rows[0], *rows[2:]]


def number(cell: str) -> float:
    """Return the number in a cell, times in seconds."""
    value, unit = re.fullmatch(r"([\d.,]+)(?: (\w+))?", cell).groups()  # type: ignore[union-attr]
    return float(value.replace(",", "")) * (0.001 if unit == "ms" else 1.0)


@dataclass(frozen=True)
class Bar:
    """One bar of a chart.

    :param value: its length; ``None`` for more than any other.
    """

    value: float | None
    label: str


def bars(labels: list[str], columns: dict[str, list[Bar]], title: str, *, left: int, logarithmic: bool = True) -> str:
    """Return columns of horizontal bars, one row for each label; an empty label leaves a gap."""
    width, gap, line = 150, 20, 30
    scale = (lambda value: math.log10(1 + 100 * value)) if logarithmic else (lambda value: value)
    parts = []
    for index, (name, column) in enumerate(columns.items()):
        x = left + index * (width + gap)
        largest = max(scale(bar.value) for bar in column if bar.value is not None)
        parts.append(text(x, 24, name, "title", "start"))
        for place, bar in enumerate(column):
            if not labels[place]:
                continue
            y = 40 + place * line
            length = (width - 50) * (1 if bar.value is None else scale(bar.value) / largest)
            parts.append(f'<rect x="{x}" y="{y}" width="{max(length, 1):.0f}" height="16" class="busy"/>')
            parts.append(text(round(x + length + 6), y + 13, bar.label, "small", "start"))
    parts += [text(left - 12, 53 + place * line, words, "small", "end") for place, words in enumerate(labels) if words]
    height = 48 + len(labels) * line
    words = "logarithmic scales; shorter is better" if logarithmic else "shorter is better"
    parts.append(text(left, height, words, "small", "start"))
    return drawing(left + len(columns) * (width + gap), height + 12, title, parts)


def chart(heading: str, title: str, columns: tuple[str, ...], *, left: int = 280, logarithmic: bool = True) -> str:
    """Return bars for columns of the table under a heading of the page about performance."""
    header, *rows = table_under("explanation/performance.md", heading)
    shown = {name: [Bar(number(row[header.index(name)]), row[header.index(name)]) for row in rows] for name in columns}
    return bars([row[0].replace("`", "") for row in rows], shown, title, left=left, logarithmic=logarithmic)


def triggers() -> str:
    """Return how late the triggers of several providers fire, as `make bench-triggers` measured it."""
    header, *rows = table_under("explanation/performance.md", "Triggers side by side")
    columns: dict[str, list[Bar]] = {"Delay p50": [], "Delay p99": []}
    labels: list[str] = []
    waits_before = rows[0][0]
    for row in rows:
        if row[0] != waits_before:
            labels.append("")
            for column in columns.values():
                column.append(Bar(0, ""))
        waits_before = row[0]
        labels.append(f"{row[0]}: {row[1].strip('`')}")
        for name, column in columns.items():
            cell = row[header.index(name)]
            column.append(Bar(None if cell == "never" else number(cell), cell))
    return bars(labels, columns, "The same waits with four kinds of triggers", left=280)


def parsing() -> str:
    """Return what importing a provider costs."""
    return chart("Parsing DAG files", "Time to import a provider", ("CPU time",), left=180, logarithmic=False)


DRAWINGS = {
    "deferred-wait.svg": deferred_wait,
    "layers.svg": layers,
    "triggers.svg": triggers,
    "parsing.svg": parsing,
}


def main() -> int:
    """Write all drawings."""
    for name, draw in DRAWINGS.items():
        (FOLDER / name).write_text(draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())

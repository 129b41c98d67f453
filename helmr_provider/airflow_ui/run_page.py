"""The page of a DAG run: one row for each Helmr task, with the instances of a mapped task folded. No I/O."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Final

from helmr_provider.airflow_ui.formatting import age, badge, tone
from helmr_provider.airflow_ui.markup import element, join, link
from helmr_provider.airflow_ui.pages import airflow_path, main, section, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from helmr_provider.airflow_ui.markup import Markup
    from helmr_provider.airflow_ui.pages import Rights
    from helmr_provider.airflow_ui.views import DagRunView, Problem, RunRow

# The page lies at helmr/dags/<dag>/runs/<run>.
_TO_AIRFLOW: Final = "../" * 4
_TAB: Final = "plugin/helmr"
_MOST_INSTANCES: Final = 100
_HEADS: Final = ("Task", "Airflow", "Helmr run", "Attempt", "Age", "Waits for", "Links")
_REASONS: Final[Mapping[Problem, str]] = {
    "no_connection": "the API server does not know it",
    "bad_connection": "it cannot be used",
    "off": "it switches this tab off",
    "down": "Helmr does not answer",
    "refused": "Helmr refused its key",
    "unknown": "Helmr does not know its environment",
    "error": "Helmr's answer cannot be used",
}


def dag_run_page(view: DagRunView, rights: Rights, now: datetime) -> Markup:
    """Return the changing part of a DAG run's page.

    :param view: what to show.
    :param rights: of the person who sees it.
    :param now: the time.
    """
    if not rights.xcoms:
        message = element("p", "You may not read the XComs of this DAG, which hold the ids of Helmr sessions.")
        return main([section("problem", element("div", message, class_="notice soft", role="status"))], 0)
    rows: list[list[object]] = []
    for _, group in groupby(view.rows, key=lambda row: row.task.key.task_id):
        instances = list(group)
        folded = len(instances) > 1 or instances[0].task.key.map_index >= 0
        rows.append(_folded(instances, rights, now) if folded else _row(instances[0], rights, now))
    problems = [
        element("p", "Connection ", element("code", conn_id), f": {_REASONS.get(problem, problem)}.")
        for conn_id, (problem, _) in view.problems.items()
    ]
    left_out = f"{view.left_out} more task instances are not shown." if view.left_out else None
    return main(
        [
            section("problem", element("div", *problems, class_="notice", role="status")) if problems else None,
            section(
                "tasks",
                table(_HEADS, rows, "No task of this DAG run uses Helmr." if not view.problems else ""),
                element("p", left_out, class_="soft") if left_out else None,
                heading="Helmr tasks of this DAG run",
            ),
        ],
        view.refresh,
    )


def _row(row: RunRow, rights: Rights, now: datetime) -> list[object]:
    key = row.task.key
    name = key.task_id if key.map_index < 0 else f"{key.task_id} [{key.map_index}]"
    return [
        link(airflow_path(key, _TAB, root=_TO_AIRFLOW), name, here=True),
        badge(row.task.state or "no status"),
        None if row.status is None else badge(row.status),
        row.attempt,
        None if row.since is None else age(now - row.since),
        _awaited(row, rights),
        join(_between(link(url, label.removeprefix("Helmr ")) for label, url in row.links.items())),
    ]


def _folded(rows: list[RunRow], rights: Rights, now: datetime) -> list[object]:
    key = rows[0].task.key
    people = [row for row in rows if row.waits_for_person]
    oldest = min((row.since for row in rows if row.since is not None), default=None)
    instances = element(
        "details",
        element("summary", f"{key.task_id} ({len(rows)} mapped)"),
        element("ul", *(_instance(row, rights) for row in rows[:_MOST_INSTANCES])),
        element("p", f"{len(rows) - _MOST_INSTANCES} more", class_="soft") if len(rows) > _MOST_INSTANCES else None,
    )
    return [
        instances,
        _counts(row.task.state or "no status" for row in rows),
        _counts(row.status for row in rows if row.status is not None),
        max((row.attempt for row in rows if row.attempt is not None), default=None),
        None if oldest is None else f"up to {age(now - oldest)}",
        f"{len(people)} answers of people" if people else None,
        None,
    ]


def _instance(row: RunRow, rights: Rights) -> Markup:
    key = row.task.key
    label = f"[{key.map_index}]"
    parts: list[object] = [link(airflow_path(key, _TAB, root=_TO_AIRFLOW), label, here=True), " "]
    parts.append(badge(row.status or row.task.state or "no status"))
    if (awaited := _awaited(row, rights)) is not None:
        parts += [" ", awaited]
    return element("li", *parts)


def _awaited(row: RunRow, rights: Rights) -> object:
    if row.waits_for_person:
        shown = row.question if rights.questions else None
        return element("span", shown or "an answer", class_="foreign")
    return None


def _counts(states: Iterable[str]) -> Markup:
    counted = Counter(states)
    return join(_between(badge(f"{count} {state}", tone(state)) for state, count in counted.most_common()))


def _between(parts: Iterable[object]) -> list[object]:
    spaced: list[object] = []
    for part in parts:
        spaced += [part] if not spaced else [" ", part]
    return spaced

"""The kill matrix as data: what each cell is tried with, or why it is not tried.

A cell is a component, a way to end it, the moment of the wait, and what is waited for. A fault hits all moments and all
three kinds of wait in one DAG run. ``python -m tests.reliability.kill_matrix`` prints the table of the documentation.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from tests.reliability import faults

if TYPE_CHECKING:
    from tests.reliability.faults import Fault

COMPONENTS: Final = (
    "worker",
    "supervisor of a task",
    "scheduler",
    "triggerer",
    "control plane",
    "database",
    "API server",
    "DAG processor",
)
WAYS: Final = ("kill -9", "SIGTERM", "restart", "network cut")
# In the task ids of the DAG, and in the documentation.
MOMENTS: Final = {
    "before_start": "before the start",
    "before_deferral": "started, not deferred",
    "during_deferral": "during the deferral",
    "deferred": "deferred",
    "ended": "ended, not resumed",
    "resumed": "resumed, not delivered",
}
KINDS: Final = ("session", "command", "approval")

Row = tuple[str, str]
Cell = tuple[str, str, str, str]

TESTED: Final[dict[Row, Fault]] = {
    ("worker", "kill -9"): faults.kill_workers,
    ("worker", "SIGTERM"): faults.terminate_tasks,
    ("worker", "restart"): faults.evict_workers,
    ("worker", "network cut"): faults.freeze_workers,
    ("supervisor of a task", "SIGTERM"): faults.terminate_supervisors,
    ("scheduler", "kill -9"): faults.kill_scheduler,
    ("scheduler", "SIGTERM"): faults.drain_scheduler,
    ("scheduler", "restart"): faults.replace_scheduler,
    ("scheduler", "network cut"): faults.freeze_scheduler,
    ("triggerer", "kill -9"): faults.kill_triggerer,
    ("triggerer", "SIGTERM"): faults.stop_triggerer,
    ("triggerer", "restart"): faults.replace_triggerer,
    ("triggerer", "network cut"): faults.freeze_triggerer,
    ("control plane", "kill -9"): faults.kill_control_plane,
    ("control plane", "SIGTERM"): faults.stop_control_plane,
    ("control plane", "restart"): faults.restart_control_plane,
    ("control plane", "network cut"): faults.freeze_control_plane,
    ("database", "kill -9"): faults.kill_database,
    ("database", "SIGTERM"): faults.stop_database,
    ("database", "restart"): faults.restart_database,
    ("database", "network cut"): faults.freeze_database,
    ("API server", "kill -9"): faults.kill_api_server,
    ("API server", "SIGTERM"): faults.stop_api_server,
    ("DAG processor", "kill -9"): faults.kill_dag_processor,
}

# The local control plane is also the machine of its workspaces: a command that runs when it ends is lost, as on a real
# machine that dies, and the retry runs it again.
LOSES_COMMANDS: Final[frozenset[Row]] = frozenset(
    {("control plane", "kill -9"), ("control plane", "SIGTERM"), ("control plane", "restart")}
)

# Rows whose fault has been run and has passed. The others are tests of `make test-reliability` all the same.
PASSED: Final[frozenset[Row]] = frozenset(
    {
        ("worker", "kill -9"),
        ("worker", "SIGTERM"),
        ("worker", "restart"),
        ("worker", "network cut"),
        ("supervisor of a task", "SIGTERM"),
        ("triggerer", "kill -9"),
        ("triggerer", "SIGTERM"),
        ("triggerer", "restart"),
        ("triggerer", "network cut"),
        ("control plane", "network cut"),
        ("API server", "kill -9"),
        ("API server", "SIGTERM"),
        ("DAG processor", "kill -9"),
        ("scheduler", "kill -9"),
        ("scheduler", "SIGTERM"),
        ("scheduler", "restart"),
        ("scheduler", "network cut"),
        ("database", "kill -9"),
        ("database", "SIGTERM"),
        ("database", "restart"),
        ("database", "network cut"),
        ("control plane", "kill -9"),
        ("control plane", "SIGTERM"),
        ("control plane", "restart"),
    }
)

_IN_WORKER_ROWS: Final = "The rows of the worker hit the supervisor together with its task."
_SAME: Final = "Not run: the component takes part in no step of a wait once its DAG was parsed."
_API_SERVER: Final = "Not run: it keeps no state, so that this differs from its other rows by the length of the outage."

ROW_REASONS: Final[dict[Row, str]] = {
    ("supervisor of a task", "kill -9"): _IN_WORKER_ROWS,
    ("supervisor of a task", "restart"): _IN_WORKER_ROWS,
    ("supervisor of a task", "network cut"): _IN_WORKER_ROWS,
    ("API server", "restart"): _API_SERVER,
    ("API server", "network cut"): _API_SERVER,
    ("DAG processor", "SIGTERM"): _SAME,
    ("DAG processor", "restart"): _SAME,
    ("DAG processor", "network cut"): _SAME,
}

_OFF_THE_WORKER: Final = "Nothing of the task runs on a worker at this moment."
MOMENT_REASONS: Final[dict[tuple[str, str], str]] = {
    (component, moment): _OFF_THE_WORKER
    for component in ("worker", "supervisor of a task")
    for moment in ("deferred", "ended")
}

# Cells that are also part of `make test`, each in the test of a single scenario.
REPRESENTATIVE: Final[dict[Cell, str]] = {
    (
        "worker",
        "kill -9",
        "before_deferral",
        "session",
    ): "tests/airflow/test_real_airflow.py::test_a_retry_adopts_the_run_of_a_worker_killed_before_it_deferred",
    ("worker", "kill -9", "before_deferral", "command"): (
        "tests/airflow/test_workspaces.py::"
        "test_a_retry_adopts_the_command_of_a_worker_that_was_killed_before_it_deferred"
    ),
    ("worker", "SIGTERM", "during_deferral", "session"): (
        "tests/airflow/test_kills.py::test_a_worker_that_is_stopped_while_it_defers_leaves_the_run_to_the_trigger"
    ),
    ("supervisor of a task", "SIGTERM", "before_deferral", "session"): (
        "tests/airflow/test_kills.py::test_the_retry_of_a_drained_worker_adopts_its_run"
    ),
    ("scheduler", "kill -9", "ended", "session"): (
        "tests/airflow/test_waits.py::test_a_deferred_session_survives_a_killed_scheduler_without_a_second_run"
    ),
    ("triggerer", "kill -9", "deferred", "session"): (
        "tests/airflow/test_real_airflow.py::test_a_deferred_session_survives_a_killed_triggerer_without_a_second_run"
    ),
    ("triggerer", "kill -9", "deferred", "command"): (
        "tests/airflow/test_workspaces.py::test_a_triggerer_that_is_killed_while_a_command_runs_starts_no_second_one"
    ),
    ("triggerer", "kill -9", "deferred", "approval"): (
        "tests/airflow/test_approvals.py::test_a_question_outlives_a_killed_triggerer"
    ),
    ("control plane", "kill -9", "deferred", "session"): (
        "tests/airflow/test_real_airflow.py::test_a_wait_survives_a_control_plane_that_goes_down"
    ),
    ("control plane", "kill -9", "ended", "approval"): (
        "tests/airflow/test_approvals.py::test_an_answer_during_an_outage_of_the_control_plane_is_not_lost"
    ),
}


def all_cells() -> list[Cell]:
    """Return every cell of the matrix."""
    return list(product(COMPONENTS, WAYS, MOMENTS, KINDS))


def content(cell: Cell) -> Fault | str:
    """Return the fault that a cell is tried with, or why it is not tried.

    :param cell: of :func:`all_cells`.
    :raises KeyError: the cell is neither tried nor explained.
    """
    component, way, moment, _ = cell
    if (reason := MOMENT_REASONS.get((component, moment))) is not None and (component, way) in TESTED:
        return reason
    if (reason := ROW_REASONS.get((component, way))) is not None:
        return reason
    return TESTED[component, way]


def tried_moments(row: Row) -> list[str]:
    """Return the moments at which a row's fault is tried."""
    return [moment for moment in MOMENTS if all(callable(content((*row, moment, kind))) for kind in KINDS)]


def _is_in_make_test(component: str, way: str, moment: str) -> bool:
    return all((component, way, moment, kind) in REPRESENTATIVE for kind in KINDS)


def table() -> str:
    """Return the matrix as a Markdown table, with a letter for each reason and the reasons below.

    A cell is ✓ if its test has passed, and ○ if it has not passed yet.
    """
    letters: dict[str, str] = {}
    lines = [
        "| Component | End | " + " | ".join(MOMENTS.values()) + " |",
        "| --- | --- |" + " --- |" * len(MOMENTS),
    ]
    for component, way in product(COMPONENTS, WAYS):
        cells = []
        for moment in MOMENTS:
            (found,) = {content((component, way, moment, kind)) for kind in KINDS}
            tried = "✓" if (component, way) in PASSED or _is_in_make_test(component, way, moment) else "○"
            cells.append(tried if callable(found) else letters.setdefault(found, chr(ord("a") + len(letters))))
        lines.append(f"| {component} | {way} | {' | '.join(cells)} |")
    reasons = [f"- **{letter}** {reason}" for reason, letter in letters.items()]
    return "\n".join([*lines, "", *reasons])


if __name__ == "__main__":
    print(table())  # noqa: T201

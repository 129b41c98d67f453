"""Every example DAG, as it is, in a real Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.stack import ROOT, poll
from tests.airflow.conftest import ENDED

if TYPE_CHECKING:
    from dev.stack import Stack

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

WAITS = {"deferred", "awaiting_input"}
EXAMPLES = sorted(path.stem for path in (ROOT / "example_dags").glob("example_*.py"))

# Their teardowns take away what a failed task needs, so that all tasks have to run again.
TEARING_DOWN = {"example_failure_and_cleanup", "example_workspace_pipeline"}


@pytest.mark.parametrize("dag_id", EXAMPLES)
def test_an_example_runs_to_its_end(stack: Stack, dag_id: str) -> None:
    airflow = stack.airflow
    airflow.wait_for_dag(dag_id)
    run_id = airflow.trigger(dag_id)

    def over() -> str | None:
        stack.check()
        answer_questions(stack, dag_id, run_id)
        state = str(airflow.dag_run(dag_id, run_id)["state"])
        return state if state in ENDED else None

    state = poll(over, seconds=120, waiting_for=f"{dag_id} to end")
    known = 0
    while state != "success" and (lost := times_lost(stack, run_id)) > known:
        known = lost
        airflow.clear(dag_id, run_id, *airflow.tasks(dag_id, run_id), only_failed=dag_id not in TEARING_DOWN)
        state = poll(over, seconds=120, waiting_for=f"{dag_id} to end")
    tasks = airflow.tasks(dag_id, run_id)
    failed = [task for task in tasks.values() if task["state"] == "failed" and task["map_index"] < 0]
    logs = [airflow.log(dag_id, run_id, task["task_id"], task["try_number"]) for task in failed]
    assert state == "success", "\n".join([str({name: task["state"] for name, task in tasks.items()}), *logs])


def times_lost(stack: Stack, run_id: str) -> int:
    """Count the tasks that Airflow itself has failed because it was late to hear that they had deferred.

    The examples have no retries, which is what would help against it.
    """
    said = stack.programs["scheduler"].log.read_text(errors="replace").splitlines()
    return sum("finished with state success, but the task instance" in line and run_id in line for line in said)


def answer_questions(stack: Stack, dag_id: str, run_id: str) -> None:
    """Give the first answer to every question under Required Actions."""
    for task_id, task in stack.airflow.tasks(dag_id, run_id).items():
        row = stack.airflow.question(dag_id, run_id, task_id) if task["state"] in WAITS else None
        if row and not row["response_received"]:
            stack.airflow.answer(dag_id, run_id, task_id, row["options"][0])

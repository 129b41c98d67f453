"""Sessions that outlived their tasks are found and cancelled; one whose task still waits is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.stack import poll

if TYPE_CHECKING:
    from dev.stack import Stack
    from tests.airflow.conftest import Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(300)]


def test_orphans_are_listed_and_cancelled_and_a_deferred_task_keeps_its_session(
    stack: Stack, scenarios: Scenarios
) -> None:
    marked, deleted, waiting = (scenarios.begin("gated_session") for _ in range(3))
    for scenario in (marked, deleted, waiting):
        scenario.wait_until_watched()
        scenario.wait_for_helmr_run("waiting")
    of_marked, of_deleted, of_waiting = (scenario.helmr_runs()[0] for scenario in (marked, deleted, waiting))
    # While there is no triggerer, nothing of the provider runs for a deferred task.
    triggerer = stack.programs["triggerer"]
    triggerer.kill()
    for scenario in (marked, deleted):
        stack.airflow.set_task_state(scenario.dag_id, scenario.run_id, "work", "failed")
    triggerer.start()
    assert deleted.wait_until_ended() == "failed"
    stack.airflow.delete_dag_run(deleted.dag_id, deleted.run_id)
    assert [run.status for run in (marked.helmr_runs() + deleted.helmr_runs())] == ["waiting", "waiting"]

    scenario = scenarios.begin("cancels_orphans")
    scenario.succeeds()
    found = scenario.xcom(task_id="preview")
    states = {each["session_id"]: each["state"] for each in found["cancelled"]}
    # Other tests start sessions of this DAG, too.
    assert states.items() >= {of_marked.session_id: "failed", of_deleted.session_id: "gone"}.items()
    assert of_waiting.session_id not in states
    assert (found["preview_only"], found["out_of_reach"]) == (True, False)
    cancelled = {each["session_id"] for each in scenario.xcom()["cancelled"]}
    assert {of_marked.session_id, of_deleted.session_id} <= cancelled <= states.keys()
    poll(
        lambda: {scenario.client.runs.retrieve(run.id).status for run in (of_marked, of_deleted)} == {"cancelled"},
        seconds=60,
        waiting_for="the orphans to be cancelled",
    )
    assert [run.status for run in waiting.helmr_runs()] == ["waiting"]
    waiting.open_gate()
    waiting.succeeds()
    assert [run.status for run in waiting.helmr_runs()] == ["succeeded"]

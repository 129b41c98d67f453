"""A real scheduler, triggerer and API server against the local control plane, with things going wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.stack import poll

if TYPE_CHECKING:
    from dev.stack import Stack
    from tests.airflow.conftest import Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]


def test_the_approval_gate_example_runs_from_token_to_result(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("example_approval_gate")
    scenario.wait_for("deferred", task_id="decision")
    scenario.wait_for("deferred", task_id="summary")
    scenario.succeeds()
    result = scenario.xcom(task_id="publish")
    assert result["approved"] is True
    assert result["decision"] == {"approved": True, "comment": "Go ahead."}


def test_a_deferred_session_survives_a_killed_triggerer_without_a_second_run(
    stack: Stack, scenarios: Scenarios
) -> None:
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_watched()
    triggerer = stack.programs["triggerer"]
    triggerer.kill()
    triggerer.start()
    scenario.open_gate()
    scenario.succeeds()
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded"]
    assert scenario.xcom(task_id="use") == "used go"


def test_a_token_wait_survives_a_killed_triggerer(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("gated_sensor")
    scenario.wait_until_watched()
    triggerer = stack.programs["triggerer"]
    triggerer.kill()
    triggerer.start()
    scenario.open_gate({"approved": True})
    scenario.succeeds()
    assert scenario.xcom() == {"approved": True}


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marking_a_deferred_task_cancels_its_run(stack: Stack, scenarios: Scenarios, state: str) -> None:
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_watched()
    scenario.wait_for_helmr_run("waiting")
    stack.airflow.set_task_state(scenario.dag_id, scenario.run_id, "work", state)
    scenario.wait_for_helmr_run("cancelled")
    assert scenario.task()["state"] == state
    assert len(scenario.helmr_runs()) == 1


def test_marking_a_task_that_waits_on_its_worker_cancels_its_run(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("blocking_session")
    scenario.wait_for("running")
    poll(lambda: bool(scenario.helmr_runs()), seconds=60, waiting_for="the session to be started")
    scenario.wait_for_helmr_run("waiting")
    stack.airflow.set_task_state(scenario.dag_id, scenario.run_id, "work", "failed")
    scenario.wait_for_helmr_run("cancelled")
    assert scenario.task()["state"] == "failed"
    assert len(scenario.helmr_runs()) == 1


def test_clearing_a_deferred_task_leaves_one_run_that_counts(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("gated_session")
    first = scenario.wait_until_watched()
    stack.airflow.clear(scenario.dag_id, scenario.run_id, "work")

    def deferred_again() -> bool:
        task = scenario.task()
        return bool(task["state"] == "deferred" and task["id"] != first["id"])

    poll(deferred_again, seconds=90, waiting_for="the cleared task to defer again")
    scenario.open_gate()
    scenario.succeeds()
    # Adopted, when the new try was faster than the cancel; else started anew. Never two that live.
    assert sorted(run.status for run in scenario.helmr_runs()) in (["succeeded"], ["cancelled", "succeeded"])
    assert scenario.xcom(task_id="use") == "used go"


def test_clearing_a_finished_task_starts_a_new_session(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("gated_session")
    scenario.wait_for("deferred")
    scenario.open_gate()
    scenario.succeeds()
    before = scenario.xcom("run_id")
    stack.airflow.clear(scenario.dag_id, scenario.run_id, "work", "use")
    poll(lambda: len(scenario.helmr_runs()) == 2, seconds=90, waiting_for="a second run")
    scenario.succeeds()
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded", "succeeded"]
    assert scenario.xcom("run_id") == scenario.helmr_runs()[1].id != before


def test_a_retry_adopts_the_run_of_a_worker_killed_before_it_deferred(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("killed_worker")
    scenario.wait_for("deferred")
    assert scenario.task()["try_number"] == 2
    scenario.open_gate()
    scenario.succeeds()
    (run,) = scenario.helmr_runs()
    assert run.status == "succeeded"
    assert scenario.xcom("run_id") == run.id


def test_a_failed_run_fails_the_task_and_its_log_says_why(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("failing_session")
    assert scenario.wait_until_ended() == "failed"
    log = scenario.log()
    assert "the build broke" in log
    assert "no space left on device" in log
    assert scenario.helmr_runs()[0].id in log


def test_a_deferred_wait_that_takes_too_long_cancels_its_run(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("impatient_session")
    assert scenario.wait_until_ended() == "failed"
    scenario.wait_for_helmr_run("cancelled")


def test_a_wait_survives_a_control_plane_that_goes_down(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_watched()
    scenario.wait_for_helmr_run("waiting")
    stack.control_plane.kill()
    stack.control_plane.start()
    scenario.open_gate()
    scenario.succeeds()
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded"]

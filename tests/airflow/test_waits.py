"""Waits in a real Airflow that are mapped, sensed, or outlive the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.stack import poll

if TYPE_CHECKING:
    from dev.stack import Stack
    from tests.airflow.conftest import Scenario, Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_a_deferred_session_survives_a_killed_scheduler_without_a_second_run(
    stack: Stack, scenarios: Scenarios
) -> None:
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_watched()
    scheduler = stack.programs["scheduler"]
    scheduler.kill()
    scenario.open_gate()
    scenario.wait_for_helmr_run("succeeded")
    scheduler.start()
    stack.wait_until_healthy()
    scenario.succeeds()
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded"]
    assert scenario.xcom(task_id="use") == "used go"


def test_of_mapped_tasks_each_has_its_session_and_is_cancelled_alone(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("mapped_sessions_ending_apart")
    poll(lambda: watched(scenario) == 3, seconds=90, waiting_for="three deferred tasks that a triggerer has taken up")
    poll(lambda: statuses(scenario) == ["waiting"] * 3, seconds=60, waiting_for="three waiting runs")
    stack.airflow.set_task_state(scenario.dag_id, scenario.run_id, "work", "failed", map_index=1)
    poll(lambda: "cancelled" in statuses(scenario), seconds=60, waiting_for="one run to be cancelled")
    scenario.open_gate()
    poll(lambda: states(scenario) == ["success", "failed", "success"], seconds=90, waiting_for="the others to succeed")
    scenario.wait_for("success", task_id="use")
    assert statuses(scenario) == ["succeeded", "cancelled", "succeeded"]
    assert scenario.xcom(task_id="use") == ["go", "go"]


def test_a_run_of_another_task_is_sensed_without_a_worker(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("sensed_run")
    scenario.wait_until_watched()
    triggerer = stack.programs["triggerer"]
    triggerer.kill()
    triggerer.start()
    scenario.open_gate()
    scenario.succeeds()
    assert scenario.xcom(task_id="use") == "used go"


def test_a_sensor_that_gives_up_fails_or_is_skipped_and_cancels_nothing(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("sensors_that_give_up")
    assert scenario.wait_until_ended() == "failed"
    ends = {task_id: task["state"] for task_id, task in scenario.tasks().items()}
    assert ends == {
        "started": "success",
        "run_fails": "failed",
        "token_fails": "failed",
        "run_is_skipped": "skipped",
        "token_is_skipped": "skipped",
    }
    assert statuses(scenario) == ["waiting"]
    assert scenario.client.tokens.retrieve(scenario.token_id).is_pending
    scenario.open_gate()


def watched(scenario: Scenario) -> int:
    return sum(task["state"] == "deferred" and bool(task["triggerer_job"]) for task in scenario.mapped_tasks())


def states(scenario: Scenario) -> list[str]:
    return [task["state"] for task in scenario.mapped_tasks()]


def statuses(scenario: Scenario) -> list[str]:
    """The runs' statuses by map index, which is the last but one part of a session's name."""
    sessions = {run.session_id: run.status for run in scenario.helmr_runs()}
    names = {scenario.client.sessions.retrieve(session_id).external_id or "": session_id for session_id in sessions}
    return [sessions[names[name]] for name in sorted(names)]

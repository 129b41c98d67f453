"""Kills, clears and outages at awkward moments: nothing is paid twice, and nothing is left running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.stack import poll

if TYPE_CHECKING:
    from dev.stack import Stack
    from tests.airflow.conftest import Scenarios

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_the_retry_of_a_drained_worker_adopts_its_run(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("drained_session")
    scenario.wait_for("running")
    poll(lambda: bool(scenario.helmr_runs()), seconds=60, waiting_for="the session to be started")
    scenario.wait_for_helmr_run("waiting")
    stack.programs["scheduler"].ask_children_of_children_to_stop()
    poll(
        lambda: scenario.task()["try_number"] == 2 and scenario.task()["state"] == "running",
        seconds=90,
        waiting_for="the retry",
    )
    assert [run.status for run in scenario.helmr_runs()] == ["waiting"]
    scenario.open_gate()
    scenario.succeeds()
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded"]


def test_a_worker_that_is_stopped_while_it_defers_leaves_the_run_to_the_trigger(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("stopped_while_deferring")
    scenario.wait_until_settled()
    scenario.wait_for_helmr_run("waiting")
    scenario.open_gate()
    scenario.succeeds()
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded"]
    assert "its trigger waits for it" in scenario.log()


def test_a_cancel_while_the_control_plane_is_down_is_made_when_it_is_back(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_watched()
    scenario.wait_for_helmr_run("waiting")
    stack.control_plane.kill()
    stack.airflow.set_task_state(scenario.dag_id, scenario.run_id, "work", "failed")
    poll(lambda: "is repeated for" in scenario.log(), seconds=60, waiting_for="the first attempt to cancel")
    stack.control_plane.start()
    scenario.wait_for_helmr_run("cancelled")
    assert len(scenario.helmr_runs()) == 1


def test_a_task_that_is_cleared_while_it_resumes_starts_a_new_session(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("cleared_while_resuming")
    scenario.wait_until_settled()
    scenario.open_gate()
    scenario.wait_for("running")
    stack.airflow.clear(scenario.dag_id, scenario.run_id, "work")
    poll(lambda: len(scenario.helmr_runs()) == 2, seconds=120, waiting_for="a second session")
    scenario.succeeds()
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded", "succeeded"]
    assert scenario.xcom("run_id") == scenario.helmr_runs()[1].id

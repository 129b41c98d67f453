"""Sessions on a real Airflow: live output, mapping, Airflow's own time limit, and the decorator, all deferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dev.stack import poll

if TYPE_CHECKING:
    from dev.stack import Stack
    from tests.airflow.conftest import Scenario, Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]


def instances(scenario: Scenario) -> dict[int, dict[str, Any]]:
    """The mapped instances of ``work`` by map index."""
    path = f"/dags/{scenario.dag_id}/dagRuns/{scenario.run_id}/taskInstances/work/listMapped"
    found = scenario.stack.airflow.call("GET", path)["task_instances"]
    return {each["map_index"]: each for each in found}


def test_the_output_of_a_run_shows_up_in_the_task_s_log_while_it_is_deferred(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("live_logs")
    scenario.wait_until_watched()
    poll(lambda: "[stdout] waiting at the gate" in scenario.log(), seconds=60, waiting_for="the first line")
    assert scenario.task()["state"] == "deferred"
    assert "the gate is open" not in scenario.log()
    scenario.open_gate()
    scenario.succeeds()
    log = scenario.log()
    assert log.count("[stdout] waiting at the gate") == 1
    assert log.count("[stderr] the gate is open") == 1


def test_live_output_continues_in_another_triggerer(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("live_logs")
    scenario.wait_until_watched()
    poll(lambda: "[stdout] waiting at the gate" in scenario.log(), seconds=60, waiting_for="the first line")
    triggerer = stack.programs["triggerer"]
    triggerer.kill()
    triggerer.start()
    scenario.open_gate()
    scenario.succeeds()
    assert "[stderr] the gate is open" in scenario.log()
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded"]


def test_mapped_sessions_wait_at_the_same_time_and_have_a_run_and_a_name_each(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("mapped_sessions")

    def all_deferred() -> bool:
        return [each["state"] for each in instances(scenario).values()] == ["deferred"] * 3

    poll(all_deferred, seconds=120, waiting_for="three deferred sessions")
    scenario.open_gate()
    scenario.succeeds(seconds=120)
    runs = scenario.helmr_runs()
    assert [run.status for run in runs] == ["succeeded"] * 3
    names = {scenario.client.sessions.retrieve(run.session_id).external_id for run in runs}
    prefix = f"airflow:{scenario.dag_id}:{scenario.run_id}:work"
    assert names == {f"{prefix}:{index}:1" for index in range(3)}
    assert scenario.xcom(task_id="use") == [f"used go for {number}" for number in range(3)]


def test_airflow_s_own_time_limit_holds_while_a_task_is_deferred_and_cancels_the_run(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("timed_out_while_deferred")
    assert scenario.wait_until_ended() == "failed"
    scenario.wait_for_helmr_run("cancelled")
    log = scenario.log()
    assert "had not ended when the time of this task was over" in log
    # A failure then shows how far the run had come.
    assert "[stdout] waiting at the gate" in log


def test_a_decorated_function_is_not_called_again_when_the_deferral_is_over(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("decorated_session")
    scenario.wait_until_watched()
    scenario.open_gate()
    scenario.succeeds()
    assert scenario.xcom() == {"opened_with": "go", "number": 7}
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded"]
    tries = scenario.task()["try_number"]
    said = sum(scenario.log(try_number=number + 1).count("the function was called") for number in range(tries))
    assert said == tries

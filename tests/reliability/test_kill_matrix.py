"""Kill every program at every moment of a deferred wait: the result arrives, and nothing is started twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.stack import Stack
    from tests.airflow.conftest import Scenario, Scenarios

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(600)]


def while_starting(scenario: Scenario) -> None:
    scenario.wait_for("running", "deferred")


def while_deferred(scenario: Scenario) -> None:
    scenario.wait_for("deferred")
    scenario.wait_for_helmr_run("waiting")


def while_ending(scenario: Scenario) -> None:
    while_deferred(scenario)
    scenario.open_gate()


def while_using_the_result(scenario: Scenario) -> None:
    while_ending(scenario)
    scenario.wait_for("success", seconds=180)


MOMENTS = [while_starting, while_deferred, while_ending, while_using_the_result]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
@pytest.mark.parametrize("program", ["triggerer", "scheduler", "task", "api-server", "dag-processor", "control plane"])
def test_the_result_arrives_once(
    stack: Stack, scenarios: Scenarios, program: str, moment: Callable[[Scenario], None]
) -> None:
    scenario = scenarios.begin("gated_session")
    moment(scenario)
    if program == "control plane":
        stack.control_plane.kill()
        stack.control_plane.start()
    elif program == "task":
        # While nothing runs on a worker, there is nothing to kill.
        stack.programs["scheduler"].kill_grandchildren()
    else:
        stack.programs[program].kill()
        stack.programs[program].start()
    stack.wait_until_healthy()
    if moment in {while_starting, while_deferred}:
        scenario.open_gate()
    # A scheduler that is killed takes its workers with it; their tasks are given up when their heartbeats stay away.
    scenario.succeeds(seconds=420)
    assert [run.status for run in scenario.helmr_runs()] == ["succeeded"]
    assert scenario.xcom(task_id="use") == "used go"

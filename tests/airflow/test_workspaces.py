"""Commands in workspaces on a real scheduler and triggerer: their log, and nothing lost or left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.stack import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.stack import Stack
    from helmr_provider.client.models.execs import Exec
    from tests.airflow.conftest import Scenario, Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]


@pytest.fixture
def begun(scenarios: Scenarios) -> Iterator[list[Scenario]]:
    """The scenarios of a test, whose commands are released at its end."""
    here: list[Scenario] = []
    yield here
    for scenario in here:
        gate(scenario).unlink(missing_ok=True)


def gate(scenario: Scenario) -> Path:
    return Path(tempfile.gettempdir(), scenario.token_id)


def workspace_id(scenario: Scenario) -> str:
    found = poll(lambda: scenario.xcom("workspace_id", "create"), seconds=90, waiting_for="the workspace")
    return str(found)


def execs(scenario: Scenario) -> list[Exec]:
    return scenario.client.workspaces.open(workspace_id(scenario)).execs.list()


def is_archived(scenario: Scenario) -> bool:
    handle = scenario.client.workspaces.open(workspace_id(scenario))
    return handle.retrieve().state == "archived" and handle.stop().materialization is None


def until_logged(scenario: Scenario, text: str) -> str:
    def there() -> str | None:
        log = scenario.log()
        return log if text in log else None

    return poll(there, seconds=60, waiting_for=f"{text!r} in the log of the task")


def lines(log: str, text: str) -> list[str]:
    return [line for line in log.splitlines() if text in line]


def begin(scenarios: Scenarios, begun: list[Scenario], dag_id: str) -> Scenario:
    scenario = scenarios.begin(dag_id)
    begun.append(scenario)
    return scenario


def test_a_deferred_command_has_its_output_in_the_task_s_log_while_it_runs_and_its_result_at_the_end(
    scenarios: Scenarios, begun: list[Scenario]
) -> None:
    scenario = begin(scenarios, begun, "workspace_exec")
    scenario.wait_until_watched()
    until_logged(scenario, "BEGUN")
    until_logged(scenario, "stderr: OOPS")
    assert scenario.task()["state"] == "deferred"
    gate(scenario).touch()
    scenario.succeeds()
    assert scenario.xcom() == "BEGUN\nENDED\n"
    log = scenario.log()
    assert len(lines(log, "ENDED")) == 1
    assert len(execs(scenario)) == 1
    assert is_archived(scenario)


def test_two_deferred_commands_log_each_into_its_own_task_s_log(scenarios: Scenarios, begun: list[Scenario]) -> None:
    first, second = (begin(scenarios, begun, "workspace_exec") for _ in range(2))
    for scenario in (first, second):
        scenario.wait_until_watched()
        until_logged(scenario, "BEGUN")
    gate(second).touch()
    second.succeeds()
    assert "ENDED" in second.log()
    assert "ENDED" not in first.log()
    gate(first).touch()
    first.succeeds()
    assert "ENDED" in first.log()


def test_a_triggerer_that_is_killed_while_a_command_runs_starts_no_second_one(
    stack: Stack, scenarios: Scenarios, begun: list[Scenario]
) -> None:
    scenario = begin(scenarios, begun, "workspace_exec")
    scenario.wait_until_watched()
    triggerer = stack.programs["triggerer"]
    triggerer.kill()
    triggerer.start()
    gate(scenario).touch()
    scenario.succeeds()
    assert scenario.xcom() == "BEGUN\nENDED\n"
    assert [found.state for found in execs(scenario)] == ["exited"]


def test_a_failed_command_says_why_and_the_teardown_leaves_nothing_live(
    scenarios: Scenarios, begun: list[Scenario]
) -> None:
    scenario = begin(scenarios, begun, "workspace_exec_fails")
    assert scenario.wait_until_ended() == "failed"
    assert scenario.task("work")["state"] == "failed"
    log = scenario.log()
    assert "exited with code 7" in log
    assert "no space left" in log
    assert scenario.task("delete")["state"] == "success"
    assert is_archived(scenario)


def test_a_retry_adopts_the_command_of_a_worker_that_was_killed_before_it_deferred(
    scenarios: Scenarios, begun: list[Scenario]
) -> None:
    scenario = begin(scenarios, begun, "workspace_worker_killed")
    scenario.wait_for("deferred")
    assert scenario.task()["try_number"] == 2
    gate(scenario).touch()
    scenario.succeeds()
    assert [found.state for found in execs(scenario)] == ["exited"]
    assert scenario.xcom() == 0
    assert is_archived(scenario)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marking_a_deferred_task_ends_its_command(
    stack: Stack, scenarios: Scenarios, begun: list[Scenario], state: str
) -> None:
    scenario = begin(scenarios, begun, "workspace_exec")
    scenario.wait_until_watched()
    until_logged(scenario, "BEGUN")
    stack.airflow.set_task_state(scenario.dag_id, scenario.run_id, "work", state)
    poll(lambda: execs(scenario)[0].state == "terminated", seconds=60, waiting_for="the command to be ended")
    assert scenario.task()["state"] == state
    assert len(execs(scenario)) == 1


def test_the_example_runs_from_its_sources_to_its_summary(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("example_workspace_pipeline")
    scenario.succeeds(seconds=150)
    assert scenario.xcom(task_id="summary") == {"lines": 2, "words": 6}
    assert is_archived(scenario)

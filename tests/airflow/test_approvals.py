"""A question both in Airflow and in Helmr, in a real Airflow: either side answers first, or something fails."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from dev.airflow_api import AirflowApiError
from dev.stack import poll

if TYPE_CHECKING:
    from dev.stack import Stack
    from helmr_provider.client.models.tokens import Token
    from tests.airflow.conftest import Scenario, Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]


def token_of(scenario: Scenario) -> Token:
    return scenario.client.tokens.retrieve(str(scenario.xcom("token_id")))


def question(scenario: Scenario) -> dict[str, Any]:
    row = scenario.stack.airflow.question(scenario.dag_id, scenario.run_id, "work")
    assert row is not None
    return row


def answer(scenario: Scenario, option: str, **params: Any) -> None:
    scenario.stack.airflow.answer(scenario.dag_id, scenario.run_id, "work", option, **params)


def answer_until_heard(scenario: Scenario, option: str) -> None:
    """Answer, and again if the question is there again, as a person would.

    The trigger of a task that was cleared can still fire, and Airflow resumes the new try with it. That defers anew,
    but an answer that comes before the scheduler has heard so is lost with the try, and the retry asks again.
    """

    def heard() -> bool:
        if scenario.task()["state"] == "deferred" and not question(scenario)["response_received"]:
            with suppress(AirflowApiError):
                answer(scenario, option)
        return bool(scenario.task()["state"] == "success")

    poll(heard, seconds=90, every=1, waiting_for="the answer to be heard")


def test_an_answer_in_airflow_completes_the_token_and_the_dag_goes_on(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("asks")
    scenario.wait_until_settled()
    row = question(scenario)
    assert (row["subject"], row["options"]) == ("Publish release 2.4?", ["Approve", "Reject"])
    answer(scenario, "Approve", channel="beta")
    scenario.succeeds()
    result = scenario.xcom()
    assert (result["chosen"], result["params"], result["via"]) == (["Approve"], {"channel": "beta"}, "airflow")
    assert result["by"]
    assert token_of(scenario).data == result
    assert scenario.xcom(task_id="use") == "Approve via airflow"
    with pytest.raises(AirflowApiError, match="409"):
        answer(scenario, "Reject")


def test_an_answer_in_helmr_closes_the_question_in_airflow_and_the_dag_goes_on(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("asks")
    scenario.wait_until_settled()
    token = token_of(scenario)
    assert token.metadata["approval"]["subject"] == "Publish release 2.4?"
    assert scenario.run_id in token.metadata["airflow"]["url"].replace("%3A", ":").replace("%2B", "+")
    scenario.client.tokens.complete(token, {"approved": False, "by": "ada", "why": "not on a Friday"})
    scenario.succeeds()
    result = scenario.xcom()
    assert (result["chosen"], result["by"], result["via"]) == (["Reject"], "ada", "helmr")
    assert result["params"] == {"channel": "stable", "why": "not on a Friday"}
    closed = question(scenario)
    assert closed["response_received"]
    assert closed["chosen_options"] == ["Reject"]
    with pytest.raises(AirflowApiError, match="409"):
        answer(scenario, "Approve")


def test_without_an_answer_the_default_is_taken_on_both_sides(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("asks_with_a_default")
    scenario.succeeds()
    result = scenario.xcom()
    assert (result["chosen"], result["via"], result["by"]) == (["Approve"], "default", None)
    assert token_of(scenario).data == result
    assert question(scenario)["chosen_options"] == ["Approve"]


def test_without_an_answer_and_a_default_the_task_fails_and_the_token_is_cancelled(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("asks_in_vain")
    assert scenario.wait_until_ended() == "failed"
    assert token_of(scenario).status == "cancelled"
    assert "time of this task was over" in scenario.log()


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marking_a_task_that_asks_cancels_its_token(stack: Stack, scenarios: Scenarios, state: str) -> None:
    scenario = scenarios.begin("asks")
    scenario.wait_until_settled()
    stack.airflow.set_task_state(scenario.dag_id, scenario.run_id, "work", state)
    poll(lambda: token_of(scenario).status == "cancelled", seconds=60, waiting_for="the token to be cancelled")


@pytest.mark.parametrize("side", ["airflow", "helmr"])
def test_a_question_outlives_a_killed_triggerer(stack: Stack, scenarios: Scenarios, side: str) -> None:
    scenario = scenarios.begin("asks")
    scenario.wait_until_settled()
    triggerer = stack.programs["triggerer"]
    triggerer.kill()
    if side == "airflow":
        answer(scenario, "Approve")
    else:
        scenario.client.tokens.complete(token_of(scenario), "approve")
    triggerer.start()
    scenario.succeeds()
    assert scenario.xcom(task_id="use") == f"Approve via {side}"
    assert token_of(scenario).status == "completed"
    assert question(scenario)["chosen_options"] == ["Approve"]


def test_clearing_a_task_that_asks_asks_anew_and_withdraws_the_old_question(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("asks")
    scenario.wait_until_settled()
    first = token_of(scenario)
    stack.airflow.clear(scenario.dag_id, scenario.run_id, "work")
    poll(lambda: scenario.xcom("token_id") not in {None, first.id}, seconds=90, waiting_for="the task to ask again")
    scenario.wait_until_settled()
    poll(
        lambda: scenario.client.tokens.retrieve(first.id).status == "cancelled",
        seconds=60,
        waiting_for="the first token to be cancelled",
    )
    answer_until_heard(scenario, "Approve")
    scenario.succeeds()
    assert token_of(scenario).status == "completed"


def test_clearing_an_answered_task_asks_anew(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("asks")
    scenario.wait_until_settled()
    answer(scenario, "Reject")
    scenario.succeeds()
    first = token_of(scenario)
    stack.airflow.clear(scenario.dag_id, scenario.run_id, "work", "use")
    poll(lambda: scenario.xcom("token_id") not in {None, first.id}, seconds=90, waiting_for="the task to ask again")
    scenario.wait_until_settled()
    assert not question(scenario)["response_received"]
    scenario.client.tokens.complete(token_of(scenario), True)
    scenario.succeeds()
    assert scenario.xcom(task_id="use") == "Approve via helmr"
    assert scenario.client.tokens.retrieve(first.id).data["chosen"] == ["Reject"]


def test_an_answer_during_an_outage_of_the_control_plane_is_not_lost(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("asks")
    scenario.wait_until_settled()
    stack.control_plane.kill()
    answer(scenario, "Approve")
    poll(
        lambda: "cannot be sent to the control plane" in scenario.log(),
        seconds=90,
        waiting_for="the task to notice that it cannot complete the token",
    )
    stack.control_plane.start()
    scenario.succeeds()
    assert scenario.xcom(task_id="use") == "Approve via airflow"
    assert token_of(scenario).status == "completed"


def test_something_that_is_no_answer_fails_the_task_for_good_and_says_why(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("asks")
    scenario.wait_until_settled()
    scenario.client.tokens.complete(token_of(scenario), {"chosen": "Perhaps"})
    assert scenario.wait_until_ended() == "failed"
    assert "'Perhaps' is none of the options" in scenario.log()
    assert scenario.task()["try_number"] == 1

"""Turns, output and notifications under a real scheduler and triggerer, with things going wrong."""

from __future__ import annotations

import urllib.request
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from dev.stack import poll

if TYPE_CHECKING:
    from dev.stack import Stack
    from helmr_provider.client import HelmrClient
    from tests.airflow.conftest import Scenario, Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]


def heard(scenario: Scenario) -> list[Any]:
    """Return the records that the scenario's session was sent."""
    session_id = scenario.xcom("session_id", task_id="start")
    return [record.data for record in scenario.client.sessions.open(session_id).input("messages").list()]


def hi(scenario: Scenario) -> str:
    return f"{scenario.token_id} says hi"


def test_the_conversation_example_runs_from_start_to_close(client: HelmrClient, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("example_conversation")
    scenario.succeeds(seconds=150)
    first, second = scenario.xcom(task_id="conclude")["heard"]
    assert first == "Which changes are risky?"
    assert second == "Why do you say 'Hello from the agent. You said: Which changes are risky?'?"
    assert client.sessions.retrieve(scenario.xcom("session_id", task_id="start")).status == "closed"


def test_a_turn_is_deferred_and_resumed_with_the_answer(scenarios: Scenarios) -> None:
    scenario = scenarios.begin("conversation_turn")
    scenario.wait_until_watched()
    poll(lambda: scenario.xcom("run_id"), seconds=20, waiting_for="the run to be known")
    scenario.open_gate()
    scenario.succeeds()
    assert scenario.xcom() == {"heard": [hi(scenario)]}
    assert (scenario.xcom("sequence"), scenario.xcom("cursor")) == (1, 1)
    assert scenario.xcom("run_id") == scenario.helmr_runs()[0].id
    assert scenario.xcom(task_id="end")["status"] == "cancelled"


def test_a_turn_survives_a_killed_triggerer_without_a_second_record(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("conversation_turn")
    scenario.wait_until_watched()
    triggerer = stack.programs["triggerer"]
    triggerer.kill()
    triggerer.start()
    scenario.open_gate()
    scenario.succeeds()
    assert scenario.xcom() == {"heard": [hi(scenario)]}
    assert heard(scenario) == [hi(scenario)]


def test_a_cleared_turn_is_a_new_one(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("conversation_turn")
    scenario.wait_until_watched()
    first = scenario.task()["id"]
    stack.airflow.clear(scenario.dag_id, scenario.run_id, "work")

    def deferred_again() -> bool:
        task = scenario.task()
        return bool(task["state"] == "deferred" and task["id"] != first and len(heard(scenario)) == 2)

    poll(deferred_again, seconds=90, waiting_for="the cleared turn to begin anew")
    assert scenario.xcom("sequence") == 2
    scenario.open_gate()
    scenario.succeeds()
    assert heard(scenario) == [hi(scenario)] * 2


def test_output_is_waited_for_while_deferred(client: HelmrClient, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("conversation_listener")
    scenario.wait_until_watched()
    session = client.sessions.open(scenario.xcom("session_id", task_id="start"))
    scenario.open_gate()
    session.input("messages").send("not me", correlation_id="nobody")
    session.input("messages").send("me", correlation_id="somebody")
    scenario.succeeds()
    assert scenario.xcom() == {"heard": ["not me", "me"]}
    assert scenario.xcom("cursor") == 2
    session.cancel()


def test_a_failure_is_sent_to_the_agent_once(stack: Stack, client: HelmrClient, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("conversation_failure")
    assert scenario.wait_until_ended() == "failed"
    received = client.sessions.open(external_id=scenario.token_id).input("messages")
    poll(received.list, seconds=30, waiting_for="the notification")
    assert [record.data for record in received.list()] == [
        {"failed": "work", "run": scenario.run_id, "url": task_page(stack, scenario, "work")}
    ]
    client.sessions.open(external_id=scenario.token_id).cancel()


def test_a_missed_deadline_is_sent_to_the_agent(stack: Stack, client: HelmrClient, scenarios: Scenarios) -> None:
    session = client.sessions.start("hesitant", {"token_id": "none"}, external_id="conversation-deadline").session
    scenario = scenarios.begin("conversation_deadline")
    received = client.sessions.open(session).input("messages")
    poll(received.list, seconds=90, waiting_for="the notification")
    assert [record.data for record in received.list()] == [{"late": scenario.run_id}]
    stack.airflow.set_task_state(scenario.dag_id, scenario.run_id, "work", "failed")


def test_a_session_leads_back_to_the_task_instance(stack: Stack, client: HelmrClient, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("conversation_turn")
    scenario.wait_for("deferred")
    session_id = scenario.xcom("session_id", task_id="start")
    url = task_page(stack, scenario, "start")
    assert client.sessions.retrieve(session_id).metadata["airflow"]["url"] == url
    with urllib.request.urlopen(f"{stack.control_plane.url}/sessions/{session_id}", timeout=20) as page:
        assert f'<a href="{escape(url)}"' in page.read().decode()
    with urllib.request.urlopen(url, timeout=20) as page:
        assert page.status == 200
    scenario.open_gate()
    scenario.succeeds()


def task_page(stack: Stack, scenario: Scenario, task_id: str) -> str:
    """Return where Airflow shows the first try of a task."""
    return f"{stack.url}/dags/{scenario.dag_id}/runs/{quote(scenario.run_id)}/tasks/{task_id}?try_number=1"

"""Unusual settings and answers on a real scheduler and triggerer, in one DAG run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.stack import poll

if TYPE_CHECKING:
    from tests.airflow.conftest import Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(300)]


def test_each_task_ends_as_documented(scenarios: Scenarios, tmp_path: Path) -> None:
    number = time.time_ns()
    scenario = scenarios.begin("edge_cases", number=number, folder=str(tmp_path))
    url = poll(lambda: scenario.xcom("notified"), seconds=90, waiting_for="the notifier to be called")
    token = scenario.client.tokens.retrieve(str(scenario.xcom("token_id")))
    assert str(url).endswith(f"/tokens/{token.id}")
    scenario.client.tokens.complete(token, "Approve")
    assert scenario.wait_until_ended(seconds=120) == "failed"

    states = {task_id: task["state"] for task_id, task in scenario.tasks().items()}
    assert states == {
        "first_user": "success",
        "second_user": "failed",
        "unknown_connection": "failed",
        "lost_in_the_triggerer": "failed",
        "large": "success",
        "work": "success",
    }
    # A native number as a name, and the same name for another payload.
    assert scenario.client.sessions.retrieve(external_id=str(number)).task_id == "echo"
    assert scenario.xcom(task_id="first_user") == {"number": 1}
    assert "payload" in scenario.log("second_user")
    # soft_fail is for time limits, not for what can never work.
    assert "no_such_connection" in scenario.log("unknown_connection")
    lost = scenario.log("lost_in_the_triggerer")
    assert "in the triggerer failed (AirflowNotFoundException)" in lost
    assert "Trigger exited without sending an event" not in lost
    # Too large for an XCom.
    address = scenario.xcom(task_id="large")
    assert json.loads(Path(str(address).removeprefix("file://")).read_text()) == {"text": "x" * 1000}
    # A notifier that fails costs a line in the log.
    assert "the chat is down" in scenario.log()
    assert scenario.xcom()["chosen"] == ["Approve"]

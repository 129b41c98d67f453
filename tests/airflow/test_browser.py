"""Airflow's interface in a real browser: the connection's form, the buttons to Helmr, and a person who answers.

With HELMR_PICTURES set to a folder, the pages are kept there as pictures for the documentation.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from tests.support.local import browser as driving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.stack import Stack
    from tests.airflow.conftest import Scenario, Scenarios
    from tests.support.local.browser import Browser

pytestmark = [
    pytest.mark.airflow,
    # The first test also waits for Airflow to start.
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        driving.CHROMIUM is None or driving.CHROMEDRIVER is None,
        reason="no browser: install the packages chromium and chromium-driver",
    ),
]
_ENTER = "\ue007"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with driving.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def window(browser: Browser) -> Browser:
    browser.size(1280, 800)
    return browser


def keep(window: Browser, name: str) -> None:
    """Keep the page as a picture, if pictures are wanted."""
    if folder := os.environ.get("HELMR_PICTURES"):
        window.screenshot(Path(folder) / f"{name}.png")


def page_of(scenario: Scenario, tab: str, task_id: str = "work") -> str:
    run_id = quote(scenario.run_id, safe="")
    return f"{scenario.stack.url}/dags/{scenario.dag_id}/runs/{run_id}/tasks/{task_id}/{tab}"


def test_the_connection_s_form_has_our_fields_and_the_connection_can_be_tested(stack: Stack, window: Browser) -> None:
    address = urlsplit(stack.control_plane.url)
    window.go(f"{stack.url}/connections")
    window.click_on("Add Connection")
    window.until(lambda: window.run("return Boolean(document.querySelector('input[name=connection_id]'))"))
    window.write("input[name=connection_id]", "helmr_by_hand")
    window.click("[role=dialog] input[role=combobox]")
    window.press("helmr")
    window.until(lambda: "Helmr" in window.text("[role=listbox]"))
    window.press(_ENTER)
    window.until(lambda: "API key" in window.text("[role=dialog]"))
    assert "Host or URL" in window.text("[role=dialog]")
    assert "Login" not in window.text("[role=dialog]")
    window.write("input[name=host]", address.hostname or "")
    window.write("input[name=port]", str(address.port))
    window.write("input[name=schema]", address.scheme)
    window.write("input[name=password]", stack.control_plane.api_key)
    window.click_on("Extra Fields")
    window.until(lambda: "Session prefix" in window.text("[role=dialog]"))
    for label in ("Console address", "Event streams", "Request timeout", "CA bundle", "HTTP proxy"):
        assert label in window.text("[role=dialog]")
    window.until(lambda: window.run("return document.querySelector('#element_session_prefix').offsetHeight > 0"))
    window.write("#element_session_prefix", "by-hand")
    window.run("document.querySelector('input[name=host]').scrollIntoView({block: 'start'})")
    keep(window, "airflow-connection")
    window.click_on("Save")
    window.until(lambda: "helmr_by_hand" in window.text("table"))
    assert '"session_prefix": "by-hand"' in stack.airflow.call("GET", "/connections/helmr_by_hand")["extra"]
    window.until(lambda: not window.run("return Boolean(document.querySelector('[role=dialog]'))"))
    window.click("table [aria-label='Test Connection']")
    window.until(lambda: "Test Connection" in window.text("[data-scope=toast]"))
    said = window.text("[data-scope=toast][data-part=root]") or window.text("body")
    assert "Connected to Helmr" in said, said


def test_the_button_of_a_deferred_task_leads_to_its_run(scenarios: Scenarios, window: Browser) -> None:
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_settled()
    scenario.wait_for_helmr_run("waiting")
    window.go(page_of(scenario, "details"))
    window.until(lambda: "Deferred" in window.text("body") and "Helmr run" in window.text("body"))
    keep(window, "airflow-deferred")
    window.click_on("Helmr run", "a")
    window.newest_window()
    window.size(1280, 800)
    window.until(lambda: scenario.token_id[-8:] in window.text("#wait"))
    keep(window, "helmr-run")
    (run,) = scenario.helmr_runs()
    assert window.url == f"{scenario.stack.control_plane.url}/sessions/{run.session_id}/runs/{run.id}"
    scenario.open_gate()
    window.until(lambda: "succeeded" in window.text("#facts"))
    scenario.succeeds()


def test_a_person_answers_under_required_actions_and_the_dag_goes_on(scenarios: Scenarios, window: Browser) -> None:
    scenario = scenarios.begin("example_approval_in_airflow")
    scenario.wait_until_settled("approval")
    window.go(f"{scenario.stack.url}/required_actions")
    window.until(lambda: "Publish the notes of release 2.4?" in window.text("table"))
    keep(window, "airflow-required-actions")
    window.click(f'table a[href$="{scenario.run_id}/tasks/approval/required_actions"]')
    approve = '[data-testid="hitl-option-Approve"]'
    window.until(lambda: window.run("return document.querySelector(arguments[0])?.disabled === false", approve))
    assert "12 changes" in window.text("body")
    window.until(lambda: "Required Action (1)" in window.text("body"))
    keep(window, "airflow-approval")
    window.click(approve)
    scenario.succeeds()
    assert scenario.xcom(task_id="approval")["via"] == "airflow"
    assert scenario.xcom(task_id="publish")["approved"] is True


def test_the_button_of_a_question_leads_to_a_page_where_it_can_be_answered(
    scenarios: Scenarios, window: Browser
) -> None:
    scenario = scenarios.begin("example_approval_in_airflow")
    scenario.wait_until_settled("approval")
    window.go(page_of(scenario, "details", "approval"))
    window.click_on("Helmr approval", "a")
    window.newest_window()
    window.size(1280, 800)
    window.until(lambda: "Publish the notes of release 2.4?" in window.text("#question"))
    window.write("textarea", '{"approved": true, "by": "ada"}')
    keep(window, "helmr-token")
    window.click_on("Complete")
    window.until(lambda: "completed" in window.text("#facts"))
    scenario.succeeds()
    answer = scenario.xcom(task_id="approval")
    assert (answer["chosen"], answer["by"], answer["via"]) == (["Approve"], "ada", "helmr")

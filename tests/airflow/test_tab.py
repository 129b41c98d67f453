"""The Helmr tab in Airflow's own pages, in a real browser.

With HELMR_PICTURES set to a folder, the pages are kept there as pictures for the documentation.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from dev.airflow_api import AirflowApi
from dev.processes import free_ports
from dev.stack import BIN, Program, poll
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
_FRAME = "iframe"
_TAB = "\ue004"
_ENTER = "\ue007"


@pytest.fixture(scope="module")
def browser(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that is logged in, because Airflow 3.1 answers the first visit with its home page."""
    with driving.browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.go(f"{stack.url}/auth/token/login")
        yield opened


@pytest.fixture
def window(browser: Browser) -> Iterator[Browser]:
    """A window, in whose console the tab has left nothing by the end of the test."""
    browser.size(1280, 800)
    browser.console()
    yield browser
    browser.frame(None)
    said = [line for line in browser.console() if "/helmr/" in line]
    assert not [line for line in said if "Content Security Policy" in line or "Error" in line], said


def keep(window: Browser, name: str) -> None:
    """Keep the page as a picture, if pictures are wanted."""
    if folder := os.environ.get("HELMR_PICTURES"):
        window.screenshot(Path(folder) / f"{name}.png")


def address(
    scenario: Scenario,
    task_id: str = "work",
    *,
    tab: str = "plugin/helmr",
    mapped: int | None = None,
    base: str | None = None,
) -> str:
    instance = "" if mapped is None else f"/mapped/{mapped}"
    run_id = quote(scenario.run_id, safe="")
    return f"{base or scenario.stack.url}/dags/{scenario.dag_id}/runs/{run_id}/tasks/{task_id}{instance}/{tab}"


def framed(window: Browser) -> str:
    """The text of the tab; empty while it is not there."""
    script = "return document.querySelector(arguments[0])?.contentDocument?.querySelector('main')?.innerText ?? ''"
    return str(window.run(script, _FRAME))


def shows(window: Browser, *texts: str) -> None:
    """Wait until the tab shows these texts."""
    window.until(lambda: all(text in framed(window) for text in texts))


def waiting(scenarios: Scenarios) -> Scenario:
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_settled()
    scenario.wait_for_helmr_run("waiting")
    return scenario


def test_a_click_opens_the_tab_of_a_waiting_task_and_it_follows_the_run(scenarios: Scenarios, window: Browser) -> None:
    scenario = waiting(scenarios)
    window.go(address(scenario, tab="details"))
    window.click_on("Helmr", "a")
    shows(window, "waiting", "task gated", "session open", "run.created")
    keep(window, "airflow-tab-waiting")
    scenario.open_gate()
    shows(window, "succeeded", "run.completed")
    keep(window, "airflow-tab-ended")
    scenario.succeeds()


def test_links_lead_out_of_the_frame(scenarios: Scenarios, window: Browser) -> None:
    scenario = waiting(scenarios)
    window.go(address(scenario))
    shows(window, "waiting")
    window.frame(_FRAME)
    window.click_on("Open Helmr run", "a")
    window.newest_window()
    (run,) = scenario.helmr_runs()
    address_in_helmr = f"{scenario.stack.control_plane.url}/sessions/{run.session_id}/runs/{run.id}"
    window.until(lambda: window.url == address_in_helmr and "gated" in window.text("body"))
    window.first_window()
    scenario.open_gate()
    scenario.succeeds()


def test_a_pending_question_leads_to_where_it_is_answered(scenarios: Scenarios, window: Browser) -> None:
    scenario = scenarios.begin("example_approval_in_airflow")
    scenario.wait_until_settled("approval")
    window.go(address(scenario, "approval"))
    shows(window, "Publish the notes of release 2.4?", "Approve, Reject", "Answer in Helmr")
    keep(window, "airflow-tab-question")
    window.go(f"{scenario.stack.url}/dags/{scenario.dag_id}/runs/{quote(scenario.run_id, safe='')}/plugin/helmr-run")
    shows(window, "approval", "Publish the notes of release 2.4?")
    keep(window, "airflow-tab-dag-run")
    window.frame(_FRAME)
    window.click_on("approval", "a")
    window.frame(None)
    shows(window, "Publish the notes of release 2.4?")
    assert window.url == address(scenario, "approval")
    window.frame(_FRAME)
    window.click_on("Answer in Airflow", "a")
    window.frame(None)
    window.click_on("Approve", "button:enabled")
    scenario.succeeds()


def test_instances_of_a_mapped_task_have_a_tab_each_and_one_row_together(scenarios: Scenarios, window: Browser) -> None:
    scenario = scenarios.begin("mapped_sessions")

    def all_waiting() -> list[Any]:
        found = [run for run in scenario.helmr_runs() if run.status == "waiting"]
        return found if len(found) == 3 else []

    runs = poll(all_waiting, seconds=90, waiting_for="three runs to wait")
    window.go(f"{scenario.stack.url}/dags/{scenario.dag_id}/runs/{quote(scenario.run_id, safe='')}/plugin/helmr-run")
    shows(window, "work (3 mapped)", "3 waiting")
    pages = set()
    for index in range(3):
        window.go(address(scenario, mapped=index))
        shows(window, "waiting")
        pages.add(window.run("return document.querySelector('iframe').contentDocument.querySelector('a').href"))
    assert pages == {f"{scenario.stack.control_plane.url}/sessions/{run.session_id}" for run in runs}
    scenario.open_gate()
    scenario.succeeds()


def test_a_task_without_helmr_says_so_and_the_tab_stays_open_from_task_to_task(
    scenarios: Scenarios, window: Browser
) -> None:
    scenario = waiting(scenarios)
    window.go(address(scenario))
    shows(window, "waiting")
    window.go(address(scenario, "use"))
    shows(window, "This task starts no Helmr session.")
    scenario.open_gate()
    scenario.succeeds()


def test_the_tab_follows_the_theme_of_airflow(scenarios: Scenarios, window: Browser) -> None:
    scenario = waiting(scenarios)
    window.go(address(scenario))
    shows(window, "waiting")
    colour = "return getComputedStyle(document.querySelector('iframe').contentDocument.body).color"
    themes = {"light": window.run(colour)}
    window.run("localStorage.setItem('theme', 'dark')")
    try:
        window.go(address(scenario))
        shows(window, "waiting")
        window.until(lambda: window.run(colour) != themes["light"])
        keep(window, "airflow-tab-dark")
    finally:
        window.run("localStorage.setItem('theme', 'light')")
    scenario.open_gate()
    scenario.succeeds()


def alone(scenario: Scenario, task_id: str = "work") -> str:
    """The address of the tab's page without Airflow around it."""
    return (
        f"{scenario.stack.url}/helmr/dags/{scenario.dag_id}/runs/{quote(scenario.run_id, safe='')}/tasks/{task_id}/-1"
    )


def test_the_page_fits_into_300_pixels(scenarios: Scenarios, window: Browser) -> None:
    scenario = scenarios.begin("failing_session")
    scenario.wait_until_ended()
    window.go(address(scenario))
    shows(window, "failed", "RuntimeError: the build broke")
    keep(window, "airflow-tab-failed")
    window.size(300, 900)
    window.go(alone(scenario))
    window.until(lambda: "RuntimeError: the build broke" in window.text("main"))
    assert window.run("return document.documentElement.scrollWidth") <= 300
    keep(window, "airflow-tab-narrow")


def test_everything_is_reached_by_the_keyboard_and_the_picture_has_words(scenarios: Scenarios, window: Browser) -> None:
    scenario = scenarios.begin("failing_session")
    scenario.wait_until_ended()
    window.go(alone(scenario))
    window.until(lambda: "failed" in window.text("main"))
    said = window.run("return document.querySelector('svg[role=img]').getAttribute('aria-label')")
    assert said.startswith("1 attempt, the run is failed. Attempt 1: failed after")
    reached: list[Any] = []
    for _ in range(3):
        window.press(_TAB)
        reached.append(window.run("return document.activeElement.innerText.trim()"))
    assert reached == ["Open Helmr session", "Open Helmr run", "Output: the last 200 lines"]
    assert "no space left" not in window.text("#log")
    window.press(_ENTER)
    window.until(lambda: "no space left on device" in window.text("#log"))
    # What a person has opened is not closed by the next refresh.
    assert window.run("return document.querySelector('#log details').open")


def test_a_command_shows_its_exit_code_and_last_lines(scenarios: Scenarios, window: Browser) -> None:
    scenario = scenarios.begin("workspace_exec_fails")
    scenario.wait_until_ended()
    window.go(address(scenario))
    shows(window, "exit code 7", "no space left")
    keep(window, "airflow-tab-command")


def test_a_cleared_task_shows_its_new_session(scenarios: Scenarios, window: Browser) -> None:
    scenario = waiting(scenarios)
    window.go(address(scenario))
    shows(window, "waiting")
    first = _link(window)
    # A task that is cleared while it is deferred may adopt its live run; after a success it starts a new session.
    scenario.open_gate()
    scenario.succeeds()
    scenario.stack.airflow.clear(scenario.dag_id, scenario.run_id, "work")
    window.go(address(scenario))
    window.until(lambda: _link(window) not in {first, None})
    scenario.succeeds()


def _link(window: Browser) -> str | None:
    script = "return document.querySelector('iframe')?.contentDocument?.querySelector('.links a')?.href ?? null"
    found: str | None = window.run(script)
    return found


def test_the_tab_survives_an_outage_of_the_control_plane(scenarios: Scenarios, window: Browser) -> None:
    scenario = waiting(scenarios)
    control_plane = scenario.stack.control_plane
    window.go(address(scenario))
    shows(window, "waiting")
    control_plane.stop()
    try:
        shows(window, "Helmr has not answered", "Below is its last answer.", "waiting")
        keep(window, "airflow-tab-down")
    finally:
        control_plane.start()
    window.until(lambda: "has not answered" not in framed(window) and "waiting" in framed(window))
    scenario.open_gate()
    scenario.succeeds()


def test_airflow_has_no_complaint_about_the_plugin(scenarios: Scenarios) -> None:
    airflow = scenarios._stack.airflow
    assert airflow.call("GET", "/plugins/importErrors")["import_errors"] == []
    [plugin] = [each for each in airflow.call("GET", "/plugins")["plugins"] if each["name"] == "helmr"]
    assert {view["url_route"] for view in plugin["external_views"]} == {"helmr", "helmr-run"}


@pytest.fixture
def below_a_path(stack: Stack) -> Iterator[str]:
    """The address of a second API server: it is below a path, and finds the connection in the database only."""
    (port,) = free_ports(1)
    base = f"http://127.0.0.1:{port}/team/airflow"
    environment = {**stack.environment, "AIRFLOW__API__PORT": str(port), "AIRFLOW__API__BASE_URL": base}
    del environment["AIRFLOW_CONN_HELMR_DEFAULT"]
    plane = stack.control_plane
    connection = {"connection_id": "helmr_default", "conn_type": "helmr", "host": plane.url, "password": plane.api_key}
    stack.airflow.call("POST", "/connections", connection)
    server = Program(
        "second api-server", [str(BIN / "airflow"), "api-server"], environment, stack.folder / "second.log"
    )
    server.start()
    try:
        second = AirflowApi(base)

        def healthy() -> bool:
            server.check()
            return bool(second.health())

        poll(healthy, seconds=120, waiting_for="the second API server")
        yield base
    finally:
        server.stop()
        stack.airflow.call("DELETE", "/connections/helmr_default")


@pytest.mark.slow
def test_the_tab_works_below_a_path_and_with_a_connection_of_the_database(
    scenarios: Scenarios, window: Browser, below_a_path: str
) -> None:
    scenario = waiting(scenarios)
    window.go(address(scenario, base=below_a_path))
    shows(window, "waiting", "task gated")
    source = window.run("return document.querySelector('iframe').contentWindow.location.href")
    assert source.startswith(f"{below_a_path}/helmr/dags/{scenario.dag_id}/")
    scenario.open_gate()
    shows(window, "succeeded", "run.completed")
    scenario.succeeds()

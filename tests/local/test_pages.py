"""The pages in a real browser: a human completes a token and sees the run continue.

Whatever a test does, the browser has nothing to complain about: no blocked resource, no error of the script.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import DeclaredSchedule, LocalControlPlane, Settings, task
from helmr_provider.local.console import routes
from tests.support.local import browser as driving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local import TaskContext
    from tests.support.local.browser import Browser
    from tests.support.local.wire import Wire

pytestmark = pytest.mark.skipif(
    driving.CHROMIUM is None or driving.CHROMEDRIVER is None,
    reason="no browser: install the packages chromium and chromium-driver",
)
_TAB = "\ue004"
_ENTER = "\ue007"


@task("release-notes", schedules=[DeclaredSchedule("weekly", "0 9 * * 1", "Europe/Berlin")])
async def release_notes(ctx: TaskContext, payload: Any) -> Any:
    """Ask a human, twice."""
    ctx.log("Reading what changed since the last release")
    answers = []
    for question in ("publish", "announce"):
        token = await ctx.create_token(timeout="24h")
        ctx.log(f"Asking whether to {question}")
        answers.append(await ctx.wait_for_token(token))
    return {"answers": answers}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with driving.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[LocalControlPlane]:
    with LocalControlPlane([release_notes], settings=Settings(sweep=0.02)) as running:
        yield running


@pytest.fixture
def window(browser: Browser, server: LocalControlPlane) -> Iterator[Browser]:
    """A window in whose console the pages have written nothing by the end of the test."""
    browser.go("about:blank")
    browser.size(1280, 800)
    browser.prefer("light")
    yield browser
    assert _complaints(browser, server) == []


def _complaints(browser: Browser, server: LocalControlPlane) -> list[str]:
    """Return what the browser has complained about on the pages of this server since the last call."""
    return [line for line in browser.console() if server.url in line]


def _waiting(wire: Wire) -> tuple[str, str]:
    started = wire.start("release-notes", external_id="release 2.4")
    run_id = started["run"]["id"]
    wire.until(run_id, "waiting")
    return run_id, f"/sessions/{started['session']['id']}/runs/{run_id}"


def test_a_token_is_completed_on_the_first_page_and_its_run_continues(
    server: LocalControlPlane, wire: Wire, window: Browser
) -> None:
    run_id, path = _waiting(wire)
    window.go(server.url)
    assert run_id[-8:] in window.text("#tokens")
    window.write("#tokens textarea", '{"approved": "by hand"}')
    window.click("#tokens form > button")
    window.until(lambda: window.url == server.url + path)
    window.until(lambda: "Asking whether to announce" in window.text("#log"))
    window.until(lambda: "waiting" in window.text("#facts"))
    assert wire.get(f"/api/runs/{run_id}")["status"] == "waiting"


def test_a_run_s_page_follows_it_to_its_end_and_the_keyboard_is_enough(
    server: LocalControlPlane, wire: Wire, window: Browser
) -> None:
    run_id, path = _waiting(wire)
    for completed in range(2):
        wire.until(run_id, "waiting")
        window.go(server.url + path)
        window.run("document.querySelector('textarea').focus()")
        window.press(_TAB + _ENTER)
        window.until(lambda: completed < len(wire.get("/api/tokens", status="completed")["tokens"]))  # noqa: B023 - called immediately
    window.until(lambda: "run.completed" in window.text("#timeline"))
    window.until(lambda: "succeeded" in window.text("#facts"))
    assert wire.ended(run_id)["output"] == {"answers": [{"approved": True}] * 2}


def test_the_first_page_shows_by_itself_what_happens_elsewhere_and_keeps_what_is_being_typed(
    server: LocalControlPlane, wire: Wire, window: Browser
) -> None:
    _waiting(wire)
    window.go(server.url)
    window.write("#tokens textarea", '{"approved": ')
    wire.start("release-notes", external_id="release 2.5")
    window.until(lambda: "release 2.5" in window.text("#sessions"))
    assert window.run("return document.querySelector('#tokens textarea').value") == '{"approved": '
    assert "startSession" in window.text("#journal")
    assert "0 9 * * 1" in window.text("#schedules")
    if folder := os.environ.get("HELMR_PICTURES"):
        window.size(1280, 800)
        window.write("#tokens textarea", '{"approved": true}')
        window.screenshot(Path(folder) / "local-control-plane.png")


def _pages(wire: Wire, path: str) -> list[str]:
    """Return the address of every page, with the ids of what there is."""
    ids = re.fullmatch(r"/sessions/(?P<session_id>.+)/runs/(?P<run_id>.+)", path)
    assert ids is not None
    known = {
        **ids.groupdict(),
        "token_id": wire.get("/api/tokens")["tokens"][0]["id"],
        "workspace_id": wire.get("/api/workspaces")["workspaces"][0]["id"],
    }
    nothing: Any = None
    return [route.path.format(**known) for route in routes(nothing, nothing) if "GET" in (route.methods or ())]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_every_page_fits_the_screen_follows_the_colour_scheme_and_loads_all_that_it_names(
    server: LocalControlPlane, wire: Wire, window: Browser, width: int, scheme: str
) -> None:
    _, path = _waiting(wire)
    wire.start("release-notes", external_id="airflow:release_notes:scheduled__2026-11-28T00:00:00+00:00:summary:-1")
    window.size(width, 900)
    window.prefer(scheme)
    for page in _pages(wire, path):
        window.go(server.url + page)
        assert window.run("return document.documentElement.scrollWidth") <= width, page
        background = window.run("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 3 * 128) is (scheme == "dark"), page
        icons = window.run("return [...document.images].map(image => image.naturalWidth)")
        assert icons, page
        assert all(icons), page
        assert _complaints(window, server) == [], page


def test_what_a_page_must_not_load_is_noticed(server: LocalControlPlane, browser: Browser) -> None:
    browser.go(server.url + "/runs")
    browser.run("document.body.append(Object.assign(new Image(), {src: '/no-image-of-ours.png'}))")
    browser.until(lambda: any("Content Security Policy" in line for line in _complaints(browser, server)))


def test_an_id_is_copied_whole(server: LocalControlPlane, wire: Wire, window: Browser) -> None:
    run_id, _ = _waiting(wire)
    window.go(server.url + "/runs")
    # The button says so until the list refreshes.
    window.run(
        "navigator.clipboard.writeText = async text => { window.copied = text }; window.said = [];"
        "new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(node => {"
        "  window.said.push(node.textContent) }))).observe(document.body, {childList: true, subtree: true})"
    )
    window.click("button.copy")
    window.until(lambda: window.run("return window.copied") == run_id)
    window.until(lambda: "copied" in window.run("return window.said"))


def test_a_filter_is_chosen_and_kept_while_the_list_refreshes(
    server: LocalControlPlane, wire: Wire, window: Browser
) -> None:
    _waiting(wire)
    window.go(server.url + "/runs")
    window.run("document.querySelector('select[name=status]').value = 'waiting'")
    window.click("form.filter button")
    window.until(lambda: "status=waiting" in window.url)
    assert "release 2.4" in window.text("#runs")
    wire.start("release-notes", external_id="release 2.6")
    window.until(lambda: "release 2.6" in window.text("#runs"))
    assert window.run("return document.querySelector('select[name=status]').value") == "waiting"


def test_a_filter_that_is_being_chosen_is_kept_while_the_list_refreshes(
    server: LocalControlPlane, wire: Wire, window: Browser
) -> None:
    _waiting(wire)
    window.go(server.url + "/runs")
    window.run("document.querySelector('select[name=status]').value = 'waiting'")
    wire.start("release-notes", external_id="release 2.6")
    fetched = "return performance.getEntriesByType('resource').filter(each => each.initiatorType === 'fetch').length"
    # The second answer was asked for after the page had seen the first, which has the new run.
    more = window.run(fetched) + 2
    window.until(lambda: window.run(fetched) >= more)
    assert window.run("return document.querySelector('select[name=status]').value") == "waiting"
    window.click("form.filter button")
    window.until(lambda: "status=waiting" in window.url)

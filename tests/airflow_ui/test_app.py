"""The application on the wire: who may use it, its headers, and what each part answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider._common.versions import AIRFLOW_V_3_1_1_PLUS

if not AIRFLOW_V_3_1_1_PLUS:
    pytest.skip("Airflow has no tabs before 3.1.1", allow_module_level=True)

from fastapi import HTTPException
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.testclient import TestClient

from helmr_provider.airflow_ui.app import create_app, may_see_tasks, rights_of
from helmr_provider.airflow_ui.assets import HEADERS
from helmr_provider.airflow_ui.pages import Rights
from helmr_provider.airflow_ui.service import QUEUED, THREADS, BusyError, Service
from tests.airflow_ui.helpers import KEY, stored, structure, text_of
from tests.airflow_ui.started_sessions import start, waiting
from tests.support.local.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from helmr_provider.airflow_ui.reader import Reader
    from helmr_provider.client import HelmrClient
    from tests.airflow_ui.helpers import Clock, Storage

PAGE = f"/dags/{KEY.dag_id}/runs/{KEY.run_id}/tasks/{KEY.task_id}/"
TASK = PAGE + "{MAP_INDEX}"
RUN = f"/dags/{KEY.dag_id}/runs/{KEY.run_id}"


@pytest.fixture
def service(reader: Reader, clock: Clock) -> Iterator[Service]:
    service = Service(reader, clock=clock)
    yield service
    service.close()


@pytest.fixture
def app(service: Service) -> FastAPI:
    app = create_app(service)
    app.dependency_overrides[may_see_tasks] = lambda: None
    app.dependency_overrides[rights_of] = Rights
    return app


@pytest.fixture
def browser(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as browser:
        yield browser


def dependencies(route: APIRoute) -> set[Any]:
    found, left = set(), [route.dependant]
    while left:
        dependant = left.pop()
        found.add(dependant.call)
        left += dependant.dependencies
    return found


def test_every_route_asks_airflow_first_has_the_dag_in_its_path_and_only_answers_get() -> None:
    routes = create_app(object()).routes  # type: ignore[arg-type]
    assert len(routes) == 2
    for route in routes:
        # A mount or a plain Starlette route would have no dependencies.
        assert isinstance(route, Route)
        assert isinstance(route, APIRoute)
        assert may_see_tasks in dependencies(route)
        assert route.path.startswith("/dags/{dag_id}/")
        assert route.methods == {"GET"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_other_methods_are_refused(browser: TestClient, method: str) -> None:
    answer = browser.request(method, TASK)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_every_answer_has_the_headers(app: FastAPI, browser: TestClient, storage: Storage) -> None:
    storage.put(stored(helmr=False))
    tag = browser.get(TASK).headers["etag"]

    def broken() -> None:
        raise RuntimeError("a secret reason")

    answers = {
        200: browser.get(TASK),
        304: browser.get(TASK, headers={"If-None-Match": tag}),
        404: browser.get("/nowhere"),
        405: browser.post(TASK),
        422: browser.get(TASK + "?part=nonsense"),
    }
    for status in (401, 403):

        def refuse(status: int = status) -> None:
            raise HTTPException(status, "a detail")

        app.dependency_overrides[may_see_tasks] = refuse
        answers[status] = browser.get(TASK)
    app.dependency_overrides[may_see_tasks] = broken
    answers[500] = browser.get(TASK)
    assert "a secret reason" not in answers[500].text
    for status, answer in answers.items():
        assert answer.status_code == status
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        if status != 304:
            assert answer.headers["content-type"].startswith("text/html"), "a person sees it in the frame"
            assert 'class="notice' in answer.text


def test_style_and_script_are_those_that_the_policy_names_and_stand_once(browser: TestClient, storage: Storage) -> None:
    storage.put(stored(helmr=False))
    tags = [tag for tag, *_ in structure(browser.get(TASK).text)]
    assert (tags.count("style"), tags.count("script"), tags.count("link"), tags.count("base")) == (1, 1, 0, 0)


def test_the_page_has_its_first_content_and_its_parts_are_the_same(
    browser: TestClient, storage: Storage, helmr_client: HelmrClient
) -> None:
    waiting(helmr_client, storage)
    page = browser.get(TASK)
    assert "waiting" in text_of(page.text)
    part = browser.get(TASK + "?part=live")
    assert part.text.startswith("<main")
    assert "<script" not in part.text
    tag = re.search('data-tag="&quot;([0-9a-f]+)&quot;"', page.text)
    assert tag is not None
    assert f'"{tag[1]}"' == page.headers["etag"]


def test_an_unchanged_part_is_not_sent_again(browser: TestClient, storage: Storage) -> None:
    storage.put(stored(helmr=False))
    tag = browser.get(TASK + "?part=live").headers["etag"]
    again = browser.get(TASK + "?part=live", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert browser.get(TASK + "?part=live", headers={"If-None-Match": '"another"'}).status_code == 200


def test_the_output_comes_when_it_is_asked_for(
    browser: TestClient, storage: Storage, helmr_client: HelmrClient
) -> None:
    started = start(helmr_client, storage, "fail", {"message": "<b>no space</b> left"})
    helmr_client.runs.wait(started.run.id)
    assert "About to fail" not in browser.get(TASK).text
    log = browser.get(TASK + "?part=log")
    assert "About to fail" in log.text
    assert "&lt;b&gt;no space&lt;/b&gt; left" in log.text


@pytest.mark.parametrize("rights", [Rights(logs=False), Rights(xcoms=False)])
def test_the_output_needs_its_rights(app: FastAPI, browser: TestClient, storage: Storage, rights: Rights) -> None:
    storage.put(stored())
    app.dependency_overrides[rights_of] = lambda: rights
    assert browser.get(TASK + "?part=log").status_code == 403


@pytest.mark.parametrize(
    ("text", "map_index"), [("{MAP_INDEX}", -1), ("-1", -1), ("undefined", -1), ("0", 0), ("12", 12)]
)
def test_what_is_no_number_means_a_task_that_is_not_mapped(
    browser: TestClient, storage: Storage, text: str, map_index: int
) -> None:
    from dataclasses import replace

    storage.put(stored(replace(KEY, map_index=map_index), helmr=False))
    assert browser.get(PAGE + text).status_code == 200


def test_the_dag_run_s_page_lists_its_helmr_tasks(
    browser: TestClient, storage: Storage, helmr_client: HelmrClient
) -> None:
    waiting(helmr_client, storage)
    page = browser.get(RUN)
    assert "work deferred waiting 1" in text_of(page.text)
    assert browser.get(RUN + "?part=live").text.startswith("<main")


def test_what_airflow_does_not_know_is_not_found(browser: TestClient) -> None:
    assert browser.get(TASK).status_code == 404
    assert browser.get(RUN).status_code == 404


def test_a_busy_tab_says_so_and_asks_again(
    browser: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(_: object) -> None:
        raise BusyError

    monkeypatch.setattr(service, "task", busy)
    answer = browser.get(TASK)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert 'data-next="5"' in answer.text


def test_the_limits_are_those_of_the_documentation() -> None:
    assert (THREADS, QUEUED) == (4, 16)


def test_the_page_follows_the_run(
    browser: TestClient, storage: Storage, helmr_client: HelmrClient, clock: Clock
) -> None:
    token, started = waiting(helmr_client, storage)
    assert "waiting" in text_of(browser.get(TASK).text)
    helmr_client.tokens.complete(token.id, {"approved": True})
    until(lambda: helmr_client.runs.retrieve(started.run.id).is_terminal)
    clock.seconds += 3
    storage.change(state="success")
    ended = browser.get(TASK + "?part=live").text
    assert "succeeded" in text_of(ended)
    assert 'data-next="0"' in ended

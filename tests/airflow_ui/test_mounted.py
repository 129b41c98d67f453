"""The tab inside Airflow's own API server, with Airflow's own users: who is let in, and at which address."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

import pytest

from helmr_provider._common.versions import AIRFLOW_V_3_1_1_PLUS

if not AIRFLOW_V_3_1_1_PLUS:
    pytest.skip("Airflow has no tabs before 3.1.1", allow_module_level=True)

from starlette.testclient import TestClient

from helmr_provider.airflow_ui.assets import HEADERS
from helmr_provider.airflow_ui.service import QUEUED, THREADS, Service
from tests.airflow_ui.gated_reader import GatedReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from helmr_provider.airflow_ui.reader import Reader
    from tests.airflow_ui.helpers import Clock

PAGES = ("/helmr/dags/reports/runs/r/tasks/work/-1", "/helmr/dags/reports/runs/r")


@pytest.fixture(scope="module")
def airflow(airflow_db: Path) -> Iterator[TestClient]:
    from airflow.api_fastapi import app as module

    with pytest.MonkeyPatch.context() as settings:
        settings.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a-secret-of-this-test" * 4)
        settings.setenv("AIRFLOW__API__SECRET_KEY", "another-secret-of-this-test")
        settings.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ada:viewer")
        module.purge_cached_app()
        with TestClient(module.create_app(apps="core"), raise_server_exceptions=False) as client:
            yield client
        module.purge_cached_app()


@pytest.fixture
def token(airflow: TestClient) -> Callable[..., str]:
    def make(role: str | None) -> str:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        manager: Any = get_auth_manager()
        made: str = manager.generate_jwt(SimpleAuthManagerUser(username="ada", role=role))
        return made

    return make


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_not_let_in(airflow: TestClient, path: str) -> None:
    answer = airflow.get(path)
    assert answer.status_code == 401
    assert "You are not signed in" in answer.text
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("path", PAGES)
def test_a_token_of_another_origin_is_refused(airflow: TestClient, path: str) -> None:
    assert airflow.get(path, headers={"Authorization": "Bearer made.up.token"}).status_code in {401, 403}
    assert airflow.get(path, headers={"Cookie": "_token=made.up.token"}).status_code in {401, 403}


@pytest.mark.parametrize("path", PAGES)
def test_a_user_without_a_role_is_refused(airflow: TestClient, token: Callable[..., str], path: str) -> None:
    assert airflow.get(path, headers={"Authorization": f"Bearer {token(None)}"}).status_code == 403


@pytest.mark.parametrize("path", PAGES)
def test_a_viewer_is_let_in_by_header_and_by_cookie(airflow: TestClient, token: Callable[..., str], path: str) -> None:
    # There is no such DAG run, which only those learn who may ask.
    for headers in ({"Authorization": f"Bearer {token('viewer')}"}, {"Cookie": f"_token={token('viewer')}"}):
        answer = airflow.get(path, headers=headers)
        assert (answer.status_code, "There is no such page." in answer.text) == (404, True)


def test_every_post_request_is_refused(airflow: TestClient, token: Callable[..., str]) -> None:
    answer = airflow.post(PAGES[0], headers={"Authorization": f"Bearer {token('admin')}"})
    assert answer.status_code == 405


def test_the_application_describes_itself_nowhere(airflow: TestClient) -> None:
    for path in ("/helmr/docs", "/helmr/redoc", "/helmr/openapi.json"):
        assert airflow.get(path).status_code == 404
    assert "/helmr/" not in airflow.get("/openapi.json").text


def test_a_viewer_learns_of_both_tabs(airflow: TestClient, token: Callable[..., str]) -> None:
    answer = airflow.get("/api/v2/plugins", headers={"Authorization": f"Bearer {token('viewer')}"})
    [helmr] = [plugin for plugin in answer.json()["plugins"] if plugin["name"] == "helmr"]
    assert [view["destination"] for view in helmr["external_views"]] == ["task_instance", "dag_run"]


def test_below_a_path_the_address_of_the_tab_leads_to_it(airflow: TestClient, token: Callable[..., str]) -> None:
    from airflow.api_fastapi import app as module

    headers = {"Authorization": f"Bearer {token('viewer')}"}
    base = "http://testserver/team/airflow/"
    with pytest.MonkeyPatch.context() as settings:
        # Airflow reads `[api] base_url` when it is imported.
        settings.setattr(module, "API_ROOT_PATH", urlsplit(base).path)
        with TestClient(module.create_app(apps="core"), raise_server_exceptions=False) as below:
            plugins = below.get(f"{base}api/v2/plugins", headers=headers).json()["plugins"]
            [helmr] = [plugin for plugin in plugins if plugin["name"] == "helmr"]
            for view in helmr["external_views"]:
                named = {"DAG_ID": "reports", "RUN_ID": "r", "TASK_ID": "work", "MAP_INDEX": "-1"}
                # The browser resolves the address against the base of the page around it.
                address = urljoin(base, view["href"].format(**named))
                assert address.startswith(f"{base}helmr/dags/reports/runs/r")
                answer = below.get(address, headers=headers)
                assert (answer.status_code, "There is no such page." in answer.text) == (404, True)
                assert below.get(address).status_code == 401


def test_pages_that_hang_hold_up_no_request_of_airflow_s_own(
    airflow: TestClient, token: Callable[..., str], clock: Clock
) -> None:
    gated = GatedReader()
    service = Service(cast("Reader", gated), clock=clock)
    [tab] = [route for route in cast("Any", airflow.app).routes if getattr(route, "path", "") == "/helmr"]
    headers = {"Authorization": f"Bearer {token('viewer')}"}
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(60) as viewers:
        patch.setattr(tab.app.state, "service", service)
        pages = [f"/helmr/dags/reports/runs/r/tasks/work/{number}" for number in range(60)]
        views = [viewers.submit(airflow.get, page, headers=headers) for page in pages]
        try:
            answered = as_completed(views, timeout=60)
            refused = [next(answered).result().status_code for _ in range(60 - THREADS - QUEUED)]
            assert refused == [503] * len(refused)
            for _ in range(5):
                assert airflow.get("/api/v2/dags", headers=headers).status_code == 200
            assert service.running == THREADS + QUEUED
        finally:
            gated.gate.set()
        assert [view.result().status_code for view in answered] == [200] * (THREADS + QUEUED)
    service.close()

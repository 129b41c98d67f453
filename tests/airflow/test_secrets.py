"""Nothing that Airflow has written holds a secret of Helmr, after all other tests of this folder."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.stack import Stack
    from helmr_provider.client import HelmrClient
    from tests.airflow.conftest import Scenarios

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

SECRET = re.compile(rb"hlmr_(?:sk|pat|public_access|callback)_[\w-]{8,}")
PLANTED = b"hlmr_pat_planted_in_"


def test_every_secret_of_the_control_plane_is_searched_for(stack: Stack, client: HelmrClient) -> None:
    token = client.tokens.create(timeout="1h")
    for secret in (stack.control_plane.api_key, token.public_access_token, token.callback_url):
        assert secret
        assert SECRET.search(secret.encode())


def test_no_secret_is_in_what_airflow_has_written(stack: Stack, scenarios: Scenarios) -> None:
    # A trigger is stored only while it waits.
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_watched()
    scenarios.begin("careless").wait_until_watched()
    found = {(place, secret) for place, content in written(stack) for secret in SECRET.findall(content)}
    scenario.open_gate()
    assert {secret for _, secret in found if not secret.startswith(PLANTED)} == set()
    assert {secret.removeprefix(PLANTED).decode() for _, secret in found} == {
        "log",
        "xcom",
        "rendered",
        "serialized",
        "trigger",
    }
    places = {place for place, _ in found}
    assert {
        "xcom.value",
        "rendered_task_instance_fields.rendered_fields",
        "serialized_dag.data",
        "trigger.kwargs",
    } <= places
    assert any(place.endswith(".log") for place in places)


def test_no_secret_is_on_a_page_of_the_tab(stack: Stack, scenarios: Scenarios) -> None:
    scenario = scenarios.begin("gated_session")
    scenario.wait_until_watched()
    careless = scenarios.begin("careless")
    careless.wait_until_watched()
    approval = scenarios.begin("example_approval_in_airflow")
    approval.wait_until_settled("approval")
    pages = dict(tab_pages(stack))
    scenario.open_gate()
    assert {place: SECRET.findall(page) for place, page in pages.items() if SECRET.search(page)} == {}
    everything = b"".join(pages.values())
    # They are the pages of the tasks, and not those of a refusal.
    for shown in (b"waiting", b"Publish the notes of release 2.4?", b"This task starts no Helmr session."):
        assert shown in everything


def tab_pages(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Every part of the tab's page of every task instance and every DAG run that is there."""
    airflow = stack.airflow
    for run in airflow.call("GET", "/dags/~/dagRuns", limit=100, order_by="-start_date")["dag_runs"]:
        where = f"/helmr/dags/{run['dag_id']}/runs/{quote(run['dag_run_id'], safe='')}"
        yield where, airflow.page(where)
        for task in airflow.tasks(run["dag_id"], run["dag_run_id"]).values():
            page = f"{where}/tasks/{task['task_id']}/{task['map_index']}"
            for part in ("", "?part=live", "?part=log"):
                yield page + part, airflow.page(page + part)


def written(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """What Airflow has written: every file as it is, and every value of its database."""
    ours = {stack.control_plane.program.log, *stack.folder.glob("helmr.db*")}
    for path in stack.folder.rglob("*"):
        if path.is_file() and path not in ours:
            yield path.name, path.read_bytes()
    for place, value in database(stack):
        yield place, value if isinstance(value, bytes) else str(value).encode()


def database(stack: Stack) -> Iterator[tuple[str, Any]]:
    connection = sqlite3.connect(f"file:{stack.folder / 'airflow.db'}?mode=ro", uri=True)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = connection.execute(f'SELECT * FROM "{table}"')
            columns = [description[0] for description in rows.description]
            for row in rows:
                yield from ((f"{table}.{column}", value) for column, value in zip(columns, row, strict=True) if value)
    finally:
        connection.close()

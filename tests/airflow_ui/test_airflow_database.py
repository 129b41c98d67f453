"""What Airflow itself has stored after operators have run, read from its database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider._common.versions import AIRFLOW_V_3_1_1_PLUS

if not AIRFLOW_V_3_1_1_PLUS:
    pytest.skip("Airflow has no tabs before 3.1.1", allow_module_level=True)

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from helmr_provider.airflow_ui import airflow_database
from helmr_provider.airflow_ui.reader import Reader
from helmr_provider.airflow_ui.views import MissingError, TaskKey
from helmr_provider.operators.approval import HelmrApprovalOperator
from helmr_provider.operators.session import HelmrStartSessionOperator
from helmr_provider.operators.token import HelmrCreateTokenOperator
from helmr_provider.operators.workspace import HelmrCreateWorkspaceOperator, HelmrExecOperator
from helmr_provider.sensors.run import HelmrRunSensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helmr_provider.airflow_ui.connections import Connections
    from helmr_provider.airflow_ui.views import StoredTask
    from tests.airflow_ui.helpers import Clock

RUN_ID = "manual__2026-11-28T00:00:00+00:00"
pytestmark = pytest.mark.usefixtures("helmr_airflow_connection")


@pytest.fixture
def ran(run_dag: Callable[..., Any]) -> Any:
    """A DAG run of all kinds of tasks, and its id."""
    with DAG("tab_stored", schedule=None) as dag:
        start = HelmrStartSessionOperator(task_id="start", task="echo", payload={"a": 1}, deferrable=False)
        HelmrRunSensor(task_id="sensor", run_id="{{ ti.xcom_pull('start', key='run_id') }}") << start
        silent = HelmrStartSessionOperator(task_id="silent", task="echo", do_xcom_push=False, deferrable=False)
        mapped = HelmrStartSessionOperator.partial(task_id="mapped", task="echo", deferrable=False)
        create = HelmrCreateWorkspaceOperator(task_id="create", sandbox_id="local")
        command = HelmrExecOperator(
            task_id="command", workspace_id=str(create.output), command="echo hello", deferrable=False
        )
        create >> command
        HelmrCreateTokenOperator(task_id="token")
        EmptyOperator(task_id="plain") >> silent >> mapped.expand(payload=[1, 2]) >> command
    return run_dag(dag)


@pytest.fixture
def read(ran: Any) -> Callable[..., StoredTask]:
    return lambda task_id, map_index=-1: airflow_database.read_task(
        TaskKey("tab_stored", ran.run_id, task_id, map_index)
    )


def test_what_tasks_leave_in_the_database_is_read(ran: Any, read: Callable[..., StoredTask]) -> None:
    start = read("start")
    assert (start.helmr, start.state, start.conn_id, start.operator) == (
        True,
        "success",
        "helmr_default",
        "HelmrStartSessionOperator",
    )
    assert start.pushed.keys() == {"session_id", "run_id", "external_id"}
    assert start.links.keys() == {"session", "run"}
    assert not read("plain").helmr
    sensor = read("sensor")
    assert sensor.named == {"run_id": start.pushed["run_id"]}
    assert sensor.pushed == {}
    token = read("token")
    assert token.links.keys() == {"token"}
    assert "/tokens/" in token.links["token"]
    silent = read("silent")
    assert (silent.pushes_ids, silent.pushed) == (False, {})
    assert read("mapped", 1).pushed["session_id"] != read("mapped", 0).pushed["session_id"]
    assert read("command").pushed.keys() == {"workspace_id", "exec_id"}
    with pytest.raises(MissingError):
        read("start", 7)
    tasks, left_out = airflow_database.read_run("tab_stored", ran.run_id)
    assert [task.key.task_id for task in tasks] == [
        "command",
        "create",
        "mapped",
        "mapped",
        "sensor",
        "silent",
        "start",
        "token",
    ]
    assert left_out == 0
    with pytest.raises(MissingError):
        airflow_database.read_run("tab_stored", "nowhere")


def test_the_page_of_each_task_shows_what_it_has_done(
    ran: Any, read: Callable[..., StoredTask], connections: Connections, clock: Clock
) -> None:
    reader = Reader(connections, read_task=airflow_database.read_task, read_run=airflow_database.read_run, clock=clock)
    for task_id, map_index in [("start", -1), ("sensor", -1), ("mapped", 1)]:
        view = reader.task(TaskKey("tab_stored", ran.run_id, task_id, map_index))
        assert (view.problem, view.refresh) == (None, 0)
        assert view.content is not None
        assert view.content.run is not None
        assert view.content.run.status == "succeeded"
    command = reader.task(TaskKey("tab_stored", ran.run_id, "command"))
    assert command.content is not None
    assert [tail.text for tail in command.content.exec_tails] == ["hello"]
    assert reader.task(TaskKey("tab_stored", ran.run_id, "silent")).problem == "ids_not_kept"
    assert reader.task(TaskKey("tab_stored", ran.run_id, "plain")).problem == "not_helmr"


def test_the_connection_of_an_old_run_is_read_from_the_version_of_the_dag(
    ran: Any, read: Callable[..., StoredTask]
) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(RenderedTaskInstanceFields).where(RenderedTaskInstanceFields.dag_id == "tab_stored"))
    assert read("start").conn_id == "helmr_default"
    assert read("sensor").named == {}


def test_an_xcom_that_a_person_edited_is_read_as_a_hint_only(ran: Any, read: Callable[..., StoredTask]) -> None:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(
            update(XComModel).where(XComModel.task_id == "start", XComModel.key == "session_id").values(value={"a": 1})
        )
    assert "session_id" not in read("start").pushed


def test_a_connection_is_fetched_as_the_api_server_fetches_it(helmr_airflow_connection: str) -> None:
    found = airflow_database.read_connection(helmr_airflow_connection, "tab_stored")
    assert found is not None
    assert found.conn_type == "helmr"
    assert airflow_database.read_connection("nowhere", "tab_stored") is None


def test_a_connection_of_the_database_is_found(airflow_db: Path) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.add(
            Connection(conn_id="of_the_database", conn_type="helmr", host="https://helmr.example", password="a-key")
        )
    try:
        found = airflow_database.read_connection("of_the_database", "tab_stored")
        assert found is not None
        assert (found.conn_type, found.host, found.password) == ("helmr", "https://helmr.example", "a-key")
    finally:
        with create_session() as session:
            session.execute(delete(Connection).where(Connection.conn_id == "of_the_database"))


def test_a_template_is_no_connection() -> None:
    assert airflow_database._conn_id({"helmr_conn_id": "{{ var.value.conn }}"}, {"helmr_conn_id": "x"}) == "x"
    assert airflow_database._conn_id({}, {"helmr_conn_id": "{{ var.value.conn }}"}) is None


def test_a_question_of_airflow_s_own_is_noticed(run_dag: Callable[..., Any]) -> None:
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with DAG("tab_asks", schedule=None) as dag:
        HelmrApprovalOperator(task_id="ask", subject="Publish?", timeout=timedelta(seconds=0.01), defaults="Approve")
    ran = run_dag(dag)
    key = TaskKey("tab_asks", ran.run_id, "ask")
    with create_session() as session:
        instance = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == "tab_asks")).one()
        if session.scalar(select(HITLDetail).where(HITLDetail.ti_id == instance.id)) is None:
            session.add(
                HITLDetail(ti_id=instance.id, subject="Publish?", options=["Approve"], multiple=False, params={})
            )
    task = airflow_database.read_task(key)
    assert task.asks
    assert "token_id" in task.pushed

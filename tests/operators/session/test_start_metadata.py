"""What a session says of the task instance that has started it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from airflow import __version__
from airflow.providers.common.compat.sdk import DAG

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider._sessions.identity import owner_of
from helmr_provider.operators.session import HelmrStartSessionOperator
from tests.support.session_tasks import a_task, starts
from tests.support.task_attempts import deferred, fire

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane


@pytest.mark.skipif(__version__.startswith("3.0."), reason="dag.test() of Airflow 3.0 knows no page; its workers do")
@pytest.mark.usefixtures("helmr_connection")
def test_a_session_s_metadata_lead_to_the_page_of_its_task_instance(
    client: HelmrClient, run_dag: Callable[..., Any]
) -> None:
    with DAG("stamps", schedule=None) as dag:
        HelmrStartSessionOperator(task_id="ask", task="echo", payload=1)
    run = run_dag(dag)
    [session] = client.sessions.list()
    stamp = session.metadata["airflow"]
    assert (stamp["dag_id"], stamp["run_id"], stamp["task_id"], stamp["try_number"]) == ("stamps", run.run_id, "ask", 1)
    url = urlsplit(stamp["url"])
    assert url.scheme == "http"
    if AIRFLOW_V_3_0_PLUS:
        assert url.path == f"/dags/stamps/runs/{quote(run.run_id)}/tasks/ask"
        assert url.query == "try_number=1"
    else:
        assert url.path == "/dags/stamps/grid"
        assert parse_qs(url.query)["dag_run_id"] == [run.run_id]
        assert parse_qs(url.query)["task_id"] == ["ask"]


def test_a_retry_whose_key_may_not_change_sessions_adopts_the_run_with_a_warning(
    control_plane: LocalControlPlane, client: HelmrClient, connect: Callable[..., str], task_log: Callable[[], str]
) -> None:
    control_plane.pause_worker()
    narrow = connect("narrow", host=control_plane.url, password=control_plane.create_key(["runs:create", "runs:read"]))
    task = a_task(payload="done", deferrable=True, helmr_conn_id=narrow)
    first, retry = task.start(), task.start()
    deferred(first.execute())
    deferral = deferred(retry.execute())
    control_plane.resume_worker()
    assert retry.resume(deferral, fire(deferral)) == "done"
    assert len(starts(control_plane)) == 1
    session = client.sessions.retrieve(retry.xcoms["session_id"])
    assert session.metadata["airflow"]["owner"] == owner_of(first.ti)
    assert f"may not change session {session.id} (scope runs:manage)" in task_log()

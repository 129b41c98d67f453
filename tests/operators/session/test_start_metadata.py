"""What a session says of the task instance that has started it, in a DAG run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from airflow import __version__
from airflow.providers.common.compat.sdk import DAG

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider.operators.session import HelmrStartSessionOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient


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

"""What `airflow dags test` prints for our operators: it runs tasks and triggers in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider.operators.session import HelmrStartSessionOperator

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.usefixtures("helmr_airflow_connection"),
    pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 looks links up when a page is opened"),
]


def test_a_task_that_ended_before_it_had_a_link_causes_no_error_of_airflow(
    run_dag: Callable[..., Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with DAG("no_link_in_a_terminal", schedule=None) as dag:
        HelmrStartSessionOperator(task_id="start", task="no-such-task")
    run_dag(dag)
    text = caplog.text + "".join(capfd.readouterr())
    assert "no-such-task" in text
    assert "XCom not found" not in text

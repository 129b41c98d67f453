"""What `airflow dags test` prints for our operators: it runs tasks and triggers in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider.links import HelmrRunLink
from helmr_provider.operators.session import HelmrStartSessionOperator

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.usefixtures("helmr_airflow_connection"),
    pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 looks links up when a page is opened"),
]


class ResumesWithoutALink(BaseOperator):
    """Defers before it knows a run, and resumes when no process has stored a link for it."""

    operator_extra_links = (HelmrRunLink(),)

    def execute(self, context: Any) -> None:
        from datetime import timedelta

        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self.defer(trigger=TimeDeltaTrigger(timedelta(0)), method_name="resume")

    def resume(self, context: Any, event: Any = None) -> None:
        from airflow.sdk.execution_time.xcom import XCom

        ti = context["ti"]
        # Stored as empty by the process that deferred; a killed one stores nothing.
        XCom.delete(
            key=HelmrRunLink().xcom_key,
            task_id=ti.task_id,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
        )


def test_a_task_that_ended_before_it_had_a_link_causes_no_error_of_airflow(
    run_dag: Callable[..., Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with DAG("no_link_in_a_terminal", schedule=None) as dag:
        HelmrStartSessionOperator(task_id="start", task="no-such-task")
    run_dag(dag)
    text = caplog.text + "".join(capfd.readouterr())
    assert "no-such-task" in text
    assert "XCom not found" not in text


def test_a_task_that_resumes_without_a_link_causes_no_error_of_airflow(
    run_dag: Callable[..., Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with DAG("no_link_after_a_deferral", schedule=None) as dag:
        ResumesWithoutALink(task_id="work")
    dag_run = run_dag(dag)
    assert dag_run.state == "success"
    assert "XCom not found" not in caplog.text + "".join(capfd.readouterr())

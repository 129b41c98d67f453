"""Independent tasks that are configured or answered in unusual ways; templates become native objects here."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from helmr_provider.operators.approval import HelmrApprovalOperator
from helmr_provider.operators.session import HelmrStartSessionOperator
from helmr_provider.sensors.run import HelmrRunSensor
from helmr_provider.sensors.token import HelmrTokenSensor

# Airflow itself fails a task that resumes while the scheduler is late to hear that its first half is over.
RETRIED: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(0)}
NUMBER = "{{ dag_run.conf['number'] }}"


class KnownOnWorkersOnly(HelmrTokenSensor):
    """Waits with a connection that the triggerer does not have."""

    def _enter(self, context: Any) -> None:
        os.environ["AIRFLOW_CONN_ON_WORKERS_ONLY"] = os.environ["AIRFLOW_CONN_HELMR_DEFAULT"]
        super()._enter(context)


def notify(context: Any) -> None:
    """Store the address of the question."""
    context["ti"].xcom_push(key="notified", value=context["helmr_approval"]["url"])


def fail_to_notify(context: Any) -> None:
    """Reach nobody."""
    raise ConnectionError("the chat is down")


@dag(schedule=None, render_template_as_native_obj=True)
def edge_cases() -> None:
    """All at the same time, except for the second user of a name."""
    first = HelmrStartSessionOperator(
        task_id="first_user", task="echo", payload={"number": 1}, external_id=NUMBER, concurrency_key=NUMBER
    )
    second = HelmrStartSessionOperator(
        task_id="second_user", task="echo", payload={"number": 2}, external_id=NUMBER, concurrency_key=NUMBER
    )
    first >> second
    HelmrRunSensor(task_id="unknown_connection", run_id="run-1", helmr_conn_id="no_such_connection", soft_fail=True)
    KnownOnWorkersOnly(
        task_id="lost_in_the_triggerer",
        token_id="{{ dag_run.conf['token_id'] }}",
        helmr_conn_id="on_workers_only",
        deferrable=True,
        soft_fail=True,
    )
    HelmrStartSessionOperator(
        task_id="large",
        task="echo",
        payload={"text": "x" * 1000},
        max_result_bytes=100,
        result_to="{{ dag_run.conf['folder'] }}/",
        deferrable=True,
        **RETRIED,
    )
    HelmrApprovalOperator(task_id="work", subject="Go on?", notifiers=[fail_to_notify, notify], **RETRIED)


edge_cases()

"""DAGs that the tests drive; what differs between runs comes in the DAG run's configuration."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any, NoReturn, cast

from airflow.sdk import dag, task

from helmr_provider.operators.session import HelmrStartSessionOperator
from helmr_provider.sensors.token import HelmrTokenSensor

PAYLOAD = {"token_id": "{{ dag_run.conf['token_id'] }}"}
# Airflow itself fails a task that resumes while the scheduler is late to hear that its first half is over ("finished
# with state success, but the task instance's state attribute is queued"). What counts is that a retry costs nothing.
RETRIED = {"retries": 3, "retry_delay": timedelta(0)}


class DiesBeforeItDefers(HelmrStartSessionOperator):
    """On its first try, lose the worker process between the start of the session and the deferral."""

    def defer(self, **kwargs: Any) -> NoReturn:
        from airflow.sdk import get_current_context

        if get_current_context()["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().defer(**kwargs)


@dag(schedule=None, default_args=RETRIED)
def gated_session() -> None:
    """Start a session that ends when the test completes its token, and use its result."""
    work = HelmrStartSessionOperator(task_id="work", task="gated", payload=PAYLOAD, deferrable=True)

    @task
    def use(result: dict[str, Any]) -> str:
        return f"used {result['opened_with']}"

    use(cast("dict[str, Any]", work.output))


@dag(schedule=None)
def blocking_session() -> None:
    """Start a session, and wait for it on the worker."""
    HelmrStartSessionOperator(task_id="work", task="gated", payload=PAYLOAD, deferrable=False)


@dag(schedule=None, default_args=RETRIED)
def gated_sensor() -> None:
    """Wait for a token of the test's."""
    HelmrTokenSensor(task_id="work", token_id=PAYLOAD["token_id"], deferrable=True)


@dag(schedule=None)
def killed_worker() -> None:
    """Start a session, and die before deferring."""
    DiesBeforeItDefers(
        task_id="work",
        task="gated",
        payload=PAYLOAD,
        deferrable=True,
        retries=1,
        retry_delay=timedelta(0),
    )


@dag(schedule=None)
def failing_session() -> None:
    """Start a session whose run fails."""
    HelmrStartSessionOperator(task_id="work", task="failing", payload=PAYLOAD, deferrable=True)


@dag(schedule=None)
def impatient_session() -> None:
    """Start a session that lasts longer than the task may wait."""
    HelmrStartSessionOperator(task_id="work", task="gated", payload=PAYLOAD, deferrable=True, timeout=20)


gated_session()
blocking_session()
gated_sensor()
killed_worker()
failing_session()
impatient_session()

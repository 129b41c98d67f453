"""Sessions for tests of output, mapping, limits and the decorator."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, cast

from airflow.sdk import dag, task

from helmr_provider.operators.session import HelmrStartSessionOperator

TOKEN = "{{ dag_run.conf['token_id'] }}"
# Airflow itself fails a task that resumes while the scheduler is late to hear that its first half is over.
RETRIED = {"retries": 3, "retry_delay": timedelta(0)}


@dag(schedule=None, default_args=RETRIED)
def live_logs() -> None:
    """Show what the run writes while the task is deferred."""
    HelmrStartSessionOperator(task_id="work", task="talking", payload={"token_id": TOKEN}, deferrable=True, logs="live")


@dag(schedule=None, default_args=RETRIED)
def mapped_sessions() -> None:
    """Start three sessions of one task, deferred at the same time."""
    work = HelmrStartSessionOperator.partial(task_id="work", task="gated", deferrable=True).expand(
        payload=[{"token_id": TOKEN, "number": number} for number in range(3)]
    )

    @task
    def use(results: Any) -> list[str]:
        return [f"used {result['opened_with']} for {result['number']}" for result in results]

    use(cast("Any", work.output))


@dag(schedule=None)
def timed_out_while_deferred() -> None:
    """Wait for a run that lasts longer than Airflow's own limit of the task."""
    HelmrStartSessionOperator(
        task_id="work",
        task="gated",
        payload={"token_id": TOKEN},
        deferrable=True,
        # Long enough for the scheduler to hear of the deferral, even when it is late.
        execution_timeout=timedelta(seconds=25),
    )


@dag(schedule=None, default_args=RETRIED)
def decorated_session() -> None:
    """Make the payload with a function, and wait deferred."""

    @task.helmr_session(task="gated", deferrable=True)
    def work(token_id: str) -> dict[str, Any]:
        logging.getLogger(__name__).info("the function was called")
        return {"token_id": token_id, "number": 7}

    work(TOKEN)


live_logs()
mapped_sessions()
timed_out_while_deferred()
decorated_session()

"""DAGs that talk to sessions; the agent answers nothing before the test completes the DAG run's token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from airflow.sdk import dag, task
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from helmr_provider.notifications import HelmrNotifier
from helmr_provider.operators.session import (
    HelmrCancelSessionOperator,
    HelmrSendInputOperator,
    HelmrStartSessionOperator,
)
from helmr_provider.sensors.session import HelmrSessionOutputSensor

try:
    from airflow.sdk.definitions.callback import AsyncCallback
except ImportError:  # Airflow 3.1
    from airflow.sdk.definitions.deadline import AsyncCallback  # type: ignore[attr-defined]

TOKEN = "{{ dag_run.conf['token_id'] }}"
# Airflow itself fails a task that resumes while the scheduler is late to hear that its first half is over.
RETRIED = {"retries": 3, "retry_delay": timedelta(0)}


def start(**options: Any) -> Any:
    """Start the session without waiting; later tasks need its id."""
    started = HelmrStartSessionOperator(
        task_id="start", task="hesitant", payload={"token_id": TOKEN}, wait_for_completion=False, **options
    )
    return cast("Any", started.output)["session_id"]


@dag(schedule=None, default_args=RETRIED)
def conversation_turn() -> None:
    """One turn, and the end of the session."""
    session_id = start()
    work = HelmrSendInputOperator(
        task_id="work",
        session_id=session_id,
        stream="messages",
        data="{{ dag_run.conf['token_id'] }} says hi",
        correlation_id="turn-1",
        wait_for="output",
        output_stream="messages",
        deferrable=True,
    )
    work >> HelmrCancelSessionOperator(task_id="end", session_id=session_id)


@dag(schedule=None, default_args=RETRIED)
def conversation_listener() -> None:
    """Wait for a record with another correlation id."""
    HelmrSessionOutputSensor(
        task_id="work", session_id=start(), stream="messages", correlation_id="somebody", deferrable=True
    )


@dag(schedule=None)
def conversation_failure() -> None:
    """Fail, and tell the agent."""
    started = start(external_id=TOKEN)
    notifier = HelmrNotifier(
        external_id=TOKEN,
        stream="messages",
        message={"failed": "{{ ti.task_id }}", "run": "{{ dag_run.run_id }}", "url": "{{ ti.log_url }}"},
    )

    @task(task_id="work", on_failure_callback=notifier)
    def work(session_id: str) -> None:
        raise RuntimeError(session_id)

    work(started)


@dag(
    schedule=None,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=AsyncCallback(
            HelmrNotifier,
            {
                "external_id": "conversation-deadline",
                "stream": "messages",
                "message": {"late": "{{ dag_run.dag_run_id }}"},
            },
        ),
    ),
)
def conversation_deadline() -> None:
    """Take longer than allowed, so that the agent is notified."""
    HelmrSessionOutputSensor(
        task_id="work", session_id=start(), stream="messages", correlation_id="somebody", deferrable=True
    )


conversation_turn()
conversation_listener()
conversation_failure()
conversation_deadline()

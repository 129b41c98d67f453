"""DAGs that ask a person; the tests answer, or do not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from airflow.sdk import Param, dag, task

from helmr_provider.operators.approval import HelmrApprovalOperator

# Airflow itself fails a task that resumes while the scheduler is late to hear that its first half is over.
RETRIED = {"retries": 3, "retry_delay": timedelta(0)}


@dag(schedule=None, default_args=RETRIED)
def asks() -> None:
    """Ask, with a form, and use the answer."""
    work = HelmrApprovalOperator(
        task_id="work",
        subject="Publish release {{ dag_run.conf.get('release', '2.4') }}?",
        body="The agent has written the **notes**.",
        form={"channel": Param("stable", type="string", enum=["stable", "beta"])},
    )

    @task
    def use(answer: dict[str, Any]) -> str:
        return f"{answer['chosen'][0]} via {answer['via']}"

    use(cast("dict[str, Any]", work.output))


@dag(schedule=None, default_args=RETRIED)
def asks_with_a_default() -> None:
    """Ask, and do not wait long."""
    HelmrApprovalOperator(task_id="work", subject="Go on?", defaults="Approve", timeout=4)


@dag(schedule=None)
def asks_in_vain() -> None:
    """Ask, and fail without an answer."""
    HelmrApprovalOperator(task_id="work", subject="Is anybody there?", timeout=20)


asks()
asks_with_a_default()
asks_in_vain()

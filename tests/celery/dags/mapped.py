"""Mapped sessions that end when the test completes their token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from helmr_provider.operators.session import HelmrStartSessionOperator


@dag(schedule=None, default_args={"retries": 5, "retry_delay": timedelta(0)}, max_active_tasks=32)
def mapped_sessions() -> None:
    """Start many sessions, wait for all, and use each result."""
    work = HelmrStartSessionOperator.partial(task_id="work", task="gated", deferrable=True).expand(
        payload=[{"token_id": "{{ dag_run.conf['token_id'] }}", "number": number} for number in range(24)]
    )

    @task
    def use(result: dict[str, Any]) -> int:
        return int(result["number"])

    use.expand(result=work.output)


mapped_sessions()

"""Sessions that are started by a mapped task and work for a time that the DAG run's configuration names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from helmr_provider.operators.session import HelmrStartSessionOperator


@dag(schedule=None, default_args={"retries": 3, "retry_delay": timedelta(0)}, max_active_tasks=64, max_active_runs=64)
def mapped_waits() -> None:
    """Start as many sessions as the configuration says, and wait for all."""

    @task
    def payloads(dag_run: Any = None) -> list[dict[str, float]]:
        return [{"seconds": dag_run.conf["seconds"]}] * int(dag_run.conf["sessions"])

    HelmrStartSessionOperator.partial(task_id="work", task="work", deferrable=True).expand(payload=payloads())


mapped_waits()

"""Sessions that are started by a mapped task and end evenly after the benchmark has released them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from helmr_provider.operators.session import HelmrStartSessionOperator


@dag(schedule=None, default_args={"retries": 3, "retry_delay": timedelta(0)}, max_active_tasks=64)
def mapped_waits() -> None:
    """Start as many sessions as the configuration says, and wait for all."""

    @task
    def payloads(dag_run: Any = None) -> list[dict[str, Any]]:
        count = int(dag_run.conf["sessions"])
        pause = float(dag_run.conf["ends"]) / count
        return [{"after": number * pause, "release": dag_run.conf["release"]} for number in range(count)]

    HelmrStartSessionOperator.partial(task_id="work", task="until", deferrable=True).expand(payload=payloads())


mapped_waits()

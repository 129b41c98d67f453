"""Sessions that wait on the worker, and sessions that defer, for a test that stops their processes at random."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from helmr_provider.operators.session import HelmrStartSessionOperator

WAITING = 8
DEFERRING = 24


@dag(schedule=None, default_args={"retries": 200, "retry_delay": timedelta(0)}, max_active_tasks=64)
def random_stops() -> None:
    """Independent sessions, whose lengths the DAG run's configuration names."""
    for number in range(WAITING + DEFERRING):
        HelmrStartSessionOperator(
            task_id=f"work_{number}",
            task="work",
            payload={"seconds": f"{{{{ dag_run.conf['seconds'][{number}] }}}}"},
            deferrable=number >= WAITING,
            close_session=True,
        )


random_stops()

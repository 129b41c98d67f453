"""Airflow on Celery with Redis and PostgreSQL: two schedulers, two triggerers and two workers on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dev.postgres_stack import PostgresStack
from dev.services import redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

REPLICAS = (1, 2)

_SETTINGS = {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CORE__PARALLELISM": "32",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "32",
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
    # What was killed is missed after seconds instead of minutes.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    # Redis hands out the messages that a killed worker had reserved after this time, 24 h by default.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "60",
}


class CeleryStack(PostgresStack):
    """Like :class:`PostgresStack`, with two of each replicated component, named ``scheduler-1`` and so on.

    :param folder: for everything.
    :param dags: folder of the DAG files.
    :param tasks: file with the control plane's tasks.
    :param settings: further environment variables of Airflow.
    """

    def __init__(
        self, folder: Path, *, dags: Path, tasks: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, dags=dags, tasks=tasks, settings={**_SETTINGS, **(settings or {})})

    def prepare(self) -> None:
        """Empty the folder, and start PostgreSQL and Redis in it."""
        super().prepare()
        broker = redis(self.folder, self.environment)
        self.serve(broker)
        self.environment |= {
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{broker.port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql://{self.database}",
        }

    def components(self) -> Iterator[tuple[str, list[str]]]:
        """Name each program, with its arguments."""
        yield "api-server", ["api-server"]
        yield "dag-processor", ["dag-processor"]
        for number in REPLICAS:
            yield f"scheduler-{number}", ["scheduler", "--skip-serve-logs"]
            yield f"triggerer-{number}", ["triggerer", "--skip-serve-logs"]
            pid = ["--pid", str(self.folder / f"worker-{number}.pid")]
            yield f"worker-{number}", ["celery", "worker", "--skip-serve-logs", "-H", f"worker-{number}@%h", *pid]

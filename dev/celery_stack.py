"""Airflow on Celery with Redis and PostgreSQL: two schedulers, two triggerers and two workers on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dev.services import postgresql, redis
from dev.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dev.services import Service

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


class CeleryStack(Stack):
    """Like :class:`Stack`, with two of each replicated component, named ``scheduler-1`` and so on.

    :param folder: for everything; each folder above it must be open to the user ``postgres`` if root runs the stack.
    :param dags: folder of the DAG files.
    :param tasks: file with the control plane's tasks.
    :param settings: further environment variables of Airflow.
    """

    def __init__(
        self, folder: Path, *, dags: Path, tasks: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, dags=dags, tasks=tasks, settings={**_SETTINGS, **(settings or {})})
        self._services: list[Service] = []

    def prepare(self) -> None:
        """Empty the folder, and start Redis and PostgreSQL in it."""
        super().prepare()
        self.folder.chmod(0o755)
        broker, database = redis(self.folder, self.environment), postgresql(self.folder, self.environment)
        self._services = [broker, database]
        for service in self._services:
            service.start()
        address = f"airflow@127.0.0.1:{database.port}/postgres"
        self.environment |= {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{address}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{address}",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{broker.port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql://{address}",
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

    def stop(self) -> None:
        """End everything that was started, the services last."""
        super().stop()
        for service in reversed(self._services):
            service.program.stop()

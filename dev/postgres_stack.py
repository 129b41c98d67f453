"""Airflow on PostgreSQL, with the local executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dev.services import postgresql
from dev.stack import Stack

if TYPE_CHECKING:
    from dev.services import Service


class PostgresStack(Stack):
    """Like :class:`Stack`, with PostgreSQL instead of SQLite.

    ``dev/celery.sh`` makes its environment. Root runs the server as the user ``postgres``, to whom each folder above
    the stack's own must be open.
    """

    services: tuple[Service, ...] = ()

    def prepare(self) -> None:
        """Empty the folder, and start PostgreSQL in it."""
        super().prepare()
        self.folder.chmod(0o755)
        database = postgresql(self.folder, self.environment)
        self.serve(database)
        self.database = f"airflow@127.0.0.1:{database.port}/postgres"
        self.environment |= {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{self.database}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{self.database}",
        }

    def serve(self, service: Service) -> None:
        """Start a service that ends after Airflow."""
        self.services += (service,)
        service.start()

    def stop(self) -> None:
        """End everything that was started, the services last."""
        super().stop()
        for service in reversed(self.services):
            service.program.stop()

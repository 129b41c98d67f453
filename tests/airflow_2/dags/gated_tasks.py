"""One task in each DAG, which waits for a run of the local control plane; Airflow 2.11 only."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.decorators import dag  # type: ignore[attr-defined]  # the type checker sees Airflow 3

from helmr_provider.operators.session import HelmrStartSessionOperator

HELD_SECONDS = 400


class Held(HelmrStartSessionOperator):
    """Holds its first process after the start and before the deferral, if the DAG run wants it."""

    def _return_or_defer(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        conf = context["dag_run"].conf
        if (held := conf.get("held")) and not Path(held).exists():
            Path(held).touch()
            time.sleep(HELD_SECONDS)
        return super()._return_or_defer(context, *args, **kwargs)


def make(dag_id: str, **options: Any) -> Any:
    """Make a DAG whose task starts a session.

    :param dag_id: its id.
    :param options: of the operator.
    """

    @dag(  # type: ignore[untyped-decorator]
        dag_id=dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
        is_paused_upon_creation=False,
    )
    def one_task() -> None:
        payload = {"token_id": "{{ dag_run.conf['token_id'] }}"}
        Held(task_id="work", **{"task": "gated", "payload": payload, "deferrable": True, **options})

    return one_task()


deferring = make("deferring")
waiting = make("waiting", deferrable=False)
failing = make("failing", task="failing", retries=0)
timing = make("timing", timeout=5, retries=0)

"""Defer the task instances of `held_waits` in Airflow's database, each on a run trigger. Reads ids of runs from stdin.

Runs with the settings of an Airflow, in a process of its own.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from helmr_provider.triggers.run import HelmrRunTrigger


def defer(session: Any, instance: Any, run_id: str) -> None:
    """Put a task instance into the state that a deferral on a run trigger leaves behind."""
    path, kwargs = HelmrRunTrigger(helmr_conn_id="helmr_default", run_id=run_id).serialize()
    trigger = Trigger(classpath=path, kwargs=kwargs)
    session.add(trigger)
    session.flush()
    instance.trigger_id = trigger.id
    instance.state = TaskInstanceState.DEFERRED
    instance.next_method = "execute_complete"
    instance.next_kwargs = {}
    instance.start_date = datetime.now(UTC)


def main() -> None:
    run_ids = json.load(sys.stdin)
    with create_session() as session:
        chosen = select(TaskInstance).where(TaskInstance.task_id == "work", TaskInstance.dag_id == "held_waits")
        instances = session.scalars(chosen.order_by(TaskInstance.map_index)).all()
        for instance, run_id in zip(instances, run_ids, strict=True):
            defer(session, instance, run_id)


if __name__ == "__main__":
    main()

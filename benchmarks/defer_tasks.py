"""Defer task instances of `held_waits` in Airflow's database, as a worker would have done.

Each line of stdin is a JSON object: a `kind` of resource and its `ids`. Each is answered with the number of task
instances that were deferred. Runs with the settings of an Airflow, in a process of its own.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import Integer, Uuid, column, insert, select, update, values

from helmr_provider.triggers.run import HelmrRunTrigger
from helmr_provider.triggers.token import HelmrTokenTrigger

CONN_ID = "helmr_default"


def trigger(kind: str, resource_id: str) -> Any:
    if kind == "time":
        return DateTimeTrigger(moment=datetime.fromisoformat(resource_id))
    if kind == "run":
        return HelmrRunTrigger(helmr_conn_id=CONN_ID, run_id=resource_id)
    return HelmrTokenTrigger(helmr_conn_id=CONN_ID, token_id=resource_id)


def row(kind: str, resource_id: str, now: datetime) -> dict[str, Any]:
    path, kwargs = trigger(kind, resource_id).serialize()
    return {"classpath": path, "encrypted_kwargs": Trigger.encrypt_kwargs(kwargs), "created_date": now}


def defer(kind: str, ids: list[str]) -> int:
    """Defer one scheduled task instance on each resource, in three statements however many there are."""
    with create_session() as session:
        scheduled = (
            select(TaskInstance.id)
            .where(
                TaskInstance.dag_id == "held_waits",
                TaskInstance.task_id == "work",
                TaskInstance.state == TaskInstanceState.SCHEDULED,
            )
            .order_by(TaskInstance.map_index)
        )
        # More tasks can have been resumed since the resources were created.
        pairs = list(zip(session.scalars(scheduled), ids, strict=False))
        if not pairs:
            return 0
        now = datetime.now(UTC)
        added = insert(Trigger).returning(Trigger.id, sort_by_parameter_order=True)
        trigger_ids = session.scalars(added, [row(kind, resource_id, now) for _, resource_id in pairs]).all()
        deferred = values(column("instance", Uuid), column("trigger", Integer), name="deferred").data(
            [(instance, trigger_id) for (instance, _), trigger_id in zip(pairs, trigger_ids, strict=True)]
        )
        session.execute(
            update(TaskInstance)
            .where(TaskInstance.id == deferred.c.instance)
            .values(
                trigger_id=deferred.c.trigger,
                state=TaskInstanceState.DEFERRED,
                next_method="execute_complete",
                next_kwargs={},
                start_date=now,
            )
            .execution_options(synchronize_session=False)
        )
        return len(pairs)


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(defer(asked["kind"], asked["ids"]), flush=True)


if __name__ == "__main__":
    main()

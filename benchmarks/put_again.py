"""Defer task instances of `held_waits` again and again: each line of stdin is a JSON list of ids of runs.

Runs with the settings of an Airflow, in a process of its own. Answers each line with the number of deferred tasks.
"""

from __future__ import annotations

import json
import sys

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from benchmarks.insert_triggers import defer


def put(run_ids: list[str]) -> int:
    with create_session() as session:
        chosen = select(TaskInstance).where(
            TaskInstance.task_id == "work",
            TaskInstance.dag_id == "held_waits",
            TaskInstance.state == TaskInstanceState.SCHEDULED,
        )
        instances = session.scalars(chosen.order_by(TaskInstance.map_index)).all()
        count = 0
        # More tasks can have been resumed since the runs were started.
        for instance, run_id in zip(instances, run_ids, strict=False):
            defer(session, instance, run_id)
            count += 1
        return count


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        print(put(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()

"""Ask Airflow for the state of a task instance, which tells why a worker or a trigger is stopped."""

from __future__ import annotations

import threading
from typing import Any, Final

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS

ENDED_BY_USER: Final = frozenset({"failed", "success", "skipped", "removed", "upstream_failed", "restarting", None})
"""States of a task instance whose process is still running: a user has ended or cleared it.

``None`` is a task instance that was cleared or removed. In every other state the process was stopped for another
reason, such as a drained node.
"""

# Airflow kills a process five seconds after it asked it to stop.
_ANSWER_SECONDS: Final = 3.0


def task_state(ti: Any) -> str | None:
    """Return the state that Airflow has stored; ``None`` for a task instance that was cleared or removed.

    :param ti: the task instance, of a worker or of a trigger.
    """
    return next(iter(_stored_states(ti)), None)


OVER: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States in which Airflow starts no further try of a task instance by itself."""


def is_over(ti: Any) -> str | None:
    """Return why a task instance has no further try: its state, or ``gone``; ``None`` while it may have one.

    :param ti: names the task instance, which may be any: its ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    states = _stored_states(ti)
    if not states:
        return "gone"
    return states[0] if states[0] in OVER else None


def ended_by_user(ti: Any) -> bool | None:
    """Say whether a user has ended the task of this process; ``None`` if Airflow does not answer in time.

    It is called from a signal handler, which may have interrupted another request to Airflow. That request holds a
    lock, so this one is made by another thread and given up after a few seconds.

    :param ti: the task instance of this process.
    """
    answers: list[bool] = []

    def read() -> None:
        try:
            answers.append(task_state(ti) in ENDED_BY_USER)
        except Exception:  # noqa: BLE001 - Airflow has many errors for it, and all mean that there is no answer
            return

    thread = threading.Thread(target=read, daemon=True, name="helmr-task-state")
    thread.start()
    thread.join(_ANSWER_SECONDS)
    return next(iter(answers), None)


def _stored_states(ti: Any) -> list[str | None]:
    """Return the state of one task instance, or nothing if Airflow does not know it."""
    found = (_find_in_airflow_3 if AIRFLOW_V_3_0_PLUS else _find_in_airflow_2)(ti)
    return [None if state is None else str(getattr(state, "value", state)) for state in found]


def _find_in_airflow_3(ti: Any) -> list[Any]:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    # One task instance was asked for; its key depends on whether it is mapped.
    return list(states.get(ti.run_id, {}).values())


def _find_in_airflow_2(ti: Any) -> list[Any]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        query = session.query(TaskInstance.state).filter_by(
            dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
        )
        return [row.state for row in query]

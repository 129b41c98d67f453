"""Ask Airflow for the state of a task instance, which tells why a worker or a trigger is stopped."""

from __future__ import annotations

import threading
from typing import Any, Final, Literal, TypeAlias

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS

WhyStopped: TypeAlias = Literal["user", "next_try", "unclear"]
"""Why a process is stopped: a user has ended or cleared its task, or Airflow has given it up and starts another try.

Neither is known of a process that Airflow still counts as running; it can be that of a drained node.
"""

_USERS_DOING: Final = frozenset({"failed", "success", "skipped", "removed", "upstream_failed", "restarting"})
# A user who clears a running task makes it "restarting". No state is that of a task whose scheduler was given up. A
# process that has not deferred its task belongs to an earlier try if the task is deferred.
_NEXT_TRY: Final = frozenset({None, "scheduled", "queued", "up_for_retry", "deferred", "awaiting_input"})

# Airflow kills a process five seconds after it asked it to stop.
_ANSWER_SECONDS: Final = 3.0


def task_state(ti: Any) -> str | None:
    """Return the state that Airflow has stored; ``None`` for one that was cleared, removed, or lost with its scheduler.

    :param ti: the task instance, of a worker or of a trigger.
    """
    return next(iter(_stored_states(ti)), None)


OVER: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States in which Airflow starts no further try of a task instance by itself."""


def is_over(ti: Any) -> str | None:
    """Return why a task instance has no further try: its state, or ``gone``; ``None`` while it may have one.

    :param ti: names the task instance, which may be any: its ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    found = _stored_states(ti)
    if not found:
        return "gone"
    return found[0] if found[0] in OVER else None


def why_stopped(ti: Any) -> WhyStopped | None:
    """Say why this process is stopped; ``None`` if Airflow does not answer in time.

    It is called from a signal handler, which may have interrupted another request to Airflow. That request holds a
    lock, so this one is made by another thread and given up after a few seconds.

    :param ti: the task instance of this process.
    """
    answers: list[WhyStopped] = []

    def read() -> None:
        try:
            found = _stored_states(ti)
        except Exception:  # noqa: BLE001 - Airflow has many errors for it, and all mean that there is no answer
            return
        if not found or found[0] in _USERS_DOING:
            answers.append("user")
        else:
            answers.append("next_try" if found[0] in _NEXT_TRY else "unclear")

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

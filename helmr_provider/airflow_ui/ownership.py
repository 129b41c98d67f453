"""Whose a session, token or command is: only ownership metadata in Helmr decides. No I/O.

The reader of a page was checked for one DAG. XComs can be edited by people, so an id in an XCom is a hint: what it
names must carry metadata that name the same task instance. An id in a rendered field was written by the DAG's author,
so that the same DAG is enough there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from helmr_provider._sessions.identity import OWNERSHIP, Identity

if TYPE_CHECKING:
    from helmr_provider.airflow_ui.views import StoredTask
    from helmr_provider.client.models.execs import Exec
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.client.models.sessions import SessionSnapshot
    from helmr_provider.client.models.tokens import Token


def may_show_session(task: StoredTask, session: SessionSnapshot, run: RunSnapshot | None) -> bool:
    """Say whether a session may be shown on the page of a task.

    :param task: the task instance.
    :param session: what its ids lead to.
    :param run: the run that its ids lead to; it must belong to the session.
    """
    if run is not None and run.session_id != session.id:
        return False
    by_author = (
        session.id == task.named.get("session_id")
        or (session.external_id is not None and session.external_id == task.named.get("external_id"))
        or (run is not None and run.id == task.named.get("run_id"))
    )
    return names_task(session.metadata, task, dag_only=by_author)


def may_show_run(task: StoredTask, run: RunSnapshot) -> bool:
    """Say whether a run's status may be shown, by the copy of the metadata that it was started with.

    :param task: the task instance.
    :param run: from a list.
    """
    return names_task(run.metadata, task, dag_only=run.id == task.named.get("run_id"))


def may_show_token(task: StoredTask, token: Token) -> bool:
    """Say whether a token may be shown on the page of a task.

    :param task: the task instance.
    :param token: what its ids lead to.
    """
    return names_task(token.metadata, task, dag_only=token.id == task.named.get("token_id"))


def is_marked(task: StoredTask, command: Exec, *, prefix: str, mark: str) -> bool:
    """Say whether the task instance started a command since it was cleared last.

    :param task: the task instance.
    :param command: what its ids lead to.
    :param prefix: the connection's ``session_prefix``.
    :param mark: name of the environment variable that holds the command's idempotency key.
    """
    key = task.key
    identity = Identity(
        prefix=prefix, dag_id=key.dag_id, run_id=key.run_id, task_id=key.task_id, map_index=key.map_index
    )
    found = command.env_shape.get(mark)
    # A generation more than there were tries: a task that is cleared while it runs keeps its epoch.
    generations = range(1, min(task.try_number, 100) + 2)
    return found in {identity.once_key(task.epoch, "exec", str(generation)) for generation in generations}


def names_task(metadata: Mapping[str, Any], task: StoredTask, *, dag_only: bool) -> bool:
    """Say whether ownership metadata name a task instance.

    :param metadata: of a session, run, token or workspace.
    :param task: the task instance.
    :param dag_only: whether the same DAG is enough.
    """
    owner = metadata.get(OWNERSHIP)
    if not isinstance(owner, Mapping) or owner.get("dag_id") != task.key.dag_id:
        return False
    if dag_only:
        return True
    same_task = (owner.get("run_id"), owner.get("task_id")) == (task.key.run_id, task.key.task_id)
    return same_task and owner.get("map_index") == task.key.map_index

"""What Airflow stores of a task instance: the only module that uses Airflow's ORM.

These classes are no public interface of Airflow. Everything here blocks, and runs in the tab's own threads.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from airflow.configuration import conf
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.utils.session import create_session
from sqlalchemy import select

from helmr_provider._sessions.epoch import epoch_of
from helmr_provider.airflow_ui.views import MissingError, StoredTask, TaskKey, string_ids

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

MAX_INSTANCES: Final = 500
"""Task instances of a DAG run that are read; a DAG run may have thousands."""

IDS: Final = frozenset({"session_id", "run_id", "external_id", "token_id", "workspace_id", "exec_id"})
"""Ids that tasks push as XComs, or name in their rendered fields."""

_LINKS: Final = {
    "_link_HelmrSessionLink": "session",
    "_link_HelmrRunLink": "run",
    "_link_HelmrTokenLink": "token",
    "_link_HelmrApprovalLink": "approval",
    "_link_HelmrWorkspaceLink": "workspace",
}
_CONNECTION: Final = "helmr_conn_id"
_TEAMS: Final = "team_name" in inspect.signature(Connection.get_connection_from_secrets).parameters


def read_task(key: TaskKey) -> StoredTask:
    """Read a task instance.

    :param key: names it.
    :raises MissingError: there is none.
    """
    with create_session() as session:
        found = session.execute(
            _instances(key.dag_id, key.run_id, task_id=key.task_id, map_index=key.map_index)
        ).first()
        if found is None:
            raise MissingError
        [task] = _stored(session, key.dag_id, key.run_id, [found], map_index=key.map_index)
        return task


def read_run(dag_id: str, run_id: str) -> tuple[list[StoredTask], int]:
    """Read the Helmr tasks of a DAG run, ordered by task and map index, and count those that were left out.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :raises MissingError: there is none.
    """
    with create_session() as session:
        if session.scalar(select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)) is None:
            raise MissingError
        found = [
            each
            for each in session.execute(
                _instances(dag_id, run_id).order_by(TaskInstance.task_id, TaskInstance.map_index)
            ).all()
            if _known_tasks(each.dag_version_id).get(each.task_id) is not None
        ]
        return _stored(session, dag_id, run_id, found[:MAX_INSTANCES]), max(0, len(found) - MAX_INSTANCES)


def read_connection(conn_id: str, dag_id: str) -> Connection | None:
    """Fetch a connection as the API server sees it; ``None`` if it is not defined there.

    :param conn_id: its id.
    :param dag_id: the DAG that uses it; its team may have connections of its own.
    """
    team = team_of(dag_id) if _TEAMS else None
    try:
        if team is None:
            return Connection.get_connection_from_secrets(conn_id)
        return Connection.get_connection_from_secrets(conn_id, team_name=team)  # type: ignore[call-arg, unused-ignore]
    except AirflowNotFoundException:
        return None


def team_of(dag_id: str) -> str | None:
    """Return the team that a DAG belongs to; ``None`` where there are no teams.

    :param dag_id: the DAG.
    """
    if not _TEAMS or not conf.getboolean("core", "multi_team", fallback=False):
        return None
    team: str | None = DagModel.get_team_name(dag_id)
    return team


def _instances(dag_id: str, run_id: str, **only: object) -> Any:
    columns = select(
        TaskInstance.id,
        TaskInstance.task_id,
        TaskInstance.map_index,
        TaskInstance.operator,
        TaskInstance.state,
        TaskInstance.try_number,
        TaskInstance.max_tries,
        TaskInstance.dag_version_id,
    )
    wanted = [TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id]
    return columns.where(*wanted, *(getattr(TaskInstance, name) == value for name, value in only.items()))


def _stored(
    session: Any, dag_id: str, run_id: str, instances: list[Any], map_index: int | None = None
) -> list[StoredTask]:
    declared = [_known_tasks(each.dag_version_id).get(each.task_id) for each in instances]
    ours = sorted({each.task_id for each, known in zip(instances, declared, strict=True) if known is not None})
    if not ours:
        return [_foreign(each, dag_id, run_id) for each in instances]

    def of_ours(table: Any, *columns: Any) -> Any:
        wanted = [table.dag_id == dag_id, table.run_id == run_id, table.task_id.in_(ours)]
        if map_index is not None:
            wanted.append(table.map_index == map_index)
        return select(table.task_id, table.map_index, *columns).where(*wanted)

    started = session.scalar(select(DagRun.start_date).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    pushed: dict[tuple[str, int], dict[str, Any]] = {}
    for row in session.execute(
        of_ours(XComModel, XComModel.key, XComModel.value).where(XComModel.key.in_([*IDS, *_LINKS]))
    ):
        pushed.setdefault((row.task_id, row.map_index), {})[row.key] = row.value
    rendered: dict[tuple[str, int], dict[str, Any]] = {
        (row.task_id, row.map_index): row.rendered_fields
        for row in session.execute(of_ours(RenderedTaskInstanceFields, RenderedTaskInstanceFields.rendered_fields))
        if isinstance(row.rendered_fields, dict)
    }
    # Compared inside the database, because the type of this column differs between versions of Airflow.
    asking = set(
        session.scalars(
            select(TaskInstance.id)
            .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
            .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id.in_(ours))
        )
    )
    tasks: list[StoredTask] = []
    for each, known in zip(instances, declared, strict=True):
        if known is None:
            tasks.append(_foreign(each, dag_id, run_id))
            continue
        xcoms = pushed.get((each.task_id, each.map_index), {})
        fields = rendered.get((each.task_id, each.map_index), {})
        tasks.append(
            StoredTask(
                key=TaskKey(dag_id, run_id, each.task_id, each.map_index),
                helmr=True,
                operator=each.operator or "",
                state=_state(each),
                try_number=each.try_number,
                epoch=epoch_of(started, each.max_tries),
                conn_id=_conn_id(fields, known),
                pushes_ids=known.get("do_xcom_push") is not False,
                pushed=string_ids(xcoms, IDS),
                named=string_ids(fields, IDS),
                links={name: xcoms[key] for key, name in _LINKS.items() if isinstance(xcoms.get(key), str)},
                asks=each.id in asking,
            )
        )
    return tasks


def _foreign(instance: Any, dag_id: str, run_id: str) -> StoredTask:
    key = TaskKey(dag_id, run_id, instance.task_id, instance.map_index)
    return StoredTask(key=key, helmr=False, operator=instance.operator or "", state=_state(instance))


def _state(instance: Any) -> str | None:
    return None if instance.state is None else str(getattr(instance.state, "value", instance.state))


def _conn_id(rendered: Mapping[str, Any], declared: Mapping[str, Any]) -> str | None:
    # Rendered fields are kept for the newest DAG runs only. The DAG's version says the same, unless it is a template.
    for value in (rendered.get(_CONNECTION), declared.get(_CONNECTION)):
        if isinstance(value, str) and value and "{{" not in value:
            return value
    return None


@lru_cache(maxsize=64)
def _known_tasks(dag_version_id: UUID | None) -> dict[str, dict[str, Any]]:
    """Return what a version of a DAG declares of its Helmr tasks. A version never changes."""
    if dag_version_id is None:
        return {}
    with create_session() as session:
        stored = session.scalar(
            select(SerializedDagModel)
            .where(SerializedDagModel.dag_version_id == dag_version_id)
            .order_by(SerializedDagModel.last_updated.desc())
        )
        data = None if stored is None else stored.data
    tasks = data.get("dag", {}).get("tasks", []) if isinstance(data, dict) else []
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        members = task.get("__var", task) if isinstance(task, dict) else {}
        if _CONNECTION not in (members.get("template_fields") or ()):
            continue
        settings = {**members, **(members.get("partial_kwargs") or {})}
        found[str(members.get("task_id"))] = {
            name: settings[name] for name in (_CONNECTION, "do_xcom_push") if name in settings
        }
    return found

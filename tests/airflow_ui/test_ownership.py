"""Only metadata in Helmr decide whose something is; an XCom is a hint."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from helmr_provider._sessions.identity import OWNERSHIP, Identity
from helmr_provider.airflow_ui.ownership import is_marked, may_show_run, may_show_session, may_show_token
from tests.airflow_ui.helpers import KEY, owned_by, stored

if TYPE_CHECKING:
    from helmr_provider.client.models.execs import Exec
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.client.models.sessions import SessionSnapshot
    from helmr_provider.client.models.tokens import Token

OTHERS = {
    "another DAG": replace(KEY, dag_id="payroll"),
    "another DAG run": replace(KEY, run_id="scheduled__2026"),
    "another task": replace(KEY, task_id="other"),
    "another instance": replace(KEY, map_index=0),
}


def session(metadata: dict[str, Any], external_id: str | None = "x") -> SessionSnapshot:
    return cast("SessionSnapshot", SimpleNamespace(id="s", external_id=external_id, metadata=metadata))


def run(metadata: dict[str, Any] | None = None, session_id: str = "s") -> RunSnapshot:
    return cast("RunSnapshot", SimpleNamespace(id="r", session_id=session_id, metadata=metadata or {}))


def token(metadata: dict[str, Any]) -> Token:
    return cast("Token", SimpleNamespace(id="t", metadata=metadata))


def test_what_names_the_task_is_shown() -> None:
    task = stored(pushed={"session_id": "s", "run_id": "r", "token_id": "t"})
    assert may_show_session(task, session(owned_by()), run())
    assert may_show_run(task, run(owned_by()))
    assert may_show_token(task, token(owned_by()))


@pytest.mark.parametrize("owner", OTHERS.values(), ids=OTHERS)
def test_what_names_another_task_is_not_shown_for_an_id_in_an_xcom(owner: Any) -> None:
    task = stored(pushed={"session_id": "s", "run_id": "r", "token_id": "t"})
    assert not may_show_session(task, session(owned_by(owner)), run())
    assert not may_show_run(task, run(owned_by(owner)))
    assert not may_show_token(task, token(owned_by(owner)))


@pytest.mark.parametrize("owner", OTHERS.values(), ids=OTHERS)
def test_for_an_id_that_the_author_named_the_same_dag_is_enough(owner: Any) -> None:
    same_dag = owner.dag_id == KEY.dag_id
    for named in ({"session_id": "s"}, {"external_id": "x"}, {"run_id": "r"}):
        assert may_show_session(stored(named=named), session(owned_by(owner)), run()) is same_dag
    assert may_show_run(stored(named={"run_id": "r"}), run(owned_by(owner))) is same_dag
    assert may_show_token(stored(named={"token_id": "t"}), token(owned_by(owner))) is same_dag


def test_an_author_who_named_another_session_does_not_vouch_for_this_one() -> None:
    task = stored(named={"session_id": "other", "external_id": "y"}, pushed={"session_id": "s"})
    assert not may_show_session(task, session(owned_by(OTHERS["another task"])), run())
    assert not may_show_session(
        stored(named={"external_id": ""}), session(owned_by(OTHERS["another task"]), None), None
    )


def test_a_run_of_another_session_is_not_shown() -> None:
    assert not may_show_session(
        stored(pushed={"session_id": "s", "run_id": "r"}), session(owned_by()), run(session_id="z")
    )


@pytest.mark.parametrize("member", [None, [], "reports", 7, {}, {"dag_id": ["reports"]}])
def test_a_resource_without_an_owner_is_not_shown(member: object) -> None:
    metadata = {} if member is None else {OWNERSHIP: member}
    assert not may_show_session(stored(named={"session_id": "s"}), session(metadata), None)


def command(mark: str | None) -> Exec:
    return cast("Exec", SimpleNamespace(env_shape={} if mark is None else {"MARK": mark}))


def test_a_command_is_recognised_by_its_mark() -> None:
    task = stored(try_number=2, epoch=f"{datetime(2026, 11, 28, tzinfo=UTC).isoformat()}/1")
    ours = Identity(prefix="airflow", dag_id=KEY.dag_id, run_id=KEY.run_id, task_id=KEY.task_id)
    for generation in (1, 2, 3):
        mark = ours.once_key(task.epoch, "exec", str(generation))
        assert is_marked(task, command(mark), prefix="airflow", mark="MARK")
        assert not is_marked(task, command(mark), prefix="other", mark="MARK")
        assert not is_marked(replace(task, epoch="x"), command(mark), prefix="airflow", mark="MARK")
        assert not is_marked(replace(task, key=replace(KEY, task_id="y")), command(mark), prefix="airflow", mark="MARK")
    assert not is_marked(task, command(None), prefix="airflow", mark="MARK")

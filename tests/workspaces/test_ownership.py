"""Whose a workspace is, and whether what was to be stopped is gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from helmr_provider._sessions.identity import OwnershipMetadata
from helmr_provider._workspaces.ownership import created_in, is_ours, is_stopped

OWNERSHIP = OwnershipMetadata(
    owner="ti-2", epoch="e", dag_id="nightly", run_id="r", task_id="work", map_index=-1, try_number=1
)
CREATED = {"airflow": {"dag_id": "nightly", "run_id": "r", "epoch": "e", "owner": "ti-1", "task_id": "create"}}


def a_workspace(**members: Any) -> Any:
    return SimpleNamespace(
        **{"metadata": CREATED, "external_id": "airflow:nightly:r:create:-1:1", "state": "active"} | members
    )


def test_what_a_task_of_the_dag_run_has_created_and_named_is_ours() -> None:
    assert is_ours(a_workspace(), OWNERSHIP, "airflow")


@pytest.mark.parametrize(
    "members",
    [
        {"external_id": None},
        {"external_id": "ticket-7"},
        {"external_id": "airflow2:nightly:r:create:-1:1"},
        {"metadata": {}},
        {"metadata": {"airflow": "text"}},
        {"metadata": {"airflow": {"dag_id": "nightly"}}},
        {"metadata": {"airflow": {"dag_id": "nightly", "run_id": "another"}}},
        {"metadata": {"airflow": {"dag_id": "other", "run_id": "r"}}},
    ],
)
def test_anything_else_is_not(members: dict[str, Any]) -> None:
    assert not is_ours(a_workspace(**members), OWNERSHIP, "airflow")


@pytest.mark.parametrize(
    ("members", "taken"),
    [
        ({}, True),
        ({"state": "archived"}, False),
        ({"metadata": {"airflow": {"epoch": "before"}}}, False),
        ({"metadata": {}}, False),
    ],
)
def test_a_workspace_is_taken_again_within_one_epoch_while_it_is_active(members: dict[str, Any], taken: bool) -> None:
    assert created_in(a_workspace(**members), OWNERSHIP) is taken


@pytest.mark.parametrize(
    ("live", "stopped"),
    [
        (None, True),
        (SimpleNamespace(id="m", is_terminal=False), False),
        (SimpleNamespace(id="m", is_terminal=True), True),
        (SimpleNamespace(id="another", is_terminal=False), True),
    ],
)
def test_what_was_to_be_stopped_is_gone_when_nothing_or_something_else_lives(live: Any, stopped: bool) -> None:
    answer: Any = SimpleNamespace(materialization=live)
    assert is_stopped(answer, "m") is stopped
    assert is_stopped(answer, None) is (stopped and getattr(live, "id", "m") == "m")

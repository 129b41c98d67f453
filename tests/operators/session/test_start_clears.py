"""A task that is cleared while it runs starts a new session; a retry takes the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from tests.support.session_tasks import LIVE, a_task, starts
from tests.support.task_attempts import deferred

if TYPE_CHECKING:
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")


def test_a_result_from_before_a_clear_of_the_running_task_is_not_taken(control_plane: LocalControlPlane) -> None:
    task = a_task(payload=1)
    task.dag_run.clear_number = 0
    first = task.start()
    assert first.execute() == 1
    # Airflow keeps max_tries and the start of the DAG run when a running task is cleared, and counts the clear only.
    task.dag_run.clear_number = 1
    second = task.start()
    assert second.execute() == 1
    assert second.xcoms["session_id"] != first.xcoms["session_id"]
    assert len(starts(control_plane)) == 2


def test_a_retry_without_a_clear_takes_the_result(control_plane: LocalControlPlane) -> None:
    task = a_task(payload=1)
    task.dag_run.clear_number = 3
    first = task.start()
    first.execute()
    second = task.start()
    second.execute()
    assert second.xcoms["session_id"] == first.xcoms["session_id"]
    assert len(starts(control_plane)) == 1


def test_a_session_of_a_release_that_did_not_count_clears_keeps_its_result(
    control_plane: LocalControlPlane,
) -> None:
    task = a_task(payload=1)
    first = task.start()
    first.execute()
    task.dag_run.clear_number = 2
    second = task.start()
    second.execute()
    assert second.xcoms["session_id"] == first.xcoms["session_id"]


def test_an_active_run_is_adopted_after_every_kind_of_clear(control_plane: LocalControlPlane) -> None:
    task = a_task(**LIVE, deferrable=True)
    task.dag_run.clear_number = 0
    first = task.start()
    deferred(first.execute())
    task.dag_run.clear_number = 1
    second = task.start()
    deferred(second.execute())
    assert second.xcoms["run_id"] == first.xcoms["run_id"]


def test_a_try_that_is_resumed_with_the_deferral_of_an_earlier_one_starts_anew(
    control_plane: LocalControlPlane,
) -> None:
    task = a_task(payload=1)
    task.dag_run.clear_number = 0
    first = task.start()
    assert first.execute() == 1
    ids = {name: first.xcoms[name] for name in ("session_id", "run_id", "external_id")}
    # A running task that is cleared keeps its deferral in Airflow, and its next try is resumed with it.
    deferral = TaskDeferred(trigger=cast("Any", None), method_name="execute_complete", kwargs={**ids, "try_number": 1})
    task.dag_run.clear_number = 1
    second = task.start()
    assert second.context["ti"].try_number == 2
    assert second.resume(deferral, {}) == 1
    assert second.xcoms["session_id"] != first.xcoms["session_id"]
    assert len(starts(control_plane)) == 2

"""What becomes of a run's end: which statuses fail the task, what is returned, and closing the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from helmr_provider.local import faults
from tests.support.session_tasks import LIVE, a_task, starts
from tests.support.task_attempts import both_ways, deferred, fire

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")


# fail_on


@both_ways
def test_a_status_that_does_not_fail_the_task_returns_the_run_s_result(deferrable: bool) -> None:
    task = a_task(task="fail", fail_on=["cancelled"], result="snapshot", deferrable=deferrable)
    assert task.start().finish()["status"] == "failed"
    assert a_task(task="fail", fail_on=(), deferrable=deferrable, run_id="again").start().finish() is None


def test_a_run_that_another_client_cancelled_may_be_a_result(client: HelmrClient) -> None:
    attempt = a_task(**LIVE, fail_on=["failed"], result="snapshot", deferrable=True).start()
    deferral = deferred(attempt.execute())
    client.runs.cancel(attempt.xcoms["run_id"])
    assert attempt.resume(deferral, fire(deferral))["status"] == "cancelled"


def test_a_retry_takes_over_an_end_that_counts_as_a_result(control_plane: LocalControlPlane) -> None:
    task = a_task(task="fail", fail_on=[], result="snapshot")
    first = task.start().finish()
    assert task.start().finish()["id"] == first["id"]
    assert len(starts(control_plane)) == 1


def test_an_author_s_session_that_ended_with_what_counts_as_a_result_gives_it() -> None:
    with pytest.raises(AirflowException, match="failed"):
        a_task(task="fail", external_id="release-7").start().finish()
    task = a_task(task="fail", external_id="release-7", fail_on=["cancelled"], result="snapshot", run_id="later")
    assert task.start().finish()["status"] == "failed"


@pytest.mark.parametrize("fail_on", [["succeeded"], ["failed", "crashed"], "crashed"])
def test_a_status_that_cannot_fail_a_task_is_refused_when_the_dag_is_parsed(fail_on: Any) -> None:
    with pytest.raises(ValueError, match="fail_on takes failed, cancelled, expired"):
        a_task(fail_on=fail_on).make()


# close_session


@both_ways
def test_the_session_is_closed_once_its_result_is_there(client: HelmrClient, deferrable: bool) -> None:
    attempt = a_task(payload=1, close_session=True, deferrable=deferrable).start()
    assert attempt.finish() == 1
    session = client.sessions.retrieve(attempt.xcoms["session_id"])
    assert session.status == "closed"
    assert session.terminal_reason["reason"] == "the Airflow task has the result"


def test_the_session_stays_open_by_default(client: HelmrClient) -> None:
    attempt = a_task(payload=1).start()
    attempt.finish()
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "open"


def test_a_retry_takes_the_result_of_the_session_that_it_has_closed(control_plane: LocalControlPlane) -> None:
    task = a_task(payload=1, close_session=True)
    assert [task.start().finish(), task.start().finish()] == [1, 1]
    assert len(starts(control_plane)) == 1


def test_a_session_with_another_turn_is_left_open_and_the_result_returned(
    control_plane: LocalControlPlane, client: HelmrClient, task_log: Callable[[], str]
) -> None:
    attempt = a_task(task="wait-for-input", close_session=True, deferrable=True).start()
    deferral = deferred(attempt.execute())
    session = client.sessions.open(attempt.xcoms["session_id"])
    session.input("messages").send("first")
    event = fire(deferral)
    control_plane.pause_worker()
    session.input("messages").send("second")
    assert attempt.resume(deferral, event)["message"] == "first"
    assert "is active" in task_log()


@pytest.mark.parametrize("code", [500, 403])
def test_a_result_is_not_lost_because_its_session_cannot_be_closed(
    control_plane: LocalControlPlane, task_log: Callable[[], str], code: int
) -> None:
    control_plane.fail_next("closeSession", faults.status(code))
    assert a_task(payload=1, close_session=True).start().finish() == 1
    assert "was not closed" in task_log()


def test_a_run_that_fails_the_task_leaves_its_session_open(client: HelmrClient) -> None:
    attempt = a_task(task="fail", close_session=True).start()
    with pytest.raises(AirflowException):
        attempt.finish()
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "open"


def test_a_result_that_is_not_awaited_closes_nothing() -> None:
    with pytest.raises(ValueError, match="wait_for_completion"):
        a_task(close_session=True, wait_for_completion=False).make()

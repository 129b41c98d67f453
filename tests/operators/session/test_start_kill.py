"""Tasks that are ended from outside: what they have started ends with them, if it is still theirs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowTaskTimeout

from helmr_provider.local import faults
from tests.support.session_tasks import LIVE, a_task, starts, wait_until_asked_for
from tests.support.task_attempts import deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")

LIVE_STATUSES = {"queued", "running", "waiting"}


# A worker that is told to stop


def test_a_worker_that_is_stopped_while_it_waits_cancels_and_may_be_retried(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    attempt = a_task(**LIVE).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        wait_until_asked_for(control_plane, "getRun")
        attempt.operator.on_kill()
        with pytest.raises(AirflowException, match="because the Airflow task was ended") as failed:
            result.result(timeout=30)
    assert not isinstance(failed.value, AirflowFailException)
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "cancelled"


def test_a_worker_that_is_stopped_before_its_start_is_answered_cancels_what_came_of_it(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    attempt = a_task(**LIVE).start()
    # The start is served, and its answer is on the way when the signal comes.
    control_plane.fail_next("startSession", faults.delay(1.5))
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        wait_until_asked_for(control_plane, "startSession")
        attempt.operator.on_kill()
        with pytest.raises(AirflowException, match="killed"):
            result.result(timeout=30)
    [session] = client.sessions.list()
    assert session.status == "cancelled"


def test_cancel_on_kill_can_be_switched_off(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    control_plane.pause_worker()
    attempt = a_task(payload=1, cancel_on_kill=False).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        wait_until_asked_for(control_plane, "getRun")
        attempt.operator.on_kill()
        control_plane.resume_worker()
        assert result.result(timeout=30) == 1


def test_a_worker_that_is_stopped_leaves_alone_what_another_try_has_adopted(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    task = a_task(**LIVE)
    zombie = task.start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(zombie.execute)
        wait_until_asked_for(control_plane, "getRun")
        task.make = a_task(**LIVE, deferrable=True).make
        deferred(task.start().execute())
        zombie.operator.on_kill()
        assert status(client, zombie) in LIVE_STATUSES
        client.runs.cancel(zombie.xcoms["run_id"])
        with pytest.raises(AirflowFailException, match="by somebody else"):
            result.result(timeout=30)


def test_a_task_that_has_nothing_started_has_nothing_to_cancel(control_plane: LocalControlPlane) -> None:
    a_task().make().on_kill()
    assert control_plane.journal == []


def test_a_session_that_is_not_awaited_survives_its_task(client: HelmrClient) -> None:
    attempt = a_task(**LIVE, wait_for_completion=False).start()
    ids = attempt.execute()
    attempt.operator.on_kill()
    assert client.sessions.retrieve(ids["session_id"]).status == "open"


def test_a_control_plane_that_is_down_does_not_stop_a_worker_from_stopping(
    control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    attempt = a_task(**LIVE, deferrable=True).start()
    deferred(attempt.execute())
    control_plane.stop_listening()
    attempt.operator.on_kill()
    assert "Could not cancel" in task_log()


# A trigger that is lost


def lost(client: HelmrClient, **options: Any) -> Any:
    attempt = a_task(**LIVE, deferrable=True, **options).start()
    deferred(attempt.execute())
    return attempt


def status(client: HelmrClient, attempt: Any) -> str:
    return client.runs.retrieve(attempt.xcoms["run_id"]).status


def test_a_lost_trigger_with_a_retry_to_come_leaves_the_run_to_it(
    client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    attempt = lost(client, retries=1)
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger()
    assert status(client, attempt) in LIVE_STATUSES
    retry = attempt.of.start()
    deferred(retry.execute())
    assert retry.xcoms["run_id"] == attempt.xcoms["run_id"]
    assert len(starts(control_plane)) == 1


def test_a_lost_trigger_of_the_last_try_cancels_the_run(client: HelmrClient) -> None:
    attempt = lost(client, retries=0)
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger()
    assert status(client, attempt) == "cancelled"


@pytest.mark.parametrize("reason", ["Trigger timeout", "Trigger/execution timeout"])
@pytest.mark.parametrize("cancel", [True, False])
def test_a_trigger_that_timed_out_cancels_unless_told_not_to(client: HelmrClient, cancel: bool, reason: str) -> None:
    attempt = lost(client, cancel_on_timeout=cancel)
    with pytest.raises(AirflowTaskTimeout):
        attempt.lose_trigger(reason)
    assert (status(client, attempt) == "cancelled") == cancel


def test_a_trigger_that_was_lost_at_the_end_does_not_lose_the_result(client: HelmrClient) -> None:
    attempt = a_task(payload=1, deferrable=True).start()
    deferred(attempt.execute())
    client.runs.wait(attempt.xcoms["run_id"], timeout=20)
    assert attempt.lose_trigger() == 1


def test_a_lost_trigger_finds_an_author_s_session_by_its_name(client: HelmrClient) -> None:
    attempt = lost(client, external_id="mine", retries=0)
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger()
    assert status(client, attempt) == "cancelled"
    assert client.sessions.retrieve(external_id="mine").status == "open"


def test_a_lost_trigger_leaves_alone_what_another_try_has_adopted(client: HelmrClient) -> None:
    attempt = lost(client, retries=0)
    deferred(attempt.of.start().execute())
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger("Trigger failure")
    assert status(client, attempt) in LIVE_STATUSES


def test_a_lost_trigger_during_an_outage_fails_the_try(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    attempt = lost(client)
    control_plane.stop_listening()
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger()

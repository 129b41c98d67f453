"""Tasks that are ended from outside: what they have started ends with them, if it is still theirs."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowTaskTimeout

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider.local import faults
from tests.support.journal import until_requested
from tests.support.session_tasks import LIVE, a_task, starts
from tests.support.task_attempts import deferred, fire
from tests.support.task_states import fail_task_state, set_no_task_instance, set_task_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")

LIVE_STATUSES = {"queued", "running", "waiting"}


# A worker that must stop


@pytest.mark.parametrize("state", ["failed", "success", "removed", "restarting", "gone"])
def test_a_user_who_ends_a_waiting_task_cancels_its_session(
    control_plane: LocalControlPlane, client: HelmrClient, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    if state == "gone":
        set_no_task_instance(monkeypatch)
    else:
        set_task_state(monkeypatch, state)
    attempt = a_task(**LIVE).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until_requested(control_plane, "getRun")
        attempt.operator.on_kill()
        with pytest.raises(AirflowException, match="because the Airflow task was ended") as failed:
            result.result(timeout=30)
    assert not isinstance(failed.value, AirflowFailException)
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "cancelled"


@pytest.mark.parametrize(
    ("state", "retries"),
    [
        ("running", 2),
        # Airflow has given up the try and starts another, even after the last one: its scheduler was given up.
        (None, 2),
        (None, 0),
        ("scheduled", 0),
        ("queued", 0),
        ("deferred", 0),
        ("up_for_retry", 2),
    ],
)
def test_a_worker_that_is_drained_or_given_up_leaves_its_run_to_the_next_try(
    control_plane: LocalControlPlane,
    client: HelmrClient,
    monkeypatch: pytest.MonkeyPatch,
    state: str | None,
    retries: int,
) -> None:
    set_task_state(monkeypatch, state)
    task = a_task(**LIVE, retries=retries)
    attempt = task.start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until_requested(control_plane, "getRun")
        attempt.operator.on_kill()
        assert status(client, attempt) in LIVE_STATUSES
        task.make = a_task(**LIVE, deferrable=True).make
        retry = task.start()
        deferred(retry.execute())
        assert retry.xcoms["run_id"] == attempt.xcoms["run_id"]
        assert len(starts(control_plane)) == 1
        client.runs.cancel(attempt.xcoms["run_id"])
        with pytest.raises(AirflowFailException):
            result.result(timeout=30)


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 ends the process itself")
def test_a_signal_ends_the_wait_of_a_drained_worker_immediately(
    control_plane: LocalControlPlane, client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "running")
    attempt = a_task(**LIVE, retries=1).start()

    def drain() -> None:
        until_requested(control_plane, "getRun")
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: attempt.operator.on_kill())
    try:
        with ThreadPoolExecutor(1) as node:
            drained = node.submit(drain)
            with pytest.raises(SystemExit, match="a retry finds it again"):
                attempt.execute()
            drained.result(timeout=30)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert status(client, attempt) in LIVE_STATUSES


def test_a_worker_that_is_drained_in_the_last_try_cancels(
    control_plane: LocalControlPlane, client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "running")
    attempt = a_task(**LIVE, retries=0).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until_requested(control_plane, "getRun")
        attempt.operator.on_kill()
        with pytest.raises(AirflowException, match="because the Airflow task was ended"):
            result.result(timeout=30)
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "cancelled"


def test_a_worker_that_cannot_ask_airflow_leaves_its_run_to_the_retry(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_task_state(monkeypatch)
    attempt = a_task(**LIVE, deferrable=True, retries=1).start()
    deferred(attempt.execute())
    attempt.operator._attempt.is_handed_over = False
    attempt.operator.on_kill()
    assert status(client, attempt) in LIVE_STATUSES


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("state", ["running", "deferred"])
def test_a_worker_that_is_stopped_when_it_has_deferred_leaves_the_run_to_the_trigger(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, state: str, retries: int
) -> None:
    set_task_state(monkeypatch, state)
    attempt = a_task(**LIVE, deferrable=True, retries=retries).start()
    deferred(attempt.execute())
    attempt.operator.on_kill()
    assert status(client, attempt) in LIVE_STATUSES


def test_a_user_who_ends_a_task_that_has_just_deferred_cancels_its_session(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    attempt = a_task(**LIVE, deferrable=True).start()
    deferred(attempt.execute())
    attempt.operator.on_kill()
    assert status(client, attempt) == "cancelled"


@pytest.mark.parametrize("external_id", [None, "mine"])
def test_a_cancellation_by_airflow_may_be_retried_whichever_process_did_it(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, external_id: str | None
) -> None:
    set_task_state(monkeypatch, "failed")
    attempt = a_task(**LIVE, deferrable=True, external_id=external_id).start()
    deferral = deferred(attempt.execute())
    attempt.operator.on_kill()
    with pytest.raises(AirflowException, match="because the Airflow task was ended") as failed:
        attempt.resume(deferral, fire(deferral))
    assert not isinstance(failed.value, AirflowFailException)


def test_a_user_who_ends_a_task_whose_start_is_not_answered_yet_cancels_what_came_of_it(
    control_plane: LocalControlPlane, client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    attempt = a_task(**LIVE).start()
    # The start is served, and its answer is on the way when the signal comes.
    control_plane.fail_next("startSession", faults.delay(1.5))
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until_requested(control_plane, "startSession")
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
        until_requested(control_plane, "getRun")
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
        until_requested(control_plane, "getRun")
        task.make = a_task(**LIVE, deferrable=True).make
        deferred(task.start().execute())
        zombie.operator.on_kill()
        assert status(client, zombie) in LIVE_STATUSES
        client.runs.cancel(zombie.xcoms["run_id"])
        with pytest.raises(AirflowFailException, match="by another client"):
            result.result(timeout=30)


def test_a_task_that_has_nothing_started_has_nothing_to_cancel(control_plane: LocalControlPlane) -> None:
    a_task().make().on_kill()
    assert control_plane.journal == []


def test_a_session_that_is_not_awaited_survives_its_task(client: HelmrClient) -> None:
    attempt = a_task(**LIVE, wait_for_completion=False).start()
    ids = attempt.execute()
    attempt.operator.on_kill()
    assert client.sessions.retrieve(ids["session_id"]).status == "open"


def test_a_control_plane_that_is_down_is_asked_again_and_what_is_left_over_is_logged(
    control_plane: LocalControlPlane, task_log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    attempt = a_task(**LIVE, deferrable=True).start()
    deferred(attempt.execute())
    control_plane.stop_listening()
    attempt.operator.on_kill()
    log = task_log()
    assert log.count("is repeated for") == 1
    assert log.count("What is left over: session") == 1
    assert attempt.xcoms["session_id"] in log
    assert "HelmrCancelSessionOperator" in log


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
def test_a_trigger_that_timed_out_cancels_by_default(client: HelmrClient, cancel: bool, reason: str) -> None:
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


def test_a_lost_trigger_whose_connection_was_deleted_fails_the_try(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, airflow_db: object
) -> None:
    attempt = lost(client)
    monkeypatch.delenv("AIRFLOW_CONN_HELMR_DEFAULT")
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger()

"""Waiting for a run that something else has started."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from helmr_provider.sensors.run import HelmrRunSensor
from tests.support.session_tasks import LIVE
from tests.support.task_attempts import TaskRun, deferred, fire, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")

MODES = pytest.mark.parametrize("how", [{"poke_interval": 0.1}, {"deferrable": True}], ids=["on a worker", "deferred"])


def a_sensor(run_id: str, **options: Any) -> TaskRun:
    return TaskRun(lambda: HelmrRunSensor(**{"task_id": "wait", "run_id": run_id, **options}))


def a_live_run(client: HelmrClient) -> str:
    return client.sessions.start(LIVE["task"], LIVE["payload"]).run.id


@MODES
def test_it_returns_the_output_when_the_run_has_ended(client: HelmrClient, how: dict[str, Any]) -> None:
    started = client.sessions.start("work", {"seconds": 0.5})
    attempt = a_sensor(started.run.id, **how).start()
    assert attempt.finish() == {"seconds": 0.5}
    assert attempt.xcoms["_link_HelmrRunLink"].endswith(f"/sessions/{started.session.id}/runs/{started.run.id}")


def test_a_run_that_has_ended_already_needs_no_triggerer(client: HelmrClient) -> None:
    run = client.runs.wait(client.sessions.start("echo", 1).run.id, timeout=20)
    assert a_sensor(run.id, deferrable=True).start().execute() == 1


@MODES
def test_a_run_that_failed_fails_the_task_for_good_and_says_why(client: HelmrClient, how: dict[str, Any]) -> None:
    started = client.sessions.start("fail", {"message": "no such repository"})
    with pytest.raises(AirflowFailException, match="no such repository"):
        a_sensor(started.run.id, **how).start().finish()


@MODES
def test_with_soft_fail_a_run_that_failed_fails_the_task(client: HelmrClient, how: dict[str, Any]) -> None:
    started = client.sessions.start("fail", {"message": "no such repository"})
    with pytest.raises(AirflowFailException, match="no such repository"):
        a_sensor(started.run.id, soft_fail=True, **how).start().finish()


@MODES
def test_a_status_that_is_not_in_fail_on_is_a_success(client: HelmrClient, how: dict[str, Any]) -> None:
    started = client.sessions.start("fail")
    attempt = a_sensor(started.run.id, fail_on=["cancelled"], result="snapshot", **how).start()
    assert attempt.finish()["status"] == "failed"


def test_fail_on_takes_no_other_statuses() -> None:
    with pytest.raises(ValueError, match=r"fail_on.*succeeded"):
        a_sensor("r", fail_on=["succeeded"]).make()


@MODES
def test_a_time_limit_raises_what_sensors_raise_and_leaves_the_run_alone(
    client: HelmrClient, how: dict[str, Any]
) -> None:
    run_id = a_live_run(client)
    with pytest.raises(AirflowSensorTimeout):
        a_sensor(run_id, timeout=0.3, **how).start().finish()
    assert client.runs.retrieve(run_id).status in {"queued", "running", "waiting"}


@MODES
def test_with_soft_fail_a_time_limit_skips_the_task(client: HelmrClient, how: dict[str, Any]) -> None:
    with pytest.raises(AirflowSkipException):
        a_sensor(a_live_run(client), timeout=0.3, soft_fail=True, **how).start().finish()


@pytest.mark.parametrize("reason", ["Trigger timeout", "Trigger/execution timeout"])
def test_airflow_s_own_limit_is_a_time_limit_too(client: HelmrClient, reason: str) -> None:
    attempt = a_sensor(a_live_run(client), deferrable=True).start()
    deferred(attempt.execute())
    with pytest.raises(AirflowSensorTimeout):
        attempt.lose_trigger(reason)


def test_the_earlier_limit_counts_while_deferred(client: HelmrClient) -> None:
    attempt = a_sensor(a_live_run(client), deferrable=True, timeout=timedelta(hours=2)).start()
    trigger = stored(deferred(attempt.execute()).trigger)
    assert trigger.deadline == pytest.approx(attempt.ti.start_date.timestamp() + 7200)
    assert trigger.cancel_on_kill is None


@MODES
def test_a_wrong_key_fails_for_good(
    control_plane: LocalControlPlane, client: HelmrClient, connect: Callable[..., str], how: dict[str, Any]
) -> None:
    connect(host=control_plane.url, password="hlmr_sk_wrong")
    with pytest.raises(AirflowFailException, match="401"):
        a_sensor(a_live_run(client), **how).start().finish()


@MODES
def test_a_run_that_does_not_exist_fails_for_good(how: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="404"):
        a_sensor("01a209f1-a710-7c76-93c6-10a2375dd539", **how).start().finish()


@pytest.mark.parametrize("run_id", [None, "None", ""], ids=repr)
def test_a_missing_run_id_is_reported(run_id: Any) -> None:
    with pytest.raises(AirflowFailException, match="run_id must be an id"):
        a_sensor(run_id, deferrable=True).start().finish()


def test_an_outage_on_a_worker_is_waited_out(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    run = client.runs.wait(client.sessions.start("echo", 1).run.id, timeout=20)
    control_plane.fail_next("getRun", 503, times=30)
    assert a_sensor(run.id, poke_interval=0.05).start().finish() == 1
    assert not control_plane.pending_faults


def test_an_outage_at_the_end_is_waited_out_in_the_triggerer(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    started = client.sessions.start("work", {"seconds": 3})
    attempt = a_sensor(started.run.id, deferrable=True, soft_fail=True).start()
    first = deferred(attempt.execute())
    event = fire(first)
    control_plane.stop_listening()
    second = deferred(attempt.resume(first, event))
    control_plane.listen_again()
    assert second.trigger.serialize() == first.trigger.serialize()
    assert attempt.resume(second, fire(second)) == {"seconds": 3}


def test_an_event_that_comes_too_early_makes_it_wait_on(client: HelmrClient) -> None:
    attempt = a_sensor(a_live_run(client), deferrable=True).start()
    first = deferred(attempt.execute())
    assert deferred(attempt.resume(first, {"status": "ended"})).kwargs == first.kwargs


def test_a_trigger_that_cannot_continue_fails_the_try(client: HelmrClient) -> None:
    attempt = a_sensor(a_live_run(client), deferrable=True).start()
    deferral = deferred(attempt.execute())
    with pytest.raises(AirflowException, match="HelmrAuthError"):
        attempt.resume(deferral, {"status": "error", "error": "HelmrAuthError"})


def test_a_result_that_is_too_large_fails_for_good(client: HelmrClient) -> None:
    run_id = client.sessions.start("echo", "x" * 100).run.id
    with pytest.raises(AirflowFailException, match="max_result_bytes=10"):
        a_sensor(run_id, max_result_bytes=10, poke_interval=0.1).start().finish()

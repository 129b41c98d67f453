"""Waiting for a token's data: on a worker or in the triggerer, whatever becomes of token, time and control plane."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from helmr_provider.client import HelmrClient
from helmr_provider.sensors.token import HelmrTokenSensor
from tests.support.polling import until
from tests.support.task_attempts import TaskRun, fire, overdue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.local import LocalControlPlane
    from tests.support.task_attempts import Try

ANSWER = {"approved": True, "by": "dana"}


@pytest.fixture
def client(control_plane: LocalControlPlane) -> Iterator[HelmrClient]:
    with HelmrClient(url=control_plane.url, api_key=control_plane.api_key) as client:
        yield client


@pytest.fixture
def token_id(client: HelmrClient, helmr_connection: str) -> str:
    return client.tokens.create().id


def start(token_id: str, **options: Any) -> Try:
    """Start a sensor's first try."""
    options = {"poke_interval": 0.01, "timeout": 60, **options}
    return TaskRun(lambda: HelmrTokenSensor(task_id="wait", token_id=token_id, **options)).start()


def deferred(sensor: Try) -> TaskDeferred:
    deferral = sensor.execute()
    assert isinstance(deferral, TaskDeferred)
    return deferral


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("data", [ANSWER, "yes", 0, False, None])
def test_the_data_are_returned(data: Any, deferrable: bool, client: HelmrClient, token_id: str) -> None:
    client.tokens.complete(token_id, data)
    assert start(token_id, deferrable=deferrable).finish() == data


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_pending_token_is_not_done(mode: str, token_id: str) -> None:
    sensor = start(token_id, mode=mode, deferrable=False)
    assert not sensor.operator.poke(sensor.context).is_done


def test_while_pending_it_is_deferred_with_ids_only(token_id: str, control_plane: LocalControlPlane) -> None:
    deferral = deferred(start(token_id, deferrable=True))
    path, kwargs = deferral.trigger.serialize()
    assert path == "helmr_provider.triggers.token.HelmrTokenTrigger"
    assert set(kwargs) == {"token_id", "helmr_conn_id", "deadline", "version"}
    assert "hlmr_" not in json.dumps([kwargs, deferral.kwargs])


def test_a_deferred_wait_ends_with_the_data(client: HelmrClient, token_id: str) -> None:
    sensor = start(token_id, deferrable=True)
    deferral = deferred(sensor)
    client.tokens.complete(token_id, ANSWER)
    event = fire(deferral)
    assert "approved" not in json.dumps(event)
    assert sensor.resume(deferral, event) == ANSWER


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_cancelled_token_fails_for_good(deferrable: bool, client: HelmrClient, token_id: str) -> None:
    client.tokens.cancel(token_id)
    with pytest.raises(AirflowFailException, match=rf"^Helmr token {token_id} was cancelled\.$"):
        start(token_id, deferrable=deferrable).finish()


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_expired_token_fails_for_good(deferrable: bool, client: HelmrClient, helmr_connection: str) -> None:
    token_id = client.tokens.create(timeout="1ms").id
    with pytest.raises(AirflowFailException, match=rf"^Helmr token {token_id} expired: it was not completed before 20"):
        start(token_id, deferrable=deferrable).finish()


def test_a_token_that_ends_while_deferred_fails_with_the_same_text(client: HelmrClient, token_id: str) -> None:
    sensor = start(token_id, deferrable=True)
    deferral = deferred(sensor)
    client.tokens.cancel(token_id)
    with pytest.raises(AirflowFailException, match=r"was cancelled\."):
        sensor.resume(deferral, fire(deferral))


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_unknown_token_fails_for_good(deferrable: bool, helmr_connection: str) -> None:
    with pytest.raises(AirflowFailException, match="token_not_found"):
        start("00000000-0000-7000-8000-000000000000", deferrable=deferrable).finish()


@pytest.mark.parametrize("token_id", [None, "None", ""], ids=repr)
@pytest.mark.usefixtures("helmr_connection")
def test_a_missing_token_id_is_reported(token_id: Any, control_plane: LocalControlPlane) -> None:
    with pytest.raises(AirflowFailException, match="token_id must be an id"):
        start(token_id, deferrable=True).finish()
    assert control_plane.journal == []


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wrong_key_fails_for_good_in_one_line(
    deferrable: bool, connect: Callable[..., str], control_plane: LocalControlPlane
) -> None:
    connect(host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    with pytest.raises(AirflowFailException) as refused:
        start("t-1", deferrable=deferrable).finish()
    assert "\n" not in str(refused.value)
    assert "hlmr_sk_" not in str(refused.value)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("soft", "raised"), [("soft_fail", AirflowFailException), ("never_fail", AirflowSkipException)]
)
def test_what_can_never_succeed_is_skipped_by_never_fail_only(
    soft: str, raised: type[Exception], deferrable: bool, client: HelmrClient, token_id: str
) -> None:
    client.tokens.cancel(token_id)
    with pytest.raises(raised, match="was cancelled"):
        start(token_id, deferrable=deferrable, **{soft: True}).finish()


def test_soft_fail_does_not_skip_what_fails_after_a_deferral(client: HelmrClient, token_id: str) -> None:
    sensor = start(token_id, deferrable=True, soft_fail=True)
    deferral = deferred(sensor)
    with pytest.raises(AirflowException, match=r"failed \(AirflowNotFoundException\)") as lost:
        sensor.resume(deferral, {"status": "error", "error": "AirflowNotFoundException"})
    assert not isinstance(lost.value, AirflowSkipException)
    with pytest.raises(Exception, match="Trigger failure") as gone:
        sensor.lose_trigger()
    assert not isinstance(gone.value, AirflowSkipException)
    client.tokens.cancel(token_id)
    with pytest.raises(AirflowFailException, match="was cancelled"):
        sensor.resume(deferral, {"status": "ended"})
    assert sensor.operator.soft_fail


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("wrong", ["connection", "key", "id"])
def test_soft_fail_does_not_skip_what_is_configured_wrongly(
    wrong: str, deferrable: bool, token_id: str, control_plane: LocalControlPlane, connect: Callable[..., str]
) -> None:
    options: dict[str, Any] = {"soft_fail": True, "deferrable": deferrable}
    if wrong == "connection":
        options["helmr_conn_id"] = "nowhere"
    if wrong == "key":
        connect("refused", host=control_plane.url, password="hlmr_sk_wrong")
        options["helmr_conn_id"] = "refused"
    with pytest.raises(AirflowFailException):
        start("None" if wrong == "id" else token_id, **options).finish()


def test_never_fail_while_deferred_skips_and_says_why(
    client: HelmrClient, token_id: str, logged: Callable[[], str]
) -> None:
    sensor = start(token_id, deferrable=True, never_fail=True)
    deferral = deferred(sensor)
    client.tokens.cancel(token_id)
    with pytest.raises(AirflowSkipException):
        sensor.resume(deferral, fire(deferral))
    assert f"Helmr token {token_id} was cancelled." in logged()


def test_the_time_of_the_sensor_ends_the_wait_and_leaves_the_token(client: HelmrClient, token_id: str) -> None:
    sensor = start(token_id, deferrable=True, timeout=60)
    deferral = overdue(deferred(sensor))
    event = fire(deferral)
    assert event["status"] == "timeout"
    with pytest.raises(AirflowSensorTimeout, match=token_id):
        sensor.resume(deferral, event)
    assert client.tokens.retrieve(token_id).is_pending


def test_a_soft_failure_by_time_skips_and_says_why(token_id: str, logged: Callable[[], str]) -> None:
    sensor = start(token_id, deferrable=True, timeout=60, soft_fail=True)
    deferral = overdue(deferred(sensor))
    with pytest.raises(AirflowSkipException):
        sensor.resume(deferral, fire(deferral))
    assert f"Helmr token {token_id} had not ended when the time of this sensor was over." in logged()


def test_polling_has_the_same_limit(token_id: str) -> None:
    with pytest.raises(AirflowSensorTimeout):
        start(token_id, deferrable=False, timeout=0.05).execute()


def test_the_earlier_limit_counts(token_id: str) -> None:
    early = deferred(start(token_id, deferrable=True, timeout=3600, execution_timeout=timedelta(seconds=60)))
    late = deferred(start(token_id, deferrable=True, timeout=3600))
    assert late.trigger.deadline - early.trigger.deadline == pytest.approx(3540, abs=10)


def test_the_deadline_does_not_move_when_the_wait_continues(token_id: str) -> None:
    sensor = start(token_id, deferrable=True)
    first = deferred(sensor)
    second = sensor.resume(first, {"schema": 1, "status": "ended", "token_id": token_id})
    assert isinstance(second, TaskDeferred), "an old event says nothing about a token that is pending"
    assert second.trigger.deadline == first.trigger.deadline


def test_an_answer_in_the_last_moment_counts(client: HelmrClient, token_id: str) -> None:
    sensor = start(token_id, deferrable=True)
    deferral = deferred(sensor)
    client.tokens.complete(token_id, ANSWER)
    assert sensor.resume(deferral, {"schema": 1, "status": "timeout", "token_id": token_id}) == ANSWER


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_control_plane_that_is_down_is_waited_for(
    deferrable: bool, control_plane: LocalControlPlane, client: HelmrClient, token_id: str
) -> None:
    from helmr_provider.local import faults

    client.tokens.complete(token_id, ANSWER)
    # More often than one call tries again.
    control_plane.fail_next("getToken", faults.status(503), times=5)
    assert start(token_id, deferrable=deferrable).finish() == ANSWER


def test_a_control_plane_that_goes_down_at_the_end_does_not_lose_the_answer(
    control_plane: LocalControlPlane, client: HelmrClient, token_id: str
) -> None:
    sensor = start(token_id, deferrable=True)
    deferral = deferred(sensor)
    client.tokens.complete(token_id, ANSWER)
    event = fire(deferral)
    control_plane.stop_listening()
    again = sensor.resume(deferral, event)
    assert isinstance(again, TaskDeferred)
    control_plane.listen_again()
    assert sensor.resume(again, fire(again)) == ANSWER


def test_a_trigger_that_could_not_wait_refers_to_the_log(token_id: str) -> None:
    from airflow.providers.common.compat.sdk import AirflowException

    sensor = start(token_id, deferrable=True)
    event = {"schema": 1, "status": "error", "error": "HelmrAuthError", "token_id": token_id}
    with pytest.raises(AirflowException, match="HelmrAuthError"):
        sensor.resume(deferred(sensor), event)


def test_no_secret_is_logged(
    client: HelmrClient, control_plane: LocalControlPlane, helmr_connection: str, logged: Callable[[], str]
) -> None:
    token = client.tokens.create()
    sensor = start(token.id, deferrable=True)
    deferral = deferred(sensor)
    client.tokens.complete(token.id, ANSWER)
    sensor.resume(deferral, fire(deferral))
    text = logged()
    assert token.id in text
    for secret in (control_plane.api_key, token.public_access_token, (token.callback_url or "").rsplit("/", 1)[-1]):
        assert secret
        assert secret not in text


def test_it_is_deferred_by_default_as_airflow_is_configured() -> None:
    assert HelmrTokenSensor(task_id="wait", token_id="t").deferrable is False


def test_a_sensor_that_was_killed_leaves_the_token_alone(client: HelmrClient, token_id: str) -> None:
    sensor = start(token_id, deferrable=True)
    deferred(sensor)
    sensor.operator.on_kill()
    assert client.tokens.retrieve(token_id).is_pending


@time_machine.travel("2026-11-23T12:00:00Z", tick=False)
def test_the_deadline_counts_from_the_start_of_the_try(token_id: str) -> None:
    sensor = start(token_id, deferrable=True, timeout=90)
    assert deferred(sensor).trigger.deadline == sensor.ti.start_date.timestamp() + 90


@pytest.mark.usefixtures("helmr_connection")
@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_in_a_dag_the_answer_is_waited_for(
    mode: str, control_plane: LocalControlPlane, client: HelmrClient, run_dag: Callable[..., Any]
) -> None:
    token_id = client.tokens.create().id

    def answer_after_a_poll() -> None:
        until(lambda: any(entry.operation == "getToken" for entry in control_plane.journal))
        client.tokens.complete(token_id, ANSWER)

    with DAG(f"waits_{mode}", schedule=None) as dag:
        HelmrTokenSensor(task_id="wait", token_id=token_id, mode=mode, poke_interval=0.2, timeout=60, deferrable=False)
    person = threading.Thread(target=answer_after_a_poll, daemon=True)
    person.start()
    run = run_dag(dag)
    person.join(timeout=10)
    assert run.state == "success"
    [ti] = run.get_task_instances()
    assert ti.xcom_pull(task_ids="wait") == ANSWER
    assert len([entry for entry in control_plane.journal if entry.operation == "getToken"]) > 1

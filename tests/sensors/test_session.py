"""Waiting for a session, and for what it writes: on a worker or in the triggerer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
)

from helmr_provider.local import LocalControlPlane, faults
from helmr_provider.sensors.session import HelmrSessionOutputSensor, HelmrSessionSensor
from tests.support.conversations import talk
from tests.support.polling import until
from tests.support.task_attempts import TaskRun, both_ways, deferred, fire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.sessions import SessionStart
    from tests.support.task_attempts import Try

pytestmark = pytest.mark.usefixtures("helmr_connection")


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane([talk]) as server:
        yield server


@pytest.fixture
def started(client: HelmrClient) -> SessionStart:
    """A session whose run waits for a message, and answers it."""
    start = client.sessions.start("talk", {"turns": [["take", "answer"]]}, external_id="chat")
    until(lambda: client.runs.retrieve(start.run).status == "waiting")
    return start


def say(client: HelmrClient, text: str, **options: Any) -> None:
    client.sessions.open(external_id="chat").input("messages").send(text, **options)


def a_sensor(kind: Any, **options: Any) -> Try:
    defaults = {"task_id": "wait", "poke_interval": 0.01, "timeout": 60, "external_id": "chat"}
    if "session_id" in options:
        del defaults["external_id"]
    return TaskRun(lambda: kind(**{**defaults, **options})).start()


# A session


@both_ways
@pytest.mark.parametrize(
    "wanted",
    [{"activity": "waiting"}, {"status": "open"}, {"status": ["closed", "open"], "activity": ["waiting", "running"]}],
)
def test_a_session_that_is_so_already_ends_the_wait(
    control_plane: LocalControlPlane, started: SessionStart, deferrable: bool, wanted: dict[str, Any]
) -> None:
    attempt = a_sensor(HelmrSessionSensor, deferrable=deferrable, **wanted)
    session_id = started.session.id
    assert attempt.finish() == {"session_id": session_id, "status": "open", "activity": "waiting"}
    assert attempt.xcoms == {"_link_HelmrSessionLink": f"{control_plane.url}/sessions/{session_id}"}


def test_a_session_that_becomes_so_ends_the_deferral(client: HelmrClient, started: SessionStart) -> None:
    attempt = a_sensor(HelmrSessionSensor, session_id=started.session.id, activity="idle", deferrable=True)
    deferral = deferred(attempt.execute())
    say(client, "hi")
    assert attempt.resume(deferral, fire(deferral))["activity"] == "idle"


@both_ways
@pytest.mark.parametrize("wanted", [{"status": "closed"}, {"activity": "running"}, {"status": "open"}])
@pytest.mark.usefixtures("started")
def test_waiting_for_what_can_not_come_any_more_fails_for_good(
    client: HelmrClient, deferrable: bool, wanted: dict[str, str]
) -> None:
    client.sessions.open(external_id="chat").cancel()
    with pytest.raises(AirflowFailException, match=r"is cancelled.*cannot occur any more"):
        a_sensor(HelmrSessionSensor, deferrable=deferrable, **wanted).finish()
    with pytest.raises(AirflowFailException, match=r"is cancelled.*cannot occur any more"):
        a_sensor(HelmrSessionSensor, deferrable=deferrable, soft_fail=True, **wanted).finish()


@both_ways
@pytest.mark.usefixtures("started")
def test_a_session_that_has_ended_is_idle(client: HelmrClient, deferrable: bool) -> None:
    client.sessions.open(external_id="chat").cancel()
    seen = a_sensor(HelmrSessionSensor, activity="idle", deferrable=deferrable).finish()
    assert (seen["status"], seen["activity"]) == ("cancelled", "idle")


@both_ways
@pytest.mark.usefixtures("started")
def test_the_time_of_the_sensor_ends_the_wait_and_leaves_the_session(client: HelmrClient, deferrable: bool) -> None:
    with pytest.raises(AirflowSensorTimeout):
        a_sensor(HelmrSessionSensor, activity="idle", timeout=0.2, deferrable=deferrable).finish()
    assert client.sessions.retrieve(external_id="chat").activity == "waiting"


@both_ways
def test_an_unknown_session_fails_for_good(deferrable: bool) -> None:
    with pytest.raises(AirflowFailException, match="not found"):
        a_sensor(HelmrSessionSensor, activity="idle", deferrable=deferrable).finish()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"session_id": "a"}, "a status or an activity"),
        ({"session_id": "a", "status": "over"}, "but not over"),
        ({"session_id": "a", "activity": ["idle", "busy"]}, "but not busy"),
        ({"activity": "idle"}, "either session_id or external_id"),
    ],
)
def test_a_wait_that_makes_no_sense_is_refused_when_it_is_parsed(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HelmrSessionSensor(task_id="wait", **options)


# Its output


@both_ways
@pytest.mark.usefixtures("started")
def test_the_next_record_is_returned_and_a_following_sensor_continues_behind_it(
    client: HelmrClient, deferrable: bool
) -> None:
    output = client.sessions.open(external_id="chat").output("progress")
    output.extend(["one", "two"])
    first = a_sensor(HelmrSessionOutputSensor, stream="progress", deferrable=deferrable)
    assert first.finish() == "one"
    second = a_sensor(
        HelmrSessionOutputSensor, stream="progress", after=str(first.xcoms["cursor"]), deferrable=deferrable
    )
    assert second.finish() == "two"
    assert second.xcoms["cursor"] == 2


def test_a_record_that_comes_ends_the_deferral(client: HelmrClient, started: SessionStart) -> None:
    attempt = a_sensor(
        HelmrSessionOutputSensor, session_id=started.session.id, stream="answers", result="record", deferrable=True
    )
    deferral = deferred(attempt.execute())
    say(client, "hi", correlation_id="c-1")
    event = fire(deferral)
    assert "hi" not in json.dumps(event)
    record = attempt.resume(deferral, event)
    assert (record["sequence"], record["data"], record["correlation_id"]) == (1, {"to": "hi"}, "c-1")


@both_ways
@pytest.mark.usefixtures("started")
def test_only_records_with_the_correlation_id_count(client: HelmrClient, deferrable: bool) -> None:
    output = client.sessions.open(external_id="chat").output("progress")
    output.append("other", correlation_id="c-2")
    output.append("mine", correlation_id="c-1")
    attempt = a_sensor(HelmrSessionOutputSensor, stream="progress", correlation_id="c-1", deferrable=deferrable)
    assert attempt.finish() == "mine"
    assert attempt.xcoms["cursor"] == 2


@both_ways
@pytest.mark.usefixtures("started")
def test_a_record_can_be_chosen_by_its_data(client: HelmrClient, deferrable: bool) -> None:
    output = client.sessions.open(external_id="chat").output("progress")
    output.extend({"percent": percent} for percent in (0, 50, 100, 100))
    attempt = a_sensor(
        HelmrSessionOutputSensor,
        stream="progress",
        matches=lambda data: data["percent"] == 100,
        deferrable=deferrable,
    )
    assert attempt.finish() == {"percent": 100}
    assert attempt.xcoms["cursor"] == 3


@pytest.mark.usefixtures("started")
def test_a_record_that_does_not_match_is_passed_by_once(client: HelmrClient) -> None:
    output = client.sessions.open(external_id="chat").output("progress")
    output.append("early")
    attempt = a_sensor(
        HelmrSessionOutputSensor, stream="progress", matches=lambda data: data == "late", deferrable=True
    )
    first = deferred(attempt.execute())
    assert first.trigger.after == 1
    output.append("still early")
    second = deferred(attempt.resume(first, fire(first)))
    assert second.trigger.after == 2
    output.append("late")
    assert attempt.resume(second, fire(second)) == "late"


@both_ways
@pytest.mark.usefixtures("started")
def test_a_session_that_ends_without_the_record_fails_for_good(client: HelmrClient, deferrable: bool) -> None:
    client.sessions.open(external_id="chat").output("progress").append("old")
    client.sessions.open(external_id="chat").cancel()
    assert a_sensor(HelmrSessionOutputSensor, stream="progress", deferrable=deferrable).finish() == "old"
    with pytest.raises(AirflowFailException, match=r"is cancelled.*cannot occur any more"):
        a_sensor(HelmrSessionOutputSensor, stream="progress", after=1, deferrable=deferrable).finish()


@both_ways
@pytest.mark.usefixtures("started")
def test_an_outage_is_waited_out(client: HelmrClient, control_plane: LocalControlPlane, deferrable: bool) -> None:
    client.sessions.open(external_id="chat").output("progress").append("there")
    control_plane.fail_next("getSessionByExternalId", faults.status(503), times=4)
    assert a_sensor(HelmrSessionOutputSensor, stream="progress", deferrable=deferrable).finish() == "there"


@both_ways
@pytest.mark.parametrize(("stream", "said"), [("nope", "stream_not_found"), ("a b", "A stream name")])
@pytest.mark.usefixtures("started")
def test_a_stream_that_is_not_there_fails_for_good(stream: str, said: str, deferrable: bool) -> None:
    with pytest.raises(AirflowFailException, match=said):
        a_sensor(HelmrSessionOutputSensor, stream=stream, deferrable=deferrable).finish()


@pytest.mark.usefixtures("started")
def test_a_cursor_that_is_none_fails_for_good() -> None:
    with pytest.raises(AirflowFailException, match="after must be the sequence of a record"):
        a_sensor(HelmrSessionOutputSensor, stream="answers", after="None").finish()


@pytest.mark.usefixtures("started")
def test_a_record_over_the_limit_fails_for_good_with_advice(client: HelmrClient) -> None:
    client.sessions.open(external_id="chat").output("progress").append("x" * 100)
    with pytest.raises(AirflowFailException, match="max_result_bytes=50"):
        a_sensor(HelmrSessionOutputSensor, stream="progress", max_result_bytes=50).finish()
    small = a_sensor(HelmrSessionOutputSensor, stream="progress", max_result_bytes=50, do_xcom_push=False)
    assert small.finish() == "x" * 100
    assert set(small.xcoms) == {"_link_HelmrSessionLink"}

"""Sending input to a session and waiting for the turn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from helmr_provider.local import LocalControlPlane, faults
from helmr_provider.operators.session import HelmrSendInputOperator
from tests.support.conversations import idle, session_of, talk, until_status
from tests.support.task_attempts import TaskRun, both_ways, deferred, fire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import JournalEntry

pytestmark = pytest.mark.usefixtures("helmr_connection")


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane([talk]) as server:
        yield server


@pytest.fixture
def gate(client: HelmrClient) -> str:
    return client.tokens.create().id


def a_turn(session_id: str | None = None, **options: Any) -> TaskRun:
    own = {name: options.pop(name) for name in ("retries", "map_index", "dag_id", "run_id") if name in options}
    options = {"task_id": "ask", "stream": "messages", "data": {"text": "hi"}, **options}
    if session_id is not None:
        options["session_id"] = session_id
    run = TaskRun(lambda: HelmrSendInputOperator(**options), **own)
    run.max_tries = run.retries
    return run


def sends(control_plane: LocalControlPlane) -> list[JournalEntry]:
    return [entry for entry in control_plane.journal if entry.operation == "appendSessionInput"]


def records(client: HelmrClient, session_id: str) -> list[Any]:
    return [record.data for record in client.sessions.open(session_id).input("messages").list()]


# What is sent


def test_the_record_is_sent_with_all_arguments(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, ""))
    attempt = a_turn(session_id, correlation_id="c-1", content_type="application/vnd.acme+json").start()
    result = attempt.execute()
    [record] = client.sessions.open(session_id).input("messages").list()
    assert record.data == {"text": "hi"}
    assert (record.correlation_id, record.content_type) == ("c-1", "application/vnd.acme+json")
    assert result == {"session_id": session_id, "stream": "messages", "sequence": 1, "run_id": attempt.xcoms["run_id"]}
    assert attempt.xcoms == {
        **result,
        "_link_HelmrSessionLink": f"{control_plane.url}/sessions/{session_id}",
        "_link_HelmrRunLink": f"{control_plane.url}/sessions/{session_id}/runs/{result['run_id']}",
    }
    assert client.sessions.open(session_id).runs()[1].run_id == result["run_id"]


def test_a_session_is_found_by_its_external_id(client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, "", external_id="acme/web#12"))
    assert a_turn(external_id="acme/web#12").start().execute()["session_id"] == session_id


def test_the_idempotency_key_is_a_public_format(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    from datetime import UTC, datetime
    from types import SimpleNamespace

    session_id = idle(client, session_of(client, ""))
    task = a_turn(session_id, map_index=2)
    task.dag_run = SimpleNamespace(start_date=datetime(2026, 11, 23, 17, 29, 31, 706544, tzinfo=UTC))
    task.start().execute()
    [sent] = sends(control_plane)
    assert isinstance(sent.body, dict)
    assert sent.body["idempotency_key"] == "airflow:nightly:manual__2026-11-23:ask:2:2026-11-23T17:29:31.706544+00:00/1"


@pytest.mark.parametrize("data", ["text", None, 0, False, [], {"é": [1.5]}], ids=repr)
def test_any_json_value_can_be_sent(client: HelmrClient, data: Any) -> None:
    session_id = idle(client, session_of(client, ""))
    a_turn(session_id, data=data).start().execute()
    assert records(client, session_id) == [data]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": {1, 2}}, "JSON"),
        ({"data": float("nan")}, "JSON"),
        ({"stream": "no such"}, "stream is 'no such'"),
        ({"stream": "nope"}, "stream_not_found"),
        ({"stream": "answers"}, "stream_not_found"),
        ({"wait_for": "output", "output_stream": "nope"}, "stream_not_found"),
        ({"wait_for": "output", "output_stream": "messages"}, "stream_not_found"),
    ],
)
def test_what_cannot_be_sent_fails_for_good_before_anything_is_sent(
    client: HelmrClient, options: dict[str, Any], said: str
) -> None:
    session_id = idle(client, session_of(client, ""))
    with pytest.raises(AirflowFailException, match=said):
        a_turn(session_id, **options).start().execute()
    assert records(client, session_id) == []


@pytest.mark.parametrize("session_id", ["None", "", None, "01a2-unknown"], ids=repr)
def test_a_session_that_is_not_there_fails_for_good(session_id: Any) -> None:
    options: dict[str, Any] = {"session_id": session_id} if session_id is not None else {"external_id": "unknown"}
    with pytest.raises(AirflowFailException):
        a_turn(**options).start().execute()


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_a_session_that_has_ended_fails_for_good(client: HelmrClient, how: str) -> None:
    session_id = idle(client, session_of(client, ""))
    getattr(client.sessions.open(session_id), how)()
    with pytest.raises(AirflowFailException, match="session is terminal"):
        a_turn(session_id).start().execute()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"session_id": "a", "external_id": "b"},
        {"session_id": "a", "wait_for": "both"},
        {"session_id": "a", "wait_for": "output"},
        {"session_id": "a", "output_stream": "answers"},
        {"session_id": "a", "timeout": 0},
    ],
)
def test_a_dag_that_makes_no_sense_is_refused_when_it_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"session_id|wait_for|output_stream|timeout"):
        HelmrSendInputOperator(task_id="ask", stream="messages", data=1, **options)


# Waiting for the run that takes it


@both_ways
def test_a_waiting_run_takes_the_record_and_its_output_is_the_result(client: HelmrClient, deferrable: bool) -> None:
    started = session_of(client, "take")
    until_status(client, started.run.id, "waiting")
    attempt = a_turn(started.session.id, wait_for="run", deferrable=deferrable).start()
    assert attempt.finish() == {"turn": 0, "taken": [{"text": "hi"}]}
    assert attempt.xcoms["run_id"] == started.run.id


@both_ways
def test_an_idle_session_starts_a_run_for_the_record(client: HelmrClient, deferrable: bool) -> None:
    session_id = idle(client, session_of(client, "", "take"))
    assert a_turn(session_id, wait_for="run", deferrable=deferrable).start().finish()["turn"] == 1


def test_a_record_that_a_busy_run_leaves_starts_the_next_run(client: HelmrClient, gate: str) -> None:
    started = session_of(client, f"gate {gate}", "take")
    until_status(client, started.run.id, "waiting")
    attempt = a_turn(started.session.id, wait_for="run", deferrable=True).start()
    deferral = deferred(attempt.execute())
    assert "run_id" not in attempt.xcoms, "no run has taken the record yet"
    client.tokens.complete(gate, None)
    assert attempt.resume(deferral, fire(deferral)) == {"turn": 1, "taken": [{"text": "hi"}]}
    assert attempt.xcoms["run_id"] == client.sessions.open(started.session.id).runs()[1].run_id


def test_a_record_that_a_busy_run_takes_later_on_is_that_run_s(client: HelmrClient, gate: str) -> None:
    started = session_of(client, f"gate {gate}, take")
    until_status(client, started.run.id, "waiting")
    attempt = a_turn(started.session.id, wait_for="run", deferrable=True).start()
    deferral = deferred(attempt.execute())
    client.tokens.complete(gate, None)
    assert attempt.resume(deferral, fire(deferral)) == {"turn": 0, "taken": [{"text": "hi"}]}
    assert len(client.sessions.open(started.session.id).runs()) == 1


def test_of_several_records_each_finds_its_own_run(client: HelmrClient, gate: str) -> None:
    started = session_of(client, f"gate {gate}", "take", "take")
    until_status(client, started.run.id, "waiting")
    first = a_turn(started.session.id, task_id="first", data=1, wait_for="run", deferrable=True).start()
    second = a_turn(started.session.id, task_id="second", data=2, wait_for="run", deferrable=True).start()
    deferrals = [deferred(first.execute()), deferred(second.execute())]
    client.tokens.complete(gate, None)
    assert second.resume(deferrals[1], fire(deferrals[1])) == {"turn": 2, "taken": [2]}
    assert first.resume(deferrals[0], fire(deferrals[0])) == {"turn": 1, "taken": [1]}


def test_a_run_that_takes_two_records_is_the_run_of_both(client: HelmrClient, gate: str) -> None:
    started = session_of(client, f"gate {gate}", "take, take")
    until_status(client, started.run.id, "waiting")
    second = a_turn(started.session.id, data=2, wait_for="run", deferrable=True).start()
    client.sessions.open(started.session.id).input("messages").send(1)
    deferral = deferred(second.execute())
    client.tokens.complete(gate, None)
    assert second.resume(deferral, fire(deferral)) == {"turn": 1, "taken": [1, 2]}


@both_ways
def test_a_failed_run_fails_the_task_for_good_and_says_why(client: HelmrClient, deferrable: bool) -> None:
    session_id = idle(client, session_of(client, "", "take, fail"))
    with pytest.raises(AirflowFailException) as failed:
        a_turn(session_id, wait_for="run", deferrable=deferrable).start().finish()
    run_id = client.sessions.open(session_id).runs()[1].run_id
    for said in ("the agent gave up", "no idea what to say", f"/sessions/{session_id}/runs/{run_id}"):
        assert said in str(failed.value)


def test_a_session_that_is_cancelled_during_the_wait_fails_the_task(client: HelmrClient, gate: str) -> None:
    started = session_of(client, f"gate {gate}")
    until_status(client, started.run.id, "waiting")
    attempt = a_turn(started.session.id, wait_for="run", deferrable=True).start()
    deferral = deferred(attempt.execute())
    client.sessions.open(started.session.id).cancel(reason="enough")
    with pytest.raises(AirflowFailException, match=r"was cancelled by another client.*enough"):
        attempt.resume(deferral, fire(deferral))


def test_a_run_that_ended_well_counts_only_if_it_is_known_to_have_taken_the_record(
    client: HelmrClient, gate: str
) -> None:
    """A session can be cancelled between the end of one run and the start of the next, which was owed to the record."""
    started = session_of(client, f"gate {gate}, take")
    until_status(client, started.run.id, "waiting")
    attempt = a_turn(started.session.id, wait_for="run", deferrable=True).start()
    deferral = deferred(attempt.execute())
    client.tokens.complete(gate, None)
    until_status(client, started.run.id, "succeeded")
    client.sessions.open(started.session.id).cancel()
    with pytest.raises(AirflowFailException, match=r"is cancelled, and no run is known to have taken record 1"):
        attempt.resume(deferral, fire(deferral))


def test_a_correlation_id_is_matched_as_it_is_stored(client: HelmrClient) -> None:
    started = session_of(client, "take, answer, take, answer")
    until_status(client, started.run.id, "waiting")
    options: dict[str, Any] = {"wait_for": "output", "output_stream": "answers"}
    assert a_turn(started.session.id, task_id="a", correlation_id=" c-1 ", **options).start().finish()
    until_status(client, started.run.id, "waiting")
    assert a_turn(started.session.id, task_id="b", correlation_id=" ", **options).start().finish()


def test_a_result_over_the_limit_fails_for_good_with_advice(client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, "", "take"))
    with pytest.raises(AirflowFailException, match="max_result_bytes=10"):
        a_turn(session_id, wait_for="run", max_result_bytes=10).start().finish()


# Waiting for the answer


@both_ways
def test_the_next_output_record_is_the_answer(client: HelmrClient, deferrable: bool) -> None:
    started = session_of(client, "take, answer, take, answer")
    until_status(client, started.run.id, "waiting")
    first = a_turn(
        started.session.id, data=1, wait_for="output", output_stream="answers", deferrable=deferrable
    ).start()
    assert first.finish() == {"to": 1}
    assert first.xcoms["cursor"] == 1
    second = a_turn(
        started.session.id, task_id="again", data=2, wait_for="output", output_stream="answers", deferrable=deferrable
    ).start()
    assert second.finish() == {"to": 2}
    assert (second.xcoms["sequence"], second.xcoms["cursor"]) == (2, 2)
    assert first.xcoms["run_id"] == second.xcoms["run_id"] == started.run.id


def test_only_an_answer_with_the_correlation_id_counts(client: HelmrClient) -> None:
    started = session_of(client, "take, answer, take, answer")
    until_status(client, started.run.id, "waiting")
    output = client.sessions.open(started.session.id).output("answers")
    options: dict[str, Any] = {"wait_for": "output", "output_stream": "answers", "deferrable": True}
    attempt = a_turn(started.session.id, data=1, correlation_id="c-1", **options).start()
    deferral = attempt.execute()
    output.append({"to": "somebody else"}, correlation_id="c-2")
    while isinstance(deferral, TaskDeferred):
        deferral = attempt.resume(deferral, fire(deferral))
    assert deferral == {"to": 1}


def test_without_the_same_correlation_id_any_record_is_the_answer(client: HelmrClient, gate: str) -> None:
    started = session_of(client, f"gate {gate}, take")
    until_status(client, started.run.id, "waiting")
    options: dict[str, Any] = {"wait_for": "output", "output_stream": "progress", "deferrable": True}
    attempt = a_turn(started.session.id, correlation_id="c-1", match_correlation_id=False, **options).start()
    deferral = deferred(attempt.execute())
    client.sessions.open(started.session.id).output("progress").append("anything")
    assert attempt.resume(deferral, fire(deferral)) == "anything"


def test_what_was_written_before_the_send_is_no_answer(client: HelmrClient) -> None:
    started = session_of(client, "progress, take, progress")
    until_status(client, started.run.id, "waiting")
    attempt = a_turn(started.session.id, wait_for="output", output_stream="progress").start()
    attempt.finish()
    assert attempt.xcoms["cursor"] == 2


@both_ways
def test_a_run_that_ends_without_an_answer_fails_for_good(client: HelmrClient, deferrable: bool) -> None:
    session_id = idle(client, session_of(client, "", "take"))
    with pytest.raises(AirflowFailException, match="wrote no record to output stream 'answers'"):
        a_turn(session_id, wait_for="output", output_stream="answers", deferrable=deferrable).start().finish()


@both_ways
def test_a_run_that_fails_before_it_answers_fails_for_good_and_says_why(client: HelmrClient, deferrable: bool) -> None:
    session_id = idle(client, session_of(client, "", "take, fail"))
    with pytest.raises(AirflowFailException, match="the agent gave up"):
        a_turn(session_id, wait_for="output", output_stream="answers", deferrable=deferrable).start().finish()


def test_an_answer_counts_with_any_end_of_the_run(client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, "", "take, answer, fail"))
    assert a_turn(session_id, wait_for="output", output_stream="answers").start().finish() == {"to": {"text": "hi"}}


# At most once


@pytest.mark.parametrize("moment", ["retry", "lost trigger", "stale event"])
def test_a_turn_is_found_again_and_nothing_is_sent_twice(
    client: HelmrClient, control_plane: LocalControlPlane, moment: str
) -> None:
    started = session_of(client, "take, answer, take, answer")
    until_status(client, started.run.id, "waiting")
    task = a_turn(started.session.id, data=1, wait_for="output", output_stream="answers", deferrable=True, retries=3)
    attempt = task.start()
    control_plane.pause_worker()
    deferral = deferred(attempt.execute())
    control_plane.resume_worker()
    # The session has moved on: this answer is not the first turn's.
    until_status(client, started.run.id, "waiting")
    client.sessions.open(started.session.id).input("messages").send(2)
    until_status(client, started.run.id, "succeeded")
    match moment:
        case "retry":
            attempt = task.start()
            assert attempt.finish() == {"to": 1}
        case "lost trigger":
            assert attempt.lose_trigger() == {"to": 1}
        case _:
            assert attempt.resume(deferral, {"status": "ended"}) == {"to": 1}
    assert attempt.xcoms["run_id"] == started.run.id
    assert records(client, started.session.id) == [1, 2]


def test_a_retry_finds_the_run_of_its_record_after_later_turns(client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, "", "take"))
    task = a_turn(session_id, data=1, wait_for="run", retries=3)
    assert task.start().finish() == {"turn": 1, "taken": [1]}
    assert a_turn(session_id, task_id="later", data=2, wait_for="run").start().finish() == {"turn": 2, "taken": [2]}
    assert task.start().finish() == {"turn": 1, "taken": [1]}
    assert records(client, session_id) == [1, 2]


def test_a_retry_finds_a_waiting_run_that_took_the_record(client: HelmrClient) -> None:
    started = session_of(client, "take", "take")
    until_status(client, started.run.id, "waiting")
    task = a_turn(started.session.id, data=1, wait_for="run", retries=3)
    assert task.start().finish() == {"turn": 0, "taken": [1]}
    a_turn(started.session.id, task_id="later", data=2, wait_for="run").start().finish()
    retry = task.start()
    assert retry.finish() == {"turn": 0, "taken": [1]}
    assert retry.xcoms["run_id"] == started.run.id


def test_a_clear_sends_anew(client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, "", "take"))
    task = a_turn(session_id, wait_for="run")
    assert task.start().finish()["turn"] == 1
    task.clear()
    assert task.start().finish()["turn"] == 2
    assert len(records(client, session_id)) == 2


def test_other_data_in_another_try_fail_for_good_and_say_what_to_do(client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, ""))
    task = a_turn(session_id, data=1)
    task.start().execute()
    other = a_turn(session_id, data=2)
    other.dag_run, other.try_number = task.dag_run, task.try_number
    with pytest.raises(AirflowFailException, match=r"sent other data.*clear the task"):
        other.start().execute()
    assert records(client, session_id) == [1]


def test_mapped_tasks_send_each_their_own(client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, ""))
    for index in range(3):
        a_turn(session_id, data=index, map_index=index).start().execute()
    assert records(client, session_id) == [0, 1, 2]


def test_an_answer_that_was_lost_on_the_way_is_asked_for_again(
    client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    session_id = idle(client, session_of(client, "", "take"))
    control_plane.fail_next("appendSessionInput", faults.lose_answer())
    a_turn(session_id, wait_for="run").start().finish()
    assert len(records(client, session_id)) == 1


# Time, outages, secrets


@both_ways
def test_a_turn_that_takes_too_long_fails_and_leaves_the_session(
    client: HelmrClient, gate: str, deferrable: bool
) -> None:
    started = session_of(client, f"gate {gate}")
    with pytest.raises(AirflowTaskTimeout, match="The session continues"):
        a_turn(started.session.id, wait_for="run", timeout=0.2, deferrable=deferrable).start().finish()
    assert client.sessions.retrieve(started.session.id).is_open


def test_a_control_plane_that_is_down_is_waited_for(client: HelmrClient, control_plane: LocalControlPlane) -> None:
    session_id = idle(client, session_of(client, "", "take"))
    control_plane.fail_next("getRun", faults.status(503), times=5)
    assert a_turn(session_id, wait_for="run").start().finish()["turn"] == 1


def test_unreadable_facts_about_other_runs_are_left_out(client: HelmrClient, control_plane: LocalControlPlane) -> None:
    session_id = idle(client, session_of(client, ""))
    control_plane.fail_next("listSessionRuns", faults.status(503), times=5)
    assert a_turn(session_id).start().execute() == {"session_id": session_id, "stream": "messages", "sequence": 1}


def test_a_control_plane_that_is_down_before_the_send_is_another_try_s_matter(
    client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    session_id = idle(client, session_of(client, ""))
    control_plane.stop_listening()
    with pytest.raises(AirflowException) as failed:
        a_turn(session_id).start().execute()
    assert not isinstance(failed.value, AirflowFailException)
    control_plane.listen_again()


def test_what_is_deferred_holds_ids_only(client: HelmrClient, gate: str, control_plane: LocalControlPlane) -> None:
    started = session_of(client, f"gate {gate}")
    options = {"wait_for": "output", "output_stream": "answers", "correlation_id": "c-1", "deferrable": True}
    attempt = a_turn(started.session.id, data={"secret": "words"}, **options).start()
    deferral = deferred(attempt.execute())
    text = json.dumps([deferral.trigger.serialize(), deferral.kwargs, attempt.xcoms])
    assert "words" not in text
    assert "hlmr_" not in text
    assert control_plane.api_key not in text


def test_nothing_is_pushed_for_a_task_that_pushes_nothing(client: HelmrClient) -> None:
    session_id = idle(client, session_of(client, "", "take, answer"))
    options: dict[str, Any] = {"wait_for": "output", "output_stream": "answers", "do_xcom_push": False}
    attempt = a_turn(session_id, max_result_bytes=1, **options).start()
    assert attempt.finish() == {"to": {"text": "hi"}}
    assert set(attempt.xcoms) == {"_link_HelmrSessionLink", "_link_HelmrRunLink"}


def test_a_rejected_key_fails_for_good(connect: Callable[..., str], control_plane: LocalControlPlane) -> None:
    connect(host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    with pytest.raises(AirflowFailException) as refused:
        a_turn("01a2").start().execute()
    assert "hlmr_sk_" not in str(refused.value)

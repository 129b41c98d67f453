"""Starting a session from a DAG: what it sends, returns and refuses, and how it waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
)

from helmr_provider.local import faults
from helmr_provider.operators.session import HelmrStartSessionOperator
from tests.support.journal import until_requested
from tests.support.session_tasks import LIVE, a_task, starts
from tests.support.task_attempts import both_ways, deferred, fire, overdue, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")


# What it does


@both_ways
def test_it_returns_the_run_s_output(control_plane: LocalControlPlane, deferrable: bool) -> None:
    output = {"text": "é", "number": 1, "nothing": None, "list": [1.5, True]}
    assert a_task(payload=output, deferrable=deferrable).start().finish() == output
    assert [entry.status for entry in starts(control_plane)] == [201]


def test_it_can_return_the_whole_run() -> None:
    run = a_task(payload=1, result="snapshot").start().finish()
    assert run["status"] == "succeeded"
    assert run["output"] == 1


def test_ids_and_links_are_pushed_at_the_start_and_ids_are_returned_when_nothing_is_awaited(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    control_plane.pause_worker()
    attempt = a_task(wait_for_completion=False).start()
    ids = attempt.execute()
    session = client.sessions.retrieve(external_id="airflow:nightly:manual__2026-11-23:summary:-1:1")
    assert ids == {
        "session_id": session.id,
        "run_id": session.current_run_id,
        "external_id": "airflow:nightly:manual__2026-11-23:summary:-1:1",
    }
    assert attempt.xcoms == {
        **ids,
        "_link_HelmrSessionLink": f"{control_plane.url}/sessions/{session.id}",
        "_link_HelmrRunLink": f"{control_plane.url}/sessions/{session.id}/runs/{session.current_run_id}",
    }


def test_the_ids_are_there_before_the_wait_begins(control_plane: LocalControlPlane) -> None:
    control_plane.pause_worker()
    attempt = a_task(deferrable=True).start()
    deferred(attempt.execute())
    assert {"session_id", "run_id", "external_id", "_link_HelmrRunLink"} <= attempt.xcoms.keys()


def test_nothing_is_pushed_for_a_task_that_pushes_nothing() -> None:
    attempt = a_task(payload="x" * 100_000, do_xcom_push=False).start()
    assert attempt.finish() == "x" * 100_000
    assert set(attempt.xcoms) == {"_link_HelmrSessionLink", "_link_HelmrRunLink"}


def test_every_option_reaches_the_control_plane(control_plane: LocalControlPlane) -> None:
    control_plane.pause_worker()
    a_task(
        task="echo",
        payload={"n": 1},
        concurrency_key="acme",
        priority="7",
        ttl=timedelta(minutes=10),
        max_duration="600",
        retry={"maxAttempts": 2},
        metadata={"ticket": "T-1"},
        tags=["nightly"],
        expires_at=datetime(2099, 1, 1, tzinfo=UTC),
        wait_for_completion=False,
    ).start().execute()
    [start] = starts(control_plane)
    assert isinstance(start.body, dict)
    stamp = start.body["metadata"].pop("airflow")
    assert stamp["dag_id"] == "nightly"
    assert start.body == {
        "task_id": "echo",
        "payload": {"n": 1},
        "external_id": "airflow:nightly:manual__2026-11-23:summary:-1:1",
        "concurrency_key": "acme",
        "priority": 7,
        "ttl": "600s",
        "max_duration_seconds": 600,
        "retry": {"maxAttempts": 2},
        "metadata": {"ticket": "T-1"},
        "tags": ["nightly"],
        "expires_at": "2099-01-01T00:00:00.000Z",
    }


def test_the_queue_of_helmr_is_not_the_queue_of_airflow(control_plane: LocalControlPlane) -> None:
    task = a_task(helmr_queue="fast", queue="workers")
    with pytest.raises(AirflowFailException, match="fast"):
        task.start().execute()
    [start] = starts(control_plane)
    assert isinstance(start.body, dict)
    assert start.body["queue"] == {"name": "fast"}
    assert task.make().queue == "workers"


@pytest.mark.parametrize("payload", [None, 0, 1.5, False, "", [], {"a": None}])
def test_a_payload_stays_what_it_is(control_plane: LocalControlPlane, payload: Any) -> None:
    a_task(payload=payload, wait_for_completion=False).start().execute()
    [start] = starts(control_plane)
    assert isinstance(start.body, dict)
    assert start.body["payload"] == payload
    assert type(start.body["payload"]) is type(payload)


def test_an_omitted_payload_is_not_sent(control_plane: LocalControlPlane) -> None:
    a_task(wait_for_completion=False).start().execute()
    [start] = starts(control_plane)
    assert isinstance(start.body, dict)
    assert "payload" not in start.body


def test_mapped_tasks_have_a_session_each(control_plane: LocalControlPlane) -> None:
    assert [a_task(payload=n, map_index=n).start().finish() for n in range(3)] == [0, 1, 2]
    names = [start.body["external_id"] for start in starts(control_plane) if isinstance(start.body, dict)]
    assert names == [f"airflow:nightly:manual__2026-11-23:summary:{n}:1" for n in range(3)]


def test_the_prefix_of_the_connection_begins_the_name(
    control_plane: LocalControlPlane, connect: Callable[..., str]
) -> None:
    connect("other", host=control_plane.url, password=control_plane.api_key, extra={"session_prefix": "staging"})
    ids = a_task(helmr_conn_id="other", wait_for_completion=False).start().execute()
    assert ids["external_id"].startswith("staging:nightly:")


# What it refuses


@pytest.mark.parametrize(
    "payload",
    [
        {1, 2},
        {"at": datetime(2026, 1, 1, tzinfo=UTC)},
        float("nan"),
        {"x": float("inf")},
        {1: "one"},
        b"bytes",
        "\ud800",
    ],
    ids=["set", "datetime", "NaN", "infinity", "number as key", "bytes", "half a character"],
)
def test_a_payload_that_is_not_json_is_refused_before_any_request(
    control_plane: LocalControlPlane, payload: Any
) -> None:
    with pytest.raises(AirflowFailException, match="payload is not JSON"):
        a_task(payload=payload).start().execute()
    assert control_plane.journal == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metadata": {"airflow": {}}}, "'airflow'"),
        ({"external_id": " "}, "external_id"),
        ({"metadata": "about the airflow"}, "metadata must be a mapping"),
        ({"priority": "high"}, "priority.*'high'"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"retry": {"attempts": 3}}, "retry"),
        ({"retry": "{'maxAttempts': 3}"}, "retry must be a mapping"),
        ({"max_duration": "soon"}, "max_duration.*'soon'"),
        ({"max_duration": 1}, "max_duration"),
        ({"tags": ["x"] * 11}, "tags"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"task": " "}, "task"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_that_does_not_fit_is_refused_before_any_request(
    control_plane: LocalControlPlane, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        a_task(**options).start().execute()
    assert control_plane.journal == []


@pytest.mark.parametrize(
    "options",
    [
        {"on_retry": "again"},
        {"result": "everything"},
        {"on_retry": "new", "external_id": "mine"},
        {"timeout": 0},
        {"timeout": timedelta(seconds=-1)},
    ],
)
def test_contradictions_show_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        a_task(**options).make()


def test_positional_arguments_are_refused() -> None:
    with pytest.raises((TypeError, AirflowException)):
        HelmrStartSessionOperator("summary", "echo")  # type: ignore[call-arg]


def test_an_unknown_task_fails_for_good_in_one_line() -> None:
    with pytest.raises(AirflowFailException, match="task_not_deployed") as failed:
        a_task(task="no-such-task").start().execute()
    assert "\n" not in str(failed.value)
    assert "no-such-task" in str(failed.value)


def test_a_wrong_key_fails_for_good_in_one_line_that_does_not_show_it(
    control_plane: LocalControlPlane, connect: Callable[..., str]
) -> None:
    connect(host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    with pytest.raises(AirflowFailException, match=r"401.*API key") as failed:
        a_task().start().execute()
    assert "\n" not in str(failed.value)
    assert "wrongwrong" not in str(failed.value)


def test_a_key_without_the_scope_fails_for_good(control_plane: LocalControlPlane, connect: Callable[..., str]) -> None:
    connect(host=control_plane.url, password=control_plane.create_key(["runs:read"]))
    with pytest.raises(AirflowFailException, match=r"403.*scope"):
        a_task().start().execute()


@pytest.mark.parametrize("host", ["", "http://helmr.example.com", "ftp://helmr.example.com"])
def test_an_unusable_address_fails_for_good(connect: Callable[..., str], host: str) -> None:
    connect(host=host, password="hlmr_sk_key")
    with pytest.raises(AirflowFailException, match="Connection 'helmr_default' is not usable"):
        a_task().start().execute()


def test_a_connection_that_is_not_defined_fails_for_good(airflow_db: Any) -> None:
    with pytest.raises(AirflowFailException, match="nowhere"):
        a_task(helmr_conn_id="nowhere").start().execute()


def test_a_result_that_is_too_large_fails_for_good_with_advice() -> None:
    with pytest.raises(AirflowFailException, match=r"50002 bytes.*max_result_bytes=49152.*result_to"):
        a_task(payload="x" * 50_000).start().finish()
    assert a_task(run_id="again", payload="x" * 50_000, max_result_bytes=None).start().finish() == "x" * 50_000


# Time limits


@pytest.mark.parametrize("cancel", [True, False])
def test_a_time_limit_on_a_worker_cancels_by_default(client: HelmrClient, cancel: bool) -> None:
    attempt = a_task(**LIVE, timeout=0.2, cancel_on_timeout=cancel).start()
    with pytest.raises(AirflowTaskTimeout, match="was cancelled" if cancel else "was not cancelled"):
        attempt.execute()
    session = client.sessions.retrieve(attempt.xcoms["session_id"])
    assert session.status == ("cancelled" if cancel else "open")


@pytest.mark.parametrize("cancel", [True, False])
def test_a_time_limit_while_deferred_cancels_by_default(client: HelmrClient, cancel: bool) -> None:
    attempt = a_task(**LIVE, deferrable=True, timeout=timedelta(seconds=60), cancel_on_timeout=cancel).start()
    deferral = overdue(deferred(attempt.execute()))
    event = fire(deferral)
    assert event["status"] == "timeout"
    with pytest.raises(AirflowTaskTimeout):
        attempt.resume(deferral, event)
    session = client.sessions.retrieve(attempt.xcoms["session_id"])
    assert session.status == ("cancelled" if cancel else "open")


def test_the_earlier_one_of_two_limits_counts_from_the_start_of_the_try() -> None:
    for limits in ({"timeout": 50, "execution_timeout": timedelta(hours=9)},):
        attempt = a_task(**LIVE, deferrable=True, **limits).start()
        trigger = stored(deferred(attempt.execute()).trigger)
        assert trigger.deadline == pytest.approx(attempt.ti.start_date.timestamp() + 50)


def test_an_execution_timeout_counts_while_deferred() -> None:
    attempt = a_task(**LIVE, deferrable=True, execution_timeout=timedelta(seconds=100)).start()
    deferral = deferred(attempt.execute())
    deadline = stored(deferral.trigger).deadline - attempt.ti.start_date.timestamp()
    assert 80 < deadline <= 100.001
    assert deferral.timeout.total_seconds() > deadline


def test_without_a_limit_there_is_no_deadline() -> None:
    deferral = deferred(a_task(**LIVE, deferrable=True).start().execute())
    assert stored(deferral.trigger).deadline is None
    assert deferral.timeout is None


def test_a_run_that_ends_at_the_last_moment_counts(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    control_plane.pause_worker()
    attempt = a_task(payload=7, deferrable=True, timeout=60).start()
    deferral = overdue(deferred(attempt.execute()))
    event = fire(deferral)
    control_plane.resume_worker()
    client.runs.wait(attempt.xcoms["run_id"], timeout=20)
    assert event["status"] == "timeout"
    assert attempt.resume(deferral, event) == 7


# Events


def test_an_event_that_comes_too_early_makes_it_wait_on_with_the_same_deadline() -> None:
    attempt = a_task(**LIVE, deferrable=True, timeout=3600).start()
    first = deferred(attempt.execute())
    second = deferred(attempt.resume(first, {"schema": 1, "status": "ended", "run_id": "of an earlier try"}))
    assert second.trigger.serialize() == first.trigger.serialize()
    assert second.kwargs == first.kwargs


def test_an_event_that_comes_twice_gives_the_same_result_twice() -> None:
    attempt = a_task(payload="once", deferrable=True).start()
    deferral = deferred(attempt.execute())
    event = fire(deferral)
    assert attempt.resume(deferral, event) == attempt.resume(deferral, event) == "once"


def test_a_trigger_that_cannot_continue_fails_the_try_and_not_the_run(client: HelmrClient) -> None:
    attempt = a_task(**LIVE, deferrable=True).start()
    deferral = deferred(attempt.execute())
    event = {"schema": 1, "status": "error", "error": "HelmrAuthError", "run_id": attempt.xcoms["run_id"]}
    with pytest.raises(AirflowException, match=r"HelmrAuthError.*continues") as failed:
        attempt.resume(deferral, event)
    assert not isinstance(failed.value, AirflowFailException)
    assert client.runs.retrieve(attempt.xcoms["run_id"]).status in {"queued", "running", "waiting"}


# A control plane that is down


def test_down_at_the_start_is_retried_and_starts_one_session(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    task = a_task(payload=1)
    control_plane.stop_listening()
    with pytest.raises(AirflowException) as failed:
        task.start().execute()
    assert not isinstance(failed.value, AirflowFailException)
    control_plane.listen_again()
    assert task.start().finish() == 1
    assert len(client.sessions.list()) == 1


def test_a_start_whose_answer_is_lost_starts_one_session(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    control_plane.fail_next("startSession", faults.lose_answer())
    assert a_task(payload=1).start().finish() == 1
    assert len(client.sessions.list()) == 1


def test_down_while_a_worker_waits_is_waited_out(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    control_plane.pause_worker()
    attempt = a_task(payload=1).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until_requested(control_plane, "getRun")
        control_plane.stop_listening()
        control_plane.resume_worker()
        control_plane.listen_again()
        assert result.result(timeout=60) == 1
    assert [entry.status for entry in starts(control_plane)] == [201]


def test_down_at_the_end_is_waited_out_in_the_triggerer(control_plane: LocalControlPlane) -> None:
    attempt = a_task(payload=1, deferrable=True).start()
    first = deferred(attempt.execute())
    event = fire(first)
    control_plane.stop_listening()
    second = deferred(attempt.resume(first, event))
    control_plane.listen_again()
    assert second.trigger.serialize() == first.trigger.serialize()
    assert attempt.resume(second, fire(second)) == 1


def test_down_beyond_the_time_limit_is_a_timeout_and_no_failed_run(control_plane: LocalControlPlane) -> None:
    control_plane.pause_worker()
    attempt = a_task(deferrable=True, timeout=60).start()
    deferral = overdue(deferred(attempt.execute()))
    event = fire(deferral)
    control_plane.stop_listening()
    with pytest.raises(AirflowTaskTimeout, match="was not cancelled"):
        attempt.resume(deferral, event)

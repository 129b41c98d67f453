"""Ending runs and sessions from a DAG, and doing it again."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from dev.stack import poll
from helmr_provider.local import LocalControlPlane, faults, task
from helmr_provider.operators.session import (
    HelmrCancelRunOperator,
    HelmrCancelSessionOperator,
    HelmrCloseSessionOperator,
)
from tests.support.conversations import talk
from tests.support.task_attempts import TaskRun, both_ways, fire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.sessions import SessionStart
    from helmr_provider.local import TaskContext

pytestmark = pytest.mark.usefixtures("helmr_connection")

MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["on a worker", "deferred"])
UNKNOWN = "00000000-0000-7000-8000-000000000000"
_released = threading.Event()


@task("ignores-cancel")
async def ignores_cancel(ctx: TaskContext, payload: Any) -> None:
    """Keep its worker, cancelled or not, until the test releases it."""
    while not _released.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane([talk, ignores_cancel]) as server:
        try:
            yield server
        finally:
            _released.set()


@pytest.fixture
def waiting(client: HelmrClient) -> SessionStart:
    """A session whose run waits for a message."""
    start = client.sessions.start("talk", {"turns": [["take"]]}, external_id="chat")
    reach(client, start, "waiting")
    return start


def reach(client: HelmrClient, start: SessionStart, status: str) -> None:
    poll(lambda: client.runs.retrieve(start.run).status == status, seconds=20, waiting_for="the worker", every=0.02)


def a_task(kind: Any, **options: Any) -> TaskRun:
    return TaskRun(lambda: kind(task_id="end", **options))


# Runs


def test_a_run_is_cancelled_with_a_reason(control_plane: LocalControlPlane, client: HelmrClient, waiting: Any) -> None:
    attempt = a_task(HelmrCancelRunOperator, run_id=waiting.run.id, reason="not needed").start()
    ids = {"run_id": waiting.run.id, "session_id": waiting.session.id}
    assert attempt.execute() == {**ids, "status": "cancelled"}
    assert client.sessions.retrieve(waiting.session.id).is_open
    [cancelled] = [event for event in client.runs.events.records(waiting.run.id) if event.kind == "run.cancelled"]
    assert cancelled.attributes["reason"] == "not needed"
    link = f"{control_plane.url}/sessions/{waiting.session.id}"
    assert attempt.xcoms == {
        "_link_HelmrSessionLink": link,
        "_link_HelmrRunLink": f"{link}/runs/{waiting.run.id}",
    }


@both_ways
def test_cancelling_again_succeeds(client: HelmrClient, waiting: SessionStart, deferrable: bool) -> None:
    run = a_task(HelmrCancelRunOperator, run_id=waiting.run.id, wait_for_completion=True, deferrable=deferrable)
    assert run.start().finish() == run.start().finish()


def test_a_run_that_has_succeeded_stays_so(client: HelmrClient, waiting: SessionStart) -> None:
    client.sessions.open(waiting.session).input("messages").send(1)
    client.runs.wait(waiting.run, timeout=20)
    assert a_task(HelmrCancelRunOperator, run_id=waiting.run.id).start().execute()["status"] == "succeeded"


@both_ways
def test_it_waits_until_the_worker_has_released_the_run(client: HelmrClient, deferrable: bool) -> None:
    _released.clear()
    start = client.sessions.start("ignores-cancel")
    reach(client, start, "running")
    options = {"run_id": start.run.id, "wait_for_completion": True, "deferrable": deferrable}
    with pytest.raises(AirflowTaskTimeout):
        a_task(HelmrCancelRunOperator, timeout=0.3, **options).start().finish()
    [held] = client.sessions.open(start.session).runs()
    assert (held.status, held.execution_status) == ("cancelled", "pending_cancel")
    _released.set()
    assert a_task(HelmrCancelRunOperator, **options).start().finish()["status"] == "cancelled"
    [released] = client.sessions.open(start.session).runs()
    assert released.execution_status == "finished"


def test_force_ends_the_events_without_the_worker(client: HelmrClient) -> None:
    _released.clear()
    start = client.sessions.start("ignores-cancel")
    reach(client, start, "running")
    a_task(HelmrCancelRunOperator, run_id=start.run.id, force=True).start().execute()
    assert [event.kind for event in client.runs.events.records(start.run.id)][-1] == "run.cancelled"


@pytest.mark.parametrize(("run_id", "said"), [(UNKNOWN, "not found"), ("None", "run_id must be an id")])
def test_a_run_that_is_not_there_fails_for_good(run_id: str, said: str) -> None:
    with pytest.raises(AirflowFailException, match=said):
        a_task(HelmrCancelRunOperator, run_id=run_id).start().execute()


# Closing


def test_an_idle_session_is_closed_and_closing_again_succeeds(client: HelmrClient, waiting: SessionStart) -> None:
    client.sessions.open(waiting.session).input("messages").send(1)
    client.runs.wait(waiting.run, timeout=20)
    closes = a_task(HelmrCloseSessionOperator, external_id="chat", reason="all said")
    expected = {"session_id": waiting.session.id, "status": "closed"}
    assert closes.start().execute() == expected
    assert closes.start().execute() == expected
    session = client.sessions.retrieve(waiting.session.id)
    assert (session.status, session.terminal_reason["reason"]) == ("closed", "all said")


def test_an_active_session_is_refused_with_a_way_out_and_may_be_retried(waiting: SessionStart) -> None:
    with pytest.raises(AirflowException, match=r"is waiting.*wait_for_idle=True.*HelmrCancelSession") as failed:
        a_task(HelmrCloseSessionOperator, session_id=waiting.session.id).start().execute()
    assert not isinstance(failed.value, AirflowFailException)


def test_it_can_wait_until_the_session_is_idle(client: HelmrClient, waiting: SessionStart) -> None:
    closes = a_task(
        HelmrCloseSessionOperator, session_id=waiting.session.id, wait_for_idle=True, deferrable=True
    ).start()
    deferral = closes.execute()
    assert isinstance(deferral, TaskDeferred)
    client.sessions.open(waiting.session).input("messages").send(1)
    assert closes.resume(deferral, fire(deferral))["status"] == "closed"


def test_it_continues_to_wait_if_another_client_was_faster(client: HelmrClient, waiting: SessionStart) -> None:
    closes = a_task(
        HelmrCloseSessionOperator, session_id=waiting.session.id, wait_for_idle=True, deferrable=True
    ).start()
    first = closes.execute()
    again = closes.resume(first, {"status": "ended"})
    assert isinstance(again, TaskDeferred), "an old event says nothing about a session that is active"
    client.sessions.open(waiting.session).cancel()
    assert closes.resume(again, fire(again)) == {"session_id": waiting.session.id, "status": "cancelled"}


def test_waiting_for_idle_has_a_limit(waiting: SessionStart) -> None:
    closes = a_task(HelmrCloseSessionOperator, external_id="chat", wait_for_idle=True, timeout=0.2, deferrable=False)
    with pytest.raises(AirflowTaskTimeout, match="chat"):
        closes.start().execute()


def test_a_session_past_its_expiry_counts_as_ended(client: HelmrClient) -> None:
    start = client.sessions.start("talk", {"turns": [[]]}, expires_at="2020-01-01T00:00:00Z")
    client.runs.wait(start.run, timeout=20)
    closed = a_task(HelmrCloseSessionOperator, session_id=start.session.id).start().execute()
    assert closed["status"] == "expired"


@pytest.mark.parametrize("kind", [HelmrCloseSessionOperator, HelmrCancelSessionOperator])
def test_a_session_that_is_not_there_fails_for_good(kind: Any) -> None:
    for options, said in (({"session_id": UNKNOWN}, "not found"), ({"external_id": "None"}, "must be an id")):
        with pytest.raises(AirflowFailException, match=said):
            a_task(kind, **options).start().execute()


@pytest.mark.parametrize("kind", [HelmrCloseSessionOperator, HelmrCancelSessionOperator])
def test_one_session_must_be_named(kind: Any) -> None:
    with pytest.raises(ValueError, match="either session_id or external_id"):
        kind(task_id="end")


# Cancelling


def test_a_session_is_cancelled_with_its_run_and_cancelling_again_succeeds(
    client: HelmrClient, waiting: SessionStart
) -> None:
    cancels = a_task(HelmrCancelSessionOperator, external_id="chat", reason="not needed")
    expected = {"session_id": waiting.session.id, "status": "cancelled"}
    assert cancels.start().execute() == expected
    assert cancels.start().execute() == expected
    assert client.runs.retrieve(waiting.run).status == "cancelled"
    assert client.sessions.retrieve(waiting.session.id).terminal_reason["reason"] == "not needed"


def test_the_status_is_read_back_though_the_client_s_own_reading_fails(
    control_plane: LocalControlPlane, waiting: SessionStart
) -> None:
    # As often as one call tries; the answer to the cancel itself says "open".
    control_plane.fail_next("getSession", faults.status(503), times=3)
    cancelled = a_task(HelmrCancelSessionOperator, session_id=waiting.session.id).start().execute()
    assert cancelled["status"] == "cancelled"


def test_a_closed_session_stays_closed(client: HelmrClient, waiting: SessionStart) -> None:
    client.sessions.open(waiting.session).input("messages").send(1)
    client.runs.wait(waiting.run, timeout=20)
    client.sessions.open(waiting.session).close()
    assert a_task(HelmrCancelSessionOperator, external_id="chat").start().execute()["status"] == "closed"


def test_an_outage_is_another_try_s_matter(control_plane: LocalControlPlane, waiting: SessionStart) -> None:
    control_plane.stop_listening()
    for kind in (HelmrCancelSessionOperator, HelmrCloseSessionOperator):
        with pytest.raises(AirflowException) as failed:
            a_task(kind, external_id="chat").start().execute()
        assert not isinstance(failed.value, AirflowFailException)
    control_plane.listen_again()

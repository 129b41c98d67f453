"""Waiting for a run in the triggerer: the stored form, the event, and being killed."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider._common import task_state
from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider.local import faults
from helmr_provider.triggers import base
from helmr_provider.triggers.run import HelmrRunTrigger
from tests.support.journal import until_requested_async
from tests.support.session_tasks import LIVE, a_task
from tests.support.task_attempts import deferred, fire, overdue, stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

STORED = sorted((Path(__file__).parent / "stored").glob("run-*.json"))


def forms(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("form", ["smallest", "largest"])
def test_this_release_stores_what_the_newest_file_says(form: str) -> None:
    class_path, kwargs = forms(STORED[-1])[form]
    assert HelmrRunTrigger(**kwargs).serialize() == (class_path, kwargs)


def test_every_argument_but_the_run_has_a_default() -> None:
    # One that has none cannot be resumed from what an earlier release has stored.
    assert HelmrRunTrigger(helmr_conn_id="c", run_id="r").serialize()[1] == {
        "helmr_conn_id": "c",
        "run_id": "r",
        "version": 1,
    }


# The event


@pytest.mark.usefixtures("helmr_connection")
@pytest.mark.parametrize("task", ["echo", "fail", "retry-once"])
def test_it_fires_once_when_the_run_has_ended_with_any_status(task: str) -> None:
    attempt = a_task(task=task, deferrable=True).start()
    event = fire(deferred(attempt.execute()))
    assert event == {"schema": 1, "status": "ended", "run_id": attempt.xcoms["run_id"]}


@pytest.mark.usefixtures("helmr_connection")
def test_it_fires_at_its_deadline() -> None:
    attempt = a_task(**LIVE, deferrable=True).start()
    deferral = deferred(attempt.execute())
    deferral.trigger.deadline = time.time() + 0.3
    assert fire(deferral) == {
        "schema": 1,
        "status": "timeout",
        "deadline": deferral.trigger.deadline,
        "run_id": attempt.xcoms["run_id"],
    }


def test_a_deadline_that_has_passed_needs_no_connection() -> None:
    trigger = HelmrRunTrigger(helmr_conn_id="nowhere", run_id="r", deadline=time.time() - 1)
    assert asyncio.run(first_event(trigger)) == {
        "schema": 1,
        "status": "timeout",
        "deadline": trigger.deadline,
        "run_id": "r",
    }


def test_a_refused_key_is_an_error_event_that_holds_no_secret(
    control_plane: LocalControlPlane, connect: Callable[..., str], task_log: Callable[[], str]
) -> None:
    connect(host=control_plane.url, password="hlmr_sk_verysecretkey")
    event = asyncio.run(first_event(HelmrRunTrigger(helmr_conn_id="helmr_default", run_id="r")))
    assert event == {"schema": 1, "status": "error", "error": "HelmrAuthError", "run_id": "r"}
    assert "verysecretkey" not in task_log()


def test_an_unusable_connection_is_an_error_event(connect: Callable[..., str]) -> None:
    connect(host="http://helmr.example.com", password="hlmr_sk_key")
    event = asyncio.run(first_event(HelmrRunTrigger(helmr_conn_id="helmr_default", run_id="r")))
    assert event["error"] == "HelmrConfigError"


@pytest.mark.usefixtures("helmr_connection")
def test_a_run_that_does_not_exist_is_an_error_event() -> None:
    missing = "01a209f1-a710-7c76-93c6-10a2375dd539"
    event = asyncio.run(first_event(HelmrRunTrigger(helmr_conn_id="helmr_default", run_id=missing)))
    assert event["error"] == "HelmrNotFoundError"


@pytest.mark.usefixtures("helmr_connection")
@pytest.mark.parametrize(
    "fault",
    [
        faults.half_frame(),
        faults.malformed_frame(),
        faults.oversize_frame(),
        faults.reset_stream(),
        faults.close_stream(),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_broken_stream_does_not_end_the_wait(control_plane: LocalControlPlane, fault: faults.Fault) -> None:
    attempt = a_task(task="work", payload={"seconds": 0.5}, deferrable=True).start()
    deferral = deferred(attempt.execute())
    control_plane.fail_next("getRunEvents", fault, times=2)
    assert fire(deferral)["status"] == "ended"


@pytest.mark.usefixtures("helmr_connection")
async def test_an_outage_does_not_end_the_wait(control_plane: LocalControlPlane) -> None:
    attempt = await asyncio.to_thread(lambda: a_task(task="work", payload={"seconds": 1}, deferrable=True).start())
    deferral = deferred(await asyncio.to_thread(attempt.execute))
    waiting = asyncio.create_task(first_event(stored(deferral.trigger)))
    await until_requested_async(control_plane, "getRun")
    await asyncio.to_thread(control_plane.stop_listening)
    await asyncio.to_thread(control_plane.listen_again)
    assert (await waiting)["status"] == "ended"


@pytest.mark.usefixtures("helmr_connection")
def test_failures_that_pass_are_one_line_in_the_task_log_and_one_when_they_are_over(
    control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    attempt = a_task(task="echo", deferrable=True).start()
    deferral = deferred(attempt.execute())
    control_plane.fail_next("getRun", faults.status(503), times=2)
    assert fire(deferral)["status"] == "ended"
    said = task_log()
    assert said.count("The wait continues, although a request failed") == 1
    assert said.count("Requests succeed again") == 1


@pytest.mark.usefixtures("helmr_connection")
def test_neither_what_is_stored_nor_the_event_holds_more_than_ids(control_plane: LocalControlPlane) -> None:
    attempt = a_task(payload={"password": "in the payload"}, metadata={"m": "in the metadata"}, deferrable=True).start()
    deferral = deferred(attempt.execute())
    _, kwargs = deferral.trigger.serialize()
    kept = json.dumps([kwargs, deferral.kwargs, fire(deferral), attempt.xcoms])
    assert control_plane.api_key not in kept
    assert "in the" not in kept
    assert set(kwargs) <= {"helmr_conn_id", "run_id", "session_id", "deadline", "owner", "cancel_on_kill", "version"}


# Being killed


class Triggerer:
    """Runs a trigger as Airflow's triggerer does, so far as a kill goes."""

    def __init__(self, trigger: HelmrRunTrigger) -> None:
        self.trigger = trigger
        self.events: list[dict[str, Any]] = []
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async for event in self.trigger.run():
                self.events.append(event.payload)
        finally:
            await self.trigger.cleanup()

    async def kill(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self.trigger.on_kill()

    async def finish(self) -> None:
        await self._running


@pytest.fixture
def set_task_state(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Let Airflow answer with a task state; asking it for real takes a supervisor."""

    def say(state: str | None) -> None:
        if AIRFLOW_V_3_0_PLUS:
            from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

            monkeypatch.setattr(
                RuntimeTaskInstance,
                "get_task_states",
                staticmethod(lambda **query: {query["run_ids"][0]: {query["task_ids"][0]: state}}),
            )
        else:
            monkeypatch.setattr(task_state, "_find_in_airflow_2", lambda ti: [state])

    return say


@pytest.fixture
async def waiting(control_plane: LocalControlPlane, helmr_connection: str) -> AsyncIterator[Callable[..., Any]]:
    """Defer a task on a live run, and run its trigger; returns the try and the triggerer."""
    triggerers: list[Triggerer] = []

    async def wait(**options: Any) -> tuple[Any, Triggerer]:
        attempt = a_task(**LIVE, deferrable=True, **options).start()
        deferral = deferred(await asyncio.to_thread(attempt.execute))
        trigger = stored(deferral.trigger)
        trigger.task_instance = attempt.ti
        control_plane.clear_journal()
        triggerers.append(Triggerer(trigger))
        await until_requested_async(control_plane, "getRun")
        return attempt, triggerers[-1]

    yield wait
    for triggerer in triggerers:
        triggerer._running.cancel()


@pytest.mark.parametrize("state", ["failed", "success", None, "scheduled"])
async def test_a_task_that_a_user_has_ended_cancels_its_session(
    waiting: Any, set_task_state: Any, client: HelmrClient, state: str | None
) -> None:
    attempt, triggerer = await waiting()
    set_task_state(state)
    await triggerer.kill()
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "cancelled"
    assert triggerer.events == []


async def test_a_trigger_that_only_moves_to_another_triggerer_cancels_nothing(
    waiting: Any, set_task_state: Any, client: HelmrClient
) -> None:
    attempt, triggerer = await waiting()
    set_task_state("deferred")
    await triggerer.kill()
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "open"


async def test_what_another_try_has_adopted_is_left_alone(
    waiting: Any, set_task_state: Any, client: HelmrClient
) -> None:
    attempt, triggerer = await waiting()
    await asyncio.to_thread(attempt.of.start().execute)
    set_task_state("failed")
    await triggerer.kill()
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "open"


async def test_a_session_that_ended_just_before_the_kill_is_no_failure(
    control_plane: LocalControlPlane,
    waiting: Any,
    set_task_state: Any,
    client: HelmrClient,
    task_log: Callable[[], str],
) -> None:
    attempt, triggerer = await waiting()
    set_task_state("failed")
    control_plane.fail_next("cancelSession", faults.status(409, error_code="session_terminal"))
    await triggerer.kill()
    said = task_log()
    assert f"Session {attempt.xcoms['session_id']} had ended already." in said
    assert "Could not end" not in said
    client.sessions.open(attempt.xcoms["session_id"]).cancel()


async def test_of_an_author_s_session_only_the_run_is_cancelled(
    waiting: Any, set_task_state: Any, client: HelmrClient
) -> None:
    attempt, triggerer = await waiting(external_id="mine")
    set_task_state("failed")
    await triggerer.kill()
    assert client.runs.retrieve(attempt.xcoms["run_id"]).status == "cancelled"
    assert client.sessions.retrieve(external_id="mine").status == "open"


async def test_cancel_on_kill_can_be_switched_off(
    waiting: Any, set_task_state: Any, client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    attempt, triggerer = await waiting(cancel_on_kill=False)
    set_task_state("failed")
    await triggerer.kill()
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "open"


async def test_a_kill_is_completed_even_if_airflow_gives_it_no_time(
    waiting: Any, set_task_state: Any, client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    attempt, triggerer = await waiting()
    set_task_state("failed")
    triggerer._running.cancel()
    await asyncio.gather(triggerer._running, return_exceptions=True)
    control_plane.fail_next("getSession", faults.delay(0.5))
    killing = asyncio.create_task(triggerer.trigger.on_kill())
    await until_requested_async(control_plane, "getSession")
    killing.cancel()
    await asyncio.gather(killing, return_exceptions=True)
    assert killing.cancelled()
    await until_requested_async(control_plane, "cancelSession")
    await asyncio.gather(*base._kills)
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "cancelled"


@pytest.mark.usefixtures("helmr_connection")
async def test_a_trigger_that_has_fired_cancels_nothing(
    set_task_state: Any, client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    attempt = a_task(**LIVE, deferrable=True, timeout=60).start()
    trigger = stored(overdue(deferred(await asyncio.to_thread(attempt.execute))).trigger)
    trigger.task_instance = attempt.ti
    set_task_state("failed")
    events = trigger.run()
    assert (await anext(events)).payload["status"] == "timeout"
    await trigger.on_kill()
    await events.aclose()
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "open"


async def test_a_state_that_is_not_known_counts_as_a_user_s_doing_when_airflow_says_so(
    waiting: Any, client: HelmrClient
) -> None:
    attempt, triggerer = await waiting()
    triggerer.trigger.task_instance = None
    await triggerer.kill()
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "cancelled"


@pytest.mark.parametrize(
    ("state", "cancelled"), [("failed", True), (None, True), ("deferred", False), ("running", False)]
)
async def test_before_airflow_3_3_the_state_shows_whether_a_user_has_ended_the_task(
    waiting: Any,
    set_task_state: Any,
    client: HelmrClient,
    monkeypatch: pytest.MonkeyPatch,
    *,
    state: str | None,
    cancelled: bool,
) -> None:
    monkeypatch.setattr(base, "AIRFLOW_V_3_3_PLUS", False)
    attempt, triggerer = await waiting()
    set_task_state(state)
    triggerer._running.cancel()
    await asyncio.gather(triggerer._running, return_exceptions=True)
    assert (client.sessions.retrieve(attempt.xcoms["session_id"]).status == "cancelled") == cancelled


async def test_from_airflow_3_3_on_cleaning_up_cancels_nothing(
    waiting: Any, set_task_state: Any, client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "AIRFLOW_V_3_3_PLUS", True)
    attempt, triggerer = await waiting()
    set_task_state("failed")
    triggerer._running.cancel()
    await asyncio.gather(triggerer._running, return_exceptions=True)
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "open"


async def first_event(trigger: HelmrRunTrigger) -> dict[str, Any]:
    [event] = [event.payload async for event in trigger.run()]
    return dict(event)


# Mistakes and surprises


@pytest.mark.parametrize("how", ["connection", "mistake"])
def test_every_error_becomes_an_error_event_and_one_line(
    how: str,
    task_log: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    airflow_db: object,
    helmr_connection: str,
) -> None:
    async def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a mistake of ours\nin two lines")

    conn_id = "no_such_connection"
    if how == "mistake":
        conn_id = helmr_connection
        monkeypatch.setattr(HelmrRunTrigger, "watch", break_down)
    event = asyncio.run(first_event(HelmrRunTrigger(helmr_conn_id=conn_id, run_id="r")))
    name = {"connection": "AirflowNotFoundException", "mistake": "ZeroDivisionError"}[how]
    assert event == {"schema": 1, "status": "error", "error": name, "run_id": "r"}
    log = task_log()
    assert "Traceback" not in log
    assert log.count(f"is over: {name}: ") == 1

"""Waiting for sessions, output and turns in the triggerer: stored forms, events, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.module_loading import import_string

from helmr_provider.client import AsyncHelmrClient
from helmr_provider.local import LocalControlPlane, faults
from helmr_provider.triggers.session import (
    HelmrRunReleaseTrigger,
    HelmrSessionOutputTrigger,
    HelmrSessionTrigger,
    HelmrTurnTrigger,
)
from tests.support.conversations import talk
from tests.support.journal import until_requested_async
from tests.support.polling import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from helmr_provider.client.models.sessions import SessionStart
    from helmr_provider.triggers.base import HelmrTrigger

STORED = Path(__file__).parent / "stored"
UNKNOWN = "00000000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("form", ["smallest", "largest"])
@pytest.mark.parametrize("name", ["session", "session_output", "turn", "run_release"])
def test_this_release_stores_what_the_newest_file_says(name: str, form: str) -> None:
    newest = max(STORED.glob(f"{name}-*.json"))
    class_path, kwargs = json.loads(newest.read_text())[form]
    assert import_string(class_path)(**kwargs).serialize() == (class_path, kwargs)


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane([talk]) as server:
        yield server


@pytest.fixture
async def aclient(control_plane: LocalControlPlane) -> AsyncIterator[AsyncHelmrClient]:
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key, max_streams=0) as client:
        yield client


async def started(client: AsyncHelmrClient, *steps: str) -> SessionStart:
    return await client.sessions.start("talk", {"turns": [list(steps)]}, external_id="chat")


async def until_waiting(client: AsyncHelmrClient, run_id: str) -> None:
    async def is_waiting() -> bool:
        return (await client.runs.retrieve(run_id)).status == "waiting"

    await until_async(is_waiting)


async def event_of(trigger: HelmrTrigger) -> dict[str, Any]:
    [event] = [event.payload async for event in trigger.run()]
    return dict(event)


# Each waits for its own thing, and says no more than ids.


async def test_a_session_that_becomes_idle(
    helmr_connection: str, control_plane: LocalControlPlane, aclient: AsyncHelmrClient
) -> None:
    start = await started(aclient, "take")
    await until_waiting(aclient, start.run.id)
    trigger = HelmrSessionTrigger(helmr_conn_id=helmr_connection, external_id="chat", activities=["idle"])
    waiting = asyncio.create_task(event_of(trigger))
    await until_requested_async(control_plane, "getSessionByExternalId")
    await aclient.sessions.open(start.session).input("messages").send(1)
    assert await waiting == {"schema": 1, "status": "ended", "external_id": "chat"}


async def test_a_session_that_ends_otherwise_ends_the_wait_too(
    helmr_connection: str, control_plane: LocalControlPlane, aclient: AsyncHelmrClient
) -> None:
    session_id = (await started(aclient, "take")).session.id
    trigger = HelmrSessionTrigger(helmr_conn_id=helmr_connection, session_id=session_id, statuses=["closed"])
    waiting = asyncio.create_task(event_of(trigger))
    await until_requested_async(control_plane, "getSession")
    await aclient.sessions.open(session_id).cancel()
    assert await waiting == {"schema": 1, "status": "ended", "session_id": session_id}


async def test_the_next_output_record(
    helmr_connection: str, control_plane: LocalControlPlane, aclient: AsyncHelmrClient
) -> None:
    session_id = (await started(aclient, "take")).session.id
    output = aclient.sessions.open(session_id).output("answers")
    await output.append("old", correlation_id="c-1")
    trigger = HelmrSessionOutputTrigger(
        helmr_conn_id=helmr_connection, session_id=session_id, stream="answers", after=1, correlation_id="c-1"
    )
    waiting = asyncio.create_task(event_of(trigger))
    await output.append("other", correlation_id="c-2")
    await until_requested_async(control_plane, "getSession")
    assert not waiting.done()
    await output.append("secret words", correlation_id="c-1")
    assert await waiting == {"schema": 1, "status": "ended", "session_id": session_id}


async def test_output_that_never_comes(helmr_connection: str, aclient: AsyncHelmrClient) -> None:
    session_id = (await started(aclient, "take")).session.id
    await aclient.sessions.open(session_id).cancel()
    trigger = HelmrSessionOutputTrigger(helmr_conn_id=helmr_connection, session_id=session_id, stream="answers")
    assert (await event_of(trigger))["status"] == "ended"


async def test_a_turn_by_the_end_of_its_run(
    helmr_connection: str, control_plane: LocalControlPlane, aclient: AsyncHelmrClient
) -> None:
    gate = (await aclient.tokens.create()).id
    start = await started(aclient, "take", f"gate {gate}")
    await until_waiting(aclient, start.run.id)
    await aclient.sessions.open(start.session).input("messages").send(1)
    trigger = HelmrTurnTrigger(
        helmr_conn_id=helmr_connection, session_id=start.session.id, stream="messages", sequence=1
    )
    waiting = asyncio.create_task(event_of(trigger))
    await until_requested_async(control_plane, "getRun")
    await aclient.tokens.complete(gate, None)
    assert await waiting == {"schema": 1, "status": "ended", "session_id": start.session.id}


async def test_a_turn_by_its_answer(
    helmr_connection: str, control_plane: LocalControlPlane, aclient: AsyncHelmrClient
) -> None:
    start = await started(aclient, "take", "take")
    await until_waiting(aclient, start.run.id)
    await aclient.sessions.open(start.session).input("messages").send(1)
    trigger = HelmrTurnTrigger(
        helmr_conn_id=helmr_connection,
        session_id=start.session.id,
        stream="messages",
        sequence=1,
        run_id=start.run.id,
        output="answers",
    )
    waiting = asyncio.create_task(event_of(trigger))
    await until_requested_async(control_plane, "listSessionOutputRecords")
    await aclient.sessions.open(start.session).output("answers").append("words")
    assert (await waiting)["status"] == "ended"
    assert (await aclient.runs.retrieve(start.run.id)).status == "waiting"


async def test_a_worker_that_releases_a_cancelled_run(helmr_connection: str, aclient: AsyncHelmrClient) -> None:
    start = await started(aclient, "take")
    await until_waiting(aclient, start.run.id)
    await aclient.runs.cancel(start.run.id)
    trigger = HelmrRunReleaseTrigger(helmr_conn_id=helmr_connection, session_id=start.session.id, run_id=start.run.id)
    assert await event_of(trigger) == {
        "schema": 1,
        "status": "ended",
        "session_id": start.session.id,
        "run_id": start.run.id,
    }


# What all have in common


def all_four(conn_id: str, start: SessionStart, **more: Any) -> list[HelmrTrigger]:
    """Each kind of wait, for something that does not come by itself while a run waits for input."""
    session: dict[str, Any] = {"helmr_conn_id": conn_id, "session_id": start.session.id, **more}
    return [
        HelmrSessionTrigger(**session, activities=["idle"]),
        HelmrSessionOutputTrigger(**session, stream="answers"),
        HelmrTurnTrigger(**session, stream="messages", sequence=1, output="answers"),
        HelmrTurnTrigger(**session, stream="messages", sequence=1),
        HelmrRunReleaseTrigger(**session, run_id=start.run.id),
    ]


async def two_steps(client: AsyncHelmrClient) -> SessionStart:
    """Start a session whose run has taken one record and waits for the next one."""
    start = await started(client, "take", "take", "answer")
    await until_waiting(client, start.run.id)
    await client.sessions.open(start.session).input("messages").send(1)
    await until_waiting(client, start.run.id)
    return start


async def test_the_deadline_is_an_event(helmr_connection: str, aclient: AsyncHelmrClient) -> None:
    start = await two_steps(aclient)
    triggers = all_four(helmr_connection, start, deadline=time.time() + 0.3)
    events = await asyncio.gather(*map(event_of, triggers))
    assert [event["status"] for event in events] == ["timeout"] * 5


async def test_an_outage_is_waited_out(
    helmr_connection: str, control_plane: LocalControlPlane, aclient: AsyncHelmrClient
) -> None:
    start = await two_steps(aclient)
    waiting = asyncio.gather(*map(event_of, all_four(helmr_connection, start)))
    await until_requested_async(control_plane, "listSessionOutputRecords")
    await asyncio.to_thread(control_plane.stop_listening)
    await asyncio.to_thread(control_plane.listen_again)
    control_plane.fail_next("listSessionRuns", faults.status(503), times=2)
    await aclient.sessions.open(start.session).input("messages").send(2)
    assert [event["status"] for event in await waiting] == ["ended"] * 5


async def test_what_is_not_there_is_an_error_without_its_text(helmr_connection: str) -> None:
    session: dict[str, Any] = {"helmr_conn_id": helmr_connection, "session_id": UNKNOWN}
    for trigger in (
        HelmrSessionTrigger(**session, activities=["idle"]),
        HelmrSessionOutputTrigger(**session, stream="answers"),
        HelmrTurnTrigger(**session, stream="messages", sequence=1),
        HelmrRunReleaseTrigger(**session, run_id=UNKNOWN),
    ):
        event = await event_of(trigger)
        assert (event["status"], event["error"]) == ("error", "HelmrNotFoundError")
        assert set(event) <= {"schema", "status", "error", "session_id", "run_id"}


async def test_an_input_record_that_the_server_does_not_show_is_an_error(
    helmr_connection: str, aclient: AsyncHelmrClient
) -> None:
    start = await started(aclient, "take")
    trigger = HelmrTurnTrigger(
        helmr_conn_id=helmr_connection, session_id=start.session.id, stream="messages", sequence=1
    )
    assert (await event_of(trigger))["error"] == "HelmrProtocolError"


async def test_a_wrong_key_is_an_error_that_shows_no_key(
    control_plane: LocalControlPlane, connect: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    connection = connect(host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    event = await event_of(HelmrSessionTrigger(helmr_conn_id=connection, session_id="s", activities=["idle"]))
    assert (event["status"], event["error"]) == ("error", "HelmrAuthError")
    assert "hlmr_sk_" not in caplog.text


async def test_being_killed_ends_nothing(
    helmr_connection: str, control_plane: LocalControlPlane, aclient: AsyncHelmrClient
) -> None:
    start = await two_steps(aclient)
    triggers = all_four(helmr_connection, start)
    waiting = [asyncio.create_task(event_of(trigger)) for trigger in triggers]
    await until_requested_async(control_plane, "listSessionOutputRecords")
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    for trigger in triggers:
        await trigger.on_kill()
        await trigger.cleanup()
    assert (await aclient.runs.retrieve(start.run.id)).status == "waiting"
    assert (await aclient.sessions.retrieve(start.session.id)).is_open

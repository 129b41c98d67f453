"""Event triggers: everything that happens fires, ids only, and nothing that goes wrong ends the watch."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.module_loading import import_string
from blockbuster import blockbuster_ctx

from helmr_provider.client import AsyncHelmrClient
from helmr_provider.triggers.events import _ended_runs as ended_runs
from helmr_provider.triggers.events import _feeds as feeds
from helmr_provider.triggers.events._feed_events import Cursor
from tests.support.event_triggers import (
    SESSION,
    begin_session,
    ended,
    output,
    publish,
    run_of,
    running,
    steady,
)
from tests.support.journal import until_requested_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from helmr_provider.local import LocalControlPlane

STORED = sorted((Path(__file__).parents[1] / "stored").glob("events-*.json"))


@pytest.fixture
async def client(control_plane: LocalControlPlane) -> AsyncIterator[AsyncHelmrClient]:
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key) as client:
        yield client


@pytest.fixture(autouse=True)
def deployed(control_plane: LocalControlPlane) -> None:
    control_plane.deploy(steady)


async def test_each_record_is_an_event_with_ids_and_no_data(
    helmr_connection: str, client: AsyncHelmrClient, control_plane: LocalControlPlane
) -> None:
    await begin_session(client)
    async with running(output()) as fired:
        await until_requested_async(control_plane, "listSessionOutputRecordsByExternalId", times=2)
        await publish(client, "one")
        await publish(client, "two", correlation_id="turn-1")
        first, second = await fired.until(2)
    assert first == {
        "schema": 1,
        "kind": "session_output",
        "event_id": first["event_id"],
        "external_id": SESSION,
        "stream": "progress",
        "sequence": 1,
    }
    assert (second["sequence"], second["correlation_id"]) == (2, "turn-1")
    assert first["event_id"] != second["event_id"]


async def test_a_session_is_watched_by_its_id_too(helmr_connection: str, client: AsyncHelmrClient) -> None:
    await begin_session(client)
    session = await client.sessions.open(external_id=SESSION).retrieve()
    await publish(client, "one")
    async with running(output(session_id=session.id, external_id=None, start="earliest")) as fired:
        [event] = await fired.until(1)
    assert (event["session_id"], event.get("external_id")) == (session.id, None)


async def test_what_was_there_before_fires_only_if_it_is_wanted(
    helmr_connection: str, client: AsyncHelmrClient, control_plane: LocalControlPlane
) -> None:
    await begin_session(client)
    await publish(client, *range(3))
    async with running(output(start="earliest")) as all_, running(output()) as new:
        await all_.until(3)
        await until_requested_async(control_plane, "listSessionOutputRecordsByExternalId", times=4)
        await publish(client, "new")
        await new.until(1)
        await all_.until(4)
    assert (all_.sequences, new.sequences) == ([1, 2, 3, 4], [4])


async def test_a_session_that_starts_later_is_waited_for(
    helmr_connection: str, client: AsyncHelmrClient, control_plane: LocalControlPlane
) -> None:
    async with running(output()) as fired:
        await until_requested_async(control_plane, "listSessionOutputRecordsByExternalId", times=2)
        await begin_session(client)
        await publish(client, "one")
        await fired.until(1)
    assert fired.sequences == [1]


async def test_only_records_with_the_correlation_id_fire(helmr_connection: str, client: AsyncHelmrClient) -> None:
    await begin_session(client)
    await publish(client, "other")
    await publish(client, "wanted", correlation_id="turn-2")
    async with running(output(start="earliest", correlation_id="turn-2")) as fired:
        await fired.until(1)
    assert fired.sequences == [2]


async def test_each_run_that_ends_is_an_event_if_it_is_the_tasks_and_ended_so(
    helmr_connection: str, client: AsyncHelmrClient, control_plane: LocalControlPlane
) -> None:
    before = await run_of(client)
    async with running(ended()) as fired, running(ended(helmr_task="fail", statuses=["failed", "expired"])) as failed:
        await until_requested_async(control_plane, "countRuns", times=4)
        await run_of(client, "steady")
        run_id = await run_of(client)
        failed_id = await run_of(client, "fail")
        [event] = await fired.until(1)
        [failure] = await failed.until(1)
    snapshot = await client.runs.retrieve(run_id)
    assert event == {
        "schema": 1,
        "kind": "run_ended",
        "event_id": run_id,
        "run_id": run_id,
        "session_id": snapshot.session_id,
        "task_id": "echo",
        "status": "succeeded",
    }
    assert (failure["run_id"], failure["status"]) == (failed_id, "failed")
    assert before not in fired.run_ids


async def test_runs_that_had_ended_fire_if_they_are_wanted(helmr_connection: str, client: AsyncHelmrClient) -> None:
    run_ids = [await run_of(client) for _ in range(3)]
    async with running(ended(start="earliest")) as fired:
        await fired.until(3)
    assert sorted(fired.run_ids) == sorted(run_ids)


async def test_an_outage_is_waited_out(
    helmr_connection: str, client: AsyncHelmrClient, control_plane: LocalControlPlane
) -> None:
    await begin_session(client)
    async with running(output()) as fired, running(ended()) as runs:
        await until_requested_async(control_plane, "listSessionOutputRecordsByExternalId", "countRuns", times=2)
        await asyncio.to_thread(control_plane.stop_listening)
        await asyncio.to_thread(control_plane.listen_again)
        await publish(client, "one")
        await run_of(client)
        await fired.until(1)
        await runs.until(1)
    assert fired.sequences == [1]


async def test_a_key_that_is_refused_is_fetched_again_until_it_is_right(
    control_plane: LocalControlPlane,
    connect: Callable[..., str],
    client: AsyncHelmrClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "PATIENCE", 0.05)
    await begin_session(client)
    connect(host=control_plane.url, password="hlmr_sk_revokedrevokedrevoked")
    async with running(output()) as fired:
        await until_requested_async(control_plane, "listSessionOutputRecordsByExternalId", times=2)
        connect(host=control_plane.url, password=control_plane.api_key)
        control_plane.clear_journal()
        await until_requested_async(control_plane, "listSessionOutputRecordsByExternalId", times=2)
        await publish(client, "one")
        await fired.until(1)
    assert fired.sequences == [1]


async def test_a_stream_that_is_not_declared_does_not_end_the_trigger_and_is_said(
    helmr_connection: str,
    client: AsyncHelmrClient,
    control_plane: LocalControlPlane,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], str],
) -> None:
    monkeypatch.setattr(feeds, "PATIENCE", 0.05)
    await begin_session(client)
    async with running(output(stream="typo")):
        await until_requested_async(control_plane, "listSessionOutputRecordsByExternalId", times=3)
    assert "output typo of session release-42" in logged()


async def test_watching_does_not_block_the_event_loop(helmr_connection: str, client: AsyncHelmrClient) -> None:
    await begin_session(client)
    await publish(client, "one")
    await run_of(client)
    # The control plane runs in this process, on a loop of its own; it may do as it likes.
    with blockbuster_ctx(scanned_modules=["helmr_provider"], excluded_modules=["helmr_provider.local"]):
        async with running(output(start="earliest")) as fired, running(ended(start="earliest")) as runs:
            await fired.until(1)
            await runs.until(1)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_what_any_release_has_stored_is_built_again_and_stored_the_same(path: Path) -> None:
    for class_path, kwargs in json.loads(path.read_text()).values():
        assert import_string(class_path)(**kwargs).serialize() == (class_path, kwargs)


def test_triggers_that_read_the_same_share_it_and_keep_their_cursors_apart() -> None:
    triggers = [ended(), ended(statuses=["failed"]), ended(helmr_task="fail")]
    assert len({trigger.shared_stream_key() for trigger in triggers}) == 1
    assert len({trigger._bookmark().key for trigger in triggers}) == 3
    assert (
        len({each.shared_stream_key() for each in (output(), output(stream="other"), output(helmr_conn_id="x"))}) == 3
    )


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: output(session_id="s"), "either session_id or external_id"),
        (lambda: output(external_id=None), "either session_id or external_id"),
        (lambda: output(start="yesterday"), "start must be"),
        (lambda: ended(statuses=[]), "statuses must be some of"),
        (lambda: ended(statuses="failed"), "statuses must be some of"),
        (lambda: ended(statuses=["running"]), "statuses must be some of"),
    ],
)
def test_what_cannot_be_watched_is_refused_when_the_dag_is_parsed(build: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build()


async def test_a_run_that_no_list_reaches_any_more_is_found(
    client: AsyncHelmrClient, control_plane: LocalControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (feeds, ended_runs):
        monkeypatch.setattr(module, "FULL", 3)
    feed, cursor = feeds.EndedRunsFeed(), Cursor()
    old = await client.sessions.start("wait-for-input", payload=None, external_id="old")
    await feed.poll(client, cursor)
    for _ in range(5):
        await client.sessions.start("wait-for-input", payload=None)
    await feed.poll(client, cursor)
    await client.sessions.open(external_id="old").input("messages").send("go on")
    await client.runs.wait(old.run.id)
    for _ in range(5):
        await run_of(client)
    # The lists show three runs each, and all of them are younger.
    assert old.run.id in {feed_event.id for feed_event in await feed.poll(client, cursor)}

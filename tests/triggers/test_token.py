"""Waiting for tokens in the triggerer: one event with ids, whatever becomes of the token, and no secret on the way."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx

from helmr_provider.client import AsyncHelmrClient
from helmr_provider.triggers._shared_client import shared_client
from helmr_provider.triggers.token import HelmrTokenTrigger
from tests.support.journal import requests_of
from tests.support.polling import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from helmr_provider.local import LocalControlPlane


@pytest.fixture
async def client(control_plane: LocalControlPlane) -> AsyncIterator[AsyncHelmrClient]:
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key) as client:
        yield client


async def events(trigger: HelmrTokenTrigger) -> list[Any]:
    return [event.payload async for event in trigger.run()]


async def until_polled(control_plane: LocalControlPlane) -> None:
    """Wait for the first poll of the trigger."""
    await until_async(lambda: requests_of(control_plane, "getToken", "listTokens"))


async def complete(client: AsyncHelmrClient, token_id: str) -> None:
    await client.tokens.complete(token_id, {"secret-answer": 42})


async def cancel(client: AsyncHelmrClient, token_id: str) -> None:
    await client.tokens.cancel(token_id)


@pytest.mark.parametrize("end", [complete, cancel])
async def test_the_end_of_a_token_is_one_event_with_its_id(
    end: Callable[..., Any], helmr_connection: str, control_plane: LocalControlPlane, client: AsyncHelmrClient
) -> None:
    token_id = (await client.tokens.create()).id
    waiting = asyncio.create_task(events(HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection)))
    await until_polled(control_plane)
    await end(client, token_id)
    assert await waiting == [{"schema": 1, "status": "ended", "token_id": token_id}]


async def test_a_token_that_expires_is_an_end_too(helmr_connection: str, client: AsyncHelmrClient) -> None:
    token_id = (await client.tokens.create(timeout="50ms")).id
    [event] = await events(HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection))
    assert event["status"] == "ended"


async def test_a_token_that_ended_before_is_noticed(helmr_connection: str, client: AsyncHelmrClient) -> None:
    token_id = (await client.tokens.create()).id
    await complete(client, token_id)
    [event] = await events(HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection))
    assert event["status"] == "ended"


async def test_the_deadline_is_an_event(helmr_connection: str, client: AsyncHelmrClient) -> None:
    token_id = (await client.tokens.create()).id
    trigger = HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection, deadline=time.time() + 0.2)
    assert await events(trigger) == [
        {"schema": 1, "status": "timeout", "deadline": trigger.deadline, "token_id": token_id}
    ]
    assert (await client.tokens.retrieve(token_id)).is_pending, "a token is not ours to cancel"


async def test_an_outage_is_waited_out(
    helmr_connection: str, control_plane: LocalControlPlane, client: AsyncHelmrClient
) -> None:
    token_id = (await client.tokens.create()).id
    waiting = asyncio.create_task(events(HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection)))
    await until_polled(control_plane)
    await asyncio.to_thread(control_plane.stop_listening)
    await asyncio.to_thread(control_plane.listen_again)
    await complete(client, token_id)
    assert (await waiting)[0]["status"] == "ended"


async def test_many_tokens_are_waited_for_on_one_client(helmr_connection: str, client: AsyncHelmrClient) -> None:
    ids = [(await client.tokens.create()).id for _ in range(30)]
    waits = [
        asyncio.create_task(events(HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection)))
        for token_id in ids
    ]
    for token_id in ids:
        await complete(client, token_id)
    seen = [event["token_id"] for [event] in await asyncio.gather(*waits)]
    assert seen == ids


async def test_a_token_that_is_not_there_is_an_error_without_its_text(helmr_connection: str) -> None:
    token_id = "00000000-0000-7000-8000-000000000000"
    [event] = await events(HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection))
    assert event == {"schema": 1, "status": "error", "error": "HelmrNotFoundError", "token_id": token_id}


async def test_a_wrong_key_is_an_error_that_shows_no_key(
    control_plane: LocalControlPlane, connect: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    connection = connect(host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    [event] = await events(HelmrTokenTrigger(token_id="t", helmr_conn_id=connection))
    assert (event["status"], event["error"]) == ("error", "HelmrAuthError")
    assert "hlmr_sk_" not in caplog.text


async def test_a_key_that_was_rotated_is_fetched_again_by_those_who_wait(
    control_plane: LocalControlPlane, connect: Callable[..., str], client: AsyncHelmrClient
) -> None:
    token_id = (await client.tokens.create()).id
    connection = connect(host=control_plane.url, password="hlmr_sk_revokedrevokedrevoked")
    async with shared_client(connection) as stale:
        connect(host=control_plane.url, password=control_plane.api_key)
        waits = [events(HelmrTokenTrigger(token_id=token_id, helmr_conn_id=connection)) for _ in range(3)]
        waiting = asyncio.gather(*waits)
        await until_async(
            lambda: any(entry.operation == "getToken" and entry.status == 200 for entry in control_plane.journal)
        )
        await complete(client, token_id)
        assert {event["status"] for [event] in await waiting} == {"ended"}
        async with shared_client(connection) as current:
            assert current is not stale


async def test_being_cancelled_leaves_the_token_alone(
    helmr_connection: str, control_plane: LocalControlPlane, client: AsyncHelmrClient
) -> None:
    token_id = (await client.tokens.create()).id
    trigger = HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection)
    waiting = asyncio.create_task(events(trigger))
    await until_polled(control_plane)
    waiting.cancel()
    await asyncio.wait([waiting])
    await trigger.on_kill()
    await trigger.cleanup()
    assert (await client.tokens.retrieve(token_id)).is_pending


async def test_waiting_does_not_block_the_event_loop(
    helmr_connection: str, control_plane: LocalControlPlane, client: AsyncHelmrClient
) -> None:
    token_id = (await client.tokens.create()).id
    # The control plane runs in this process, on a loop of its own; it may do as it likes.
    with blockbuster_ctx(scanned_modules=["helmr_provider"], excluded_modules=["helmr_provider.local"]):
        waiting = asyncio.create_task(events(HelmrTokenTrigger(token_id=token_id, helmr_conn_id=helmr_connection)))
        await until_polled(control_plane)
        await complete(client, token_id)
        [event] = await waiting
    assert event["status"] == "ended"


def test_it_is_stored_as_ids_and_built_again_from_them() -> None:
    trigger = HelmrTokenTrigger(token_id="t-1", helmr_conn_id="helmr_default", deadline=1750000000.5)
    path, kwargs = trigger.serialize()
    assert path == "helmr_provider.triggers.token.HelmrTokenTrigger"
    assert kwargs == {"token_id": "t-1", "helmr_conn_id": "helmr_default", "deadline": 1750000000.5, "version": 1}
    assert HelmrTokenTrigger(**kwargs).serialize() == trigger.serialize()


def test_what_is_at_its_default_is_not_stored() -> None:
    _, kwargs = HelmrTokenTrigger(token_id="t-1", helmr_conn_id="helmr_default").serialize()
    assert kwargs == {"token_id": "t-1", "helmr_conn_id": "helmr_default", "version": 1}

"""One client for all waits on a connection: fetched once, closed with the last, renewed when it has to be."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import TYPE_CHECKING, Any

import certifi
import pytest
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from blockbuster import blockbuster_ctx

from helmr_provider.client.errors import HelmrAuthError, HelmrConfigError
from helmr_provider.hooks import helmr
from helmr_provider.triggers._shared_client import _clients, _closing, shared_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from helmr_provider.client import AsyncHelmrClient
    from helmr_provider.local import LocalControlPlane


class Fetches:
    """Counts what is asked of Airflow, and lets a test hold the answer back."""

    def __init__(self, fetch: Callable[..., Awaitable[Any]]) -> None:
        self._fetch = fetch
        self.count = 0
        self.fetching = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()

    async def __call__(self, conn_id: str, hook: Any = None) -> Any:
        self.count += 1
        self.fetching.set()
        await self.answer.wait()
        return await self._fetch(conn_id, hook=hook)


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> Fetches:
    counting = Fetches(get_async_connection)
    monkeypatch.setattr(helmr, "get_async_connection", counting)
    return counting


@pytest.fixture
def connection(connect: Callable[..., str]) -> str:
    """A connection without a server; a client connects only when it is used."""
    return connect(host="https://helmr.example", password="hlmr_sk_0123456789", extra={"streams": 3})


class User:
    """A holder of the shared client, until it is released."""

    def __init__(self, conn_id: str) -> None:
        self._leave = asyncio.Event()
        self._entered: asyncio.Future[AsyncHelmrClient] = asyncio.get_running_loop().create_future()
        # Not every test asks how entering went.
        self._entered.add_done_callback(lambda entered: entered.cancelled() or entered.exception())
        self.task = asyncio.create_task(self._stay(conn_id))

    async def _stay(self, conn_id: str) -> None:
        try:
            async with shared_client(conn_id) as client:
                self._entered.set_result(client)
                await self._leave.wait()
        except BaseException as error:
            if not self._entered.done():
                self._entered.set_exception(error)
                return
            raise

    async def client(self) -> AsyncHelmrClient:
        return await self._entered

    async def leave(self) -> None:
        self._leave.set()
        await self.task


async def test_users_of_a_connection_share_the_client_and_its_streams(connection: str, fetches: Fetches) -> None:
    first, second = User(connection), User(connection)
    assert await first.client() is await second.client()
    assert (await first.client()).max_streams == 3
    assert fetches.count == 1
    await first.leave()
    await second.leave()


async def test_users_who_come_while_it_is_fetched_wait_for_that_fetch(connection: str, fetches: Fetches) -> None:
    fetches.answer.clear()
    users = [User(connection) for _ in range(50)]
    await fetches.fetching.wait()
    fetches.answer.set()
    clients = {id(await user.client()) for user in users}
    assert (fetches.count, len(clients)) == (1, 1)
    for user in users:
        await user.leave()


async def test_connections_do_not_share(connect: Callable[..., str], connection: str) -> None:
    other = connect("helmr_other", host="https://other.example", password="hlmr_sk_9876543210")
    async with shared_client(connection) as one, shared_client(other) as two:
        assert (one.url, two.url) == ("https://helmr.example", "https://other.example")


async def test_the_last_one_to_leave_closes_it_and_the_next_one_sees_a_changed_connection(
    connection: str, connect: Callable[..., str], fetches: Fetches
) -> None:
    first, second = User(connection), User(connection)
    client = await first.client()
    connect(host="https://moved.example", password="hlmr_sk_0123456789")
    await first.leave()
    assert not is_closed(client), "there is a user left"
    third = User(connection)
    assert await third.client() is client
    await second.leave()
    await third.leave()
    assert is_closed(client)
    async with shared_client(connection) as fresh:
        assert fresh.url == "https://moved.example"
    assert fetches.count == 2


def is_closed(client: AsyncHelmrClient) -> bool:
    return client._transport.http.is_closed


async def test_a_failing_fetch_fails_for_all_who_wait_for_it_and_is_tried_anew(
    connect: Callable[..., str], fetches: Fetches, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches.answer.clear()
    users = [User("helmr_later") for _ in range(3)]
    await fetches.fetching.wait()
    fetches.answer.set()
    for user in users:
        with pytest.raises(AirflowNotFoundException):
            await user.client()
    assert fetches.count == 1
    connect("helmr_later", host="https://helmr.example", password="hlmr_sk_0123456789")
    async with shared_client("helmr_later") as client:
        assert client.url == "https://helmr.example"


async def test_a_connection_that_is_not_usable_says_why(connect: Callable[..., str]) -> None:
    with pytest.raises(HelmrConfigError, match="host is missing"):
        async with shared_client(connect(password="hlmr_sk_0123456789")):
            pass


async def test_who_is_cancelled_while_waiting_takes_nothing_from_the_others(connection: str, fetches: Fetches) -> None:
    fetches.answer.clear()
    impatient, patient = User(connection), User(connection)
    await fetches.fetching.wait()
    impatient.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient.client()
    fetches.answer.set()
    await patient.client()
    await patient.leave()


async def test_when_all_are_cancelled_while_waiting_the_fetch_is_cancelled(connection: str, fetches: Fetches) -> None:
    fetches.answer.clear()
    users = [User(connection), User(connection)]
    await fetches.fetching.wait()
    for user in users:
        user.task.cancel()
    await asyncio.wait([user.task for user in users])
    assert not _clients[asyncio.get_running_loop()]
    fetches.answer.set()
    async with shared_client(connection):
        assert fetches.count == 2


async def test_a_user_cancelled_twice_still_closes_the_client(connection: str) -> None:
    user = User(connection)
    client = await user.client()
    user.task.cancel()
    await asyncio.sleep(0)
    user.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await user.task
    await asyncio.wait(_closing)
    assert is_closed(client)


async def be_refused(connection: str) -> None:
    with pytest.raises(HelmrAuthError):
        async with shared_client(connection):
            raise HelmrAuthError("authentication is required", status=401)


async def test_a_refused_key_retires_the_client_for_those_who_come_later(connection: str, fetches: Fetches) -> None:
    staying = User(connection)
    old = await staying.client()
    await be_refused(connection)
    async with shared_client(connection) as fresh:
        assert fresh is not old
    assert fetches.count == 2
    assert not is_closed(old), "it is still in use"
    await staying.leave()
    assert is_closed(old)


async def test_leaving_an_old_client_does_not_end_the_fresh_one(connection: str) -> None:
    staying = User(connection)
    old = await staying.client()
    await be_refused(connection)
    fresh = User(connection)
    assert await fresh.client() is not old
    await staying.leave()
    async with shared_client(connection) as client:
        assert client is await fresh.client()
    await fresh.leave()


def test_event_loops_do_not_share(connection: str) -> None:
    async def use() -> AsyncHelmrClient:
        async with shared_client(connection) as client:
            return client

    assert asyncio.run(use()) is not asyncio.run(use())


async def test_nothing_blocks_the_event_loop(helmr_connection: str, control_plane: LocalControlPlane) -> None:
    token = await asyncio.to_thread(create_token, control_plane)
    # The control plane runs in this process, on a loop of its own; it may do as it likes.
    with blockbuster_ctx(scanned_modules=["helmr_provider"], excluded_modules=["helmr_provider.local"]):
        async with shared_client(helmr_connection) as client:
            seen = await client.tokens.retrieve(token)
    assert seen.is_pending


async def test_certificates_are_not_read_on_the_event_loop(
    connect: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop: list[bool] = []
    create = ssl.create_default_context

    def create_default_context(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        on_loop.append(threading.current_thread() is threading.main_thread())
        return create(*args, **kwargs)

    monkeypatch.setattr(ssl, "create_default_context", create_default_context)
    members = {"host": "https://helmr.example", "password": "hlmr_sk_0123456789"}
    async with shared_client(connect(**members, extra={"ca_bundle": certifi.where()})):
        pass
    assert set(on_loop) == {False}


def create_token(control_plane: LocalControlPlane) -> str:
    from helmr_provider.client import HelmrClient

    with HelmrClient(url=control_plane.url, api_key=control_plane.api_key) as client:
        return client.tokens.create().id

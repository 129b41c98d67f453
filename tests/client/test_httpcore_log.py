"""httpcore's debug log quotes headers: it shows nothing of this client, and everything of others."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Any

import httpcore  # noqa: TID251 - another library's use of it
import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrClient, HelmrError
from helmr_provider.client._internals import single_shot, transport_of
from tests.client.scripted_server import Reply, ScriptedServer, events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

API_KEY = "hlmr_sk_verysecret"


@pytest.fixture
def url() -> Iterator[str]:
    """Return the URL of a server with streams that do not end."""

    def answer(request: object) -> Reply:
        return events(":\n\n", end="silent") if "events" in str(request) else Reply(json={"status": "ok"})

    with ScriptedServer(answer=answer) as server:
        yield server.url


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns and forgets the lines of httpcore."""
    caplog.set_level(logging.DEBUG)

    def lines() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.name.startswith("httpcore")]
        caplog.clear()
        return found

    return lines


def _another_users(url: str) -> None:
    with httpcore.ConnectionPool() as pool:
        pool.request("GET", f"{url}/healthz")


def _stream(client: Any) -> Any:
    return transport_of(client).events("getRunEvents", path={"run_id": "r"}, query={})


def test_the_blocking_client_shows_nothing(url: str, shown: Callable[[], list[str]]) -> None:
    with HelmrClient(url=url, api_key=API_KEY) as client:
        client.health()
        stream = _stream(client)
        next(stream)
        stream.close()
    assert shown() == []
    _another_users(url)
    assert len(shown()) > 10


async def test_the_asynchronous_client_shows_nothing(url: str, shown: Callable[[], list[str]]) -> None:
    async with AsyncHelmrClient(url=url, api_key=API_KEY) as client:
        await client.health()
        stream = _stream(client)
        await anext(stream)
        await stream.aclose()
    assert shown() == []
    async with httpcore.AsyncConnectionPool() as pool:
        await pool.request("GET", f"{url}/healthz")
    assert len(shown()) > 10


def test_a_client_that_is_closed_within_a_call_of_another_shows_nothing(
    url: str, shown: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = HelmrClient(url=url, api_key=API_KEY)
    other.health()
    connect = httpcore.SyncBackend.connect_tcp

    def close_first(*args: Any, **options: Any) -> Any:
        other.close()
        return connect(*args, **options)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", close_first)
    with HelmrClient(url=url, api_key=API_KEY) as client:
        client.health()
    assert shown() == []


async def test_a_call_hides_nothing_of_other_tasks_and_threads(url: str, shown: Callable[[], list[str]]) -> None:
    async with AsyncHelmrClient(url=url, api_key=API_KEY) as client:
        stream = _stream(client)
        await anext(stream)
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        logging.getLogger("httpcore.http11").debug("of another task")
        await asyncio.to_thread(logging.getLogger("httpcore.http11").debug, "of another thread")
        with HelmrClient(url=url, api_key=API_KEY) as blocking:
            # Within a coroutine, beside the call of the other client.
            blocking.health()
        logging.getLogger("httpcore.http11").debug("after it")
        lines = shown()
        reading.cancel()
        await asyncio.wait([reading])
    assert lines == ["of another task", "of another thread", "after it"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_calls_that_were_abandoned_with_their_loop_hide_and_show_nothing(
    url: str, shown: Callable[[], list[str]]
) -> None:
    async def one_turn() -> None:
        await asyncio.sleep(0)

    client = AsyncHelmrClient(url=url, api_key=API_KEY)
    loop = asyncio.new_event_loop()
    stream = _stream(client)
    loop.run_until_complete(anext(stream))
    task = loop.create_task(anext(stream))
    loop.run_until_complete(one_turn())
    loop.close()
    with HelmrClient(url=url, api_key=API_KEY) as blocking:
        del task, stream, client
        gc.collect()
        blocking.health()
    assert not [line for line in shown() if "hlmr" in line or "headers" in line]
    for _ in range(20):
        _another_users(url)
        assert len(shown()) > 10


def test_a_call_that_fails_hides_nothing_afterwards(url: str, shown: Callable[[], list[str]]) -> None:
    with HelmrClient(url="http://127.0.0.1:9", api_key=API_KEY) as client, pytest.raises(HelmrError):
        single_shot(client).runs.retrieve("r")
    assert shown() == []
    _another_users(url)
    assert len(shown()) > 10

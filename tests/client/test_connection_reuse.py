"""How long an idle connection is kept, counted by the connections that a server accepts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrClient
from helmr_provider.client._waiting.scheduler import Scheduler
from tests.client.run_json import RUN
from tests.client.scripted_server import API_KEY, Reply, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

# The longest interval between two reads of the snapshot of a followed run, jitter included.
LONGEST = 1.2 * Scheduler.CHECK


class Clock:
    """The clock of idle connections, which only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    for variant in ("_sync", "_async"):
        monkeypatch.setattr(f"httpcore.{variant}.http11.time", SimpleNamespace(monotonic=moved.monotonic))
    return moved


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Any]]]:
    with ScriptedServer(Reply(json=RUN)) as scripted:
        accepted, process = list[Any](), scripted._server.process_request

        def count(request: Any, address: Any) -> None:
            accepted.append(address)
            process(request, address)

        monkeypatch.setattr(scripted._server, "process_request", count)
        yield scripted.url, accepted


def test_the_read_after_a_followed_runs_end_opens_no_connection(server: tuple[str, list[Any]], clock: Clock) -> None:
    url, accepted = server
    with HelmrClient(url=url, api_key=API_KEY) as client:
        client.runs.retrieve("r")
        clock.now += LONGEST
        client.runs.retrieve("r")
        assert len(accepted) == 1
        clock.now += 60.0
        client.runs.retrieve("r")
        assert len(accepted) == 2


async def test_nor_does_that_of_the_asynchronous_client(server: tuple[str, list[Any]], clock: Clock) -> None:
    url, accepted = server
    async with AsyncHelmrClient(url=url, api_key=API_KEY) as client:
        await client.runs.retrieve("r")
        clock.now += LONGEST
        await client.runs.retrieve("r")
        assert len(accepted) == 1
        clock.now += 60.0
        await client.runs.retrieve("r")
        assert len(accepted) == 2

"""Waits and followers against a server whose streams drip, fall silent, break or hold odd records."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrClient, HelmrConnectionError, HelmrError, HelmrTimeoutError
from tests.client.run_json import snapshot
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive, events
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.scripted_server import ReceivedRequest

both = pytest.mark.parametrize("variant", VARIANTS)

# Far more than any wait here needs, so that a stream that is read to its end is seen as that.
MAX_COMMENTS = 6000


class KeepAliveComments:
    """Comments that keep a stream alive and say nothing: one every few milliseconds, for minutes."""

    def __init__(self) -> None:
        self.sent = 0
        self._pause = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        while self.sent < MAX_COMMENTS:
            self.sent += 1
            yield b": keep-alive\n\n"
            self._pause.wait(0.02)


def run_event(number: int, run_id: str, kind: str, at: str = "2026-11-28T12:00:01Z") -> str:
    record = {"id": str(number), "kind": kind, "message": kind, "at": at, "run_id": run_id, "attributes": {}}
    return f"id: {number}\nevent: run_event\ndata: {json.dumps(record)}\n\n"


def keeping_alive(comments: KeepAliveComments, statuses: Callable[[int], str]) -> Callable[[ReceivedRequest], Reply]:
    reads = 0

    def answer(request: ReceivedRequest) -> Reply:
        nonlocal reads
        if request.path.endswith("/events"):
            return Reply(frames=comments, headers={"content-type": "text/event-stream"})  # type: ignore[arg-type]
        reads += 1
        return snapshot("r", statuses(reads))

    return answer


@both
def test_a_stream_that_only_keeps_itself_alive_does_not_hold_up_the_deadline(variant: str) -> None:
    comments = KeepAliveComments()
    with (
        ScriptedServer(answer=keeping_alive(comments, lambda _: "running")) as wire,
        pytest.raises(HelmrTimeoutError, match="run r"),
    ):
        drive(variant, lambda client: client.runs.wait("r", timeout=0.5), url=wire.url)
    assert comments.sent < MAX_COMMENTS


@both
def test_a_stream_that_only_keeps_itself_alive_does_not_hold_up_the_next_snapshot(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr_provider.client._waiting.scheduler.Scheduler.CHECK", 0.2)
    comments = KeepAliveComments()
    answer = keeping_alive(comments, lambda reads: "running" if reads == 1 else "succeeded")
    with ScriptedServer(answer=answer) as wire:
        run = drive(variant, lambda client: client.runs.wait("r"), url=wire.url)
    assert run.status == "succeeded"
    assert comments.sent < MAX_COMMENTS


def test_closing_a_blocking_client_wakes_the_threads_that_read_a_silent_stream_or_sleep() -> None:
    opened = threading.Event()

    def answer(request: ReceivedRequest) -> Reply:
        if request.path.endswith("/events"):
            opened.set()
            return events(": hello\n\n", end="silent")
        return snapshot("r", "running")

    with ScriptedServer(answer=answer) as wire, ThreadPoolExecutor() as pool:
        following, sleeping = (HelmrClient(url=wire.url, api_key=API_KEY, max_streams=n) for n in (1, 0))
        waits = [pool.submit(client.runs.wait, "r") for client in (following, sleeping)]
        assert opened.wait(60)
        until(lambda: bool(sleeping._waiter.stats.requests))
        for client in (following, sleeping):
            client.close()
        for wait in waits:
            # Without being woken, the one would read for a minute, the other sleep for a second at least.
            with pytest.raises(HelmrError, match="closed"):
                wait.result(timeout=30)


async def test_one_unreadable_record_ends_no_wait_of_the_client() -> None:
    ended = asyncio.Event()

    def answer(request: ReceivedRequest) -> Reply:
        run_id = request.path.split("/")[3]
        if request.path.endswith("/events"):
            at = "0001-01-01T00:00:00" if run_id == "r0" else "2026-11-28T12:00:01Z"
            kind = "log" if run_id == "r0" else "run.completed"
            if run_id != "r0":
                ended.set()
            return events(run_event(1, run_id, kind, at), end="complete")
        return snapshot(run_id, "succeeded" if ended.is_set() else "running")

    with ScriptedServer(answer=answer) as wire:
        async with AsyncHelmrClient(url=wire.url, api_key=API_KEY) as client:
            runs = await asyncio.gather(*(client.runs.wait(f"r{n}", timeout=60) for n in range(3)))
    assert [run.status for run in runs] == ["succeeded"] * 3


async def test_an_error_of_any_kind_in_one_stream_ends_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    def answer(request: ReceivedRequest) -> Reply:
        nonlocal reads
        if request.path.endswith("/events"):
            return events(run_event(1, "r", "log"), end="silent")
        reads += 1
        return snapshot("r", "running" if reads < 3 else "succeeded")

    def broken(kind: str, message: str) -> bool:
        raise ZeroDivisionError(f"{kind} {message}")

    monkeypatch.setattr("helmr_provider.client._waiting.async_waiter.is_hint", broken)
    with ScriptedServer(answer=answer) as wire:
        async with AsyncHelmrClient(url=wire.url, api_key=API_KEY) as client:
            assert (await client.runs.wait("r", timeout=60)).status == "succeeded"


FOLLOWERS = {
    "events": lambda client: client.runs.events.subscribe("r"),
    "logs": lambda client: client.runs.logs.follow("r"),
}


@both
@pytest.mark.parametrize("follower", FOLLOWERS)
@pytest.mark.parametrize("status", [500, 503])
def test_a_follower_survives_an_opening_that_fails_for_a_moment(
    follower: str, status: int, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr_provider.client._retry.Backoff.delay", lambda *_: 0.0)
    failures = 5

    def answer(request: ReceivedRequest) -> Reply:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            return Reply(status, json={"error": "for a moment"})
        if request.path.endswith("/events"):
            return Reply(json={"events": [], "records": []})
        if request.path.endswith("/logs") and not request.query.get("follow"):
            return Reply(json={"cursor": "0"})
        return events(": nothing\n\n") if request.path.endswith("/logs") else snapshot("r", "succeeded")

    with ScriptedServer(answer=answer) as wire:
        assert drive(variant, FOLLOWERS[follower], url=wire.url) == []
        assert len(wire.requests) >= 6


@both
@pytest.mark.parametrize("follower", FOLLOWERS)
def test_a_follower_of_a_control_plane_that_is_not_there_says_so(follower: str, variant: str) -> None:
    with ScriptedServer() as wire:
        url = wire.url
    with pytest.raises(HelmrConnectionError):
        drive(variant, FOLLOWERS[follower], url=url)

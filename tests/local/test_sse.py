"""Streams beyond what the recordings show: endings, cursors, silence, many followers."""

from __future__ import annotations

import asyncio
import base64
import json
import resource
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from helmr_provider.local import LocalControlPlane, Settings, TaskFailure
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from tests.support.local.scripted_tasks import Director

_COMMENT = ": keep-alive\n\n"


def test_a_live_stream_ends_at_a_failed_attempt_and_continues_when_opened_again(
    server: LocalControlPlane, wire: Wire, director: Director
) -> None:
    retry = {"maxAttempts": 2, "backoff": {"minMs": 1, "maxMs": 1}}
    run_id = wire.start("scripted", retry=retry)["run"]["id"]
    wire.until(run_id, "running")
    kinds: list[str] = []

    def fail() -> Any:
        raise TaskFailure("once")

    with wire.stream(f"/api/runs/{run_id}/events") as stream:
        for event in stream.events():
            kinds.append(event["kind"])
            if len(kinds) == 1:
                director.end(run_id, fail)
    assert kinds == ["run.created", "run.failed"]
    wire.until(run_id, "running")
    director.end(run_id, lambda: None)
    wire.ended(run_id)
    with wire.stream(f"/api/runs/{run_id}/events", query={"cursor": "2"}) as stream:
        assert [event["kind"] for event in stream.events()] == ["run.retry_scheduled", "run.completed"]


def test_a_page_longer_than_one_read_is_replayed_whole(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]

    async def write(ctx: Any) -> None:
        for number in range(450):
            ctx.log(str(number))

    director.tell(run_id, write)
    director.end(run_id, lambda: None)
    wire.ended(run_id)
    with wire.stream(f"/api/runs/{run_id}/events") as stream:
        assert [event["id"] for event in stream.events()] == [str(number) for number in range(1, 453)]
    with wire.stream(f"/api/runs/{run_id}/logs") as stream:
        written = [base64.b64decode(chunk["content_base64"]).decode() for chunk in stream.events()]
    assert "".join(written) == "".join(f"{number}\n" for number in range(450))


def test_a_stream_is_ended_properly_when_its_time_is_over(director: Director) -> None:
    settings = Settings(stream_limit=0.3, keep_alive=60)
    with LocalControlPlane([director.define("scripted")], settings=settings) as server:
        wire = Wire(server)
        run_id = wire.start("scripted")["run"]["id"]
        with wire.stream(f"/api/runs/{run_id}/events") as stream:
            assert [event["kind"] for event in stream.events()] == ["run.created"]
            assert stream.response.isclosed()


def test_a_follower_past_the_end_hears_comments_only(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    director.end(run_id, lambda: None)
    wire.ended(run_id)
    with wire.stream(f"/api/runs/{run_id}/events", query={"cursor": "99"}) as stream:
        frames = stream.frames()
        assert [next(frames), next(frames)] == [_COMMENT, _COMMENT]


def test_logs_of_a_large_run_are_cut_to_their_newest_mebibyte(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    content = bytes(range(256)) * 4096 + b"the end"

    async def write(ctx: Any) -> None:
        ctx.stdout(content)

    director.tell(run_id, write)
    until(lambda: len(director.results(run_id)) == 1)
    logs = wire.get(f"/api/runs/{run_id}/logs")
    assert (logs["stdout_bytes"], logs["truncated"]) == (len(content), True)
    assert base64.b64decode(logs["stdout_base64"]) == content[-1024 * 1024 :]


@pytest.mark.parametrize("cursor", ["-1", "1.5", "x", str(2**63)])
def test_a_cursor_that_is_no_sequence_is_refused(wire: Wire, cursor: str) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    assert wire.request("GET", f"/api/runs/{run_id}/events", query={"cursor": cursor}).status == 400


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2500,
    reason="the hard limit on open files (ulimit -Hn) is below 2,500: a thousand followers and their server need more",
)
async def test_a_thousand_followers_are_notified_of_the_end_of_one_run(
    server: LocalControlPlane, director: Director
) -> None:
    wire = Wire(server)
    run_id = wire.start("scripted")["run"]["id"]
    address = urlsplit(server.url)
    request = (
        f"GET /api/runs/{run_id}/events?follow=1 HTTP/1.1\r\nHost: local\r\nAuthorization: Bearer {wire.key}\r\n\r\n"
    )
    connected = asyncio.Semaphore(0)

    async def follow() -> bytes:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(request.encode())
        head = await reader.readuntil(b"run.created")
        connected.release()
        rest = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return head + rest

    followers = [asyncio.create_task(follow()) for _ in range(1000)]
    for _ in followers:
        await connected.acquire()
    director.end(run_id, lambda: None)
    streams = await asyncio.gather(*followers)
    assert all(stream.count(b"run.completed") == 2 for stream in streams)


def test_a_follower_that_leaves_is_forgotten(server: LocalControlPlane, wire: Wire) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    with wire.stream(f"/api/runs/{run_id}/events") as stream:
        next(stream.frames())
    until(lambda: not server.running.core.notifier._waiting.get(f"run:{run_id}"))


def test_event_data_is_one_line_of_json_for_any_payload(wire: Wire) -> None:
    payload = {"text": "line one\nline two\r\n\u2028 ✓ \U0001f600", "nested": [{"id: 9": "event: x\n\n"}]}
    run_id = wire.start("scripted", payload)["run"]["id"]
    with wire.stream(f"/api/runs/{run_id}/events") as stream:
        frame = next(stream.frames())
    assert frame.count("\n") == 4
    data = frame.splitlines(keepends=False)
    assert json.loads(frame.split("data: ", 1)[1])["attributes"]["payload"] == payload
    assert data[0] == "id: 1"

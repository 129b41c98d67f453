"""Following what a command or terminal writes: every chunk once and in order, whatever drops, and how it ends."""

from __future__ import annotations

import base64
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr_provider.client import (
    HelmrConnectionError,
    HelmrGoneError,
    HelmrNotFoundError,
    HelmrProtocolError,
    WorkspaceStreamError,
    WorkspaceStreamTerminalError,
)
from helmr_provider.client._retry import Backoff
from tests.client.scripted_server import VARIANTS, Reply, ScriptedServer, drive, events

if TYPE_CHECKING:
    from helmr_provider.client import (
        StreamChunk,
    )
    from tests.client.scripted_server import End, ReceivedRequest

both = pytest.mark.parametrize("variant", VARIANTS)
PIECES = [b"hello ", b"w\xc3", b"\xb6rld", b"\x00\xff", b"!"]
QUICK = Backoff(attempts=0, base=0.001, cap=0.002)


def chunks() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    start = 0
    for number, piece in enumerate(PIECES):
        found.append(
            {
                "id": f"chunk-{number}",
                "stream": "stdout",
                "offset_start": start,
                "offset_end": start + len(piece),
                "data": base64.b64encode(piece).decode(),
                "observed_at": "2026-11-23T17:38:28.307343Z",
                "created_at": "2026-11-23T17:38:28.307343Z",
            }
        )
        start += len(piece)
    return found


CHUNKS = chunks()
SIZE = CHUNKS[-1]["offset_end"]


def frame(event: str, data: Any, frame_id: int | None = None) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return ("" if frame_id is None else f"id: {frame_id}\n") + f"event: {event}\ndata: {text}\n\n"


def chunk_frame(chunk: dict[str, Any]) -> str:
    return frame("workspace_stream_chunk", chunk, chunk["offset_end"])


def end_frame(state: str = "exited", event: str = "workspace_stream_terminal", **error: Any) -> str:
    return frame(
        event,
        {
            "resource_kind": "workspace_exec",
            "resource_id": "exec-1",
            "stream": "stdout",
            "state": state,
            "cursor": SIZE,
            "error": error,
        },
        SIZE,
    )


def behind(cursor: str | None) -> list[dict[str, Any]]:
    """The chunks that end behind a cursor, as the server chooses them."""
    return [chunk for chunk in CHUNKS if chunk["offset_end"] > int(cursor or 0)]


def stdout(client: Any, **options: Any) -> Any:
    return client.workspaces.open("w").execs.open("e").stdout.stream(**options)


def quickly(client: Any) -> Any:
    """The client with short pauses between its streams."""
    import dataclasses

    client._transport.context = dataclasses.replace(client._transport.context, reconnects=QUICK)
    return client


def follow(variant: str, wire: ScriptedServer, **options: Any) -> list[StreamChunk]:
    found: list[StreamChunk] = drive(variant, lambda c: stdout(quickly(c), **options), url=wire.url)
    return found


def offsets(found: list[StreamChunk]) -> list[tuple[int, int]]:
    return [(chunk.offset_start, chunk.offset_end) for chunk in found]


EXPECTED = [(chunk["offset_start"], chunk["offset_end"]) for chunk in CHUNKS]


@both
@settings(max_examples=15)
@given(
    drops=st.lists(
        st.tuples(st.integers(0, len(PIECES)), st.sampled_from(["complete", "cut", "reset"]), st.booleans()), max_size=4
    )
)
def test_every_chunk_comes_once_and_in_order_over_dropped_connections(
    drops: list[tuple[int, End, bool]], variant: str
) -> None:
    """Each connection breaks after some chunks, cleanly or not, sometimes in the middle of a frame."""
    left = list(drops)

    def answer(request: ReceivedRequest) -> Reply:
        frames = [chunk_frame(chunk) for chunk in behind(request.query.get("cursor"))]
        if not left:
            return events(*frames, end_frame())
        count, end, torn = left.pop(0)
        rest = frames[count : count + 1] or [end_frame()]
        return events(*frames[:count], *([rest[0][: len(rest[0]) // 2]] if torn else []), end=end)

    with ScriptedServer(answer=answer) as wire:
        found = follow(variant, wire)
    assert offsets(found) == EXPECTED
    assert b"".join(chunk.content for chunk in found) == b"".join(PIECES)
    assert len(wire.requests) == len(drops) + 1


@both
def test_an_outage_in_between_is_survived(variant: str) -> None:
    first = events(*(chunk_frame(chunk) for chunk in CHUNKS[:2]), end="reset")
    last = events(*(chunk_frame(chunk) for chunk in CHUNKS[2:]), end_frame())
    with ScriptedServer(first, Reply(503, json={"error": "busy"}), Reply(500, json={"error": "broken"}), last) as wire:
        assert offsets(follow(variant, wire)) == EXPECTED
    assert [request.query.get("cursor") for request in wire.requests] == [None, "8", "8", "8"]


@both
def test_chunks_that_come_again_are_not_yielded_again(variant: str) -> None:
    again = events(*(chunk_frame(chunk) for chunk in CHUNKS), end_frame())
    with ScriptedServer(events(*(chunk_frame(chunk) for chunk in CHUNKS[:3])), again) as wire:
        assert offsets(follow(variant, wire)) == EXPECTED


@both
def test_following_starts_at_the_cursor_and_a_chunk_can_begin_before_it(variant: str) -> None:
    with ScriptedServer(
        answer=lambda request: events(*(chunk_frame(c) for c in behind(request.query["cursor"])), end_frame())
    ) as wire:
        found = follow(variant, wire, from_cursor=7, limit=50)
    assert wire.requests[0].query == {"cursor": "7", "limit": "50", "follow": "1"}
    assert (found[0].offset_start, found[0].content, found[0].content_from(7)) == (6, b"w\xc3", b"\xc3")
    assert found[1].content_from(7) == found[1].content


@both
@pytest.mark.parametrize("event", ["workspace_stream_terminal", "workspace_stream_lost"])
@pytest.mark.parametrize("state", ["lost", "failed"])
def test_a_lost_or_failed_command_is_raised_after_what_it_had_written(state: str, event: str, variant: str) -> None:
    frames = [chunk_frame(CHUNKS[0]), end_frame(state, event, code="workspace_materialization_failed")]
    with ScriptedServer(events(*frames)) as wire, pytest.raises(WorkspaceStreamTerminalError) as caught:
        follow(variant, wire)
    assert (caught.value.terminal.state, caught.value.terminal.cursor) == (state, SIZE)
    assert f"exec exec-1 ended as {state} (workspace_materialization_failed)" in str(caught.value)


@both
def test_a_stream_that_the_server_cannot_continue_says_where_it_stopped(variant: str) -> None:
    failure = {"code": "workspace_stream_cursor_expired", "message": "cursor expired", "cursor": 4096}
    with (
        ScriptedServer(events(frame("workspace_stream_error", failure))) as wire,
        pytest.raises(WorkspaceStreamError, match="workspace_stream_cursor_expired: cursor expired") as caught,
    ):
        follow(variant, wire)
    assert (caught.value.code, caught.value.cursor) == ("workspace_stream_cursor_expired", 4096)
    assert len(wire.requests) == 1


@both
@pytest.mark.parametrize(
    "bad",
    [
        frame("workspace_stream_chunk", "{not json"),
        frame("workspace_stream_chunk", [1]),
        frame("workspace_stream_chunk", {"offset_end": 3}),
        frame("something_else", CHUNKS[0]),
        frame("message", CHUNKS[0]),
    ],
)
def test_a_broken_frame_ends_it_because_bytes_are_not_skipped(bad: str, variant: str) -> None:
    frames = [chunk_frame(CHUNKS[0]), bad, chunk_frame(CHUNKS[1]), end_frame()]
    with ScriptedServer(events(*frames)) as wire, pytest.raises(HelmrProtocolError) as caught:
        follow(variant, wire)
    assert caught.value.operation == "listWorkspaceExecStdout"
    assert caught.value.cursor is None
    assert len(wire.requests) == 1


@both
def test_a_permanent_error_is_raised_immediately(variant: str) -> None:
    for status, code, error in (
        (404, None, HelmrNotFoundError),
        (410, "workspace_stream_cursor_expired", HelmrGoneError),
    ):
        with ScriptedServer(Reply(status, json={"error": "no", "code": code})) as wire, pytest.raises(error):
            follow(variant, wire)
        assert len(wire.requests) == 1


@both
def test_an_address_without_a_server_is_reported_immediately(variant: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(HelmrConnectionError):
            drive(variant, lambda c: stdout(quickly(c)), url=f"http://127.0.0.1:{port}")


@both
def test_nothing_is_requested_before_the_iteration_begins(variant: str) -> None:
    with ScriptedServer(Reply(500)) as wire:
        drive(variant, lambda c: (stdout(c), c)[1].url, url=wire.url)
    assert not wire.requests


def test_a_caller_s_stream_counts_while_it_is_open() -> None:
    from helmr_provider.client import HelmrClient
    from tests.client.scripted_server import API_KEY

    with (
        ScriptedServer(events(*(chunk_frame(chunk) for chunk in CHUNKS), end_frame())) as wire,
        HelmrClient(url=wire.url, api_key=API_KEY, max_streams=4) as client,
    ):
        stream = stdout(client)
        assert client._stream_slots.for_waits() == 4
        next(stream)
        assert client._stream_slots.for_waits() == 3
        stream.close()
        assert client._stream_slots.for_waits() == 4

"""Every recorded exchange of workspaces, their files and versions, commands and terminals."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import Exec, StreamTerminal, WorkspaceStreamTerminalError
from tests.client.recordings.replay import assert_as_recorded, assert_read, replay, reply_of, was_refused_here
from tests.client.recordings.workspace_calls import (
    FOUND,
    NO_CALL,
    OPERATIONS,
    STREAMS,
    command,
    number,
    public_call,
    terminal,
)
from tests.client.scripted_server import VARIANTS, ScriptedServer, drive

if TYPE_CHECKING:
    from tests.client.recordings.recorded import Recording


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("found", [f for f in FOUND if number(f) not in NO_CALL], ids=lambda found: found.name)
def test_a_call_sends_what_was_recorded_and_reads_what_was_answered(found: Recording, variant: str) -> None:
    assert_as_recorded(found, variant, public_call(found), OPERATIONS[found.endpoint.operation])


def test_there_are_no_more_requests_without_a_call_than_the_listed_ones() -> None:
    assert set(NO_CALL) <= {number(found) for found in FOUND}
    assert len(FOUND) >= 180


def test_what_the_server_would_answer_with_a_500_is_refused_here() -> None:
    ours = [found for found in FOUND if found.status == 500 and number(found) not in NO_CALL]
    refused = {number(found) for found in ours if was_refused_here(replay(found, "blocking", public_call(found)))}
    assert refused == {537, 538, 539, 579, 583, 596, 605, 612, 1016, 1104, 1105, 1107}
    # The replay does not know whether a key was used before, or whether a pty is closing.
    unknowable = {666, 667, 744, 745}
    assert {number(found) for found in ours} - refused == unknowable


def data_of(frame: str) -> dict[str, Any]:
    """Read a frame by the simplest means, not by the parser under test."""
    data: dict[str, Any] = json.loads(next(line for line in frame.split("\n") if line.startswith("data: "))[6:])
    return data


def output_of(client: Any, found: Recording) -> Any:
    if "pty_id" in found.path:
        return terminal(client, found).output
    return getattr(command(client, found), found.endpoint.operation.removeprefix("listWorkspaceExec").lower())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("found", STREAMS, ids=lambda found: found.name)
def test_a_recorded_byte_stream_gives_its_chunks_frame_by_frame_and_its_end(found: Recording, variant: str) -> None:
    expected = [data_of(frame) for frame in found.frames or () if not frame.startswith(":")]
    assert "state" in expected[-1]
    end = expected.pop()
    sent = found.query.get("cursor") or found.request["headers"].get("Last-Event-ID")
    cursor = None if sent is None else int(sent)
    chunks: list[Any] = []
    keep = chunks.append  # what came before an error counts
    ended: WorkspaceStreamTerminalError | None = None

    def blocking(client: Any) -> None:
        for chunk in output_of(client, found).stream(from_cursor=cursor):
            keep(chunk)

    async def asynchronous(client: Any) -> None:
        async for chunk in output_of(client, found).stream(from_cursor=cursor):
            keep(chunk)

    with ScriptedServer(reply_of(found)) as wire:
        try:
            drive(variant, blocking if variant == "blocking" else asynchronous, url=wire.url)
        except WorkspaceStreamTerminalError as raised:
            ended = raised
    (request,) = wire.requests
    assert (request.method, request.path) == ("GET", found.request["path"])
    assert request.query == {"follow": "1"} | ({} if cursor is None else {"cursor": str(cursor)})
    assert request.headers["accept"] == "text/event-stream"
    assert_read(chunks, expected)
    assert b"".join(chunk.content for chunk in chunks) == b"".join(base64.b64decode(c["data"]) for c in expected)
    assert (ended is not None) == (end["state"] in {"lost", "failed"})
    if ended is not None:
        assert isinstance(ended.terminal, StreamTerminal)
        assert_read(ended.terminal, end)
        assert end["error"]["code"] in str(ended)


def test_the_recorded_streams_show_every_way_to_end() -> None:
    states = {data_of((found.frames or [""])[-1])["state"] for found in STREAMS}
    assert {"exited", "lost", "failed", "closed"} <= states


def test_the_environment_of_a_command_is_not_shown() -> None:
    found = next(found for found in FOUND if number(found) == 664)
    shown = repr(Exec.model_validate(found.response["json"]["exec"]))
    assert "secret-value" not in shown
    assert "npm" in shown

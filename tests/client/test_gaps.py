"""Followers notice what a stream leaves out, and read it again."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import WorkspaceStreamTerminalError
from helmr_provider.client._retry import Backoff
from helmr_provider.client._wire.resume import FollowedBytes, FollowedLogs, FollowedRun
from helmr_provider.client.models.events import EventRecord
from tests.client.run_json import snapshot
from tests.client.scripted_server import VARIANTS, Reply, ScriptedServer, drive, events

if TYPE_CHECKING:
    from tests.client.scripted_server import ReceivedRequest

both = pytest.mark.parametrize("variant", VARIANTS)
AT = "2026-11-28T12:00:01Z"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helmr_provider.client._retry.Backoff.delay", lambda *_: 0.0)


def record(number: int, kind: str = "log") -> dict[str, Any]:
    return {"id": str(number), "run_id": "r", "kind": kind, "message": kind, "at": AT, "attributes": {}}


def frame(number: int, name: str, data: dict[str, Any]) -> str:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


def run_events(*records: dict[str, Any]) -> Reply:
    return events(*(frame(int(one["id"]), "run_event", one) for one in records))


class Run:
    """A run whose streams bring some of its records only. It ends with one of them.

    :param records: what pages have.
    :param streamed: what streams bring.
    :param last: number of the stream with which it ends.
    """

    def __init__(self, records: list[dict[str, Any]], streamed: list[dict[str, Any]], last: int) -> None:
        self.records, self.streamed, self.last = records, streamed, last
        self.pages: list[str | None] = []
        self.streams: list[str | None] = []

    def __call__(self, request: ReceivedRequest) -> Reply:
        if not request.path.endswith("/events"):
            return snapshot("r", "succeeded" if len(self.streams) >= self.last else "running")
        cursor = request.query.get("cursor")
        if request.query.get("follow"):
            self.streams.append(cursor)
            return run_events(*(one for one in self.streamed if int(one["id"]) > int(cursor or 0)))
        self.pages.append(cursor)
        return Reply(json={"events": [one for one in self.records if int(one["id"]) > int(cursor or 0)]})


@both
@pytest.mark.parametrize("cursor", [None, "1"])
def test_records_that_a_stream_left_out_are_read_from_pages(variant: str, cursor: str | None) -> None:
    records = [record(1), record(2), record(3), record(4), record(5, "run.completed")]
    run = Run(records, [records[0], records[3]], last=1)
    with ScriptedServer(answer=run) as wire:
        found = drive(variant, lambda c: c.runs.events.follow_records("r", cursor=cursor), url=wire.url)
    assert [one.id for one in found] == ["1", "2", "3", "4", "5"][int(cursor or 0) :]
    assert run.pages[0] == "1"


@both
def test_a_record_that_only_the_stream_has_is_asked_for_once_and_then_taken(variant: str) -> None:
    run = Run([], [record(1), record(3)], last=2)
    with ScriptedServer(answer=run) as wire:
        found = drive(variant, lambda c: c.runs.events.follow_records("r"), url=wire.url)
    assert [one.id for one in found] == ["1", "3"]
    assert run.streams == [None, "1"]


def test_numbers_that_pages_leave_out_do_not_exist() -> None:
    place = FollowedRun(None, Backoff())
    first, third, fifth = (EventRecord.model_validate(record(number)) for number in (2, 5, 9))
    assert not place.is_next(first)
    assert place.must_read_pages()
    assert place.is_new_on_page(first)
    place.pages_read()
    assert not place.must_read_pages()
    assert place.is_next(third)
    assert place.is_next(fifth)
    assert not place.is_next(third)
    assert not place.must_read_pages()


def test_cursors_that_are_no_numbers_have_no_gaps() -> None:
    place = FollowedRun("a", Backoff())
    assert place.is_next(EventRecord.model_validate(record(7)))


def chunk(start: int, content: bytes) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    ends = {"offset_start": start, "offset_end": start + len(content), "data": data}
    return {"id": "c", "stream": "stdout", "observed_at": AT, "created_at": AT} | ends


CHUNKS = [frame(3, "workspace_stream_chunk", chunk(0, b"abc")), frame(5, "workspace_stream_chunk", chunk(3, b"de"))]


def terminal(state: str) -> str:
    members = {"resource_kind": "workspace_exec", "resource_id": "e", "stream": "stdout", "state": state, "cursor": 5}
    return f"id: 5\nevent: workspace_stream_terminal\ndata: {json.dumps(members)}\n\n"


@both
@pytest.mark.parametrize("first", [[CHUNKS[1]], [CHUNKS[0]], []], ids=["begin", "end", "everything"])
@pytest.mark.parametrize("state", ["exited", "failed"])
def test_bytes_that_a_stream_left_out_are_read_again(variant: str, first: list[str], state: str) -> None:
    asked: list[int] = []

    def answer(request: ReceivedRequest) -> Reply:
        cursor = int(request.query.get("cursor", 0))
        asked.append(cursor)
        later = [one for one, end in zip(CHUNKS, (3, 5), strict=True) if end > cursor]
        return events(*(first if len(asked) == 1 else later), terminal(state))

    def call(client: Any) -> Any:
        return client.workspaces.open("w").execs.open("e").stdout.stream()

    with ScriptedServer(answer=answer) as wire:
        if state == "exited":
            found = [one.content for one in drive(variant, call, url=wire.url)]
            assert b"".join(found) == b"abcde"
        else:
            with pytest.raises(WorkspaceStreamTerminalError):
                drive(variant, call, url=wire.url)
    assert len(asked) == 2


@both
def test_bytes_that_nobody_has_are_asked_for_once(variant: str) -> None:
    with ScriptedServer(events(CHUNKS[1], terminal("exited"))) as wire:
        found = drive(variant, lambda c: c.workspaces.open("w").execs.open("e").stdout.stream(), url=wire.url)
        assert [one.content for one in found] == [b"de"]
        assert len(wire.requests) == 2


def test_bytes_are_lacking_once_for_each_cursor() -> None:
    place = FollowedBytes(None, Backoff())
    assert not place.lacks(0)
    assert [place.lacks(4), place.lacks(4)] == [True, False]
    assert place.advance("4")
    assert [place.lacks(4), place.lacks(5), place.lacks(5)] == [False, True, False]


def log(number: int) -> str:
    members = {"id": str(number), "run_id": "r", "stream": "stdout", "content_base64": "YQ==", "bytes": 1, "at": AT}
    more = {"run_lease_id": None, "attempt_number": 1, "observed_seq": number}
    return frame(number, "run_log", members | more)


@both
def test_a_log_stream_that_ends_early_is_opened_again_although_the_run_is_over(variant: str) -> None:
    brought = [[], [log(1)], [log(2), log(3)]]
    streams: list[str | None] = []

    def answer(request: ReceivedRequest) -> Reply:
        if not request.path.endswith("/logs"):
            return snapshot("r", "succeeded")
        if not request.query.get("follow"):
            return Reply(json={"cursor": "3"})
        streams.append(request.query.get("cursor"))
        return events(*brought[len(streams) - 1])

    with ScriptedServer(answer=answer) as wire:
        found = drive(variant, lambda c: c.runs.logs.follow("r"), url=wire.url)
    assert [one.id for one in found] == ["1", "2", "3"]
    assert streams == [None, None, "1"]


def test_logs_that_a_server_does_not_have_are_not_asked_for_forever() -> None:
    place = FollowedLogs(None, Backoff())
    assert not place.is_short_of("0")
    assert [place.is_short_of("2") for _ in range(6)] == [True] * 5 + [False]
    assert place.advance("1")
    assert [place.is_short_of("2") for _ in range(6)] == [True] * 5 + [False]
    assert place.advance("2")
    assert not place.is_short_of("2")

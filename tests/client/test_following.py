"""Following a run over a real socket: every record once and in order, whatever drops (behaviour.md sections 7.3, 9)."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr_provider.client import HelmrConnectionError, HelmrError, HelmrNotFoundError, HelmrProtocolError
from tests.client.test_models import RUN
from tests.client.test_transport import closed_port, quickly
from tests.client.wire import VARIANTS, Reply, Wire, drive, events

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.wire import Asked

both = pytest.mark.parametrize("variant", VARIANTS)


def raw_record(number: int, kind: str) -> dict[str, Any]:
    return {
        "id": str(number),
        "run_id": "r",
        "kind": kind,
        "message": kind,
        "at": "2026-11-23T17:30:44Z",
        "attributes": {},
    }


def frame(record: dict[str, Any]) -> str:
    return f"id: {record['id']}\nevent: run_event\ndata: {json.dumps(record)}\n\n"


@dataclass
class Cut:
    """How one connection ends: after so many records, in this way."""

    after: int
    how: str


@dataclass
class FakeRun:
    """A run that writes its records as they are followed, and connections that drop as told.

    As the real server: a live stream is closed at what reads as the end, and a replay of a finished run is not.
    """

    kinds: list[str]
    status: str = "succeeded"
    cuts: list[Cut] = field(default_factory=list)
    written: int = 0
    hung: int = 0

    @property
    def records(self) -> list[dict[str, Any]]:
        return [raw_record(number, kind) for number, kind in enumerate(self.kinds, 1)]

    @property
    def over(self) -> bool:
        return self.written >= len(self.kinds)

    def answer(self, asked: Asked) -> Reply:
        if not asked.path.endswith("/events"):
            return Reply(json=RUN | {"id": "r", "status": self.status if self.over else "running"})
        cursor = int(asked.query.get("cursor", 0))
        if "follow" in asked.query:
            return self.follow(cursor)
        page = [record for record in self.records[: self.written] if int(record["id"]) > cursor][:2]
        more = bool(page) and int(page[-1]["id"]) < self.written
        return Reply(json={"events": page, "cursor": cursor} | ({"next_cursor": int(page[-1]["id"])} if more else {}))

    def follow(self, cursor: int) -> Reply:  # noqa: PLR0911 - one for each way to end
        replayed = self.written
        if cursor >= len(self.kinds):
            # Following behind the end of a run hangs on the real server; here it is noticed.
            self.hung += 1
            return events(": keep-alive\n\n")
        frames: list[str] = []
        cut = self.cuts.pop(0) if self.cuts else Cut(10_000, "close")
        for record in self.records[cursor:]:
            if len(frames) >= cut.after:
                break
            number = int(record["id"])
            self.written = max(self.written, number)
            if self.kinds[number : number + 1] == ["run.retry_scheduled"]:
                # Written together with the failure that it follows.
                self.written = max(self.written, number + 1)
            frames.append(frame(record))
            if number > replayed and record["kind"] in {"run.failed", "run.completed", "run.cancelled"}:
                return events(*frames)
        following = self.records[min(cursor + len(frames), len(self.kinds) - 1)]
        match cut.how:
            case "half":
                return events(*frames, frame(following)[: len(frame(following)) * 2 // 3], end="cut")
            case "half-clean":
                return events(*frames, frame(following)[: len(frame(following)) * 2 // 3])
            case "reset":
                return events(*frames, end="reset")
            case "again":
                return events(*frames, *frames)
            case "busy":
                return Reply(503, json={"error": "connection pool timeout"})
            case _:
                return events(*frames)


def follow(client: Any) -> Any:
    return quickly(client).runs.events.follow_records("r")


ATTEMPT = st.lists(st.sampled_from(["log.stdout", "log", "run.metadata.updated"]), max_size=3)
LIVES = st.builds(
    lambda attempts, last, end: [
        "run.created",
        *(kind for attempt in attempts for kind in [*attempt, "run.failed", "run.retry_scheduled"]),
        *last,
        end,
    ],
    st.lists(ATTEMPT, max_size=2),
    ATTEMPT,
    st.sampled_from(["run.completed", "run.failed", "run.cancelled", "run.expired"]),
)
CUTS = st.lists(
    st.builds(Cut, st.integers(0, 4), st.sampled_from(["close", "half", "half-clean", "reset", "again", "busy"])),
    max_size=6,
)


@both
@settings(max_examples=40, deadline=None)
@given(kinds=LIVES, cuts=CUTS)
def test_every_record_comes_once_and_in_order_whatever_drops(variant: str, kinds: list[str], cuts: list[Cut]) -> None:
    run = FakeRun(kinds, cuts=list(cuts))
    with Wire(answer=run.answer) as wire:
        records = drive(variant, follow, url=wire.url)
    assert [record.raw for record in records] == run.records
    assert run.hung == 0


@both
def test_subscribe_goes_on_over_a_failed_attempt_that_is_retried(variant: str) -> None:
    run = FakeRun(["run.created", "run.failed", "run.retry_scheduled", "log.stdout", "run.completed"])
    with Wire(answer=run.answer) as wire:
        found = drive(variant, lambda client: quickly(client).runs.events.subscribe("r"), url=wire.url)
    assert [event.type for event in found] == ["unknown", "run_failed", "unknown", "log", "task_result"]


@both
def test_a_finished_run_is_read_in_pages_and_never_followed(variant: str) -> None:
    run = FakeRun(["run.created", "run.failed", "run.retry_scheduled", "run.completed"], written=4)
    with Wire(answer=run.answer) as wire:
        assert len(drive(variant, follow, url=wire.url)) == 4
        assert drive(variant, lambda c: quickly(c).runs.events.follow_records("r", cursor="4"), url=wire.url) == []
        late = drive(variant, lambda c: quickly(c).runs.events.subscribe("r", cursor="2"), url=wire.url)
    assert [event.cursor for event in late] == ["3", "4"]
    assert not [asked for asked in wire.asked if "follow" in asked.query]


@both
def test_a_run_that_dies_without_a_terminal_record_still_ends(variant: str) -> None:
    run = FakeRun(["run.created", "run.dead_lettered"], status="failed")
    with Wire(answer=run.answer) as wire:
        assert len(drive(variant, follow, url=wire.url)) == 2
    assert run.hung == 0


@both
def test_a_cancelled_run_is_followed_until_its_worker_lets_go(variant: str) -> None:
    run = FakeRun(["run.created", "run.cancel_requested", "run.cancelled"], status="cancelled")

    def answer(asked: Asked) -> Reply:
        reply = run.answer(asked)
        # Cancelled at once, although the worker still writes.
        return (
            Reply(json=reply.json | {"status": "cancelled"})
            if asked.path.endswith("/r") and run.written >= 2
            else reply
        )

    run.cuts = [Cut(2, "close")]
    with Wire(answer=answer) as wire:
        records = drive(variant, follow, url=wire.url)
    assert [record.kind for record in records] == run.kinds


@both
def test_a_cancelled_run_whose_worker_is_lost_is_not_followed_for_ever(variant: str) -> None:
    run = FakeRun(["run.created", "run.cancel_requested"], status="cancelled", written=2)
    with Wire(answer=run.answer) as wire:
        assert len(drive(variant, follow, url=wire.url)) == 2
    assert run.hung == 1


@both
def test_a_snapshot_that_lags_behind_its_last_record_is_looked_at_again_without_a_stream(variant: str) -> None:
    run = FakeRun(["run.created", "run.completed"])
    looks: list[str] = []

    def answer(asked: Asked) -> Reply:
        reply = run.answer(asked)
        if asked.path.endswith("/r"):
            looks.append(asked.path)
            if len(looks) < 4:
                return Reply(json=reply.json | {"status": "running"})
        return reply

    with Wire(answer=answer) as wire:
        assert len(drive(variant, follow, url=wire.url)) == 2
    assert (len(looks), run.hung) == (4, 0)
    assert len([asked for asked in wire.asked if "follow" in asked.query]) == 1


def scripted(*streams: Reply) -> Callable[[Asked], Reply]:
    """A running run whose streams are these, and that is over after the last."""
    left = list(streams)

    def answer(asked: Asked) -> Reply:
        if "follow" in asked.query:
            return left.pop(0)
        if asked.path.endswith("/events"):
            return Reply(json={"events": [], "cursor": 0})
        return Reply(json=RUN | {"id": "r", "status": "running" if left else "succeeded"})

    return answer


@both
def test_a_broken_frame_is_asked_for_again_and_skipped_only_when_it_stays_broken(variant: str) -> None:
    first, broken = frame(raw_record(1, "run.created")), "id: 2\ndata: {not json\n\n"
    last = frame(raw_record(3, "log"))
    with Wire(answer=scripted(events(first, broken, last), events(broken, last), events(last))) as wire:
        records = drive(variant, follow, url=wire.url)
    assert [record.id for record in records] == ["1", "3"]
    assert [asked.query.get("cursor") for asked in wire.asked if "follow" in asked.query] == [None, "1", "2"]
    with Wire(answer=scripted(events(first, broken, last), events(frame(raw_record(2, "log")), last))) as wire:
        records = drive(variant, follow, url=wire.url)
    assert [record.id for record in records] == ["1", "2", "3"]


@both
@pytest.mark.parametrize("bad", ["data: {not json\n\n", "id: 1\ndata: {not json\n\n"])
def test_a_broken_frame_that_leads_nowhere_is_an_error(variant: str, bad: str) -> None:
    stream = events(frame(raw_record(1, "run.created")), bad)
    with Wire(answer=scripted(stream, stream)) as wire, pytest.raises(HelmrProtocolError, match="not a JSON object"):
        drive(variant, follow, url=wire.url)


@both
def test_an_oversize_frame_is_an_error_of_its_own(variant: str) -> None:
    large = events("data: " + "x" * 1_100_000)
    expected = pytest.raises(HelmrProtocolError, match="larger than 1048576 characters")
    with Wire(answer=scripted(large)) as wire, expected as caught:
        drive(variant, follow, url=wire.url)
    assert caught.value.oversize


@both
def test_a_silent_stream_is_a_dead_stream(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helmr_provider.client.config.STREAM_SILENCE", 0.1)
    silent = events(frame(raw_record(1, "run.created")), end="silent")
    with Wire(answer=scripted(silent, events(frame(raw_record(2, "run.completed"))))) as wire:
        records = drive(variant, follow, url=wire.url, timeout=0.1)
    assert [record.id for record in records] == ["1", "2"]


@both
def test_keep_alives_keep_a_stream_alive(variant: str) -> None:
    with Wire(answer=scripted(events(*[": keep-alive\n\n"] * 50, frame(raw_record(1, "run.completed"))))) as wire:
        assert len(drive(variant, follow, url=wire.url)) == 1


@both
def test_a_wrong_address_or_run_is_told_at_once_and_not_retried_for_ever(variant: str) -> None:
    with pytest.raises(HelmrConnectionError):
        drive(variant, follow, url=f"http://127.0.0.1:{closed_port()}")
    with Wire(Reply(404, json={"error": "run not found"})) as wire, pytest.raises(HelmrNotFoundError):
        drive(variant, follow, url=wire.url)


@both
def test_nothing_is_requested_before_the_iteration_begins(variant: str) -> None:
    def open_and_close(client: Any) -> Any:
        client.runs.events.subscribe("r").close() if variant == "blocking" else client.runs.events.subscribe("r")

    with Wire(Reply(500)) as wire:
        drive(variant, open_and_close, url=wire.url)
        assert wire.asked == []


@both
def test_a_page_that_leads_back_to_itself_is_not_read_for_ever(variant: str) -> None:
    page = Reply(json={"events": [raw_record(1, "run.created")], "cursor": 0, "next_cursor": 1})
    with Wire(page) as wire:
        assert len(drive(variant, lambda client: client.runs.events.records("r"), url=wire.url)) == 2
    assert len(wire.asked) == 2


@both
def test_cursors_that_are_not_numbers_are_passed_on_as_they_are(variant: str) -> None:
    first = Reply(json={"events": [raw_record(1, "log")], "cursor": "", "next_cursor": "opaque:b/1"})
    with Wire(first, Reply(json={"events": [raw_record(2, "log")], "cursor": "opaque:b/1"})) as wire:
        assert len(drive(variant, lambda client: client.runs.events.list("r", page_size=1), url=wire.url)) == 2
    assert [asked.query for asked in wire.asked] == [{"limit": "1"}, {"cursor": "opaque:b/1", "limit": "1"}]


def test_an_open_follower_counts_against_the_budget_until_it_is_closed() -> None:
    from helmr_provider.client import HelmrClient

    stream = events(frame(raw_record(1, "log")), end="silent")
    with Wire(answer=scripted(stream)) as wire, HelmrClient(url=wire.url, api_key="k", max_streams=1) as client:
        followed = client.runs.events.subscribe("r")
        next(followed)
        assert client.stream_slots.for_waits() == 0
        assert not client.stream_slots.try_take()
        followed.close()
        assert client.stream_slots.for_waits() == 1


def chunk(number: int, text: bytes, stream: str = "stdout") -> str:
    content = {"content_base64": base64.b64encode(text).decode(), "bytes": len(text), "stream": stream}
    data = {"id": str(number), "run_id": "r", "attempt_number": 1, "observed_seq": number, "at": "2026-11-23T17:30:44Z"}
    return f"id: {number}\nevent: run_log\ndata: {json.dumps(data | content)}\n\n"


def follow_logs(client: Any) -> Any:
    return quickly(client).runs.logs.follow("r")


@both
def test_logs_are_followed_until_the_run_is_over_each_chunk_once(variant: str) -> None:
    streams = (
        events(": keep-alive\n\n", chunk(1, b"one "), chunk(2, b"two ")[:40], end="cut"),
        events(chunk(1, b"one "), chunk(2, b"two ")),
        Reply(502, body=b"bad gateway"),
        events(chunk(3, b"three"), chunk(4, b"oops", "stderr")),
    )
    inner = scripted(*streams)
    lock = threading.Lock()
    left = [len(streams)]

    def answer(asked: Asked) -> Reply:
        with lock:
            if "follow" in asked.query:
                left[0] -= 1
                return inner(asked) if left[0] >= 0 else events()
            return inner(asked)

    with Wire(answer=answer) as wire:
        chunks = drive(variant, follow_logs, url=wire.url)
    assert [(piece.id, piece.stream, piece.content) for piece in chunks] == [
        ("1", "stdout", b"one "),
        ("2", "stdout", b"two "),
        ("3", "stdout", b"three"),
        ("4", "stderr", b"oops"),
    ]
    followed = [asked.query.get("cursor") for asked in wire.asked if "follow" in asked.query]
    assert followed == [None, "1", "2", "2", "4"]


@both
@pytest.mark.parametrize("follow_what", [follow, follow_logs])
def test_an_error_that_does_not_pass_ends_the_following(variant: str, follow_what: Any) -> None:
    refused = Reply(403, json={"error": "runs:read permission is required"})
    expected = pytest.raises(HelmrError, match="permission is required")
    with Wire(answer=scripted(refused)) as wire, expected:
        drive(variant, follow_what, url=wire.url)

"""Reading what the server says: tolerant of what is new, clear about what is missing."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from helmr_provider.client import (
    EventRecord,
    HelmrConnectionError,
    HelmrProtocolError,
    LogChunk,
    LogDecoder,
    RunFailedEvent,
    RunSnapshot,
    SessionSnapshot,
    TaskResultEvent,
    Token,
    UnknownEvent,
    WaitCompletedEvent,
    WaitEvent,
    WaitTimedOutEvent,
)
from helmr_provider.client._wire.event_parsing import event_from_record, record_from_frame, record_from_page
from helmr_provider.client._wire.responses import read, read_list, retry_after, same_id
from helmr_provider.client._wire.sse import ServerSentEvent
from helmr_provider.client.models.events import EventPage
from tests.client.recordings.recorded import recording
from tests.client.run_json import RUN

EVENT = {"id": "4", "kind": "run.created", "message": "run.created", "at": "2026-11-23T17:28:10Z"}


def event(message: str, attributes: Any = None, **more: Any) -> Any:
    return event_from_record(EventRecord.model_validate(EVENT | {"message": message, "attributes": attributes} | more))


def test_unknown_members_are_ignored_and_kept_in_raw_and_unknown_statuses_stay_text() -> None:
    received = RUN | {"status": "hibernating", "mood": "good"}
    run = RunSnapshot.model_validate(received)
    assert run.status == "hibernating"
    assert not any([run.is_terminal, run.is_running, run.is_success])
    assert run.raw == received


def test_an_output_that_is_null_is_not_an_output_that_is_absent() -> None:
    absent, null = RunSnapshot.model_validate(RUN), RunSnapshot.model_validate(RUN | {"output": None})
    assert (absent.output, absent.has_output) == (None, False)
    assert (null.output, null.has_output) == (None, True)


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        ("queued", {"is_queued"}),
        ("running", {"is_running"}),
        ("waiting", {"is_waiting"}),
        ("succeeded", {"is_success", "is_terminal"}),
        ("failed", {"is_failed", "is_terminal"}),
        ("cancelled", {"is_cancelled", "is_terminal"}),
        ("expired", {"is_expired", "is_terminal"}),
    ],
)
def test_each_status_has_its_flags(status: str, flags: set[str]) -> None:
    run = RunSnapshot.model_validate(RUN | {"status": status})
    names = {
        "is_queued",
        "is_running",
        "is_waiting",
        "is_success",
        "is_failed",
        "is_cancelled",
        "is_expired",
        "is_terminal",
    }
    assert {name for name in names if getattr(run, name)} == flags


def test_records_are_frozen() -> None:
    run: Any = RunSnapshot.model_validate(RUN)
    with pytest.raises(ValidationError):
        run.status = "failed"


def test_blank_and_null_members_count_as_absent() -> None:
    received = recording(60).response["json"]["session"]
    session = SessionSnapshot.model_validate(
        received | {"external_id": "", "metadata": None, "tags": None, "expires_at": None}
    )
    assert (session.external_id, session.metadata, session.tags, session.expires_at) == (None, {}, (), None)


def test_a_missing_member_is_a_protocol_error_that_names_it_and_the_operation() -> None:
    with pytest.raises(HelmrProtocolError, match=r"getRun: .*RunSnapshot: status") as caught:
        read(RunSnapshot, {name: value for name, value in RUN.items() if name != "status"}, "getRun")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_list_is_a_list() -> None:
    assert read_list(RunSnapshot, {}, "runs", "listRuns") == []
    answers: list[Any] = [[], {"runs": "none"}, None]
    for value in answers:
        with pytest.raises(HelmrProtocolError, match="listRuns"):
            read_list(RunSnapshot, value, "runs", "listRuns")


def test_an_answer_about_something_else_is_noticed() -> None:
    same_id("0A", "0a", "getRun")
    with pytest.raises(HelmrProtocolError, match="asked for a, but the answer is about b"):
        same_id("b", "a", "getRun")


def test_a_wait_event_takes_either_name_of_its_id() -> None:
    for name in ("run_wait_id", "wait_id"):
        waiting = event("run_wait.created", {name: "w", "kind": "token", "tags": ["a", 1], "timeout": "x"})
        assert isinstance(waiting, WaitEvent)
        assert (waiting.type, waiting.wait_id, waiting.tags, waiting.timeout) == ("token_wait", "w", (), None)
    done = event("run_wait.completed", {"run_wait_id": "w", "kind": "stream", "payload": {"a": 1}})
    assert isinstance(done, WaitCompletedEvent)
    assert (done.type, done.payload) == ("stream_wait_completed", {"a": 1})
    late = event("run_wait.timed_out", {"run_wait_id": "w", "kind": "timer"})
    assert isinstance(late, WaitTimedOutEvent)
    assert late.type == "timer_wait_timed_out"


@pytest.mark.parametrize("attributes", [{}, {"kind": "token"}, {"run_wait_id": "w", "kind": "moon"}, None])
def test_a_wait_of_unknown_kind_is_read_with_its_record(attributes: Any) -> None:
    unknown = event("run_wait.created", attributes)
    assert isinstance(unknown, UnknownEvent)
    assert unknown.raw.attributes == attributes


def test_defaults_of_events_are_the_contracts() -> None:
    assert event("run.completed", {}).exit_code == 0
    assert event("run.failed", {}).failure_kind == "task_failed"
    said = {"origin": "run_wait_resume", "reason": "workspace_version_mismatch", "message": "workspace advanced"}
    failed = event("run.failed", {**said, "runtime_checkpoint_expires_at": None})
    assert {name: getattr(failed, name) for name in said} == said
    log = event("log.stdout", {"redacted": True})
    assert (log.stream, log.bytes, log.observed_seq) == ("stdout", 0, 0)
    assert event("run.cancelled", {"reason": 3}).reason is None
    assert event("run.created", None).run_id == ""
    assert event("run.created", {"run_id": "r"}).run_id == "r"


def test_a_message_that_is_no_known_name_gives_way_to_the_kind() -> None:
    assert isinstance(event("the run is done", {}, kind="run.completed"), TaskResultEvent)
    assert isinstance(event("run.failed", {}, kind="anything"), RunFailedEvent)
    other = event("hello", {}, kind="run.mood")
    assert isinstance(other, UnknownEvent)
    assert other.kind == "run.mood"


@pytest.mark.parametrize(
    ("name", "attributes", "member", "default"),
    [
        ("run.completed", {"exit_code": "many"}, "exit_code", 0),
        ("log.stdout", {"bytes": "many", "observed_seq": 3}, "bytes", 0),
        ("run.failed", {"failure_kind": ["a"], "detail": 1}, "failure_kind", "task_failed"),
        ("run_wait.created", {"kind": "token", "run_wait_id": "w", "params": [], "metadata": 1}, "params", {}),
        ("run_wait.created", {"kind": ["token"], "run_wait_id": "w"}, "type", "unknown"),
    ],
)
def test_an_unreadable_attribute_takes_its_default_and_the_record_stays(
    name: str, attributes: dict[str, Any], member: str, default: object
) -> None:
    found = event(name, attributes)
    assert getattr(found, member) == default
    assert found.raw.attributes == attributes
    assert getattr(found, "observed_seq", 3) == 3, "what can be read is read"


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59"])
def test_a_time_without_a_zone_is_utc_and_every_time_can_be_compared(at: str) -> None:
    record = EventRecord.model_validate({"id": "1", "kind": "k", "message": "m", "at": at})
    assert record.at.tzinfo is not None
    assert isinstance(record.at.timestamp(), float)


def test_a_run_is_hashable_as_its_handle_is() -> None:
    run = read(RunSnapshot, RUN | {"metadata": {"a": 1}}, "getRun")
    assert {run: 1}[read(RunSnapshot, RUN | {"metadata": {"a": 1}}, "getRun")] == 1


def test_a_list_that_is_null_is_empty() -> None:
    assert read_list(RunSnapshot, {"runs": None}, "runs", "listRuns") == []
    with pytest.raises(HelmrProtocolError):
        read_list(RunSnapshot, {"runs": {}}, "runs", "listRuns")


def test_output_that_is_not_base64_is_a_protocol_error() -> None:
    chunk = LogChunk.model_validate(
        {"id": "1", "stream": "stdout", "content_base64": "a*", "at": "2026-01-01T00:00:00Z"}
    )
    with pytest.raises(HelmrProtocolError, match="not base64"):
        _ = chunk.content


def test_attributes_cannot_pass_for_what_belongs_to_the_record() -> None:
    failed = event("run.failed", {"cursor": "99", "raw": {}, "at": "never", "type": "task_result"})
    assert (failed.type, failed.cursor) == ("run_failed", "4")


@pytest.mark.parametrize(
    ("frame_id", "data", "cursor"),
    [
        ("7", "not json", "7"),
        ("x", "not json", None),
        ("", "{}", None),
        ("7", "[]", "7"),
        ("7", '{"id": 7}', "7"),
        ("7", '{"id": "9007199254740992"}', "7"),
        ("7", '{"id": "8"}', "8"),
        ("7", '{"id": "8", "kind": "k", "message": "m", "at": 5}', "8"),
        ("7", '{"id": "8", "kind": "k", "message": "m", "at": "noon"}', "8"),
        (str(2**53), "not json", None),
    ],
)
def test_a_bad_frame_says_where_to_continue_if_that_is_known(frame_id: str, data: str, cursor: str | None) -> None:
    with pytest.raises(HelmrProtocolError) as caught:
        record_from_frame(ServerSentEvent(data, id=frame_id))
    assert caught.value.cursor == cursor


JSON_TEXT = st.recursive(
    st.one_of(
        st.sampled_from(["null", "true", "NaN", "-Infinity", "1e400", "-0", "-0.0", "9" * 400]),
        st.sampled_from([r'"\ud800"', r'"\u0000"']),
        st.integers().map(str),
        st.floats().map(json.dumps),
        st.builds(json.dumps, st.text(), ensure_ascii=st.booleans()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        # A name may come twice.
        st.lists(st.tuples(st.sampled_from(["a", "b", "\ud800"]), inner), max_size=3).map(
            lambda members: f"{{{','.join(f'{json.dumps(name)}: {value}' for name, value in members)}}}"
        ),
    ),
    max_leaves=8,
)


@given(JSON_TEXT, st.integers(0, 400))
def test_the_raw_record_is_what_the_standard_library_reads(text: str, depth: int) -> None:
    nested = "[" * depth + text + "]" * depth
    data = f'{{"id": "8", "kind": "k", "message": "m", "at": "{EVENT["at"]}", "attributes": {nested}}}'
    record = record_from_frame(ServerSentEvent(data, id="8"))
    # NaN is not equal to itself.
    assert repr(record.raw) == repr(json.loads(data))


def test_half_a_frame_at_the_end_of_a_stream_is_a_cut_and_not_a_bad_frame() -> None:
    with pytest.raises(HelmrConnectionError, match="cut inside an event"):
        record_from_frame(ServerSentEvent('{"id":"8","ki', id="8", complete=False))


@pytest.mark.parametrize("value", [None, [], {}, EVENT | {"at": None}, EVENT | {"message": 4}])
def test_a_record_of_a_page_without_message_or_time_is_dropped(value: Any) -> None:
    assert record_from_page(value) is None


@pytest.mark.parametrize(
    ("received", "cursor"), [(5, "5"), ("5", "5"), ("opaque:1", "opaque:1"), (None, None), ("", None)]
)
def test_a_page_cursor_becomes_text(received: Any, cursor: str | None) -> None:
    assert EventPage.model_validate({"events": [], "next_cursor": received}).next_cursor == cursor


@given(st.text(), st.integers(1, 5))
def test_log_chunks_that_split_characters_become_the_text_that_was_written(text: str, size: int) -> None:
    content = text.encode(errors="replace")
    decoder = LogDecoder()
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    decoded = ""
    for number, piece in enumerate(pieces):
        common = {"id": str(number), "at": EVENT["at"]}
        chunk = {"stream": "stdout", "content_base64": base64.b64encode(piece).decode()}
        decoded += decoder.decode(LogChunk.model_validate(common | chunk))
        # The other stream is decoded by itself.
        assert decoder.decode(LogChunk.model_validate(common | {"stream": "stderr", "content_base64": "eA=="})) == "x"
    assert decoded == content.decode()


def test_the_secrets_of_a_token_are_there_but_not_shown() -> None:
    token = Token.model_validate(
        {"id": "t", "callback_url": "https://x/hlmr_callback_a", "public_access_token": "hlmr_public_access_b"}
    )
    assert token.public_access_token == "hlmr_public_access_b"
    assert "hlmr_" not in repr(token) + str(token)


@pytest.mark.parametrize(
    ("header", "delay"),
    [("1", 1.0), ("0.5", 0.5), ("0", None), ("-1", None), ("soon", None), (None, None), ("inf", None), ("nan", None),
     ("86400", 300.0), ("1e300", 300.0), ("9" * 300, 300.0), ("9" * 5000, None),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 300.0),
     ("Thu, 01 Jan 1970 00:01:00 GMT", 20.0), ("Thu, 01 Jan 1970 00:00:30 GMT", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_ahead(header: str | None, delay: float | None) -> None:
    assert retry_after(header, now=40.0) == delay

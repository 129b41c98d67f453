"""Every recorded exchange of sessions, runs, tokens and health: what is sent, and what is made of the answer."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrApiError, PayloadValidationError
from tests.client.recordings.recorded import recordings
from tests.client.recordings.run_calls import ERRORS, json_answers, public_call, public_calls, received, streams
from tests.client.scripted_server import NOTHING, VARIANTS, ScriptedServer, drive

if TYPE_CHECKING:
    from tests.client.recordings.recorded import Recording


def names(found: list[Recording]) -> list[str]:
    return [recording.name for recording in found]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("found", json_answers(), ids=names(json_answers()))
def test_an_operation_is_sent_as_recorded_and_its_answer_becomes_the_value_or_the_error(
    found: Recording, variant: str
) -> None:
    credential = found.endpoint.credential
    with ScriptedServer(found.reply) as wire:

        def call(client: Any) -> Any:
            from helmr_provider.client._secrets import Secret

            return client._single_shot()._transport.call(
                found.endpoint.operation,
                path=found.path,
                query=found.query,
                body=None if found.body is NOTHING else found.body,
                credential=Secret("hlmr_public_access_x") if credential == "public" else None,
            )

        value: Any = NOTHING
        error: HelmrApiError | None = None
        try:
            value = drive(variant, call, url=wire.url)
        except HelmrApiError as raised:
            error = raised
        except PayloadValidationError:
            assert found.holds_nul
    if found.holds_nul:
        assert wire.requests == []
        return
    (request,) = wire.requests
    assert (request.method, request.path) == (found.request["method"], found.request["path"])
    assert request.query == {name: text for name, text in found.query.items() if name in found.endpoint.query}
    if found.endpoint.sends:
        assert request.json == ({} if found.body is NOTHING else found.body)
    expected = {"client": "Bearer hlmr_sk_", "public": "Bearer hlmr_public_access_"}.get(credential, "")
    assert request.headers.get("authorization", "").startswith(expected)
    assert ("authorization" in request.headers) == (credential != "none")
    if 200 <= found.status < 300:
        assert error is None
        assert value == found.response["json"]
        return
    assert error is not None
    body = found.response.get("json", {})
    assert type(error) is ERRORS.get(found.status, HelmrApiError)
    assert (error.status, error.code, error.operation) == (found.status, body.get("code"), found.endpoint.operation)
    if "error" in body:
        assert error.message == body["error"]
        assert body["error"].rstrip(".") in str(error)


def meaning(body: Any) -> Any:
    """What the server makes of two members that ours writes in one form: instants in UTC, external ids trimmed."""
    if isinstance(body.get("expires_at"), str):
        body = body | {"expires_at": datetime.fromisoformat(body["expires_at"])}
    if isinstance(body.get("external_id"), str):
        body = body | {"external_id": body["external_id"].strip()}
    return body


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("found", public_calls(), ids=names(public_calls()))
def test_a_public_call_sends_what_was_recorded_and_gives_the_model_or_the_error(found: Recording, variant: str) -> None:
    call = public_call(found)
    assert call is not None
    result: Any = NOTHING
    error: Exception | None = None
    with ScriptedServer(found.reply) as wire:
        try:
            result = drive(variant, lambda client: call(client._single_shot()), url=wire.url)
        except HelmrApiError as raised:
            error = raised
        except (ValueError, TypeError) as refused:
            error = refused
    if not wire.requests:
        # Refused before any request: only ever what the server refuses too, and NUL characters everywhere.
        assert not isinstance(error, HelmrApiError)
        assert found.status >= 400 or found.holds_nul, error
        return
    request = wire.requests[0]
    assert (request.method, request.path, request.query) == (
        found.request["method"],
        found.request["path"],
        found.query,
    )
    if found.endpoint.sends:
        assert meaning(request.json) == meaning(found.body)
    else:
        assert request.body == b""
    if found.status >= 300:
        assert isinstance(error, HelmrApiError)
        assert type(error) is ERRORS.get(found.status, HelmrApiError)
        return
    assert error is None
    answer = found.response["json"]
    for member in ("sessions", "runs", "events"):
        if isinstance(result, list) and member in answer:
            answer = answer[member]
    if "next_cursor" in answer and isinstance(result, list):
        pytest.fail("a page that is not the last would have been followed by another request")
    assert received(result)[: len(answer)] == answer if isinstance(result, list) else received(result) == answer


def test_nearly_every_recorded_request_has_a_public_call() -> None:
    """Those without one are requests that no call of ours can make: nulls, unknown members, wrong shapes."""
    assert len(public_calls()) > 0.75 * len(json_answers())


def data_of(frame: str) -> Any:
    """Read a frame by the simplest means, not by the parser under test."""
    lines = [line.removeprefix("data: ") for line in frame.split("\n") if line.startswith("data: ")]
    return json.loads("\n".join(lines)) if lines else None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("found", streams("getRunEvents"), ids=names(streams("getRunEvents")))
def test_a_recorded_event_stream_gives_its_records_frame_by_frame(found: Recording, variant: str) -> None:
    cursor = found.request["headers"].get("Last-Event-ID") or found.query.get("cursor")
    with ScriptedServer(found.reply) as wire:
        records = drive(
            variant, lambda client: client.runs.events._connection(found.path["run_id"], cursor), url=wire.url
        )
    # Between chunks the iterator yields None, so that a wait can check the clock.
    received = [record.raw for record in records if record is not None]
    assert received == [data for frame in found.frames or () if (data := data_of(frame))]
    (request,) = wire.requests
    assert request.path == found.request["path"]
    assert request.query == {"follow": "1"} | ({} if cursor is None else {"cursor": cursor})
    assert request.headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("found", streams("getRunLogs"), ids=names(streams("getRunLogs")))
def test_a_recorded_log_stream_gives_its_chunks_frame_by_frame(found: Recording, variant: str) -> None:
    with ScriptedServer(found.reply) as wire:
        chunks = drive(variant, lambda client: client.runs.logs.stream(found.path["run_id"]), url=wire.url)
    assert [chunk.raw for chunk in chunks] == [data for frame in found.frames or () if (data := data_of(frame))]
    assert all(len(chunk.content) == chunk.raw["bytes"] for chunk in chunks)


def test_every_recorded_event_has_the_typed_form_of_its_message() -> None:
    from helmr_provider.client._wire.event_parsing import event_from_record, record_from_page

    typed = {
        "log.stdout": ("log", "stdout"),
        "log.stderr": ("log", "stderr"),
        "run.completed": ("task_result", None),
        "run.failed": ("run_failed", None),
        "run.cancelled": ("run_cancelled", None),
        "run.expired": ("run_expired", None),
    }
    seen: set[str] = set()
    for found in recordings("getRunEvents"):
        pages = found.response.get("json", {}).get("events", [])
        for raw in [*pages, *(data for frame in found.frames or () if (data := data_of(frame)))]:
            record = record_from_page(raw)
            assert record is not None
            event: Any = event_from_record(record)
            kind, stream = typed.get(raw["message"], ("unknown", None))
            assert (event.type, getattr(event, "stream", None)) == (kind, stream)
            assert (event.run_id, event.cursor, event.raw.raw) == (raw["run_id"], raw["id"], raw)
            if kind == "run_failed":
                attributes = raw["attributes"]
                assert (event.failure_kind, event.detail) == (
                    attributes.get("failure_kind", "task_failed"),
                    attributes.get("detail"),
                )
            if kind == "task_result":
                assert event.exit_code == raw["attributes"].get("exit_code", 0)
            seen.add(raw["message"])
    assert set(typed) <= seen

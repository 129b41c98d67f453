"""Typed targets and streams: what is checked before it is sent, what is sent, and what is made of what comes back."""

from __future__ import annotations

import json
import traceback
from collections import UserDict, UserList
from dataclasses import dataclass
from datetime import date
from enum import Enum
from types import MappingProxyType
from typing import Annotated, Any

import pytest
from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from helmr_provider.client import (
    HelmrClient,
    InputStream,
    OutputStream,
    PayloadValidationError,
    PublicScope,
    RunSnapshot,
    StartRequest,
    Task,
)
from helmr_provider.client._wire.json_values import encode
from helmr_provider.client._wire.stream_serialization import record_body
from tests.client.recordings.recorded import recording
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive

both = pytest.mark.parametrize("variant", VARIANTS)


class Review(BaseModel):
    repository: str
    depth: int = 1


class Aliased(BaseModel):
    release_id: str = Field(alias="releaseId")


class Size(Enum):
    SMALL = "small"


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    day: date
    size: Size


@dataclass
class Visit:
    day: date
    places: list[str]


RECORD = {
    "id": "01a20974-b104-7ec6-904d-0bb82b9a8d4e",
    "stream_id": "01a20974-af52-7bd3-aaba-0db62913859d",
    "sequence": 1,
    "data": None,
    "content_type": "application/json",
    "created_at": "2026-11-23T17:29:32.164612Z",
}


def sent(data: Any, stream: InputStream[Any], variant: str = "blocking") -> Any:
    """Send and return the data that went over the wire."""
    with ScriptedServer(Reply(201, json={"record": RECORD, "idempotency_status": "created"})) as wire:
        drive(variant, lambda c: c.sessions.open("id").input(stream).send(data), url=wire.url)
    (request,) = wire.requests
    return request.json["data"]


def read(data: Any, stream: OutputStream[Any], variant: str = "blocking") -> Any:
    """Read a record with these data."""
    with ScriptedServer(Reply(200, json={"record": RECORD | {"data": data}})) as wire:
        found = drive(variant, lambda c: c.sessions.open("id").output(stream).read(), url=wire.url)
    return found.data


def test_the_argument_is_sent_and_not_its_validated_form() -> None:
    given = {"repository": "acme/web", "depth": "3", "unknown": [1]}
    assert sent(given, InputStream("messages", Review)) == given


@both
def test_data_that_do_not_fit_are_refused_before_anything_is_sent(variant: str) -> None:
    with ScriptedServer(Reply(500)) as wire:
        stream = InputStream("messages", Review)
        with pytest.raises(PayloadValidationError, match="input stream messages does not fit Review: repository") as e:
            drive(variant, lambda c: c.sessions.open("id").input(stream).send({"depth": "hunter2"}), url=wire.url)
    assert not wire.requests
    assert {issue["loc"] for issue in e.value.issues} == {("repository",), ("depth",)}
    shown = "".join(traceback.format_exception(e.value)) + repr(e.value.issues)
    assert "hunter2" not in shown.replace('{"depth": "hunter2"}', "")


def test_models_and_dataclasses_are_sent_as_the_other_side_reads_them() -> None:
    assert sent(Aliased(releaseId="1.4"), InputStream("messages", Aliased)) == {"releaseId": "1.4"}
    visit = Visit(date(2026, 11, 23), ["here"])
    assert sent(visit, InputStream("messages", Visit)) == {"day": "2026-11-23", "places": ["here"]}
    assert sent([Review(repository="r")], InputStream("messages")) == [{"repository": "r", "depth": 1}]


@pytest.mark.parametrize(
    ("schema", "payload", "sent"),
    [
        (
            list[Review],
            [{"repository": "r"}, Review(repository="s")],
            b'[{"repository":"r"},{"repository":"s","depth":1}]',
        ),
        (dict[str, Review], {"first": {"repository": "r"}}, b'{"first":{"repository":"r"}}'),
        (TypeAdapter[Any](list[Review] | None), [{"repository": "r"}], b'[{"repository":"r"}]'),
    ],
    ids=["list", "mapping", "optional"],
)
def test_a_collection_of_models_takes_mappings_as_well(schema: Any, payload: Any, sent: bytes) -> None:
    content = StartRequest(Task("reviews", payload=schema), payload).content
    assert content is not None
    assert content.endswith(b'"payload":' + sent + b"}")


MAYBE_REVIEW: Any = TypeAdapter[Any](Review | None)
READ_ONLY = MappingProxyType({"repository": "r"})
ROW = {"repository": "r"}


@pytest.mark.parametrize(
    ("schema", "data", "sent_as"),
    [
        (Review, ROW, ROW),
        (Review, READ_ONLY, ROW),
        (MAYBE_REVIEW, ROW, ROW),
        (MAYBE_REVIEW, READ_ONLY, ROW),
        (MAYBE_REVIEW, None, None),
        (MAYBE_REVIEW, Review(repository="r"), ROW | {"depth": 1}),
        (Visit, MappingProxyType({"day": "2026-11-23", "places": ("a",)}), {"day": "2026-11-23", "places": ["a"]}),
        (Strict, MappingProxyType({"day": "2026-11-23", "size": "small"}), PayloadValidationError),
        (list[Review], (READ_ONLY, Review(repository="s")), [ROW, {"repository": "s", "depth": 1}]),
        (list[Review], UserList([READ_ONLY]), [ROW]),
        (dict[str, Review], MappingProxyType({"a": READ_ONLY}), {"a": ROW}),
        (TypeAdapter[Any](dict[str, Review] | None), UserDict(a=ROW), {"a": ROW}),
        (list[Review], READ_ONLY, PayloadValidationError),
        (Review, [ROW], PayloadValidationError),
        (Review, None, PayloadValidationError),
        (None, UserDict(a=UserList([READ_ONLY])), {"a": [ROW]}),
        (None, MappingProxyType({1: "a"}), PayloadValidationError),
        (None, b"bytes", PayloadValidationError),
        (None, [memoryview(b"bytes")], PayloadValidationError),
        (None, {"a"}, PayloadValidationError),
    ],
)
def test_starts_and_streams_take_what_type_checkers_accept(schema: Any, data: Any, sent_as: Any) -> None:
    def payload() -> Any:
        target: Any = "t" if schema is None else Task("t", payload=schema)
        return StartRequest(target, data).body["payload"]

    def record() -> Any:
        stream = InputStream("messages", schema)
        options: dict[str, Any] = {"content_type": None, "correlation_id": None, "idempotency_key": None}
        return json.loads(encode(record_body(stream, data, **options)))["data"]

    for each in (payload, record):
        if sent_as is PayloadValidationError:
            with pytest.raises(PayloadValidationError):
                each()
        else:
            assert each() == sent_as


def test_a_typed_value_that_is_nested_too_deeply_or_in_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in (loop, deep):
        with pytest.raises(PayloadValidationError, match="nested too deeply"):
            StartRequest(Task("t", payload=list[Any]), value)


@both
def test_a_record_of_any_mapping_is_sent(variant: str) -> None:
    assert sent(READ_ONLY, InputStream("messages", Review), variant) == ROW


def test_what_json_cannot_say_is_refused_although_it_fits_the_type() -> None:
    with pytest.raises(PayloadValidationError, match="not JSON"):
        sent({"a": date(2026, 11, 23)}, InputStream("messages", dict[str, date]))


@pytest.mark.parametrize(
    ("schema", "data", "value"),
    [
        (Review, {"repository": "r"}, Review(repository="r")),
        (Strict, {"day": "2026-11-23", "size": "small"}, Strict(day=date(2026, 11, 23), size=Size.SMALL)),
        (Visit, {"day": "2026-11-23", "places": []}, Visit(date(2026, 11, 23), [])),
        (list[int], [1, 2], [1, 2]),
        (TypeAdapter(int | None), None, None),
        (tuple[int, str], [1, "a"], (1, "a")),
    ],
)
@both
def test_a_record_is_read_as_the_type_of_its_stream(schema: Any, data: Any, value: Any, variant: str) -> None:
    assert read(data, OutputStream("progress", schema), variant) == value


def test_a_schema_with_a_part_that_cannot_be_hashed_works_as_well() -> None:
    unhashable = Annotated[int, Ge(1), ["a", "list"]]
    assert read(3, OutputStream("progress", TypeAdapter(unhashable))) == 3
    assert read(3, OutputStream("progress", unhashable)) == 3


@both
def test_a_record_that_does_not_fit_says_which_and_how_to_read_it_all_the_same(variant: str) -> None:
    with pytest.raises(
        PayloadValidationError, match=r"Record 1 of the output stream progress does not fit Review: .* by its name"
    ):
        read({"depth": 1}, OutputStream("progress", Review), variant)
    assert read({"depth": 1}, OutputStream("progress"), variant) == {"depth": 1}


def test_a_typed_record_keeps_what_was_received() -> None:
    body = {"records": [RECORD | {"data": {"repository": "r"}}]}
    with ScriptedServer(Reply(200, json=body)) as wire:
        (record,) = drive(
            "blocking", lambda c: c.sessions.open("id").output(OutputStream("p", Review)).list(), url=wire.url
        )
    assert record.data == Review(repository="r")
    assert record.raw == body["records"][0]
    assert record.sequence == 1


def test_directions_are_not_mixed_up() -> None:
    given: Any = OutputStream("progress")
    other: Any = InputStream("messages")
    with HelmrClient(url="https://helmr.example", api_key=API_KEY) as client:
        session = client.sessions.open("id")
        with pytest.raises(ValueError, match="progress is an output stream"):
            session.input(given)
        with pytest.raises(ValueError, match="messages is an input stream"):
            session.output(other)
        with pytest.raises(ValueError, match="progress is an output stream"):
            PublicScope.input(session, given)
        with pytest.raises(ValueError, match="messages is an input stream"):
            PublicScope.output("id", other)


@pytest.mark.parametrize("name", ["", " ", "-a", "a b", "a/b", "é", "a" * 257])
def test_a_name_that_the_server_would_refuse_is_refused_here(name: str) -> None:
    with pytest.raises(ValueError, match="stream name"):
        InputStream(name)
    with pytest.raises(ValueError, match="stream name"):
        OutputStream(name)


def test_a_name_is_trimmed() -> None:
    assert (InputStream(" a ").name, OutputStream("a" * 256).name) == ("a", "a" * 256)


def run_with(**members: Any) -> RunSnapshot:
    raw = recording(323).response["json"] | members
    return RunSnapshot.model_validate({name: value for name, value in raw.items() if value is not ...})


class TestOutput:
    def test_it_is_read_as_the_type_that_the_caller_gives(self) -> None:
        run = run_with(output={"repository": "r"})
        assert run.output_as(Review) == Review(repository="r")
        assert run.output_as(Task("code-review", output=Review)) == Review(repository="r")
        assert run.output == {"repository": "r"}

    def test_null_is_an_output(self) -> None:
        assert run_with(output=None).output_as(TypeAdapter[int | None](int | None)) is None

    def test_one_that_does_not_fit_says_so(self) -> None:
        with pytest.raises(PayloadValidationError, match=r"output of run .* does not fit int: .* holds it as it is"):
            run_with(output="three").output_as(int)

    def test_none_at_all_says_in_which_state_the_run_is(self) -> None:
        with pytest.raises(PayloadValidationError, match="has no output; it is failed"):
            run_with(output=..., status="failed").output_as(int)

    def test_a_task_without_a_type_for_it_is_a_mistake_of_the_caller(self) -> None:
        with pytest.raises(ValueError, match="declares no type"):
            run_with(output=1).output_as(Task("code-review"))


def test_declaring_tasks_and_streams_loads_neither_pydantic_nor_httpx() -> None:
    import subprocess
    import sys

    program = (
        "import json, sys; from helmr_provider.client import InputStream, OutputStream, Task;"
        "Task('a', payload=dict[str, int], output=int); InputStream('b', list[int]); OutputStream('c');"
        "print(json.dumps(sorted({'pydantic', 'httpx'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []

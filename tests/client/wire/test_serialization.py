"""What is sent: strictly checked, and nothing that was not asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from helmr_provider.client import PayloadValidationError, StartRequest, Task, idempotency_key
from helmr_provider.client._wire.json_values import encode
from helmr_provider.client._wire.serialization import (
    NOT_GIVEN,
    check_retry,
    labels,
    token_body,
    update_body,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def start(target: Any = "code-review", payload: Any = NOT_GIVEN, **options: Any) -> dict[str, Any]:
    return StartRequest(target, payload, **options).body


@given(JSON)
def test_any_json_value_is_sent_as_it_is(value: Any) -> None:
    assert json.loads(encode(value)) == value
    assert start(payload=value)["payload"] == value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"bytes",
        object(),
        {"when": datetime.now(UTC)},
        float("nan"),
        [float("inf")],
        {1: "a"},
        {"a": {None: 1}},
        ["\ud800"],
        endless(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_json_is_refused_and_the_error_says_what_it_is_about(value: Any) -> None:
    with pytest.raises(PayloadValidationError, match=r"^The payload is not JSON: "):
        start(payload=value)


class Review(BaseModel):
    repository: str
    opened: datetime


def test_a_pydantic_model_is_sent_as_its_json_form() -> None:
    review = Review(repository="acme/web", opened=datetime(2026, 4, 21, tzinfo=UTC))
    sent = json.loads(encode({"payload": start(payload=review)["payload"]}))
    assert sent == {"payload": {"repository": "acme/web", "opened": "2026-04-21T00:00:00Z"}}


def test_omitted_arguments_are_not_sent_and_a_null_payload_is_not_nothing() -> None:
    assert start() == {"task_id": "code-review"}
    assert start(payload=None) == {"task_id": "code-review", "payload": None}


def test_every_option_has_its_wire_form() -> None:
    assert start(
        payload=[],
        external_id=" x ",
        idempotency_key=["deploy", "prod"],
        idempotency_key_ttl=timedelta(days=1),
        queue="reviews",
        concurrency_key="repo",
        priority=0,
        ttl="10m",
        max_duration=timedelta(hours=1),
        retry={"maxAttempts": 3, "backoff": {"minMs": 1, "jitter": "full"}},
        metadata={},
        tags=("a", "b"),
        expires_at="2026-04-21T02:00:00+02:00",
        workspace_id="w",
    ) == {
        "task_id": "code-review",
        "payload": [],
        "external_id": "x",
        "idempotency_key": idempotency_key("deploy", "prod").value,
        "idempotency_key_ttl": "86400s",
        "queue": {"name": "reviews"},
        "concurrency_key": "repo",
        "priority": 0,
        "ttl": "10m",
        "max_duration_seconds": 3600,
        "retry": {"maxAttempts": 3, "backoff": {"minMs": 1, "jitter": "full"}},
        "metadata": {},
        "tags": ["a", "b"],
        "expires_at": "2026-04-21T00:00:00.000Z",
        "workspace_id": "w",
    }


def test_the_life_of_a_key_is_sent_only_with_a_key() -> None:
    assert "idempotency_key_ttl" not in start(idempotency_key_ttl="1h")


@pytest.mark.parametrize(
    "options",
    [
        {"target": ""},
        {"target": "-x"},
        {"target": "a b"},
        {"target": "x" * 129},
        {"external_id": " "},
        {"external_id": "ü" * 257},
        {"external_id": "a\0b"},
        {"max_duration": 4},
        {"max_duration": 86401},
        {"ttl": "soon"},
        {"tags": [""]},
        {"tags": ["x" * 129]},
        {"tags": list("abcdefghijk")},
        {"expires_at": "tomorrow"},
        {"retry": {}},
        {"retry": {"maxAttempts": 0}},
        {"retry": {"maxAttempts": 11}},
        {"retry": {"maxAttempts": True}},
        {"retry": {"maxAttempts": 2, "attempts": 2}},
        {"retry": {"enabled": False, "maxAttempts": 2}},
        {"retry": {"maxAttempts": 2, "backoff": {"factor": 0}}},
        {"retry": {"maxAttempts": 2, "backoff": {"minMs": 0}}},
        {"retry": {"maxAttempts": 2, "backoff": {"jitter": "some"}}},
        {"retry": {"maxAttempts": 2, "backoff": None}},
    ],
    ids=str,
)
def test_an_option_that_does_not_fit_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        start(**options)


@pytest.mark.parametrize(
    "options",
    [{"metadata": [1]}, {"tags": "abc"}, {"tags": [1]}, {"retry": 3}, {"priority": "1"}, {"priority": True}],
    ids=str,
)
def test_an_option_of_the_wrong_type_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        start(**options)


@pytest.mark.parametrize(
    "retry",
    [{"enabled": False}, {"maxAttempts": 1}, {"enabled": True, "maxAttempts": 10, "backoff": {"factor": 0.5}}],
)
def test_good_retry_policies_pass_unchanged(retry: Any) -> None:
    assert check_retry(retry) == retry


def test_a_tag_at_its_limit_passes() -> None:
    assert labels(None, ["x" * 128] * 10) == {"tags": ["x" * 128] * 10}


def test_an_update_names_only_what_changes_and_needs_something_to_change() -> None:
    assert update_body({"a": 1}, NOT_GIVEN, NOT_GIVEN) == {"metadata": {"a": 1}}
    assert update_body(NOT_GIVEN, [], NOT_GIVEN) == {"tags": []}
    with pytest.raises(ValueError, match="Nothing to change"):
        update_body(NOT_GIVEN, NOT_GIVEN, NOT_GIVEN)
    none: Any = None
    with pytest.raises(ValueError, match="leave out"):
        update_body(none, NOT_GIVEN, NOT_GIVEN)


def test_a_token_takes_a_duration_in_every_form() -> None:
    assert token_body(timedelta(hours=2), None, None, None) == {"timeout": "7200s"}
    assert token_body(90, "k", ["t"], {"m": 1}) == {
        "timeout": "90s",
        "idempotency_key": "k",
        "tags": ["t"],
        "metadata": {"m": 1},
    }


def test_a_typed_task_checks_its_payload_and_sends_the_original_and_its_limit() -> None:
    task = Task("code-review", payload=Review)
    payload = {"repository": "acme/web", "opened": "2026-04-21", "more": 1}
    assert start(task, payload) == {"task_id": "code-review", "payload": payload, "max_duration_seconds": 900}
    limited = Task[Any, Any]("code-review", max_duration=timedelta(minutes=1))
    assert start(limited) == {"task_id": "code-review", "max_duration_seconds": 60}
    assert start(task, payload, max_duration=30)["max_duration_seconds"] == 30


def test_a_typed_task_refuses_a_payload_that_does_not_fit_without_repeating_it() -> None:
    with pytest.raises(PayloadValidationError, match="opened: Field required") as caught:
        start(Task("code-review", payload=Review), {"repository": "hunter2"})
    assert "hunter2" not in str(caught.value) + repr(caught.value.issues)
    assert [issue["loc"] for issue in caught.value.issues] == [("opened",)]
    with pytest.raises(PayloadValidationError, match="needs a payload"):
        start(Task("code-review", payload=Review))
    with pytest.raises(PayloadValidationError, match="takes no payload"):
        start(Task[Any, Any]("code-review"), None)


@pytest.mark.parametrize("value", ["a\0b", {"a\0": 1}, [{"deep": ["\\\0"]}]])
def test_a_nul_character_is_refused_before_anything_is_sent(value: object) -> None:
    with pytest.raises(PayloadValidationError, match="The payload contains a NUL character"):
        encode(value, "The payload")


def test_a_backslash_before_u0000_is_text() -> None:
    assert json.loads(encode("a\\u0000b")) == "a\\u0000b"

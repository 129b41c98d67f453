"""The request that starts a session, as a value."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from helmr_provider.client import PayloadValidationError, StartRequest, Task


@dataclass
class Review:
    repository: str
    dumped: int = 0


def test_the_payload_is_checked_and_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []
    from helmr_provider.client._wire import start_request

    def counted(value: Any, what: str = "") -> bytes:
        encoded.append(value)
        return json.dumps(value).encode()

    monkeypatch.setattr(start_request, "encode", counted)
    payload = {"n": 1}
    request = StartRequest("t", payload, external_id="x")
    for _ in range(3):
        request = request.named("y", {"k": "v"})
        assert request.content
        assert request.digest
    assert sum(value is payload for value in encoded) == 1


def test_another_name_changes_the_name_and_the_metadata_only() -> None:
    request = StartRequest("t", [1], external_id="x", metadata={"a": 1}, tags=["z"])
    named = request.named("y", {"b": 2})
    assert json.loads(named.content) == {
        "task_id": "t", "payload": [1], "external_id": "y", "metadata": {"b": 2}, "tags": ["z"],
    }  # fmt: skip
    assert json.loads(request.content)["external_id"] == "x"
    assert "metadata" not in request.named("y").body
    with pytest.raises(ValueError, match="blank"):
        request.named(" ")


def test_the_digest_is_about_what_runs_and_not_about_who_started_it() -> None:
    one = StartRequest("t", {"a": 1, "b": 2}, external_id="x", metadata={"owner": 1}, tags=["a"], idempotency_key="k")
    same = StartRequest("t", {"b": 2, "a": 1}, external_id="y", metadata={"owner": 2})
    assert one.digest == same.digest
    others = [
        StartRequest("u", {"a": 1, "b": 2}),
        StartRequest("t", {"a": 1}),
        StartRequest("t"),
        StartRequest("t", None),
        *(
            StartRequest("t", {"a": 1, "b": 2}, **option)
            for option in (
                {"queue": "q"}, {"concurrency_key": "c"}, {"priority": 1}, {"ttl": 5}, {"max_duration": 60},
                {"retry": {"enabled": False}}, {"expires_at": "2030-01-01T00:00:00Z"}, {"workspace_id": "w"},
            )
        ),
    ]  # fmt: skip
    assert len({one.digest, *(other.digest for other in others)}) == len(others) + 1


def test_the_digest_is_stable_between_releases() -> None:
    # Stored with sessions: a change here makes every stored digest differ.
    request = StartRequest("code-review", {"repository": "acme/web"}, priority=1)
    assert request.digest == "281d2b3879ab8a28c830771c12c4854dc87a0a1d33f3997c33dc0400aa077d61"


def test_a_typed_target_is_checked() -> None:
    task = Task("review", payload=Review)
    assert StartRequest(task, Review("r")).body == {
        "task_id": "review", "payload": {"repository": "r", "dumped": 0}, "max_duration_seconds": 900,
    }  # fmt: skip
    with pytest.raises(PayloadValidationError, match="does not fit Review"):
        StartRequest(task, {"repository": 3})
    with pytest.raises(PayloadValidationError, match="needs a payload"):
        StartRequest(task)
    with pytest.raises(PayloadValidationError, match="takes no payload"):
        StartRequest(Task("t"), 1)


def test_it_is_a_value() -> None:
    request = StartRequest("t", {"secret": "x"}, external_id="e")
    assert request == StartRequest("t", {"secret": "x"}, external_id="e")
    assert len({request, StartRequest("t", {"secret": "x"}, external_id="e"), request.named("f")}) == 2
    assert pickle.loads(pickle.dumps(request)) == request
    assert "secret" not in repr(request)
    with pytest.raises(FrozenInstanceError):
        request.priority = 3  # type: ignore[misc]


def test_it_loads_neither_httpx_nor_pydantic() -> None:
    code = "import sys; from helmr_provider.client import StartRequest; StartRequest('t', {}); "
    code += "print(sorted({'httpx', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

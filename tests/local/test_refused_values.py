"""Values that the real control plane's database refuses: its own answers, or a plain 400 without quirks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import LocalControlPlane, Settings
from tests.support.local.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local import JournalEntry


@pytest.fixture(scope="module", params=[True, False], ids=["quirks", "plain"])
def plane(request: pytest.FixtureRequest) -> Iterator[LocalControlPlane]:
    with LocalControlPlane(settings=Settings(quirks=request.param)) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/sessions", {"task_id": "echo", "payload": "a\0b"}, 400, "22P05"),
        ("/api/sessions", {"task_id": "echo", "tags": ["a\0b"]}, 400, "22021"),
        ("/api/tokens", {"metadata": {"a": "\0"}}, 500, "22P05"),
        ("/api/tokens", {"tags": ["a\0b"]}, 500, "22021"),
        ("/api/tokens", {"idempotency_key": "a\0b"}, 500, "22021"),
        ("/api/workspaces", {"sandbox_id": "local", "tags": ["\0a"]}, 500, "create workspace"),
    ],
)
def test_nul_is_refused(plane: LocalControlPlane, path: str, body: Any, status: int, text: str) -> None:
    answer = Wire(plane).request("POST", path, body)
    quirks = plane.running.core.settings.quirks
    assert answer.status == (status if quirks else 400)
    assert text in answer.text if quirks else "SQLSTATE" in answer.text


@pytest.mark.parametrize("number", ["1e400", "1e200000", "1e-20000", "1" + "0" * 5000])
def test_a_number_at_the_edge_is_no_internal_error(plane: LocalControlPlane, number: str) -> None:
    wire = Wire(plane)
    for path, body in (
        ("/api/sessions", f'{{"task_id": "echo", "payload": {number}}}'),
        ("/api/sessions", f'{{"task_id": "echo", "priority": {number}}}'),
        ("/api/sessions", f'{{"task_id": "echo", "retry": {{"maxAttempts": {number}}}}}'),
        ("/api/sessions", f'{{"task_id": "echo", "metadata": {{"n": {number}}}}}'),
        ("/api/tokens", f'{{"timeout": {number}}}'),
        ("/api/public-access-tokens", f'{{"max_uses": {number}}}'),
        ("/_local/keys", f'{{"scopes": {number}}}'),
        ("/_local/clock/advance", f'{{"by": {number}}}'),
    ):
        answer = wire.request("POST", path, raw=body.encode())
        assert "internal error" not in answer.text
        assert answer.status in (200, 201, 400, 500)
        assert answer.status != 500 or (plane.running.core.settings.quirks and answer.json["error"])
    assert json.loads(wire.request("GET", "/_local/journal").text)["requests"]


def test_deep_json_is_refused(plane: LocalControlPlane) -> None:
    wire = Wire(plane)
    deep = b"[" * 1000 + b"]" * 1000
    for path in ("/api/sessions", "/_local/keys", "/_local/faults"):
        answer = wire.request("POST", path, raw=b'{"task_id": "echo", "payload": ' + deep + b"}")
        assert answer.status == 400
        assert "nested too deeply" in answer.text
    nested = b"[" * 200 + b"]" * 200
    started = wire.request("POST", "/api/sessions", raw=b'{"task_id": "echo", "payload": ' + nested + b"}")
    assert started.status == 201
    assert wire.ended(started.json["run"]["id"])["output"] == json.loads(nested)


def test_half_a_surrogate_pair_reaches_no_answer(plane: LocalControlPlane) -> None:
    wire = Wire(plane)
    answer = wire.request("POST", "/api/sessions", raw=b'{"task_id": "echo", "external_id": "a\\ud800"}')
    assert answer.json["session"]["external_id"] == "a\ufffd"
    assert wire.request("POST", "/api/tokens", raw=b'{"\\ud800": 1}').status == 400
    newest: JournalEntry = plane.journal[-1]
    assert newest.body == {"\ufffd": 1}
    assert wire.request("GET", "/_local/journal").status == 200

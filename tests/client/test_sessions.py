"""Sessions over a real socket: addresses, and what the client does beyond one request."""

from __future__ import annotations

from typing import Any

import pytest

from helmr_provider.client import HelmrConflictError, HelmrProtocolError, SessionSnapshot, StartRequest
from tests.client.run_json import RUN
from tests.client.scripted_server import NOTHING, VARIANTS, Reply, ScriptedServer, drive

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

SESSION = {
    "id": "s",
    "project_id": "p",
    "environment_id": "e",
    "task_id": "t",
    "initial_deployment_id": "d",
    "active_deployment_id": "d",
    "external_id": "ours: ü/1",
    "status": "open",
    "activity": "running",
    "created_at": "2026-11-23T17:28:10Z",
    "updated_at": "2026-11-23T17:28:10Z",
}
OPEN = Reply(json=SESSION)
CANCELLED = Reply(json=SESSION | {"status": "cancelled", "activity": "idle"})
STARTED = Reply(201, json={"session": SESSION | {"external_id": "x"}, "run": RUN | {"id": "r", "status": "queued"}})


def handle(client: Any) -> Any:
    return client.sessions.open(external_id=" ours: ü/1 ")


def test_an_external_id_travels_in_the_query_of_every_operation(variant: str) -> None:
    calls = [
        (lambda client: handle(client).retrieve(), "GET", "", NOTHING),
        (lambda client: handle(client).close(), "POST", "/close", {}),
        (lambda client: handle(client).update(tags=["x"]), "PATCH", "", {"tags": ["x"]}),
        (lambda client: client.sessions.retrieve(external_id="ours: ü/1"), "GET", "", NOTHING),
        (lambda client: client.sessions.update(external_id="ours: ü/1", metadata={}), "PATCH", "", {"metadata": {}}),
    ]
    for call, method, suffix, body in calls:
        with ScriptedServer(OPEN) as wire:
            assert drive(variant, call, url=wire.url).id == "s"
        (request,) = wire.requests
        assert (request.method, request.path) == (method, "/api/sessions/by-external-id" + suffix)
        assert request.query == {"external_id": "ours: ü/1"}
        assert request.json == body


def test_text_snapshot_and_handle_mean_the_id_even_when_there_is_an_external_id(variant: str) -> None:
    snapshot = SessionSnapshot.model_validate(SESSION)
    for call in (
        lambda client: client.sessions.retrieve("s"),
        lambda client: client.sessions.retrieve(snapshot),
        lambda client: client.sessions.retrieve(client.sessions.open("s")),
        lambda client: client.sessions.open(client.sessions.open(snapshot)).retrieve(),
    ):
        with ScriptedServer(OPEN) as wire:
            drive(variant, call, url=wire.url)
        assert [request.target for request in wire.requests] == ["/api/sessions/s"]


@pytest.mark.parametrize("address", [{}, {"session": "s", "external_id": "x"}, {"session": " "}, {"external_id": " "}])
def test_an_address_is_one_of_the_two_and_not_blank(variant: str, address: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"Give either|blank"):
        drive(variant, lambda client: client.sessions.open(**address), url="https://helmr.example")


def test_a_handle_says_which_session_it_means(variant: str) -> None:
    def read(client: Any) -> Any:
        by_id, by_name = client.sessions.open("s"), client.sessions.open(external_id="x")
        return [by_id.id, by_id.external_id, by_name.id, by_name.external_id, repr(by_name)]

    *found, text = drive(variant, read, url="https://helmr.example")
    assert found == ["s", None, None, "x"]
    assert "external_id='x'" in text


def test_a_cancel_is_answered_with_the_session_as_it_is_afterwards(variant: str) -> None:
    with ScriptedServer(OPEN, CANCELLED) as wire:
        session = drive(variant, lambda client: client.sessions.open("s").cancel(reason="enough"), url=wire.url)
    assert session.status == "cancelled"
    assert [(request.method, request.path, request.json) for request in wire.requests] == [
        ("POST", "/api/sessions/s/cancel", {"reason": "enough"}),
        ("GET", "/api/sessions/s", NOTHING),
    ]


def test_a_cancel_that_worked_does_not_fail_because_it_cannot_be_read_back(variant: str) -> None:
    with ScriptedServer(OPEN, Reply(403, json={"error": "runs:read permission is required"})) as wire:
        assert drive(variant, lambda client: client.sessions.open("s").cancel(), url=wire.url).id == "s"
    with (
        ScriptedServer(Reply(409, json={"error": "closed", "code": "session_terminal"})) as wire,
        pytest.raises(HelmrConflictError),
    ):
        drive(variant, lambda client: client.sessions.open("s").cancel(), url=wire.url)


def test_every_session_is_asked_for_by_leaving_the_status_out(variant: str) -> None:
    with ScriptedServer(Reply(json={"sessions": [SESSION]})) as wire:
        found = drive(variant, lambda client: client.sessions.list(status="all", task_id="t", limit=5), url=wire.url)
    assert [session.id for session in found] == ["s"]
    assert wire.requests[0].query == {"task_id": "t", "limit": "5"}


def test_a_start_that_is_waited_for_ends_with_the_finished_run(variant: str) -> None:
    def answer(request: Any) -> Reply:
        if request.method == "POST":
            return STARTED
        if request.path == "/api/sessions/s":
            return Reply(json=SESSION | {"external_id": "x", "activity": "idle"})
        return Reply(json={"runs": []} if request.path == "/api/runs" else RUN | {"id": "r", "output": {"n": 1}})

    with ScriptedServer(answer=answer) as wire:
        result = drive(variant, lambda client: client.sessions.start_and_wait("t", {}, external_id="x"), url=wire.url)
    assert result.session.activity == "idle", "the session as it is after the wait"
    assert (result.run.output, result.timed_out, result.is_cached, result.session.id) == ({"n": 1}, False, False, "s")
    assert wire.requests[0].path == "/api/sessions"
    assert wire.requests[0].json == {"task_id": "t", "payload": {}, "external_id": "x"}


def test_a_start_that_stays_pending_says_that_it_timed_out(variant: str) -> None:
    running = RUN | {"id": "r", "status": "running"}

    def answer(request: Any) -> Reply:
        if request.method == "POST":
            return STARTED
        if request.path.endswith("/events"):
            return Reply(frames=(), headers={"content-type": "text/event-stream"}, end="silent")
        return Reply(json={"runs": [running]} if request.path == "/api/runs" else running)

    with ScriptedServer(answer=answer) as wire:
        result = drive(variant, lambda client: client.sessions.start_and_wait("t", timeout=0.2), url=wire.url)
    assert result.timed_out
    assert result.run.status == "running"


def test_a_session_that_is_not_the_one_asked_for_is_noticed(variant: str) -> None:
    with ScriptedServer(OPEN) as wire, pytest.raises(HelmrProtocolError, match="asked for other"):
        drive(variant, lambda client: client.sessions.retrieve("other"), url=wire.url)


@pytest.mark.parametrize(
    "planted",
    [
        {"session": SESSION | {"external_id": "other"}},
        {"session": SESSION | {"external_id": "x", "task_id": "other"}},
        {"run": RUN | {"session_id": "other"}},
        {"run": RUN | {"task_id": "other"}},
    ],
)
def test_the_answer_to_another_start_is_noticed(variant: str, planted: dict[str, Any]) -> None:
    answer = Reply(json={"session": SESSION | {"external_id": "x"}, "run": RUN, "is_cached": False} | planted)
    with ScriptedServer(answer) as wire, pytest.raises(HelmrProtocolError, match="but the answer is about"):
        drive(variant, lambda client: client.sessions.start("t", {}, external_id="x"), url=wire.url)
    assert len(wire.requests) == 1


def test_a_start_request_is_sent_as_it_is(variant: str) -> None:
    request = StartRequest("t", {"n": 1}, external_id="x", priority=2)
    with ScriptedServer(STARTED) as wire:
        drive(variant, lambda client: client.sessions.start(request), url=wire.url)
        with pytest.raises(TypeError, match="holds its payload and options already"):
            drive(variant, lambda client: client.sessions.start(request, priority=3), url=wire.url)
    assert [sent.body for sent in wire.requests] == [request.content]

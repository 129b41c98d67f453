"""Public access tokens: one stream of one session, as often and as long as was granted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import LocalControlPlane
from tests.support.journal import until_requested
from tests.support.local.scenario import MovableClock
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.local.scripted_tasks import Director


class Granted:
    """A session with streams, and tokens for them."""

    def __init__(self, server: LocalControlPlane, clock: MovableClock) -> None:
        self.server, self.clock = server, clock
        self.wire = Wire(server)
        self.session = self.wire.start("scripted", external_id="customer 1")["session"]["id"]

    def mint(self, kind: str, stream: str, *, correlation_id: str | None = None, **options: Any) -> Wire:
        """Return the holder of a new token."""
        scope = {"type": kind, "session": {"type": "id", "id": self.session}, "stream": stream}
        if correlation_id is not None:
            scope["correlation_id"] = correlation_id
        minted = self.wire.post("/api/public-access-tokens", {"scope": scope, **options}, 201)
        return Wire(self.server, minted["public_access_token"])

    def send(self, holder: Wire, body: Any, stream: str = "messages") -> tuple[int, str | None]:
        answer = holder.request("POST", f"/api/v1/sessions/{self.session}/inputs/{stream}", body)
        return answer.status, answer.json.get("code")

    def read(self, holder: Wire, **query: str) -> tuple[int, Any]:
        answer = holder.request("GET", f"/api/v1/sessions/{self.session}/outputs/progress/read", query=query)
        return answer.status, answer.json


@pytest.fixture
def granted(director: Director) -> Iterator[Granted]:
    clock = MovableClock()
    tasks = [director.define("scripted", inputs=("messages", "approval"), outputs=("progress",))]
    with LocalControlPlane(tasks, settings=QUICK, clock=clock) as server:
        yield Granted(server, clock)


def test_a_token_for_one_use_serves_one_of_two_requests_that_arrive_together(granted: Granted) -> None:
    holder = granted.mint("session.input.send", "messages", max_uses=1)
    path = f"/api/v1/sessions/{granted.session}/inputs/messages"
    with (
        holder.announced("POST", path, {"data": 1}) as first,
        holder.announced("POST", path, {"data": 2}) as second,
    ):
        until_requested(granted.server, "publicAppendSessionInput", 2)
        assert [first().status, second().status] == [201, 403]


def test_a_token_ends_with_its_time(granted: Granted) -> None:
    holder = granted.mint("session.input.send", "messages")
    granted.clock.advance(29 * 86_400)
    assert granted.send(holder, {"data": 1}) == (201, None)
    granted.clock.advance(2 * 86_400)
    assert granted.send(holder, {"data": 1}) == (410, "token_expired")


def test_a_correlation_id_must_be_exactly_the_granted_one(granted: Granted) -> None:
    holder = granted.mint("session.input.send", "messages", correlation_id="thread-1")
    assert granted.send(holder, {"data": 1}) == (403, "token_scope_denied")
    assert granted.send(holder, {"data": 1, "correlation_id": "thread-2"}) == (403, "token_scope_denied")
    assert granted.send(holder, {"data": 1, "correlation_id": " thread-1 "}) == (201, None)
    anything = granted.mint("session.input.send", "messages")
    assert granted.send(anything, {"data": 1, "correlation_id": "thread-3"}) == (201, None)


def test_only_accepted_calls_use_a_token_up_and_duplicates_are_accepted(granted: Granted) -> None:
    holder = granted.mint("session.input.send", "messages", max_uses=2)
    assert granted.send(holder, {"unknown": 1})[0] == 400
    assert granted.send(holder, {"data": 1}, "approval") == (404, "stream_not_found")
    granted.wire.get(f"/api/sessions/{granted.session}/streams")
    assert granted.send(holder, {"data": 1}, "approval") == (403, "token_scope_denied")
    same = {"data": 1, "idempotency_key": "k"}
    assert granted.send(holder, same) == (201, None)
    assert granted.send(holder, same) == (201, None)
    assert granted.send(holder, same) == (403, "token_scope_denied")


def test_a_refusal_of_the_operation_itself_uses_nothing_up(granted: Granted) -> None:
    holder = granted.mint("session.input.send", "messages", max_uses=1)
    granted.wire.post(f"/api/sessions/{granted.session}/cancel", {})
    assert [granted.send(holder, {"data": 1}) for _ in range(2)] == [(409, "session_terminal")] * 2


def test_a_reader_reads_with_the_correlation_id_that_was_granted(granted: Granted) -> None:
    for data, correlation_id in ((1, "a"), (2, "b")):
        body = {"data": data, "correlation_id": correlation_id}
        granted.wire.post(f"/api/sessions/{granted.session}/outputs/progress", body, 201)
    holder = granted.mint("session.output.read", "progress", correlation_id="b")
    assert granted.read(holder)[0] == 403
    status, body = granted.read(holder, correlation_id="b")
    assert (status, body["record"]["data"]) == (200, 2)


def test_the_secret_is_returned_once_and_no_journal_or_database_holds_it(granted: Granted) -> None:
    holder = granted.mint("session.input.send", "messages")
    assert granted.send(holder, {"data": 1}) == (201, None)
    assert holder.key not in str(granted.server.journal)
    stored = granted.server._call(lambda: "\n".join(granted.server.running.core.db._connection.iterdump()))
    assert granted.session in stored
    assert holder.key not in stored


def test_the_journal_does_not_see_the_value_of_a_secret(granted: Granted) -> None:
    answer = granted.wire.request("PUT", "/api/secrets/GITHUB_TOKEN", {"value": "s3cret"})
    assert answer.status == 200
    assert "s3cret" not in answer.text
    assert "s3cret" not in str(granted.server.journal)

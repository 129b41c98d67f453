"""Session streams beyond single calls: pages, many records, and public access tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrError, HelmrProtocolError, PublicScope
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive
from tests.client.shown_errors import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from helmr_provider.client import PublicAccessToken
    from tests.client.scripted_server import ReceivedRequest

both = pytest.mark.parametrize("variant", VARIANTS)
TOKEN = "hlmr_pat_0z-x8Je0-w_oi_gMqvmVJT6F1dBkdyxZDi4OTz07On4"


def record(sequence: int) -> dict[str, Any]:
    return {
        "id": f"record-{sequence}",
        "stream_id": "stream",
        "sequence": sequence,
        "data": sequence,
        "content_type": "application/json",
        "created_at": "2026-11-23T17:29:32.164612Z",
    }


def stored(count: int, size: int = 3) -> ScriptedServer:
    """A stream of so many records, in pages of at most this size."""

    def answer(request: ReceivedRequest) -> Reply:
        after = int(request.query.get("after_sequence", 0))
        limit = int(request.query.get("limit", size))
        return Reply(json={"records": [record(n) for n in range(after + 1, min(after + limit, count) + 1)]})

    return ScriptedServer(answer=answer)


@both
@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_all_records_come_once_and_in_order_over_all_pages(count: int, variant: str) -> None:
    with stored(count) as wire:
        found = drive(variant, lambda c: c.sessions.open("id").output("progress").iter(), url=wire.url)
    assert [item.sequence for item in found] == list(range(1, count + 1))


@both
def test_iterating_continues_behind_a_position_and_passes_its_options_on(variant: str) -> None:
    with stored(5) as wire:
        found = drive(
            variant,
            lambda c: c.sessions.open("id").input("messages").iter(after=2, limit=2, correlation_id="c"),
            url=wire.url,
        )
    assert [item.sequence for item in found] == [3, 4, 5]
    assert [request.query["after_sequence"] for request in wire.requests] == ["2", "4", "5"]
    assert {(request.query["limit"], request.query["correlation_id"]) for request in wire.requests} == {("2", "c")}


@both
def test_pages_of_a_filtered_stream_continue_behind_the_last_record_not_after_so_many(variant: str) -> None:
    def answer(request: ReceivedRequest) -> Reply:
        after = int(request.query.get("after_sequence", 0))
        return Reply(json={"records": [record(n) for n in (3, 4, 9, 20, 21) if n > after][:2]})

    with ScriptedServer(answer=answer) as wire:
        found = drive(
            variant, lambda c: c.sessions.open("id").output("progress").iter(correlation_id="c"), url=wire.url
        )
    assert [item.sequence for item in found] == [3, 4, 9, 20, 21]


@both
def test_a_server_that_hands_out_the_same_page_again_is_not_read_for_ever(variant: str) -> None:
    with ScriptedServer(Reply(json={"records": [record(1), record(2)]})) as wire:
        found = drive(variant, lambda c: c.sessions.open("id").output("progress").iter(after=2), url=wire.url)
    assert len(found) == 2
    assert len(wire.requests) == 1


@both
def test_many_records_are_written_one_by_one_and_in_order(variant: str) -> None:
    with ScriptedServer(Reply(201, json={"record": record(1), "idempotency_status": "created"})) as wire:
        drive(
            variant,
            lambda c: c.sessions.open(external_id="e/1").output("progress").extend(range(4), content_type="text/plain"),
            url=wire.url,
        )
    assert [request.json for request in wire.requests] == [{"data": n, "content_type": "text/plain"} for n in range(4)]
    assert {request.query["external_id"] for request in wire.requests} == {"e/1"}


async def test_many_records_may_come_from_an_asynchronous_source() -> None:
    async def source() -> AsyncIterator[str]:
        for letter in "abc":
            yield letter

    with ScriptedServer(Reply(201, json={"record": record(1), "idempotency_status": "created"})) as wire:
        async with AsyncHelmrClient(url=wire.url, api_key=API_KEY) as client:
            await client.sessions.open("id").output("progress").extend(source())
    assert [request.json["data"] for request in wire.requests] == ["a", "b", "c"]


@both
def test_writing_many_records_stops_at_the_first_that_fails(variant: str) -> None:
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for n in range(5):
            pulled.append(n)
            yield n

    good = Reply(201, json={"record": record(1), "idempotency_status": "created"})
    with (
        ScriptedServer(good, Reply(404, json={"error": "stream not found", "code": "stream_not_found"})) as wire,
        pytest.raises(Exception, match="stream_not_found"),
    ):
        drive(variant, lambda c: c.sessions.open("id").output("progress").extend(source()), url=wire.url)
    assert pulled == [0, 1]


@both
def test_a_send_whose_answer_was_lost_is_repeated_only_with_a_key(variant: str) -> None:
    good = Reply(201, json={"record": record(1), "idempotency_status": "duplicate"})
    with ScriptedServer(Reply(503, json={"error": "busy"}), good) as wire:
        sent = drive(
            variant, lambda c: c.sessions.open("id").input("messages").send(1, idempotency_key="k"), url=wire.url
        )
    assert sent.is_duplicate
    assert len(wire.requests) == 2
    with ScriptedServer(Reply(503, json={"error": "busy"}), good) as wire, pytest.raises(Exception, match="busy"):
        drive(variant, lambda c: c.sessions.open("id").input("messages").send(1), url=wire.url)
    assert len(wire.requests) == 1


@both
def test_a_public_token_is_all_its_bearer_needs_and_replaces_the_api_key(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HELMR_API_KEY", raising=False)
    good = Reply(201, json={"record": record(1), "idempotency_status": "created"})
    for key in (None, API_KEY):
        with ScriptedServer(good) as wire:
            drive(
                variant,
                lambda c: c.sessions.open(external_id="a b/ç").input("messages").send(1, public_access_token=TOKEN),
                url=wire.url,
                api_key=key,
            )
        (request,) = wire.requests
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.path == "/api/v1/sessions/by-external-id/inputs/messages"
        assert request.query == {"external_id": "a b/ç"}


@both
def test_a_public_call_uses_its_token_once_even_when_the_server_is_busy(variant: str) -> None:
    for call in (
        lambda c: c.sessions.open("id").output("progress").read(public_access_token=TOKEN),
        lambda c: c.sessions.open("id").input("messages").send(1, idempotency_key="k", public_access_token=TOKEN),
    ):
        with ScriptedServer(Reply(503, json={"error": "busy"})) as wire, pytest.raises(Exception, match="busy"):
            drive(variant, call, url=wire.url)
        assert len(wire.requests) == 1


@both
def test_the_environment_of_a_user_session_stands_in_the_body_of_a_new_public_token_only(variant: str) -> None:
    answer = {
        "id": "token",
        "public_access_token": TOKEN,
        "scope": {"type": "session.input.send", "session": {"type": "id", "id": "s"}, "stream": "messages"},
        "expires_at": "2026-12-23T17:36:34.284155Z",
        "created_at": "2026-11-23T17:36:34.284232Z",
    }
    with ScriptedServer(Reply(201, json=answer)) as wire:
        token: PublicAccessToken = drive(
            variant,
            lambda c: c.auth.create_public_token(PublicScope.input("s", "messages")),
            url=wire.url,
            project_id="p",
            environment_id="e",
        )
    (request,) = wire.requests
    assert request.path == "/api/public-access-tokens"
    assert (request.json["project_id"], request.json["environment_id"]) == ("p", "e")
    assert token.public_access_token == TOKEN
    assert TOKEN not in repr(token) + str(token)


@both
def test_a_public_token_for_no_session_is_not_the_contract(variant: str) -> None:
    answer = {
        "id": "token",
        "public_access_token": TOKEN,
        "scope": {"type": "session.input.send", "session": {"type": "id", "id": ""}, "stream": "messages"},
        "expires_at": "2026-12-23T17:36:34.284155Z",
        "created_at": "2026-11-23T17:36:34.284232Z",
    }
    with (
        ScriptedServer(Reply(201, json=answer)) as wire,
        pytest.raises(HelmrProtocolError, match=r"scope\.session") as caught,
    ):
        drive(variant, lambda c: c.auth.create_public_token(PublicScope.input("s", "messages")), url=wire.url)
    assert TOKEN not in str(caught.value) + str(caught.value.raw)


@both
@pytest.mark.parametrize("answer", [{}, [], {"records": []}])
def test_an_answer_without_the_member_is_not_an_absent_record(answer: Any, variant: str) -> None:
    with ScriptedServer(Reply(json=answer)) as wire, pytest.raises(HelmrProtocolError, match="no member 'record'"):
        drive(variant, lambda c: c.sessions.open("id").output("progress").read(), url=wire.url)


ECHO = Reply(500, json={"error": f"cannot use {TOKEN}"})
GARBAGE = Reply(200, body=TOKEN.encode())
# Only answers about tokens hold secrets.
MISFIT = Reply(200, json={"public_access_token": TOKEN})


def create(client: Any) -> Any:
    return client.auth.create_public_token(PublicScope.input("s", "messages"))


def send(client: Any) -> Any:
    return client.sessions.open("s").input("messages").send(1, public_access_token=TOKEN)


def read(client: Any) -> Any:
    return client.sessions.open("s").output("progress").read(public_access_token=TOKEN)


@both
@pytest.mark.parametrize(
    ("call", "reply"),
    [(create, ECHO), (create, GARBAGE), (create, MISFIT), (send, ECHO), (send, GARBAGE), (read, ECHO), (read, GARBAGE)],
)
def test_no_public_token_is_in_an_error_its_chain_or_its_frames(call: Any, reply: Reply, variant: str) -> None:
    with ScriptedServer(reply) as wire, pytest.raises(HelmrError) as caught:
        drive(variant, call, url=wire.url)
    assert wire.requests
    assert TOKEN.removeprefix("hlmr_pat_") not in shown(caught.value)

"""Tokens over a real socket: which credential goes where, and paging."""

from __future__ import annotations

from typing import Any

import pytest

from helmr_provider.client import HelmrConfigError, HelmrProtocolError, Token
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

PUBLIC = "hlmr_public_access_0123456789"
CREATED = {
    "id": "t1",
    "status": "pending",
    "callback_url": "https://helmr.example/api/v1/tokens/t1/callback/hlmr_callback_x",
    "public_access_token": PUBLIC,
    "timeout_at": "2026-11-30T17:35:15Z",
    "metadata": {},
}
DONE = Reply(json={"status": "completed", "token": {"id": "t1", "status": "completed", "data": {"ok": True}}})


def complete(token: Any, **options: Any) -> Any:
    return lambda client: client.tokens.complete(token, {"ok": True}, **options)


def test_an_id_is_completed_with_the_api_key(variant: str) -> None:
    with ScriptedServer(DONE) as wire:
        completion = drive(variant, complete("t1"), url=wire.url)
    (request,) = wire.requests
    assert request.path == "/api/tokens/t1/complete"
    assert request.headers["authorization"] == f"Bearer {API_KEY}"
    assert request.json == {"data": {"ok": True}}
    assert (completion.status, completion.token.data) == ("completed", {"ok": True})


@pytest.mark.parametrize(
    "token", ["t1", Token.model_validate(CREATED | {"public_access_token": "hlmr_public_access_other"})]
)
def test_an_explicit_public_token_comes_first_and_the_api_key_stays_at_home(variant: str, token: Any) -> None:
    with ScriptedServer(DONE) as wire:
        drive(
            variant,
            lambda client: client.scoped(project_id="p", environment_id="e").tokens.complete(
                token, {"ok": True}, public_access_token=PUBLIC
            ),
            url=wire.url,
        )
    (request,) = wire.requests
    assert request.path == "/api/v1/tokens/t1/complete"
    assert request.headers["authorization"] == f"Bearer {PUBLIC}"
    assert API_KEY not in str(request)


def test_a_created_token_is_completed_with_its_own_public_token(variant: str) -> None:
    with ScriptedServer(Reply(201, json=CREATED), DONE) as wire:
        if variant == "blocking":
            completion = drive(variant, lambda client: client.tokens.create(tags=["a"]).complete(None), url=wire.url)
        else:

            async def create_and_complete(client: Any) -> Any:
                return await (await client.tokens.create(tags=["a"])).complete(None)

            completion = drive(variant, create_and_complete, url=wire.url)
    assert completion.status == "completed"
    create, done = wire.requests
    assert (create.path, create.json) == ("/api/tokens", {"tags": ["a"]})
    assert done.path == "/api/v1/tokens/t1/complete"
    assert done.headers["authorization"] == f"Bearer {PUBLIC}"
    assert done.json == {"data": None}


def test_a_created_token_can_be_retrieved_and_cancelled_and_hides_its_secrets(variant: str) -> None:
    shown: list[str] = []

    def use(client: Any) -> Any:
        if variant == "blocking":
            handle = client.tokens.create()
            shown.append(repr(handle) + str(handle))
            return [handle.retrieve(), handle.cancel()]

        async def later() -> Any:
            handle = await client.tokens.create()
            shown.append(repr(handle) + str(handle))
            return [await handle.retrieve(), await handle.cancel()]

        return later()

    plain = {"id": "t1", "status": "cancelled"}
    with ScriptedServer(Reply(201, json=CREATED), Reply(json=plain), Reply(json=plain)) as wire:
        retrieved, cancelled = drive(variant, use, url=wire.url)
    assert (retrieved.status, cancelled.status) == ("cancelled", "cancelled")
    assert [(request.method, request.path) for request in wire.requests[1:]] == [
        ("GET", "/api/tokens/t1"),
        ("POST", "/api/tokens/t1/cancel"),
    ]
    assert "hlmr_" not in shown[0]
    assert "t1" in shown[0]


def test_a_callback_goes_to_its_own_address_without_any_credential(variant: str) -> None:
    with ScriptedServer(DONE) as wire:
        url = f"{wire.url}/api/v1/tokens/t1/callback/hlmr_callback_x"
        drive(variant, lambda client: client.tokens.complete_callback(url, 5), url="https://elsewhere.example")
    (request,) = wire.requests
    assert request.target == "/api/v1/tokens/t1/callback/hlmr_callback_x"
    assert request.json == {"data": 5}
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hlmr_callback_x",
        "http://helmr.example/api/v1/tokens/t/callback/hlmr_callback_x",
        "https://u:p@helmr.example/api/v1/tokens/t/callback/hlmr_callback_x",
        "https://helmr.example/somewhere/hlmr_callback_x",
        "https://helmr.example/api/v1/tokens/t/callback/hlmr_callback_x\r\n",
        "https://[helmr/api/v1/tokens/t/callback/hlmr_callback_x",
    ],
)
def test_what_is_no_callback_url_is_refused_without_being_repeated(variant: str, url: str) -> None:
    with pytest.raises(ValueError, match="not the callback URL") as caught:
        drive(variant, lambda client: client.tokens.complete_callback(url, 1), url="https://helmr.example")
    assert "hlmr_callback_x" not in str(caught.value)


def test_a_public_token_that_cannot_stand_in_a_header_is_refused(variant: str) -> None:
    with pytest.raises(HelmrConfigError, match="public access token") as caught:
        drive(variant, complete("t1", public_access_token="hlmr\r\nX: y"), url="https://helmr.example")
    assert "X: y" not in str(caught.value)


def page(*ids: str, after: str | None = None) -> Reply:
    tokens = [{"id": token_id, "status": "pending"} for token_id in ids]
    return Reply(json={"tokens": tokens} | ({} if after is None else {"next_cursor": after}))


def test_all_pages_are_read_and_a_page_that_leads_nowhere_ends_it(variant: str) -> None:
    with ScriptedServer(page("a", "b", after="b"), page("c", after="c"), page()) as wire:
        tokens = drive(variant, lambda client: client.tokens.iter(status="pending", limit=2), url=wire.url)
    assert [token.id for token in tokens] == ["a", "b", "c"]
    assert [request.query.get("cursor") for request in wire.requests] == [None, "b", "c"]
    assert all(request.query["status"] == "pending" for request in wire.requests)
    with ScriptedServer(page("a", after="a")) as wire:
        assert len(drive(variant, lambda client: client.tokens.iter(), url=wire.url)) == 2
    with ScriptedServer(page("a", "b", after="b")) as wire:
        assert [token.id for token in drive(variant, lambda client: client.tokens.list(), url=wire.url)] == ["a", "b"]


def test_a_token_that_is_not_the_one_asked_for_is_noticed(variant: str) -> None:
    with ScriptedServer(Reply(json=CREATED)) as wire, pytest.raises(HelmrProtocolError, match="asked for t2"):
        drive(variant, lambda client: client.tokens.retrieve("t2"), url=wire.url)

"""Calls over a real socket: headers, repeats, and what becomes of every kind of fault."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
from functools import partial
from typing import Any

import pytest

from helmr_provider import __version__
from helmr_provider.client import (
    AsyncHelmrClient,
    HelmrApiError,
    HelmrClient,
    HelmrConfigError,
    HelmrConnectionError,
    HelmrError,
    HelmrProtocolError,
    PayloadValidationError,
)
from helmr_provider.client._retry import Backoff
from tests.client.recordings.recorded import recording
from tests.client.run_json import RUN
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive
from tests.client.shown_errors import shown

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

URL = "https://helmr.example"
OK = Reply(json=RUN)
BUSY = Reply(503, json={"error": "busy"}, headers={"retry-after": "0.001"})
CUT = Reply(body=b'{"id":', end="cut")


def quickly(client: Any, attempts: int = 3) -> Any:
    """The same client without pauses."""
    import dataclasses

    context = dataclasses.replace(
        client._transport.context, backoff=Backoff(attempts, base=0.0), reconnects=Backoff(0, 0.0)
    )
    return client._view(context)


def start(options: dict[str, Any], client: Any) -> Any:
    return quickly(client).sessions.start("t", **options)


def retrieve(client: Any) -> Any:
    return quickly(client).runs.retrieve("r")


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_every_request_names_the_client_and_the_contract(variant: str) -> None:
    with ScriptedServer(OK) as wire:
        drive(variant, retrieve, url=wire.url, headers={"X-Team": "a"})
    (request,) = wire.requests
    assert request.headers["helmr-api-version"] == "2026-06-06"
    assert request.headers["helmr-sdk-version"].endswith(__version__)
    assert request.headers["authorization"] == f"Bearer {API_KEY}"
    assert request.headers["x-team"] == "a"
    assert "cookie" not in request.headers


def test_a_read_is_repeated_while_the_server_is_busy(variant: str) -> None:
    with ScriptedServer(BUSY, BUSY, OK) as wire:
        assert drive(variant, retrieve, url=wire.url).id == "r"
    assert len(wire.requests) == 3


def test_repeating_ends_and_the_last_error_is_raised_as_it_is(variant: str) -> None:
    with ScriptedServer(BUSY) as wire, pytest.raises(HelmrApiError, match="getRun was answered 503: busy") as caught:
        drive(variant, retrieve, url=wire.url)
    assert len(wire.requests) == 3
    assert caught.value.retryable


def test_a_start_is_repeated_after_a_cut_only_if_its_external_id_makes_it_one(variant: str) -> None:
    cases: list[tuple[dict[str, Any], int]] = [({"external_id": "x"}, 3), ({"idempotency_key": "x"}, 1), ({}, 1)]
    for options, times in cases:
        with ScriptedServer(CUT) as wire, pytest.raises(HelmrConnectionError, match="broke off") as caught:
            drive(variant, partial(start, options), url=wire.url)
        assert len(wire.requests) == times, options
        assert caught.value.delivered


def test_a_single_shot_view_repeats_nothing(variant: str) -> None:
    with ScriptedServer(BUSY) as wire, pytest.raises(HelmrApiError):
        drive(variant, lambda client: client._single_shot().runs.retrieve("r"), url=wire.url)
    assert len(wire.requests) == 1


def test_a_pending_start_is_sent_again_until_it_is_decided(variant: str) -> None:
    pending = recording(890).reply
    soon = Reply(pending.status, json=pending.json, headers=pending.headers | {"retry-after": "0.001"})
    with ScriptedServer(soon, soon, recording(60).reply) as wire:
        started = drive(variant, lambda client: client.sessions.start("code-review", {"n": 1}), url=wire.url)
    assert started.raw == recording(60).response["json"]
    assert len({request.body for request in wire.requests}) == 1
    assert len(wire.requests) == 3


def test_a_pending_start_that_would_take_too_long_is_abandoned(variant: str) -> None:
    pending = Reply(202, json={"code": "idempotency_pending", "error": "x"}, headers={"retry-after": "11"})
    late = Reply(202, json={"code": "idempotency_pending", "error": "x"}, headers={"retry-after": "0.001"})
    # One delay is at most 10 s, and any delay after some time has gone would pass the budget of 10 s.
    with ScriptedServer(late, pending) as wire, pytest.raises(HelmrApiError, match="idempotency_pending") as caught:
        drive(variant, lambda client: client.sessions.start("t", external_id="x"), url=wire.url)
    assert caught.value.status == 202
    assert len(wire.requests) == 2


def test_another_202_is_an_error_immediately(variant: str) -> None:
    with (
        ScriptedServer(Reply(202, json={"status": "later"})) as wire,
        pytest.raises(HelmrApiError, match="answered 202"),
    ):
        drive(variant, lambda client: client.sessions.start("t", external_id="x"), url=wire.url)
    assert len(wire.requests) == 1


def test_no_server(variant: str) -> None:
    with pytest.raises(
        HelmrConnectionError, match=r"getRun: cannot connect to http://127.* check the address"
    ) as caught:
        drive(variant, retrieve, url=f"http://127.0.0.1:{closed_port()}")
    assert not caught.value.delivered


def test_a_server_that_speaks_plain_http_only(variant: str) -> None:
    with ScriptedServer() as wire, pytest.raises(HelmrConnectionError, match="does not answer in TLS") as caught:
        drive(variant, retrieve, url=wire.url.replace("http:", "https:"))
    assert not caught.value.delivered


def test_a_proxy_that_is_not_there(variant: str) -> None:
    proxy = f"http://me:hidden@127.0.0.1:{closed_port()}"
    with pytest.raises(HelmrConnectionError, match=r"helmr\.example\.com through the proxy") as caught:
        drive(variant, retrieve, url="https://helmr.example.com", proxy=proxy)
    assert "hidden" not in str(caught.value)


def test_a_server_that_stays_silent(variant: str) -> None:
    with (
        ScriptedServer(Reply(end="silent")) as wire,
        pytest.raises(HelmrConnectionError, match=r"no complete answer from .* within 0.05 s \(timeout=\)") as caught,
    ):
        drive(variant, lambda client: client._single_shot().runs.retrieve("r"), url=wire.url, timeout=0.05)
    assert caught.value.delivered
    assert "client.with_options(timeout=...)" in str(caught.value)


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_an_answer_that_breaks_off(variant: str, end: Any) -> None:
    with ScriptedServer(Reply(body=b'{"id":', end=end)) as wire, pytest.raises(HelmrConnectionError, match="broke off"):
        drive(variant, retrieve, url=wire.url)
    assert len(wire.requests) == 3


def test_something_that_is_not_a_helmr_server(variant: str) -> None:
    page = Reply(body=b"<html>It works!</html>", headers={"content-type": "text/html"})
    with ScriptedServer(page) as wire, pytest.raises(HelmrProtocolError, match=r"not JSON.*address") as caught:
        drive(variant, retrieve, url=wire.url)
    assert caught.value.raw == "<html>It works!</html>"
    with (
        ScriptedServer(Reply(404, body=b"<html>nothing</html>")) as wire,
        pytest.raises(HelmrApiError, match="answered 404") as api,
    ):
        drive(variant, retrieve, url=wire.url)
    assert api.value.body == "<html>nothing</html>"


def test_a_redirect_is_not_followed_with_the_credential(variant: str) -> None:
    with (
        ScriptedServer(OK) as elsewhere,
        ScriptedServer(Reply(302, headers={"location": elsewhere.url + "/api/runs/r"})) as wire,
    ):
        with pytest.raises(HelmrApiError, match="redirects are not followed"):
            drive(variant, retrieve, url=wire.url)
        assert elsewhere.requests == []


def test_a_huge_error_page_is_read_only_as_far_as_it_helps(variant: str) -> None:
    page = Reply(500, body=b"x" * 10_000_000)
    with ScriptedServer(page) as wire, pytest.raises(HelmrApiError) as caught:
        drive(variant, retrieve, url=wire.url)
    assert len(caught.value.body) <= 2000
    assert len(str(caught.value)) < 500


def test_a_huge_answer_is_refused(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helmr_provider.client._http._exchange.MAX_BODY", 1000)
    with (
        ScriptedServer(Reply(json=RUN | {"output": "x" * 2000})) as wire,
        pytest.raises(HelmrProtocolError, match="larger than") as caught,
    ):
        drive(variant, retrieve, url=wire.url)
    assert caught.value.oversize


def test_a_call_without_a_key_says_so_before_it_asks(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELMR_API_KEY", raising=False)
    with ScriptedServer(OK) as wire:
        with pytest.raises(HelmrConfigError, match="HELMR_API_KEY"):
            drive(variant, retrieve, url=wire.url, api_key=None)
        assert wire.requests == []


def test_a_payload_that_is_not_json_is_refused_before_anything_is_sent(variant: str) -> None:
    with ScriptedServer(OK) as wire:
        for call in (
            lambda client: client.sessions.start("t", {"when": object()}),
            lambda client: client.tokens.complete("t", {1, 2}),
            lambda client: client.sessions.update("s", metadata={"a": float("nan")}),
        ):
            with pytest.raises(PayloadValidationError, match="is not JSON"):
                drive(variant, call, url=wire.url)
        assert wire.requests == []


def test_health_is_asked_without_a_credential_and_not_ready_is_an_answer(variant: str) -> None:
    with ScriptedServer(Reply(json={"status": "ok"})) as wire:
        assert drive(variant, lambda client: client.health(), url=wire.url, api_key=None).is_ok
    assert "authorization" not in wire.requests[0].headers
    with ScriptedServer(Reply(503, json={"status": "not_ready"})) as wire:
        health = drive(variant, lambda client: client.ready(), url=wire.url)
    assert (health.status, health.is_ok, len(wire.requests)) == ("not_ready", False, 1)
    with (
        ScriptedServer(Reply(503, json={"error": "no backend"})) as wire,
        pytest.raises(HelmrApiError, match="no backend"),
    ):
        drive(variant, lambda client: client.ready(), url=wire.url)


SECRET = "hlmr_public_access_verysecret"
CALLBACK = "/api/v1/tokens/t/callback/hlmr_callback_verysecret"
ECHO = Reply(500, json={"error": f"cannot use {SECRET}", "code": "x"})


@pytest.mark.parametrize(
    "reply", [ECHO, CUT, Reply(body=SECRET.encode()), Reply(json={"public_access_token": SECRET}), BUSY]
)
def test_no_secret_is_in_an_error_its_chain_its_frames_or_the_log(
    variant: str, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [
        retrieve,
        lambda client: quickly(client).tokens.create(),
        lambda client: quickly(client).tokens.complete("t", 1, public_access_token=SECRET),
        lambda client: quickly(client).tokens.complete_callback(client.url + CALLBACK, 1),
    ]
    if "public_access_token" in str(reply.json):
        # Only answers about tokens hold secrets.
        calls.remove(retrieve)
    with caplog.at_level(logging.DEBUG), ScriptedServer(reply) as wire:
        for call in calls:
            with pytest.raises((HelmrApiError, HelmrConnectionError, HelmrProtocolError)) as caught:
                drive(variant, call, url=wire.url)
            assert "verysecret" not in shown(caught.value)
            assert API_KEY not in shown(caught.value)
            again = pickle.loads(pickle.dumps(caught.value))
            assert str(again) == str(caught.value)
    assert len(wire.requests) >= len(calls)
    assert "verysecret" not in caplog.text
    assert API_KEY not in caplog.text


def test_no_secret_is_in_the_frames_of_a_refused_constructor(variant: str) -> None:
    with pytest.raises(HelmrConfigError) as caught:
        drive(
            variant,
            retrieve,
            url="https://helmr.example",
            api_key="hlmr_sk_very\nsecret",
            proxy="http://u:verysecret@p",
        )
    assert "verysecret" not in shown(caught.value)
    assert "very\\nsecret" not in shown(caught.value)


def test_other_peoples_requests_are_still_logged(variant: str, caplog: pytest.LogCaptureFixture) -> None:
    import httpx  # noqa: TID251 - another library's use of it

    with caplog.at_level(logging.INFO, "httpx"), ScriptedServer(OK) as wire:
        drive(variant, retrieve, url=wire.url)
        assert not [record for record in caplog.records if record.name == "httpx"]
        httpx.get(wire.url, trust_env=False)
    assert [record for record in caplog.records if record.name == "httpx"]


def test_neither_client_nor_settings_show_the_key(variant: str) -> None:
    def read(client: Any) -> str:
        http = client._transport.http
        return " ".join(map(repr, (client, client._transport.context, http.settings, client.sessions.open("s"))))

    text = drive(
        variant, read, url="https://helmr.example", proxy="http://u:verysecret@proxy:1", headers={"X": "verysecret"}
    )
    assert API_KEY not in text
    assert "verysecret" not in text


def test_a_closed_client_says_so(variant: str) -> None:
    async def asynchronously() -> None:
        client = AsyncHelmrClient(url=URL, api_key=API_KEY)
        await client.aclose()
        await client.runs.retrieve("r")

    def blocking() -> None:
        client = HelmrClient(url=URL, api_key=API_KEY)
        client.close()
        client.runs.retrieve("r")

    with pytest.raises(HelmrError, match="getRun: this client is closed"):
        blocking() if variant == "blocking" else asyncio.run(asynchronously())


def test_only_a_call_that_failed_pays_for_being_repeatable(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from helmr_provider.client._async import transport as asynchronous
    from helmr_provider.client._sync import transport as blocking

    made: list[dict[str, Any]] = []

    def counting(build: Any) -> Any:
        return lambda **options: build(**made_with(options))

    def made_with(options: dict[str, Any]) -> dict[str, Any]:
        made.append(options)
        return options

    monkeypatch.setattr(asynchronous, "AsyncRetrying", counting(vars(asynchronous)["AsyncRetrying"]))
    monkeypatch.setattr(blocking, "Retrying", counting(vars(blocking)["Retrying"]))
    with ScriptedServer(OK) as wire:
        assert drive(variant, retrieve, url=wire.url).id == "r"
    assert (len(made), len(wire.requests)) == (0, 1)
    with ScriptedServer(BUSY, OK) as wire:
        assert drive(variant, retrieve, url=wire.url).id == "r"
    assert (len(made), len(wire.requests)) == (1, 2)

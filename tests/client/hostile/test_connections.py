"""Connections and processes: TLS, surplus bytes, cookies, forks, event loops, proxies, and what errors say of them."""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
import os
import pickle
import socket
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import (
    AsyncHelmrClient,
    HelmrApiError,
    HelmrCallTimeoutError,
    HelmrClient,
    HelmrConfigError,
    HelmrConnectionError,
    HelmrError,
    HelmrProtocolError,
    HelmrTimeoutError,
)
from helmr_provider.client._http._environment import bypasses_proxy
from tests.client.hostile.certificates import Authority
from tests.client.hostile.raw_server import RawServer
from tests.client.hostile.scenarios import JSON, RUN, SSE, chunk, head, silent, whole
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive

if TYPE_CHECKING:
    from tests.client.hostile.raw_server import Peer

both = pytest.mark.parametrize("variant", VARIANTS)
GOOD = whole(body=json.dumps(RUN).encode(), **JSON)


def retrieve(client: Any) -> Any:
    return client.with_options(max_retries=0).runs.retrieve("r")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@both
def test_a_bad_certificate_is_called_what_it_is(variant: str, authority: Authority) -> None:
    good = authority.issue("good")
    cases = [
        (authority.issue("expired", days=-1), str(authority.bundle), "has expired"),
        (authority.issue("elsewhere", address="127.0.0.9"), str(authority.bundle), "issued for another host"),
        (good, True, "not trusted .* pass the CA bundle as verify="),
    ]
    for certificate, verify, text in cases:
        with (
            RawServer(GOOD, tls=authority.server(certificate)) as server,
            pytest.raises(HelmrConnectionError, match=text) as caught,
        ):
            drive(variant, retrieve, url=server.url, verify=verify)
        assert not caught.value.delivered
    with RawServer(GOOD, tls=authority.server(good)) as server:
        assert drive(variant, retrieve, url=server.url, verify=str(authority.bundle)).id == "r"
        assert drive(variant, retrieve, url=server.url, verify=False).id == "r"


@both
def test_a_client_certificate_is_sent_to_a_server_that_requests_it(variant: str, authority: Authority) -> None:
    certificate, verify = authority.issue("mutual"), str(authority.bundle)
    with RawServer(GOOD, tls=authority.server(certificate, clients=True)) as server:
        assert drive(variant, retrieve, url=server.url, verify=verify, cert=str(certificate)).id == "r"
        with pytest.raises(HelmrConnectionError):
            drive(variant, retrieve, url=server.url, verify=verify)
    with pytest.raises(HelmrConfigError, match="cert: cannot read"):
        drive(variant, retrieve, url="https://helmr.example", cert=str(authority.bundle))


@both
def test_a_certificate_file_of_the_environment_that_is_gone_is_named(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with pytest.raises(HelmrConfigError, match=r"SSL_CERT_FILE: cannot read certificates from '/no/such/file\.pem'"):
        drive(variant, retrieve, url="https://helmr.example")


@both
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_surplus_answer_is_not_the_answer_to_the_next_request(variant: str, framing: str) -> None:
    planted = head("201 Created", body=json.dumps({"session": {"id": "planted"}}).encode(), **JSON)

    def answer(peer: Peer) -> None:
        while peer.request():
            body = json.dumps(RUN).encode()
            if framing == "length":
                peer.write(head(body=body, **JSON) + planted)
            else:
                peer.write(head(chunked=True, **JSON) + chunk(body) + b"0\r\n\r\n" + planted)

    async def twice(client: Any) -> list[str]:
        return [(await retrieve(client)).id, (await retrieve(client)).id]

    with RawServer(answer) as server:
        if variant == "blocking":
            ids = drive(variant, lambda client: [retrieve(client).id, retrieve(client).id], url=server.url)
        else:
            ids = drive(variant, twice, url=server.url)
        assert ids == ["r", "r"]
        assert server.connections == 2, "a connection with surplus bytes is not used again"


@both
def test_a_connection_without_surplus_is_used_again_and_no_cookie_is_sent(variant: str) -> None:
    seen: list[bytes] = []

    def answer(peer: Peer) -> None:
        while request := peer.request():
            seen.append(request.lower())
            flood = b"".join(b"set-cookie: c%d=%s\r\n" % (number, b"x" * 100) for number in range(200))
            body = json.dumps(RUN).encode()
            peer.write(head(body=body, **JSON).replace(b"\r\n\r\n", b"\r\n" + flood + b"\r\n", 1))

    async def thrice(client: Any) -> None:
        for _ in range(3):
            await retrieve(client)

    with RawServer(answer) as server:
        if variant == "blocking":
            drive(variant, lambda client: [retrieve(client) for _ in range(3)], url=server.url)
        else:
            drive(variant, thrice, url=server.url)
        assert server.connections == 1
    assert len(seen) == 3
    assert not any(b"cookie" in request for request in seen)
    assert len({len(request) for request in seen}) == 1


async def test_other_tasks_run_while_a_stream_of_newlines_is_read() -> None:
    size = 4 * 1024 * 1024

    def answer(peer: Peer) -> None:
        peer.request()
        peer.write(head(chunked=True, **SSE) + chunk(b"\n" * size) + b"0\r\n\r\n")

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with RawServer(answer) as server:
        async with AsyncHelmrClient(url=server.url, api_key=API_KEY) as client:
            other = asyncio.create_task(count())
            events = [event async for event in client.runs.events._connection("r", None)]
            other.cancel()
    assert not any(events)
    assert turns >= size / (64 * 1024) * 2, "between two turns of another task, few lines are handled"


@both
def test_a_call_that_timed_out_is_a_timeout_and_a_connection_error(variant: str) -> None:
    with RawServer(silent()) as server, pytest.raises(HelmrCallTimeoutError) as caught:
        drive(variant, retrieve, url=server.url, timeout=0.2)
    assert isinstance(caught.value, HelmrTimeoutError)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, HelmrConnectionError)
    assert caught.value.delivered
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@both
def test_repeats_are_part_of_the_limit_of_a_call(variant: str) -> None:
    def answer(peer: Peer) -> None:
        peer.request()
        peer.hold()

    with RawServer(answer) as server, pytest.raises(HelmrCallTimeoutError):
        drive(variant, lambda client: client.with_options(timeout=0.3).runs.retrieve("r"), url=server.url)
    assert server.connections == 1


@both
def test_why_a_connection_was_not_made_is_kept(variant: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(HelmrConnectionError, match="Connection refused") as caught:
        drive(variant, retrieve, url=f"http://127.0.0.1:{port}")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.__cause__.errno == errno.ECONNREFUSED
    assert caught.value.__cause__.__traceback__ is None
    with pytest.raises(HelmrConnectionError) as unknown:
        drive(variant, retrieve, url="https://helmr.invalid")
    assert isinstance(unknown.value.__cause__, socket.gaierror)
    assert str(unknown.value) != str(caught.value)


@both
def test_an_error_of_a_gateway_shows_its_text_and_its_repr_says_what_it_was(variant: str) -> None:
    for body in ({"message": "quota exceeded"}, {"error": {"message": "quota exceeded"}}, {"detail": "quota exceeded"}):
        with (
            ScriptedServer(Reply(429, json=body)) as wire,
            pytest.raises(HelmrApiError, match="quota exceeded") as caught,
        ):
            drive(variant, retrieve, url=wire.url)
        assert repr(caught.value) == "HelmrApiError('quota exceeded', status=429, code=None, operation='getRun')"


def test_a_second_event_loop_gets_one_clear_error_from_every_method() -> None:
    with ScriptedServer(Reply(json=RUN)) as wire:
        client = AsyncHelmrClient(url=wire.url, api_key=API_KEY)

        async def use(call: Any) -> None:
            await call()

        async def stream() -> None:
            async for _ in client.runs.events.subscribe("r"):
                pass

        with asyncio.Runner() as runner:
            runner.run(use(lambda: client.runs.retrieve("r")))
            for call in (
                lambda: client.runs.retrieve("r"),
                lambda: client.runs.wait("r"),
                lambda: client.tokens.wait("t") if hasattr(client.tokens, "wait") else client.tokens.retrieve("t"),
                stream,
                client.aclose,
            ):
                with pytest.raises(HelmrConfigError, match="belongs to another event loop"):
                    asyncio.run(use(call))
            runner.run(client.aclose())


def test_a_forked_process_has_connections_of_its_own() -> None:
    with RawServer(GOOD) as server, HelmrClient(url=server.url, api_key=API_KEY) as client:
        assert retrieve(client).id == "r"
        assert server.connections == 1
        context = multiprocessing.get_context("fork")
        found = context.Queue()
        child = context.Process(target=lambda: found.put((os.getpid(), retrieve(client).id)))
        child.start()
        pid, run_id = found.get(timeout=60)
        child.join(timeout=60)
        assert (run_id, pid != os.getpid(), child.exitcode) == ("r", True, 0)
        assert server.connections == 2
        assert retrieve(client).id == "r"
        assert server.connections == 2, "the parent's connection is as it was"


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "bypassed"),
    [
        ("helmr.example", "helmr.example", None, True),
        ("example", "helmr.example", None, True),
        (".example", "helmr.example", None, True),
        ("xample", "helmr.example", None, False),
        ("helmr.example:443", "helmr.example", None, True),
        ("helmr.example:8443", "helmr.example", None, False),
        ("*", "helmr.example", None, True),
        ("[::1]", "::1", 8443, True),
        ("[::1]:8443", "::1", 8443, True),
        ("::1", "::1", None, True),
        ("fd00::/8", "fd12::1", None, True),
        ("fd00::/8", "helmr.example", None, False),
        ("10.0.0.0/8, other", "10.1.2.3", None, True),
        ("nonsense/99,[,:::", "10.1.2.3", None, False),
        ("", "helmr.example", None, False),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_networks(
    exceptions: str, host: str, port: int | None, bypassed: bool
) -> None:
    assert bypasses_proxy(exceptions, host, port) is bypassed


@both
def test_unusable_proxies_of_the_environment(
    variant: str, monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(HelmrConfigError, match="SOCKS proxy, which this client does not support"):
        drive(variant, retrieve, url="https://helmr.example")
    with pytest.raises(HelmrConfigError, match="proxy names a SOCKS proxy"):
        drive(variant, retrieve, url="https://helmr.example", proxy="socks5://127.0.0.1:1")
    for exceptions in ("[::1],127.0.0.1", "fd00::/8,127.0.0.0/8"):
        monkeypatch.setenv("NO_PROXY", exceptions)
        with RawServer(GOOD, tls=authority.server(authority.issue("good"))) as server:
            assert drive(variant, retrieve, url=server.url, verify=str(authority.bundle)).id == "r"


@both
def test_an_answer_may_be_compressed_once_and_a_caller_replaces_a_header(variant: str) -> None:
    import gzip

    body = Reply(body=gzip.compress(json.dumps(RUN).encode()), headers={"content-encoding": "gzip"})
    with ScriptedServer(body) as wire:
        assert drive(variant, retrieve, url=wire.url, headers={"ACCEPT": "application/x"}).id == "r"
    assert wire.requests[0].headers["accept-encoding"] == "gzip"
    assert wire.requests[0].headers["accept"] == "application/x"


@both
def test_a_file_may_be_limited(variant: str) -> None:
    with ScriptedServer(Reply(body=b"x" * 1000)) as wire:

        def read(limit: int) -> Any:
            return drive(variant, lambda c: c.workspaces.open("w").files.read("a", max_bytes=limit), url=wire.url)

        assert len(read(1000)) == 1000
        with pytest.raises(HelmrProtocolError, match="larger than 999 bytes; raise max_bytes="):
            read(999)


@both
def test_an_empty_credential_is_refused(variant: str) -> None:
    with ScriptedServer(Reply(json={})) as wire:
        with pytest.raises(HelmrConfigError, match="must not be empty"):
            drive(variant, lambda c: c.tokens.complete("t", 1, public_access_token=""), url=wire.url)
        with pytest.raises(HelmrConfigError, match="must not be blank"):
            drive(variant, retrieve, url=wire.url, api_key="")
        assert wire.requests == []


def test_credentials_of_any_form_are_removed_by_value() -> None:
    key = "a-user-session-without-a-prefix"
    reply = Reply(500, json={"error": f"bad {key}", "code": key, "inner": [{key: key}]})
    with ScriptedServer(reply) as wire, HelmrClient(url=wire.url, api_key=key) as client:
        with pytest.raises(HelmrError) as caught:
            retrieve(client)
        assert key not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


@both
def test_a_cursor_may_be_a_number(variant: str) -> None:
    with ScriptedServer(Reply(json={"events": []})) as wire:
        assert drive(variant, lambda client: client.runs.events.list("r", cursor=10), url=wire.url) == []
    assert wire.requests[0].query["cursor"] == "10"

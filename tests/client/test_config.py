"""What a client accepts as address, key and options (contract/behaviour.md section 16)."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrClient, HelmrConfigError
from helmr_provider.client._config import check_base_url, is_loopback, resolve_api_key

CLIENTS = pytest.mark.parametrize("client_class", [HelmrClient, AsyncHelmrClient])


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://helmr.example", "https://helmr.example"),
        ("https://helmr.example/", "https://helmr.example"),
        ("https://helmr.example:8443/a/b//", "https://helmr.example:8443/a/b"),
        (" https://helmr.example/x \n", "https://helmr.example/x"),
        ("http://localhost:8090", "http://localhost:8090"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:80/p/", "http://[::1]:80/p"),
    ],
)
def test_a_path_prefix_is_kept_and_trailing_slashes_are_dropped(url: str, base: str) -> None:
    assert check_base_url(url) == base


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("helmr.example", "absolute"),
        ("/api", "absolute"),
        ("ftp://helmr.example", "absolute https URL, not one with ftp://"),
        ("https://", "absolute"),
        ("https://helmr.example?x=1", "query"),
        ("https://helmr.example/?", "query"),
        ("https://helmr.example/#top", "fragment"),
        ("https://me:hunter2@helmr.example", "user name"),
        ("https://helmr.example:port", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://helmr.example/a b", "white space"),
        ("http://helmr.example", "use https"),
        ("http://10.0.0.1", "use https"),
        ("http://0.0.0.0:8080", "use https"),
        ("http://localhost.example", "use https"),
        ("http://128.0.0.1", "use https"),
        ("http://[::2]", "use https"),
    ],
)
def test_other_addresses_are_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(HelmrConfigError, match=why) as caught:
        check_base_url(url)
    assert "hunter2" not in str(caught.value)


@CLIENTS
def test_an_address_is_needed_and_the_error_says_how_to_give_it(
    client_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (None, "", "  "):
        monkeypatch.delenv("HELMR_API_URL", raising=False)
        if value is not None:
            monkeypatch.setenv("HELMR_API_URL", value)
        with pytest.raises(HelmrConfigError, match="HELMR_API_URL"):
            client_class()


def test_address_and_key_come_from_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELMR_API_URL", "https://env.example/x/")
    monkeypatch.setenv("HELMR_API_KEY", "hlmr_sk_env")
    with HelmrClient() as client:
        assert client.url == "https://env.example/x"
        key = client._transport.context.api_key
        assert key is not None
        assert key.reveal() == "hlmr_sk_env"
    with HelmrClient(url="https://given.example", api_key="hlmr_sk_given") as client:
        assert client.url == "https://given.example"
        key = client._transport.context.api_key
        assert key is not None
        assert key.reveal() == "hlmr_sk_given"


def test_plain_http_to_this_machine_is_logged_once_and_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "helmr_provider.client"):
        HelmrClient(url="https://localhost")
        assert not caplog.records
        HelmrClient(url="http://localhost:1")
        HelmrClient(url="http://localhost:1/")
    (record,) = caplog.records
    assert "plain http" in record.getMessage()
    assert record.levelno == logging.DEBUG


@pytest.mark.parametrize("key", ["hlmr sk", "hlmr_sk_\r\nX: y", "schlüssel", "a\x00b"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(HelmrConfigError, match="visible ASCII") as caught:
        resolve_api_key(key)
    assert key not in str(caught.value)


def test_white_space_around_a_key_is_dropped() -> None:
    key = resolve_api_key(" hlmr_sk_x\n")
    assert key is not None
    assert key.reveal() == "hlmr_sk_x"


def test_a_blank_key_is_refused_if_passed_and_none_if_it_is_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("", "  "):
        with pytest.raises(HelmrConfigError, match="blank"):
            resolve_api_key(key)
    monkeypatch.setenv("HELMR_API_KEY", " ")
    assert resolve_api_key(None) is None


@CLIENTS
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"project_id": "p"}, "both or neither"),
        ({"environment_id": "e"}, "both or neither"),
        ({"project_id": " ", "environment_id": "e"}, "blank"),
        ({"timeout": 0}, "timeout"),
        ({"connect_timeout": timedelta(seconds=-1)}, "connect_timeout"),
        ({"max_streams": -1}, "max_streams"),
        ({"headers": {"Authorization": "Bearer hunter2"}}, "Authorization"),
        ({"headers": {"helmr-api-version": "1"}}, "helmr-api-version"),
        ({"headers": {"X-A": "b\r\nhunter2"}}, "printable"),
        ({"verify": "/nonexistent/ca.pem"}, "certificates"),
        ({"verify": ""}, "certificates"),
        ({"proxy": "socks9://me:hunter2@proxy"}, "proxy"),
    ],
)
def test_other_options_are_checked_immediately(client_class: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(HelmrConfigError, match=why) as caught:
        client_class(url="https://helmr.example", api_key="hlmr_sk_x", **options)
    assert "hunter2" not in str(caught.value)


def test_a_stream_may_be_silent_for_longer_than_two_keep_alives() -> None:
    from helmr_provider.client._config import resolve_settings

    def settings(timeout: float) -> Any:
        return resolve_settings(
            "https://x.example",
            timeout=timeout,
            connect_timeout=5,
            verify=True,
            cert=None,
            proxy=None,
            headers=None,
            max_streams=4,
        )

    assert settings(30).stream_silence > 60
    assert settings(300).stream_silence == 300


@CLIENTS
def test_a_scoped_view_shares_connections_and_stream_budget_but_not_the_environment(client_class: Any) -> None:
    client = client_class(url="https://helmr.example", api_key="x" * 40, max_streams=2)
    view = client.scoped(project_id="p", environment_id="e")
    assert type(view) is client_class
    assert view._transport.http is client._transport.http
    assert view._stream_slots is client._stream_slots
    assert view.max_streams == 2
    assert (view._transport.context.project_id, client._transport.context.project_id) == ("p", None)
    assert view.scoped()._transport.context.project_id is None
    with pytest.raises(HelmrConfigError, match="both or neither"):
        client.scoped(project_id="p")


@pytest.mark.parametrize(
    ("host", "expected"), [("LOCALHOST", True), ("::1", True), ("127.1.2.3", True), ("1.1.1.1", False)]
)
def test_loopback_is_what_certainly_is_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected

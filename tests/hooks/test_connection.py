"""An Airflow connection, read: every way to write an address, every extra, every mistake."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import Connection
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.client import HelmrAuthError, HelmrConfigError
from helmr_provider.hooks.connection import EXTRAS, HelmrSettings
from tests.client.scripted_server import Reply, ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

KEY = "hlmr_sk_0123456789abcdef"
USER_SESSION = "A" * 43


def parse(*, extra: dict[str, Any] | str | None = None, **members: Any) -> HelmrSettings:
    given = {"conn_id": "helmr_default", "conn_type": "helmr", "host": "helmr.example", "password": KEY, **members}
    if isinstance(extra, str):
        # Airflow 2 warns of an extra that is no object, and then hands it on.
        return HelmrSettings.parse(
            SimpleNamespace(**{"port": None, "schema": None, "login": None, **given, "extra": extra})
        )
    return HelmrSettings.parse(Connection(extra=None if extra is None else json.dumps(extra), **given))


def from_uri(uri: str) -> Any:
    # The public class is made from members only, before Airflow 3.2.
    from airflow.models import Connection as StoredConnection

    return StoredConnection(conn_id="c", uri=uri)


def problems(**members: Any) -> str:
    with pytest.raises(HelmrConfigError) as refused:
        parse(**members)
    return str(refused.value)


@pytest.mark.parametrize(
    ("members", "url"),
    [
        ({"host": "helmr.example"}, "https://helmr.example"),
        ({"host": "helmr.example", "port": 8443}, "https://helmr.example:8443"),
        ({"host": "helmr.example", "schema": "https"}, "https://helmr.example"),
        ({"host": "helmr.example", "schema": "HTTPS"}, "https://helmr.example"),
        ({"host": "helmr.example/prefix/"}, "https://helmr.example/prefix"),
        ({"host": "helmr.example/prefix", "port": 8443}, "https://helmr.example:8443/prefix"),
        ({"host": " https://helmr.example/a/b/ "}, "https://helmr.example/a/b"),
        ({"host": "https://helmr.example:8443/a"}, "https://helmr.example:8443/a"),
        ({"host": "https://helmr.example:8443/a", "port": 8443}, "https://helmr.example:8443/a"),
        ({"host": "https://helmr.example", "port": 8443}, "https://helmr.example:8443"),
        ({"host": "https://helmr.example", "schema": "https"}, "https://helmr.example"),
        ({"host": "127.0.0.1", "schema": "http", "port": 8080}, "http://127.0.0.1:8080"),
        ({"host": "http://localhost:8080"}, "http://localhost:8080"),
        ({"host": "http://[::1]:8080/p"}, "http://[::1]:8080/p"),
    ],
)
def test_the_address_is_host_schema_and_port_or_a_full_url_in_host(members: dict[str, Any], url: str) -> None:
    assert parse(**members).url == url


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (f"helmr://:{KEY}@helmr.example", "https://helmr.example"),
        (f"helmr://:{KEY}@127.0.0.1:8080/http", "http://127.0.0.1:8080"),
        (f"helmr://https://:{KEY}@helmr.example:8443/prefix", "https://helmr.example:8443/prefix"),
        (f"helmr://http://:{KEY}@localhost:8080", "http://localhost:8080"),
    ],
)
def test_the_connection_may_be_written_as_a_uri(uri: str, url: str) -> None:
    assert HelmrSettings.parse(from_uri(uri)).url == url


def test_a_full_url_survives_the_uri_form_that_airflow_stores_connections_in() -> None:
    connection = Connection(
        conn_id="c", conn_type="helmr", host="https://helmr.example:8443/a/b", password=KEY, extra='{"streams": 2}'
    )
    again = from_uri(connection.get_uri())
    assert HelmrSettings.parse(again) == HelmrSettings.parse(connection)


def test_an_omitted_field_has_a_default() -> None:
    settings = parse()
    assert settings.console_url == settings.url
    assert (settings.session_prefix, settings.streams) == ("airflow", 4)
    assert (settings.timeout, settings.connect_timeout) == (30.0, 5.0)
    assert settings.verify is True
    assert (settings.proxy, settings.project_id, settings.environment_id) == (None, None, None)


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_extra_counts_as_omitted(empty: str | None) -> None:
    assert parse(extra=dict.fromkeys(EXTRAS, empty)) == parse()


def test_extras_may_be_text_as_in_a_uri() -> None:
    typed = {"streams": 2, "timeout": 12.5, "connect_timeout": 3, "verify": False, "session_prefix": "blue"}
    as_text = {"streams": "2", "timeout": "12.5", "connect_timeout": "3", "verify": "False", "session_prefix": " blue "}
    assert parse(extra=as_text) == parse(extra=typed)
    assert parse(extra=typed).verify is False


@pytest.mark.parametrize("kind", ["client", "async_client"])
def test_a_ca_bundle_that_cannot_be_read_is_called_what_the_connection_calls_it(kind: str, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pem", tmp_path / "none.pem"):
        (tmp_path / "none.pem").write_text("not a certificate")
        with pytest.raises(HelmrConfigError) as caught:
            getattr(parse(extra={"ca_bundle": str(path)}), kind)(max_streams=0)
        assert str(caught.value) == f"Extra ca_bundle: cannot read certificates from {str(path)!r}."


def test_a_ca_bundle_is_what_the_certificate_is_verified_with() -> None:
    assert parse(extra={"ca_bundle": "/etc/ssl/ca.pem"}).verify == "/etc/ssl/ca.pem"
    assert parse(extra={"ca_bundle": "/etc/ssl/ca.pem", "verify": True}).verify == "/etc/ssl/ca.pem"


def test_the_console_may_stand_elsewhere() -> None:
    assert parse(extra={"console_url": "http://console.example/helmr/"}).console_url == "http://console.example/helmr"


def test_a_user_session_names_its_project_and_environment() -> None:
    settings = parse(password=USER_SESSION, extra={"project_id": "p", "environment_id": "e"})
    assert (settings.project_id, settings.environment_id) == ("p", "e")


def test_an_api_key_refuses_project_and_environment() -> None:
    assert "an API key belongs to one environment already" in problems(extra={"project_id": "p", "environment_id": "e"})


def test_extras_that_mean_nothing_are_named_not_refused() -> None:
    assert parse(extra={"region": "eu", "streams": 1, "colour": "blue"}).unknown_extras == ("colour", "region")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"host": None}, "host is missing"),
        ({"host": "  "}, "host is missing"),
        ({"host": "http://helmr.example"}, "Plain http to helmr.example"),
        ({"host": "helmr.example", "schema": "http"}, "Plain http to helmr.example"),
        ({"host": "ftp://helmr.example"}, "absolute https URL"),
        ({"host": "helmr.example", "schema": "ftp"}, "schema must be http or https"),
        ({"host": "https://helmr.example:x"}, "host is not a usable address"),
        ({"host": "https://helmr.example:1", "port": 2}, "port 2 contradicts"),
        ({"host": "https://helmr.example?a=b"}, "query or a fragment"),
        ({"host": "https://me@helmr.example"}, "must not hold a user name or password"),
        ({"password": None}, "the API key is missing"),
        ({"password": " \n"}, "the API key is missing"),
        ({"password": None, "login": "x"}, "it stands in login now"),
        ({"password": "hlmr_public_access_x"}, "public access token"),
        ({"password": "hlmr_sk_ä"}, "characters that cannot be part of an API key"),
        ({"extra": "{"}, "extra must be a JSON object"),
        ({"extra": "[]"}, "extra must be a JSON object"),
        ({"extra": {"session_prefix": "a:b"}}, "without a colon"),
        ({"extra": {"session_prefix": "a\nb"}}, "without a colon"),
        ({"extra": {"session_prefix": 7}}, "extra session_prefix must be text"),
        ({"extra": {"streams": -1}}, "streams must be a whole number of at least 0"),
        ({"extra": {"streams": 1.5}}, "streams must be a whole number"),
        ({"extra": {"streams": True}}, "streams must be a whole number"),
        ({"extra": {"streams": "many"}}, "streams must be a whole number"),
        ({"extra": {"streams": 10**400}}, "streams must be a whole number"),
        ({"extra": {"timeout": 0}}, "timeout must be a number of seconds above 0"),
        ({"extra": {"timeout": "inf"}}, "timeout must be a number of seconds above 0"),
        ({"extra": {"connect_timeout": []}}, "connect_timeout must be a number of seconds"),
        ({"extra": {"verify": "/etc/ca.pem"}}, "belongs in ca_bundle"),
        ({"extra": {"verify": "false", "ca_bundle": "/x"}}, "contradict"),
        ({"extra": {"proxy": "proxy.example:3128"}}, "extra proxy must be"),
        ({"extra": {"console_url": "console.example"}}, "extra console_url must be"),
        ({"extra": {"console_url": "https://me:pw@console.example"}}, "extra console_url must be"),
        ({"extra": {"console_url": "https://console.example/?x"}}, "extra console_url must be"),
        ({"extra": {"project_id": "p"}}, "go together"),
    ],
)
def test_a_mistake_is_named(members: dict[str, Any], expected: str) -> None:
    text = problems(**members)
    assert expected in text
    assert "'helmr_default'" in text


def test_all_mistakes_are_named_together() -> None:
    text = problems(host=None, password=None, extra={"streams": "x", "timeout": -1, "session_prefix": ":"})
    for part in ("host is missing", "API key is missing", "streams", "timeout", "session_prefix"):
        assert part in text


def test_no_mistake_shows_a_secret() -> None:
    text = problems(
        host=f"https://user:{KEY}@helmr.example",
        password=f"{KEY} \x00",
        extra={"proxy": f"socks5://u:{KEY}@p", "console_url": f"https://u:{KEY}@c", "streams": KEY, "verify": KEY},
    )
    assert KEY not in text


def test_neither_key_nor_proxy_password_is_in_the_repr() -> None:
    settings = parse(extra={"proxy": "http://u:proxypassword@proxy.example:3128"})
    assert KEY not in repr(settings)
    assert "proxypassword" not in repr(settings)
    assert set(settings.secrets()) == {KEY, "proxypassword"}


def test_a_key_read_from_a_file_loses_its_newline() -> None:
    assert parse(password=f"{KEY}\n").secrets() == (KEY,)


@given(
    extras=st.dictionaries(
        st.sampled_from(sorted(EXTRAS)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2),
    ),
    host=st.text(max_size=30),
    schema=st.none() | st.text(max_size=5),
    port=st.none() | st.integers(1, 65535),
)
def test_every_value_in_a_connection_is_used_or_refused(
    extras: dict[str, Any], host: str, schema: str | None, port: int | None
) -> None:
    try:
        settings = parse(extra=extras, host=host, schema=schema, port=port)
    except HelmrConfigError as refused:
        assert str(refused).startswith("Connection 'helmr_default' is not usable: ")  # noqa: PT017
    else:
        assert settings.url.startswith(("https://", "http://"))
        assert ":" not in settings.session_prefix
        assert settings.streams >= 0
        assert settings.timeout > 0


@pytest.mark.parametrize(("text", "meant"), [(None, "full"), ("", "full"), ("Status", "status"), (" off ", "off")])
def test_the_tab_in_airflow_shows_everything_unless_the_connection_says_less(text: str | None, meant: str) -> None:
    assert parse(extra={} if text is None else {"airflow_tab": text}).airflow_tab == meant


@pytest.mark.parametrize("text", ["no", "none", "Output"])
def test_an_unknown_word_for_the_tab_is_refused(text: str) -> None:
    assert "extra airflow_tab must be full, status or off" in problems(extra={"airflow_tab": text})


def test_headers_are_a_json_object_also_as_text_and_are_masked() -> None:
    headers = {"X-Access-Assertion": "assertion-of-the-proxy"}
    for extra in (headers, json.dumps(headers)):
        settings = parse(extra={"headers": extra})
        assert settings.headers == headers
        assert "assertion-of-the-proxy" in settings.secrets()
        assert "assertion-of-the-proxy" not in repr(settings)
    for bad, why in (("[1]", "JSON object"), ({"a": 1}, "JSON object"), ({"Authorization": "x"}, "set by the client")):
        with pytest.raises(HelmrConfigError, match=why):
            parse(extra={"headers": bad})


def test_a_client_certificate_is_one_path_or_two() -> None:
    assert parse(extra={"client_cert": "/c.pem"}).cert == "/c.pem"
    assert parse(extra={"client_cert": "/c.pem", "client_key": "/k.pem"}).cert == ("/c.pem", "/k.pem")
    with pytest.raises(HelmrConfigError, match="goes with client_cert"):
        parse(extra={"client_key": "/k.pem"})
    with pytest.raises(HelmrConfigError, match=r"^Extra client_cert: cannot read"):
        parse(extra={"client_cert": "/missing.pem"}).client(max_streams=0)


def test_an_ipv6_address_gets_its_brackets_back() -> None:
    assert parse(host="::1", schema="http", port=8080).url == "http://[::1]:8080"
    assert parse(host="[::1]", schema="http", port=8080).url == "http://[::1]:8080"


def test_a_refused_key_is_called_what_it_is_in_the_connection() -> None:
    refused = Reply(401, json={"error": "unknown API key"})
    with (
        ScriptedServer(refused) as wire,
        parse(host=wire.url, schema=None, port=None).client(max_streams=0) as client,
        pytest.raises(HelmrAuthError, match="the password of the Airflow connection 'helmr_default'") as caught,
    ):
        client.runs.retrieve("r")
    assert "HELMR_API_KEY" not in str(caught.value)

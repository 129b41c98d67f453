"""Testing a connection: what is wrong, which scopes the key has, and no trace left on the control plane."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.hooks.helmr import HelmrHook
from helmr_provider.local import SCOPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.local import LocalControlPlane

KEY = "hlmr_sk_abcdefghijklmnopqrstuvwxyz"


@contextmanager
def answering(status: int, body: str, content_type: str = "application/json") -> Iterator[str]:
    """A server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def test_url(connect: Callable[..., str]) -> Callable[..., tuple[bool, str]]:
    """Test the connection to an address."""

    def test(url: str | None, key: str | None = KEY, **members: Any) -> tuple[bool, str]:
        return HelmrHook(connect(host=url, password=key, **members)).test_connection()

    return test


def scopes(text: str) -> dict[str, str]:
    """What the text says of each scope."""
    known, unknown = text.rstrip(".").split("Scopes of the key: ")[1].split("; not checked: ")
    pairs = [part.split(" ") for part in known.split(", ")]
    return dict(pairs) | dict.fromkeys(unknown.split(", "), "not checked")


def test_a_key_with_all_scopes_is_reported(control_plane: LocalControlPlane, test_url: Callable[..., Any]) -> None:
    works, text = test_url(control_plane.url, control_plane.api_key)
    assert works
    assert control_plane.url in text
    assert scopes(text) == {
        "runs:read": "yes",
        "runs:create": "yes",
        "tokens:read": "yes",
        "tokens:create": "yes",
        "runs:manage": "not checked",
        "tokens:complete": "not checked",
        "tokens:cancel": "not checked",
    }


@pytest.mark.parametrize("missing", ["runs:manage", "tokens:complete", "tokens:cancel"])
def test_a_scope_that_cannot_be_shown_to_be_there_is_shown_to_be_missing(
    missing: str, control_plane: LocalControlPlane, test_url: Callable[..., Any]
) -> None:
    works, text = test_url(control_plane.url, control_plane.create_key(scopes=sorted(set(SCOPES) - {missing})))
    assert works
    said = scopes(text)
    assert said.pop(missing) == "NO"
    assert "NO" not in said.values()


@pytest.mark.parametrize("missing", ["runs:read", "runs:create", "tokens:read", "tokens:create"])
def test_a_missing_scope_is_found(missing: str, control_plane: LocalControlPlane, test_url: Callable[..., Any]) -> None:
    probed = {"runs:read", "runs:create", "tokens:read", "tokens:create"}
    works, text = test_url(control_plane.url, control_plane.create_key(scopes=sorted(set(SCOPES) - {missing})))
    assert works
    said = scopes(text)
    assert {scope for scope in said if said[scope] == "NO"} == {missing}
    assert {scope for scope in said if said[scope] == "yes"} == probed - {missing}


def test_a_key_that_may_only_read_is_reported_with_its_missing_scopes(
    control_plane: LocalControlPlane, test_url: Callable[..., Any]
) -> None:
    _, text = test_url(control_plane.url, control_plane.create_key(scopes=["runs:read", "tokens:read"]))
    assert "not checked" not in text
    assert text.count(" NO") == 5


def test_nothing_is_left_behind(
    control_plane: LocalControlPlane, helmr_connection: str, test_url: Callable[..., Any]
) -> None:
    assert test_url(control_plane.url, control_plane.api_key)[0]
    requests = [(entry.operation, entry.status) for entry in control_plane.journal]
    assert requests == [
        ("countRuns", 200),
        ("startSession", 409),
        ("listTokens", 200),
        ("createToken", 400),
        ("cancelRun", 404),
        ("completeToken", 404),
        ("cancelToken", 404),
    ]
    client = HelmrHook(helmr_connection).client
    assert client.sessions.list() == []
    assert client.runs.list(status="all") == []
    assert client.tokens.list() == []
    client.close()


def test_a_wrong_key_is_one_clear_line(control_plane: LocalControlPlane, test_url: Callable[..., Any]) -> None:
    works, text = test_url(control_plane.url, KEY)
    assert not works
    assert text == f"{control_plane.url} does not accept the API key: check the password of the connection."


def test_no_server(test_url: Callable[..., Any]) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        works, text = test_url(url, extra={"connect_timeout": 1})
    assert not works
    assert text.startswith(f"Cannot reach {url}: ")


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (200, "<html><body>Welcome</body></html>", "text/html"),
        (404, "<html><body>Nothing here</body></html>", "text/html"),
        (401, "<html><body>Log in</body></html>", "text/html"),
        (200, '{"hello": "world"}', "application/json"),
        (302, "", "text/html"),
    ],
)
def test_something_else_is_there(status: int, body: str, content_type: str, test_url: Callable[..., Any]) -> None:
    with answering(status, body, content_type) as url:
        works, text = test_url(url)
    assert not works
    assert text.startswith(f"{url} is not a Helmr control plane: ")
    assert "\n" not in text


def test_a_control_plane_of_another_time(test_url: Callable[..., Any]) -> None:
    said = 'unsupported Helmr-API-Version \\"2026-06-06\\"; current version is 2031-01-01'
    with answering(400, f'{{"error": "{said}"}}') as url:
        works, text = test_url(url)
    assert not works
    assert text == (
        f"{url} does not speak this provider's version of the Helmr API: "
        'unsupported Helmr-API-Version "2026-06-06"; current version is 2031-01-01.'
    )


def test_a_wrong_path_prefix(control_plane: LocalControlPlane, test_url: Callable[..., Any]) -> None:
    with answering(404, '{"error": "not found"}') as url:
        works, text = test_url(f"{url}/elsewhere")
    assert not works
    assert "check the path prefix" in text


def test_a_control_plane_in_trouble_is_not_called_something_else(test_url: Callable[..., Any]) -> None:
    with answering(500, '{"error": "database is down"}') as url:
        works, text = test_url(url)
    assert not works
    assert text.startswith(f"{url} has a problem: ")
    assert "database is down" in text


def test_plain_http_over_the_network_is_refused_before_anything_is_sent(test_url: Callable[..., Any]) -> None:
    works, text = test_url("http://helmr.example")
    assert not works
    assert "use https" in text


def test_a_connection_that_says_too_little(test_url: Callable[..., Any]) -> None:
    works, text = test_url(None, None)
    assert not works
    assert "host is missing" in text
    assert "API key is missing" in text


def test_a_connection_that_does_not_exist() -> None:
    works, text = HelmrHook("helmr_nowhere").test_connection()
    assert not works
    assert "helmr_nowhere" in text


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://helmr.example"])
def test_no_answer_shows_the_key(url: str, test_url: Callable[..., Any]) -> None:
    assert KEY not in test_url(url, extra={"connect_timeout": 1})[1]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_that_cannot_reach_it_is_not_called_something_else(status: int, test_url: Callable[..., Any]) -> None:
    with answering(status, "<html>upstream</html>", "text/html") as url:
        works, text = test_url(url)
    assert not works
    assert text.startswith(f"{url} answered {status}")
    assert "gateway" in text

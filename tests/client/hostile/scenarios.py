"""What a hostile or broken peer can answer, and which error of the client each answer must end in."""

# ruff: noqa: E501 - one line for each scenario reads better

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.hostile.raw_server import Peer

SECRET = "verysecretverysecretverysecret"
API_KEY = f"hlmr_sk_{SECRET}"

TIMEOUT = "HelmrCallTimeoutError"
CONNECTION = "HelmrConnectionError"
LIMIT = 0.7
PROTOCOL = "HelmrProtocolError"
API = "HelmrApiError"

RUN: dict[str, Any] = {
    "id": "r", "task_id": "t", "session_id": "s", "project_id": "p", "environment_id": "e", "deployment_id": "d",
    "deployment_task_id": "dt", "status": "running", "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}  # fmt: skip

MIB = 1024 * 1024


@dataclass(frozen=True)
class Scenario:
    """One answer.

    :param name: of the scenario.
    :param answer: writes it, once per connection.
    :param error: class of the client's error.
    :param text: part of its text.
    :param stream: whether it answers the request of an event stream.
    """

    name: str
    answer: Callable[[Peer], None]
    error: str
    text: str = ""
    stream: bool = False

    @property
    def limit(self) -> float:
        """Seconds that the client has: few if it must run out of them, else more than it can need."""
        return LIMIT if self.error == TIMEOUT else 60.0


def head(status: str = "200 OK", *, body: bytes | None = None, chunked: bool = False, **headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status}"] + [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    if chunked:
        lines.append("transfer-encoding: chunked")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


JSON: Any = {"content_type": "application/json"}
SSE: Any = {"content_type": "text/event-stream"}


def whole(status: str = "200 OK", body: bytes = b"", **headers: Any) -> Callable[[Peer], None]:
    """Answer every request of a connection in the same way."""

    def answer(peer: Peer) -> None:
        while peer.request():
            peer.write(head(status, body=body, **headers))

    return answer


def then(start: bytes, *more: bytes, pause: float = 0.0) -> Callable[[Peer], None]:
    """Answer with a beginning, and then with the same bytes again and again."""

    def answer(peer: Peer) -> None:
        peer.request()
        peer.write(start)
        if more:
            peer.forever(b"".join(more), pause)

    return answer


def _compressed(size: int) -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    yield packer.compress(b'"')
    for _ in range(size // MIB):
        yield packer.compress(b" " * MIB)
    yield packer.flush()


def bomb(status: str, *, stream: bool = False) -> Callable[[Peer], None]:
    """Send a few megabytes of gzip that stand for gigabytes."""

    def answer(peer: Peer) -> None:
        peer.request()
        kind = SSE if stream else JSON
        peer.write(head(status, chunked=True, content_encoding="gzip", **kind))
        for piece in _compressed(4096 * MIB):
            if piece:
                peer.write(chunk(piece))
        peer.write(b"0\r\n\r\n")

    return answer


def silent(start: bytes = b"") -> Callable[[Peer], None]:
    def answer(peer: Peer) -> None:
        peer.request()
        peer.write(start)
        peer.hold()

    return answer


def reset(peer: Peer) -> None:
    peer.request()
    peer.write(head(chunked=True, **JSON) + chunk(b"{"))
    peer.reset()


def empty_blocks() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    packer.compress(b"{")
    packer.flush(zlib.Z_SYNC_FLUSH)
    return packer.flush(zlib.Z_SYNC_FLUSH) or b"\0\0\0\xff\xff"


NESTED = gzip.compress(gzip.compress(b" " * 64 * MIB))
ECHO = json.dumps({"error": f"bad {API_KEY}", "code": API_KEY}).replace("_sk_", "\\u005fsk\\u005f").encode()

CALLS = [
    Scenario("endless headers", then(b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"a" * 1000 + b"\r\n"), CONNECTION, "HTTP/1.1"),
    Scenario("one endless header", then(b"HTTP/1.1 200 OK\r\nx: ", b"a" * 65536), CONNECTION, "HTTP/1.1"),
    Scenario("a body of a gigabyte", then(head(content_length=str(1024 * MIB), **JSON), b" " * MIB), PROTOCOL, "larger than"),
    Scenario("an endless chunked body", then(head(chunked=True, **JSON), chunk(b" " * MIB)), PROTOCOL, "larger than"),
    Scenario("an endless body without a length", then(head(**JSON), b" " * MIB), PROTOCOL, "larger than"),
    Scenario("a gzip bomb", bomb("200 OK"), PROTOCOL, "larger than"),
    Scenario("a gzip bomb as an error", bomb("500 Oops"), API, "500"),
    Scenario("nested gzip", whole(body=NESTED, content_encoding="gzip, gzip", **JSON), PROTOCOL, "content encoding"),
    Scenario("ten thousand layers", whole(body=b"x", content_encoding=", ".join(["gzip"] * 10_000), **JSON), PROTOCOL, "content encoding"),
    Scenario("nested gzip as an error", whole("500 Oops", NESTED, content_encoding="gzip, gzip"), PROTOCOL, "content encoding"),
    Scenario("an encoding that was not offered", whole(body=b"x", content_encoding="br", **JSON), PROTOCOL, "content encoding"),
    Scenario("gzip that is none", whole(body=b"x" * 99, content_encoding="gzip", **JSON), PROTOCOL, "compression"),
    Scenario("gzip that is cut", whole(body=gzip.compress(b"{}" * 99)[:-9], content_encoding="gzip", **JSON), PROTOCOL, "compression"),
    Scenario("gzip that yields nothing", then(head(chunked=True, content_encoding="gzip", **JSON) + chunk(gzip.compress(b"")[:10]), chunk(empty_blocks() * 9999)), PROTOCOL, "larger than"),
    Scenario("a redirect to another host", whole("302 Found", location=f"http://xn--/{API_KEY}"), API, "redirects are not followed"),
    Scenario("a web page", whole(body=b"<html>It works!</html>", content_type="text/html"), PROTOCOL, "not JSON"),
    Scenario("a web page as an error", whole("502 Bad Gateway", b"<html>nginx</html>", content_type="text/html"), API, "a web page"),
    Scenario("invalid UTF-8", whole(body=b'{"id": "\xff\xfe"}', **JSON), PROTOCOL, "not JSON"),
    Scenario("deep JSON", whole(body=b"[" * 1_000_000, **JSON), PROTOCOL, "not JSON"),
    Scenario("deep JSON as an error", whole("500 Oops", b"[" * 60_000, **JSON), API, "500"),
    Scenario("a number of 5,000 digits", whole(body=b'{"id": ' + b"9" * 5000 + b"}", **JSON), PROTOCOL, "not JSON"),
    Scenario("a record of another form", whole(body=b'{"id": {}, "status": 3}', **JSON), PROTOCOL, "does not fit"),
    Scenario("slow headers", then(b"HTTP/1.1 200 OK\r\nx: ", b"a", pause=0.05), TIMEOUT, "within 0.7 s"),
    Scenario("a slow body", then(head(content_length="9999", **JSON), b" ", pause=0.05), TIMEOUT, "within 0.7 s"),
    Scenario("slow tiny chunks", then(head(chunked=True, **JSON), chunk(b" "), pause=0.05), TIMEOUT, "within 0.7 s"),
    Scenario("a slow error body", then(head("500 Oops", content_length="9999"), b" ", pause=0.05), TIMEOUT, "within 0.7 s"),
    Scenario("endless 1xx", then(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.01), TIMEOUT, "within 0.7 s"),
    Scenario("a flood of 1xx", then(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 999), TIMEOUT, "within 0.7 s"),
    Scenario("silence", silent(), TIMEOUT, "within 0.7 s"),
    Scenario("silence after the headers", silent(head(content_length="9", **JSON)), TIMEOUT, "within 0.7 s"),
    Scenario("an answer that is cut", then(head(content_length="99", **JSON) + b"{"), CONNECTION, "broke off"),
    Scenario("a reset", reset, CONNECTION, "broke off"),
    Scenario("nothing at all", then(b""), CONNECTION, "broke off"),
    Scenario("not HTTP", then(b"SSH-2.0-OpenSSH\r\n\r\n"), CONNECTION, "HTTP/1.1"),
    Scenario("two lengths", then(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\n{}  "), CONNECTION, "HTTP/1.1"),
    Scenario("a bad chunk", then(head(chunked=True, **JSON) + b"zz\r\n"), CONNECTION, "HTTP/1.1"),
    Scenario("another protocol", then(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), CONNECTION, "HTTP/1.1"),
    Scenario("an echo of the key", whole("500 Oops", ECHO, **JSON), API, "***"),
    Scenario("an echo of the key in a success", whole(body=json.dumps({"id": 1, API_KEY: API_KEY}).encode(), **JSON), PROTOCOL, "does not fit"),
    Scenario("an answer about another id", whole(body=json.dumps(RUN | {"id": API_KEY}).encode(), **JSON), PROTOCOL, "but the answer is about"),
    Scenario("a wait of a day", whole("429 Too Many", b"{}", retry_after="86400"), API, "429"),
    Scenario("a wait beyond all clocks", whole("429 Too Many", b"{}", retry_after="Fri, 31 Dec 9999 23:59:59 GMT"), API, "429"),
]  # fmt: skip

STREAMS = [
    Scenario("an endless line", then(head(chunked=True, **SSE), chunk(b"a" * 65536)), PROTOCOL, "larger than", stream=True),
    Scenario("an endless event", then(head(chunked=True, **SSE), chunk(b"data: aaaa\n" * 999)), PROTOCOL, "larger than", stream=True),
    Scenario("a compressed stream", bomb("200 OK", stream=True), PROTOCOL, "content encoding", stream=True),
    Scenario("a compressed error", bomb("500 Oops", stream=True), PROTOCOL, "content encoding", stream=True),
    Scenario("slow headers of a stream", then(b"HTTP/1.1 200 OK\r\nx: ", b"a", pause=0.05), TIMEOUT, "silent for 0.7 s", stream=True),
    Scenario("a silent stream", silent(head(chunked=True, **SSE)), TIMEOUT, "silent for 0.7 s", stream=True),
    Scenario("a slow error to a stream", then(head("500 Oops", content_length="9999"), b" ", pause=0.05), TIMEOUT, "", stream=True),
    Scenario("a stream that is a page", whole(body=b"<html>", content_type="text/html"), PROTOCOL, "not answered with an event stream", stream=True),
    Scenario("a stream that is cut", then(head(chunked=True, **SSE) + b"fff\r\ndata"), CONNECTION, "broke off", stream=True),
    Scenario("an id of 5,000 digits", whole(body=b'id: 1\ndata: {"id": "' + b"9" * 5000 + b'"}\n\n', **SSE), PROTOCOL, "numeric id", stream=True),
    Scenario("an event that is no record", whole(body=b"id: 7\ndata: [1,\n\n", **SSE), PROTOCOL, "numeric id", stream=True),
    Scenario("an event with invalid UTF-8", whole(body=b'id: 7\ndata: {"id": "7", "kind": "\xff", "message": 3}\n\n', **SSE), PROTOCOL, "lacks kind", stream=True),
    Scenario("an event with the key", whole(body=b'id: 7\ndata: {"id": "x' + API_KEY.encode() + b'"}\n\n', **SSE), PROTOCOL, "numeric id", stream=True),
]  # fmt: skip

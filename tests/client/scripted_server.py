"""A server on a real loopback socket that says what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from helmr_provider.client import AsyncHelmrClient, HelmrClient

if TYPE_CHECKING:
    from collections.abc import Callable

API_KEY = "hlmr_sk_wire0wire0wire0wire0wire0wire0wire0wire0"
VARIANTS = ("blocking", "asynchronous")
NOTHING: Any = object()

End = Literal["complete", "cut", "reset", "silent"]


@dataclass(frozen=True)
class Reply:
    """One answer.

    :param json: body; or
    :param body: body as bytes; or
    :param frames: pieces of a chunked body, flushed one by one.
    :param end: how it ends: whole, closed too early, reset, or silent until the server stops.
    """

    status: int = 200
    json: Any = NOTHING
    body: bytes = b""
    frames: tuple[str | bytes, ...] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    end: End = "complete"


@dataclass(frozen=True)
class ReceivedRequest:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """Path, decoded."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """Query members, decoded."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True, strict_parsing=True))

    @property
    def json(self) -> Any:
        """Body; NOTHING when there is none."""
        return json.loads(self.body) if self.body else NOTHING


def events(*frames: str | bytes, end: End = "complete") -> Reply:
    """Answer with server-sent events."""
    return Reply(frames=frames, headers={"content-type": "text/event-stream"}, end=end)


class ScriptedServer:
    """Serve replies in order (the last one again and again), or whatever a function answers."""

    def __init__(self, *replies: Reply, answer: Callable[[ReceivedRequest], Reply] | None = None) -> None:
        self._replies = list(replies)
        self._answer = answer or self._next
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.requests: list[ReceivedRequest] = []
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Small pieces must not wait for each other.
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = ReceivedRequest(self.command, self.path, headers, body)
                with wire._lock:
                    wire.requests.append(request)
                    reply = wire._answer(request)
                with contextlib.suppress(OSError):
                    self.say(reply)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the names the base class calls

            def say(self, reply: Reply) -> None:
                self.send_response(reply.status)
                headers = dict(reply.headers)
                body = reply.body
                if reply.json is not NOTHING:
                    body = json.dumps(reply.json).encode()
                    headers = {"content-type": "application/json"} | headers
                if reply.frames is not None:
                    headers["transfer-encoding"] = "chunked"
                else:
                    headers["content-length"] = str(len(body) + (reply.end != "complete"))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for frame in reply.frames or ():
                    piece = frame.encode() if isinstance(frame, str) else frame
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.write(body)
                if reply.end == "silent":
                    wire._stopping.wait()
                if reply.end == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if reply.end != "complete":
                    self.close_connection = True
                elif reply.frames is not None:
                    self.wfile.write(b"0\r\n\r\n")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _next(self, _: ReceivedRequest) -> Reply:
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()


def drive(variant: str, call: Callable[[Any], Any], **options: Any) -> Any:
    """Make one call with either client and return what it gives; a list of what an iterator yields."""
    options = {"api_key": API_KEY} | options
    if variant == "blocking":
        with HelmrClient(**options) as client:
            result = call(client)
            return list(result) if isinstance(result, Iterator) else result

    async def main() -> Any:
        async with AsyncHelmrClient(**options) as client:
            result = call(client)
            if inspect.isasyncgen(result):
                return [item async for item in result]
            return await result if inspect.isawaitable(result) else result

    return asyncio.run(main())

"""A client that hides nothing: plain sockets, whole answers, frames as they arrive."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode, urlsplit

from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping


_SECONDS = 15.0
LIVE = ("queued", "running", "waiting")


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    text: str
    content: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Address(Protocol):
    """Where a control plane is and what opens it."""

    @property
    def url(self) -> str: ...
    @property
    def api_key(self) -> str: ...


class Wire:
    """Speaks to one local control plane with one key."""

    def __init__(self, server: Address, key: str | None = None) -> None:
        self.server = server
        self.key = server.api_key if key is None else key

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | list[str]] | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the whole answer; `headers` replaces the usual ones."""
        connection = self._connection()
        try:
            content = raw if body is None else json.dumps(body).encode()
            connection.request(method, _target(path, query), content, self._headers(headers))
            return _answer(connection)
        finally:
            connection.close()

    @contextmanager
    def announced(self, method: str, path: str, body: object) -> Generator[Callable[[], Answer], None, None]:
        """Send a request without its body, and yield what sends the body and reads the answer."""
        connection = self._connection()
        content = json.dumps(body).encode()

        def complete() -> Answer:
            connection.send(content)
            return _answer(connection)

        try:
            connection.putrequest(method, path)
            for name, value in {**self._headers(None), "Content-Length": str(len(content))}.items():
                connection.putheader(name, value)
            connection.endheaders()
            yield complete
        finally:
            connection.close()

    def get(self, path: str, **query: str) -> Any:
        answer = self.request("GET", path, query=query)
        assert answer.status == 200, answer
        return answer.json

    def post(self, path: str, body: object, status: int = 200) -> Any:
        answer = self.request("POST", path, body)
        assert answer.status == status, answer
        return answer.json

    def start(self, task_id: str, payload: object = None, status: int = 201, **options: object) -> Any:
        """Start a session."""
        body: dict[str, object] = {"task_id": task_id, **options}
        if payload is not None:
            body["payload"] = payload
        return self.post("/api/sessions", body, status)

    def until(self, run_id: str, *statuses: str) -> Any:
        """Poll a run until it has one of the statuses; return it."""

        def reached() -> Any:
            run = self.get(f"/api/runs/{run_id}")
            assert run["status"] in {*statuses, *LIVE}, run
            return run if run["status"] in statuses else None

        return until(reached, every=0.005)

    def ended(self, run_id: str) -> Any:
        """Wait for a run's end; return it."""
        return self.until(run_id, "succeeded", "failed", "cancelled", "expired")

    def kinds(self, run_id: str) -> list[str]:
        return [event["kind"] for event in self.get(f"/api/runs/{run_id}/events")["events"]]

    @contextmanager
    def stream(
        self, path: str, *, query: Mapping[str, str | list[str]] | None = None, headers: Mapping[str, str] | None = None
    ) -> Generator[Stream, None, None]:
        """Open a stream; the block's end closes it."""
        connection = self._connection()
        try:
            sent = {"Accept": "text/event-stream", **self._headers(headers)}
            connection.request("GET", _target(path, query), headers=sent)
            yield Stream(connection)
        finally:
            connection.close()

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if headers is None else dict(headers)

    def _connection(self) -> http.client.HTTPConnection:
        address = urlsplit(self.server.url)
        return http.client.HTTPConnection(str(address.hostname), address.port, timeout=_SECONDS)


class Stream:
    """A stream of server-sent events as it arrives."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response: http.client.HTTPResponse | None = None

    @property
    def response(self) -> http.client.HTTPResponse:
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response

    def frames(self) -> Iterator[str]:
        """Yield whole frames, comments included, until the server ends the stream; then what is left."""
        frame = b""
        while line := self.response.readline():
            frame += line
            if line == b"\n":
                yield frame.decode()
                frame = b""
        if frame:
            yield frame.decode()

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the data of every frame that has some."""
        for frame in self.frames():
            data = [line[6:] for line in frame.splitlines() if line.startswith("data: ")]
            if data:
                yield json.loads(data[0])


def _answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    received = response.read()
    # Header values are UTF-8 here, which the library takes for Latin-1.
    got = {name.lower(): value.encode("latin-1").decode() for name, value in response.getheaders()}
    return Answer(response.status, got, received.decode("utf-8", "replace"), received)


def _target(path: str, query: Mapping[str, str | list[str]] | None) -> str:
    return f"{path}?{urlencode(query, doseq=True)}" if query else path

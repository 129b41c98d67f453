"""Recorded exchanges against the local control plane: send the same, compare what comes back.

Ids, secrets, times, trace ids, the deployment's version and the address differ between two servers and are mapped or
masked; everything else must be equal: status, headers that matter, members and their order, values, frames.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.support.local.wire import Answer, Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helmr_provider.local import LocalControlPlane

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SECRET = re.compile(r"(hlmr_[a-z_]+_)[A-Za-z0-9_-]{43}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)")
_HEX = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b")
_DIGEST = re.compile(r"\bsha256:[0-9a-f]{64}\b")
_ORIGIN = "http://127.0.0.1:8090"
_HEADERS = (
    "content-type",
    "helmr-api-version",
    "allow",
    "retry-after",
    "cache-control",
    "vary",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "x-helmr-workspace-file-mode",
    "x-helmr-workspace-file-path",
    "x-helmr-workspace-file-size",
    "x-helmr-workspace-version-id",
)
_READ_ONLY = (
    "runs:read",
    "session-streams:read",
    "tokens:read",
    "workspace-files:read",
    "workspace-versions:read",
    "workspace-exec:read",
    "workspace-pty:read",
)
# The text of the real control plane's JSON scanner: only what stands before it is compared.
_JSON_SYNTAX = re.compile(r"(invalid .+ JSON: )(?:EOF|unexpected EOF|exceeded max depth|invalid character .+)")
# Where something runs, which differs between two servers.
_LOCAL_TEXTS = ("process_id", "file_path", "export_name", "handler_entrypoint")
# What a deployment tells of the tools that built it.
_DEPLOYMENT = ("sdk_version", "cli_version")
_COMMENT = ": keep-alive\n\n"


class Replay:
    """One server's worth of recordings, played in order.

    :param server: the control plane.
    :param folder: where the recordings are.
    :param recorded_at: an instant of the recordings; times in requests move by what has passed since.
    """

    def __init__(self, server: LocalControlPlane, folder: Path, recorded_at: str) -> None:
        self.server = server
        self.wire = Wire(server)
        self.public_token = ""
        self.problems: dict[str, list[str]] = {}
        self._folder = folder
        self._known: dict[str, str] = {_ORIGIN: server.url}
        self._moved = datetime.now(UTC) - datetime.fromisoformat(recorded_at)
        self._keys = {
            "API key of the staging environment": server.create_key(environment="staging"),
            "read-only API key": server.create_key(_READ_ONLY),
        }

    def bind(self, recorded: str, actual: str) -> None:
        """Let a recorded id or secret stand for one of ours."""
        self._known[recorded] = actual

    def known(self, recorded: str) -> str:
        """Return ours for a recorded id."""
        return self._known[recorded]

    def play(
        self,
        name: str,
        *,
        during: Callable[[], None] | None = None,
        steps: list[Callable[[], None]] | None = None,
        masked: bool = False,
    ) -> None:
        """Send one recorded request and note what differs.

        :param name: the recording's name.
        :param during: runs in another thread while the request is answered.
        :param steps: what is done after each frame of a stream.
        :param masked: compare the types of values only, for answers that count what other recordings left.
        """
        recording = json.loads((self._folder / f"{name}.json").read_text())
        expected = recording["response"]
        aside = None if during is None else threading.Thread(target=during)
        if aside is not None:
            aside.start()
        if "frames" in expected:
            problems = self._play_stream(recording, steps or [])
        else:
            answer = self._send(recording)
            problems = self._differences(expected, answer, masked=masked)
        if aside is not None:
            aside.join()
        self.problems[name] = problems

    def _send(self, recording: dict[str, Any]) -> Answer:
        request = recording["request"]
        headers = self._headers(recording)
        if "body_text" in request and "Content-Length" in headers:
            return self._send_head(request, headers)
        body, raw = None, None
        if "json" in request:
            raw = json.dumps(self._ours(request["json"], times=True)).encode()
        elif "body_text" in request:
            raw = request["body_text"].encode()
        query = self._ours(request.get("query", {}))
        return self.wire.request(
            request["method"], self._ours(request["path"]), body, query=query, raw=raw, headers=headers
        )

    def _send_head(self, request: dict[str, Any], headers: dict[str, str]) -> Answer:
        address = urlsplit(self.server.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=15)
        try:
            connection.putrequest(request["method"], request["path"])
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read().decode())
        finally:
            connection.close()

    def _headers(self, recording: dict[str, Any]) -> dict[str, str]:
        headers = self._ours(recording["request"].get("headers", {}))
        key = self._keys.get(recording.get("note", ""), self.server.api_key)
        for name, value in headers.items():
            headers[name] = value.replace("<api-key>", key).replace("<public-access-token>", self.public_token)
        return dict(headers)

    def _play_stream(self, recording: dict[str, Any], steps: list[Callable[[], None]]) -> list[str]:
        request, expected = recording["request"], recording["response"]
        wanted = [frame["text"] for frame in expected["frames"]]
        received: list[str] = []
        problems: list[str] = []
        query = self._ours(request.get("query", {}))
        with self.wire.stream(self._ours(request["path"]), query=query, headers=self._headers(recording)) as stream:
            for frame in stream.frames():
                received.append(frame)
                if steps and (frame != _COMMENT or wanted[len(received) - 1 : len(received)] == [_COMMENT]):
                    steps.pop(0)()
                if expected["closed_by"] == "client" and len(received) == len(wanted):
                    break
            else:
                if expected["closed_by"] == "client":
                    problems.append("the server ended the stream")
            if stream.response.status != expected["status"]:
                problems.append(f"status {stream.response.status}")
            got = stream.response
            problems += [
                f"header {header}: {got.getheader(header)}"
                for header in _HEADERS
                if got.getheader(header) != expected["headers"].get(header)
            ]
        if wanted[:1] == [_COMMENT] and received[:1] != [_COMMENT]:
            problems.append("no comment came first")
        # How many comments come in between is a matter of pace.
        if len(set(wanted)) > 1 or _COMMENT not in wanted:
            wanted = [frame for frame in wanted if frame != _COMMENT]
            received = [frame for frame in received if frame != _COMMENT]
        if len(wanted) != len(received):
            problems.append(f"{len(received)} frames instead of {len(wanted)}: {received}")
        for wanted_frame, frame in zip(wanted, received, strict=False):
            problems += self._frame_differences(wanted_frame, frame)
        return problems

    def _frame_differences(self, wanted: str, frame: str) -> list[str]:
        head, _, data = wanted.partition("data: ")
        own_head, _, own_data = frame.partition("data: ")
        if head != own_head:
            return [f"frame {own_head!r} instead of {head!r}"]
        if not data:
            return []
        return self._compare(json.loads(data), json.loads(own_data), "data", masked=False)

    def _differences(self, expected: dict[str, Any], answer: Answer, *, masked: bool) -> list[str]:
        problems: list[str] = []
        if answer.status != expected["status"]:
            problems.append(f"status {answer.status} instead of {expected['status']}: {answer.text[:300]}")
        for header in _HEADERS:
            wanted = self._ours(expected["headers"].get(header))
            if answer.headers.get(header) != wanted:
                problems.append(f"header {header}: {answer.headers.get(header)} instead of {wanted}")
        if "body_text" in expected:
            # Numbers change when they are parsed: here they are compared as they are written.
            written = [
                json.loads(text, parse_float=str, parse_int=str) for text in (expected["body_text"], answer.text)
            ]
            problems += self._compare(written[0], written[1], "", masked=masked)
        elif "json" in expected:
            problems += self._compare(expected["json"], answer.json, "", masked=masked)
        elif "body_base64" in expected:
            if answer.content != base64.b64decode(expected["body_base64"]):
                problems.append(f"content {answer.content!r}")
        elif answer.text != expected.get("text", ""):
            problems.append(f"text {answer.text!r}")
        return problems

    def _compare(self, wanted: Any, actual: Any, path: str, *, masked: bool) -> list[str]:
        if type(wanted) is not type(actual):
            return [f"{path}: {actual!r} instead of {wanted!r}"]
        if isinstance(wanted, list):
            # The items of a list are its members, numbered.
            wanted, actual = dict(enumerate(wanted)), dict(enumerate(actual))
        if isinstance(wanted, dict):
            actual = {name: item for name, item in actual.items() if name in wanted or name not in _DEPLOYMENT}
            if list(wanted) != list(actual):
                return [f"{path}: members {list(actual)} instead of {list(wanted)}"]
            return [
                problem
                for name in wanted
                for problem in self._compare(wanted[name], actual[name], f"{path}.{name}", masked=masked)
            ]
        if isinstance(wanted, str) and path.rpartition(".")[2] in _LOCAL_TEXTS:
            return []
        if isinstance(wanted, str):
            return self._compare_text(wanted, actual, path)
        return [] if masked or wanted == actual else [f"{path}: {actual!r} instead of {wanted!r}"]

    def _compare_text(self, wanted: str, actual: str, path: str) -> list[str]:
        syntax = _JSON_SYNTAX.fullmatch(wanted)
        if syntax is not None:
            return [] if actual.startswith(syntax[1]) else [f"{path}: {actual!r} instead of {wanted!r}"]
        pattern = _UUID if _UUID.fullmatch(wanted) else _SECRET
        found, own = pattern.findall(wanted), pattern.findall(actual)
        if pattern is _UUID and _UUID.fullmatch(wanted):
            if len(own) != 1:
                return [f"{path}: {actual!r} is no id"]
            if self._known.setdefault(wanted, actual) != actual:
                return [f"{path}: {actual!r} is another id than before"]
            return []
        if len(found) == len(own):
            for mine, theirs in zip(_SECRET.finditer(wanted), _SECRET.finditer(actual), strict=True):
                self._known.setdefault(mine[0], theirs[0])
        masked = _mask(self._ours(wanted)), _mask(actual)
        return [] if masked[0] == masked[1] else [f"{path}: {actual!r} instead of {wanted!r}"]

    def _ours(self, value: Any, *, times: bool = False) -> Any:
        if isinstance(value, dict):
            return {name: self._ours(item, times=times) for name, item in value.items()}
        if isinstance(value, list):
            return [self._ours(item, times=times) for item in value]
        if not isinstance(value, str):
            return value
        for recorded, actual in self._known.items():
            value = value.replace(recorded, actual)
        return _TIME.sub(self._move, value) if times else value

    def _move(self, match: re.Match[str]) -> str:
        moved = datetime.fromisoformat(match[0]) + self._moved
        return moved.strftime("%Y-%m-%dT%H:%M:%SZ")


def _mask(text: str) -> str:
    for pattern, mark in ((_TIME, "<time>"), (_DIGEST, "<digest>"), (_UUID, "<id>"), (_SECRET, r"\1"), (_HEX, "<hex>")):
        text = pattern.sub(mark, text)
    return re.sub(r"^\d{8}\.\d+$", "<version>", text)

"""The recorded exchanges, and which operation of the client each belongs to."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from helmr_provider.client._wire.endpoints import ENDPOINTS
from tests.client.scripted_server import NOTHING, Reply
from tests.conftest import CONTRACT

if TYPE_CHECKING:
    from helmr_provider.client._wire.endpoints import Endpoint

RECORDINGS = CONTRACT / "recordings"


@dataclass(frozen=True)
class Recording:
    """One exchange."""

    name: str
    endpoint: Endpoint
    path: dict[str, str]
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def query(self) -> dict[str, str]:
        """Query members."""
        query: dict[str, str] = self.request.get("query", {})
        return query

    @property
    def body(self) -> Any:
        """JSON body; NOTHING when there was none, or none that Python can read and write again."""
        if "body_text" not in self.request:
            return self.request.get("json", NOTHING)
        try:
            value = json.loads(self.request["body_text"])
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except ValueError:
            return NOTHING
        return value

    @property
    def holds_nul(self) -> bool:
        """Whether the request holds a NUL character, which the client refuses before it sends anything."""
        return _holds_nul([self.path, self.query, self.body])

    @property
    def status(self) -> int:
        """Answered status."""
        status: int = self.response["status"]
        return status

    @property
    def frames(self) -> list[str] | None:
        """Server-sent frames, if the answer was a stream."""
        if "frames" not in self.response:
            return None
        return [frame["text"] for frame in self.response["frames"]]

    @property
    def reply(self) -> Reply:
        """The answer, to be said again."""
        headers = {
            name: value
            for name, value in self.response["headers"].items()
            if name not in {"content-length", "transfer-encoding"}
        }
        if self.frames is not None:
            return Reply(self.status, frames=tuple(self.frames), headers=headers)
        if "json" in self.response:
            return Reply(self.status, json=self.response["json"], headers=headers)
        return Reply(self.status, body=self.response.get("text", "").encode(), headers=headers)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_nul, [*value.keys(), *value.values()]))
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


SCOPED = re.compile(r"/api/projects/(?P<project_id>[^/]+)/environments/(?P<environment_id>[^/]+)(?P<rest>/.*)")


@cache
def exchanges() -> dict[str, dict[str, Any]]:
    """Read every exchange, by the name of its file."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(RECORDINGS.glob("*.json"))}


@cache
def _patterns() -> list[tuple[Endpoint, re.Pattern[str]]]:
    return [
        (endpoint, re.compile("^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", endpoint.path) + "$"))
        for endpoint in sorted(ENDPOINTS.values(), key=lambda endpoint: endpoint.path.count("{"))
    ]


def _recording(name: str, path: str) -> Recording | None:
    exchange = exchanges()[name]
    for endpoint, pattern in _patterns():
        match = pattern.match(path)
        if match and endpoint.method == exchange["request"]["method"]:
            return Recording(name, endpoint, match.groupdict(), exchange["request"], exchange["response"])
    return None


@cache
def all_recordings() -> tuple[Recording, ...]:
    """Find the recordings of an operation that the client knows, but for those below a project and environment.

    Queries that name a member twice are left out: no call of the client makes one.
    """
    once = {
        name: exchange["request"]["path"]
        for name, exchange in exchanges().items()
        if not any(isinstance(value, list) for value in exchange["request"].get("query", {}).values())
    }
    found = (_recording(name, path) for name, path in once.items())
    return tuple(recording for recording in found if recording is not None)


@cache
def scoped_recordings() -> tuple[tuple[dict[str, str], Recording], ...]:
    """Find the recordings below a project and environment, and which these were."""
    found: list[tuple[dict[str, str], Recording]] = []
    for name, exchange in exchanges().items():
        if match := SCOPED.fullmatch(exchange["request"]["path"]):
            scope = match.groupdict()
            recording = _recording(name, "/api" + scope.pop("rest"))
            if recording is not None:
                found.append((scope, recording))
    return tuple(found)


def recordings(*operations: str) -> list[Recording]:
    """Choose the recordings of some operations, by-external-id forms included."""
    wanted = {*operations, *(f"{operation}ByExternalId" for operation in operations)}
    return [recording for recording in all_recordings() if recording.endpoint.operation in wanted]


def recording(number: int) -> Recording:
    """Find one recording by its number."""
    return next(found for found in all_recordings() if found.name.startswith(f"{number:03}-"))

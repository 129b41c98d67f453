"""What execs and terminals share over HTTP: byte streams read by pages or followed, and bytes written at an offset."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.local.api import request_body, values
from helmr_provider.local.api.request import SCOPE_WITH_KEY, answer
from helmr_provider.local.api.sse import KEEP_ALIVE, EventStream, frame
from helmr_provider.local.common import json_bodies
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.jsontext import dumps, loads
from helmr_provider.local.state import chunks, workspace_keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.types import ASGIApp

    from helmr_provider.local._core import Core
    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")


def base64_bytes(value: Any, path: str) -> bytes | None:
    """Take bytes as Go decodes them: standard base64 with padding."""
    text = request_body.string(value, path)
    if text is None:
        return None
    foreign = _NOT_BASE64.search(text)
    if foreign is not None:
        raise json_bodies.DecodeError(f"illegal base64 data at input byte {foreign.start()}")
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except binascii.Error:
        raise json_bodies.DecodeError(f"illegal base64 data at input byte {max(len(text) - 1, 0)}") from None


WRITE = request_body.Struct("api.WorkspaceStreamWriteRequest", {"offset": request_body.int64, "data": base64_bytes})


class Source(NamedTuple):
    """One stream of an exec or a terminal, and how to read its state.

    :param live: the states in which more may come.
    """

    kind: str
    resource_id: str
    stream: str
    reread: Callable[[Core, str], Row]
    live: tuple[str, ...]


async def read(request: ApiRequest, source: Source) -> ASGIApp:
    """Answer a page of chunks, or follow them to the end. The query's cursor beats the resume header here."""
    offset = values.sequence(request.query.get("cursor") or request.headers.get("last-event-id", ""), "cursor")
    limit = request.limit_at_most(100, 500)
    rows = chunks.after(request.core, source.resource_id, source.stream, offset, limit)
    if request.follows:
        return EventStream(frames(request.core, source, offset, limit), request.core.settings.stream_limit)
    return answer({"chunks": [chunks.rendered(row) for row in rows]})


def written(request: ApiRequest, what: str) -> tuple[int, bytes]:
    """Return the offset and the bytes that a write brings.

    :raises ApiError: 400, 413.
    """
    members = request.body(what, WRITE)
    offset, content = members.get("offset") or 0, members.get("data") or b""
    if offset < 0:
        raise ApiError(400, "offset must be non-negative")
    if not content:
        raise ApiError(400, "data is required")
    if len(content) > chunks.MAX_WRITE:
        raise ApiError(413, f"stream chunk is {len(content)} bytes, exceeds max {chunks.MAX_WRITE}")
    return offset, content


def working_directory(members: dict[str, Any]) -> str:
    """Return the working directory of a command or terminal; empty for the workspace's own.

    :raises ApiError: 400 unless it is absolute and goes straight there.
    """
    cwd: str = (members.get("cwd") or "").strip()
    if cwd and not cwd.startswith("/"):
        raise ApiError(400, "cwd must be absolute")
    if ".." in cwd.split("/"):
        raise ApiError(400, "cwd cannot contain '..'")
    if "\0" in cwd:
        raise ApiError(400, "cwd cannot contain NUL")
    return cwd


def key(members: dict[str, Any]) -> workspace_keys.Key | None:
    """Return the idempotency key of a create, if it has one."""
    text = values.idempotency_key(members.get("idempotency_key"))
    return None if text is None else workspace_keys.Key(text)


def require_execution(request: ApiRequest) -> None:
    """Refuse to run commands where that is off.

    :raises ApiError: 501.
    """
    if not request.core.executes:
        raise ApiError(501, "this local control plane runs no commands: they are disabled, or others can reach it")


def refuse_project(members: dict[str, Any]) -> None:
    """Refuse the members that only user sessions may send.

    :raises ApiError: 400.
    """
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)


async def frames(core: Core, source: Source, offset: int, limit: int) -> AsyncGenerator[bytes]:
    """Yield the frames of a stream from an offset on: chunks, comments in silence, and how it ended."""
    while True:
        # The state is read first: then all output before the end is read before the end.
        row = source.reread(core, source.resource_id)
        try:
            rows = chunks.after(core, source.resource_id, source.stream, offset, limit)
        except ApiError as error:
            failure = {"code": error.code, "message": error.message, "cursor": offset}
            yield frame(str(offset), "workspace_stream_error", dumps(failure))
            return
        for chunk in rows:
            offset = chunk["offset_end"]
            yield frame(str(offset), "workspace_stream_chunk", dumps(chunks.rendered(chunk)))
        if rows:
            continue
        if row["state"] not in source.live:
            name = "workspace_stream_lost" if row["state"] == "lost" else "workspace_stream_terminal"
            end = chunks.cursor(core, source.resource_id, source.stream)
            terminal = {
                "resource_kind": source.kind,
                "resource_id": source.resource_id,
                "stream": source.stream,
                "state": row["state"],
                "cursor": end,
                "error": loads(row["error"]),
            }
            yield frame(str(end), name, dumps(terminal))
            return
        if not await core.notifier.wait(chunks.topic(source.resource_id), core.settings.keep_alive):
            yield KEEP_ALIVE

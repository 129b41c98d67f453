"""What the frames of an exec or pty stream mean (contract/behaviour.md section 14). No I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from helmr_provider.client._secrets import scrub_value
from helmr_provider.client._wire.json_values import json_object
from helmr_provider.client._wire.responses import MAX_RAW, read
from helmr_provider.client.errors import (
    HelmrConnectionError,
    HelmrProtocolError,
    WorkspaceStreamError,
    WorkspaceStreamTerminalError,
)
from helmr_provider.client.models.execs import StreamChunk, StreamTerminal

if TYPE_CHECKING:
    from helmr_provider.client._wire.sse import ServerSentEvent

_ENDS = frozenset({"workspace_stream_terminal", "workspace_stream_lost"})


def chunk_or_end(frame: ServerSentEvent, operation: str) -> StreamChunk | StreamTerminal:
    """Read one frame: some bytes, or the end.

    :raises WorkspaceStreamTerminalError: the followed command or terminal is lost or has failed.
    :raises WorkspaceStreamError: the server cannot continue.
    :raises HelmrProtocolError: the frame is none of these. It has no cursor: bytes are not skipped.
    :raises HelmrConnectionError: the stream was cut inside it.
    """
    try:
        members = json_object(json.loads(frame.data))
    except (ValueError, RecursionError):
        members = None
    if members is None:
        if not frame.complete:
            raise HelmrConnectionError(f"{operation}: the stream was cut inside a frame.", operation=operation)
        raise _unknown(frame, operation, "is not a JSON object")
    if frame.event == "workspace_stream_chunk":
        return read(StreamChunk, members, operation)
    if frame.event in _ENDS:
        return _end(read(StreamTerminal, scrub_value(members), operation), operation)
    if frame.event == "workspace_stream_error":
        code, message, cursor = members.get("code"), members.get("message"), members.get("cursor")
        explanation = message if isinstance(message, str) and message else "no explanation"
        raise WorkspaceStreamError(
            f"{operation}: the stream ended with {code}: {explanation}",
            code=code if isinstance(code, str) else None,
            cursor=cursor if isinstance(cursor, int) else None,
        )
    raise _unknown(frame, operation, f"has the unknown name {frame.event[:80]!r}")


def _end(terminal: StreamTerminal, operation: str) -> StreamTerminal:
    if terminal.state not in {"lost", "failed"}:
        return terminal
    why = (json_object(terminal.error) or {}).get("code") or "no reason given"
    what = terminal.resource_kind.removeprefix("workspace_") or "the stream's source"
    raise WorkspaceStreamTerminalError(
        f"{operation}: {what} {terminal.resource_id} ended as {terminal.state} ({why}), {terminal.cursor} bytes in.",
        terminal=terminal,
    )


def _unknown(frame: ServerSentEvent, operation: str, why: str) -> HelmrProtocolError:
    return HelmrProtocolError(
        f"{operation}: a frame {why}. The control plane, or something in between, does not follow the contract.",
        operation=operation,
        raw=frame.data[:MAX_RAW],
    )

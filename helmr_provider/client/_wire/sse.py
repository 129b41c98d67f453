"""Server-sent events: bytes in, events out, without I/O (contract/behaviour.md section 7.4)."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, NamedTuple

from helmr_provider.client.errors import HelmrProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the reference client allows one event to be, in characters.
MAX_EVENT_SIZE = 1_048_576

_LINE_END = re.compile(r"\r\n|\r|\n")


class ServerSentEvent(NamedTuple):
    """One event.

    :param data: the data lines, joined by line feeds.
    :param event: its name; ``message`` when the server gave none.
    :param id: the id that holds at this event, which an earlier event may have set; empty when there is none.
    :param retry: reconnection time in milliseconds, if this block gave one.
    :param complete: false for the rest of a stream that ended without a blank line.
    """

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None
    complete: bool = True


class EventParser:
    """Turn decoded bytes into events, however they are cut.

    Follows the WHATWG rules: a byte order mark is dropped; lines end in CR, LF or CRLF, also when a chunk ends between
    the two; a block without data dispatches nothing, but its id stays; an id with NUL is ignored; ``retry`` counts only
    if it is all ASCII digits.

    :param max_size: characters that one unfinished event may have.
    """

    def __init__(self, *, max_size: int = MAX_EVENT_SIZE) -> None:
        self._max_size = max_size
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._line: list[str] = []
        self._data: list[str] = []
        self._size = 0
        self._event = ""
        self._retry: int | None = None
        self._skip_line_feed = False
        self._at_start = True
        self.last_id = ""

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Take a chunk and yield the events that it completes.

        :raises HelmrProtocolError: the event is too large, with ``oversize`` set.
        """
        yield from self._take(self._decode(chunk))

    def close(self) -> Iterator[ServerSentEvent]:
        """End the stream: the rest counts as a last event (contract/behaviour.md section 7.4)."""
        yield from self._take(self._decode(b"", final=True))
        if self._line and (line := self._whole("")):
            self._read(line)
        if self._data:
            yield self._event_so_far(complete=False)

    def _take(self, text: str) -> Iterator[ServerSentEvent]:
        if self._at_start and text:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if self._skip_line_feed and text:
            self._skip_line_feed = False
            text = text.removeprefix("\n")
        # Almost always lines end in line feeds alone, and splitting there is several times as fast.
        lines = _LINE_END.split(text) if "\r" in text else text.split("\n")
        self._skip_line_feed = self._skip_line_feed or text.endswith("\r")
        unfinished = lines.pop()
        for piece in lines:
            line = self._whole(piece) if self._line else piece
            if line:
                self._size += len(piece)
                self._check_size()
                self._read(line)
            elif self._data:
                yield self._event_so_far()
            else:
                self._clear()
        if unfinished:
            self._size += len(unfinished)
            self._check_size()
            self._line.append(unfinished)

    def _whole(self, piece: str) -> str:
        """Return the line that a piece completes."""
        line = "".join([*self._line, piece])
        self._line.clear()
        return line

    def _check_size(self) -> None:
        if self._size > self._max_size:
            raise HelmrProtocolError(f"A server-sent event is larger than {self._max_size} characters.", oversize=True)

    def _read(self, line: str) -> None:
        """Take a line that is not blank."""
        name, _, value = line.partition(":")
        if not name:
            # A comment belongs to no event, so that hours of keep-alives do not add up to an oversize one.
            self._size -= len(line)
            return
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 10:
            self._retry = int(value)

    def _event_so_far(self, *, complete: bool = True) -> ServerSentEvent:
        event = ServerSentEvent("\n".join(self._data), self._event or "message", self.last_id, self._retry, complete)
        self._clear()
        return event

    def _clear(self) -> None:
        self._data, self._event, self._retry, self._size = [], "", None, 0

"""What a run writes, as lines of a task's log: complete, bounded, and each once. No I/O."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from helmr_provider._common.errors import is_permanent
from helmr_provider.client._secrets import scrub
from helmr_provider.client._waiting.pacing import RateLimiter
from helmr_provider.client.errors import HelmrConnectionError, HelmrProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client.models.logs import LogChunk, LogSnapshot

Logs: TypeAlias = Literal["tail", "live", "off"]

# A log stream sends existing output immediately, then a keep-alive each second: a shorter silence means "no more yet".
SILENCE: Final = 0.9

# What a log view still shows well; a line without an end must not grow for ever either.
_LINE_CHARACTERS: Final = 4000
# Every line of a trigger passes through one process for all tasks of a triggerer.
_LINES_PER_SECOND: Final = 20.0
_BURST: Final = 200
_TAIL_LINES: Final = 50
_TAIL_CHARACTERS: Final = 20_000


class RunLogLines:
    """Put together the pieces that a run's output comes in.

    :param log: of the task.
    :param cursor: behind the lines already written.
    :param clock: seconds, never going back.
    """

    def __init__(self, log: Any, cursor: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        from helmr_provider.client.models.logs import LogDecoder

        self.cursor = cursor
        self._log = log
        self._clock = clock
        self._rate = RateLimiter(_LINES_PER_SECOND, _BURST)
        self._decoder = LogDecoder()
        self._begun: dict[str, str] = {}
        self._held_back: deque[tuple[str, str]] = deque(maxlen=_TAIL_LINES)
        self._left_out = 0

    def take(self, chunk: LogChunk) -> bool:
        """Write the lines that a chunk completes.

        :param chunk: the next one, or one that was seen before.
        :returns: whether it was a new one.
        """
        if not self.skip(chunk.id):
            return False
        *lines, rest = (self._begun.pop(chunk.stream, "") + self._decoder.decode(chunk)).split("\n")
        for line in lines:
            self._write(chunk.stream, line)
        if len(rest) > _LINE_CHARACTERS:
            self._write(chunk.stream, rest)
        elif rest:
            self._begun[chunk.stream] = rest
        return True

    def skip(self, cursor: str) -> bool:
        """Continue behind a chunk, forward only.

        :param cursor: its cursor.
        :returns: whether that lies behind the output read so far.
        """
        from helmr_provider.client._wire.resume import is_behind

        if not is_behind(cursor, self.cursor):
            return False
        self.cursor = cursor
        return True

    def end(self) -> None:
        """Write text without an end of line; if lines were left out, also the last of them."""
        for stream, rest in self._begun.items():
            self._write(stream, rest)
        self._begun.clear()
        last, self._left_out = list(self._held_back), self._left_out - len(self._held_back)
        self._say_what_was_left_out()
        for stream, line in last:
            write_line(self._log, stream, line)

    def _write(self, stream: str, line: str) -> None:
        if not self._rate.take(self._clock()):
            self._left_out += 1
            self._held_back.append((stream, line))
            return
        self._say_what_was_left_out()
        write_line(self._log, stream, line)

    def _say_what_was_left_out(self) -> None:
        if self._left_out:
            self._log.warning("%d lines of the run's output are left out here; the console has all.", self._left_out)
        self._left_out = 0
        self._held_back.clear()


def is_worth_retrying(error: Exception, log: Any, lines: RunLogLines | None = None) -> bool:
    """Say why output is not shown, unless it was mere silence.

    :param error: the error that reading it ended with.
    :param log: of the task.
    :param lines: skip broken records here.
    """
    if isinstance(error, HelmrConnectionError):
        return True
    log.warning("The output of the run is not shown: %s: %s", type(error).__name__, error)
    if lines is not None and isinstance(error, HelmrProtocolError) and error.cursor is not None:
        lines.skip(error.cursor)
    return not is_permanent(error)


def write_tail(log: Any, snapshot: LogSnapshot) -> None:
    """Write the last lines of both streams.

    :param log: of the task.
    :param snapshot: the run's output.
    """
    for stream, text, size in (
        ("stdout", snapshot.stdout, snapshot.stdout_bytes),
        ("stderr", snapshot.stderr, snapshot.stderr_bytes),
    ):
        lines = text[-_TAIL_CHARACTERS:].rstrip().split("\n")[-_TAIL_LINES:]
        if lines == [""]:
            continue
        if len("\n".join(lines)) < len(text.rstrip()):
            log.info("The last %d lines of the run's %s, which has %d bytes:", len(lines), stream, size)
        for line in lines:
            write_line(log, stream, line)


def write_line(log: Any, stream: str, line: str) -> None:
    """Write one line.

    :param log: of the task.
    :param stream: stdout or stderr.
    :param line: without its end.
    """
    # Of a progress bar, what a terminal would show in the end.
    shown = scrub(line.rstrip("\r").rpartition("\r")[2])
    if len(shown) > _LINE_CHARACTERS:
        shown = f"{shown[:_LINE_CHARACTERS]} … ({len(shown)} characters)"
    log.info("[%s] %s", stream, shown)

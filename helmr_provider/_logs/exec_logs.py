"""The output of a command as lines for a task's log: bytes with cursors in, whole lines out. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

STREAMS: Final = ("stdout", "stderr")

PAGE: Final = 20
"""Chunks per request; one may hold a mebibyte."""

# What a program writes without ever ending a line, such as a progress bar, is shown in pieces.
_LONGEST_LINE: Final = 8 * 1024
# How much of the kept output to show when older output is not kept any more.
_SHOWN_AFTER_GAP: Final = 1024 * 1024


class Lines:
    """One stream of bytes, cut into lines.

    :param cursor: byte offset to begin at, the start of a line.
    """

    def __init__(self, cursor: int = 0) -> None:
        self.cursor = cursor
        """Offset behind the last complete line, from which another reader can continue."""
        self._rest = b""

    @property
    def position(self) -> int:
        """Offset behind the last byte that was taken."""
        return self.cursor + len(self._rest)

    def take(self, content: bytes) -> list[str]:
        """Take the bytes at the position; return the lines that are complete now."""
        *complete, rest = (self._rest + content).split(b"\n")
        pieces = [piece + b"\n" for piece in complete]
        while len(rest) > _LONGEST_LINE:
            cut = _character_boundary(rest, _LONGEST_LINE)
            pieces.append(rest[:cut])
            rest = rest[cut:]
        self._rest = rest
        self.cursor += sum(map(len, pieces))
        return [_text(piece) for piece in pieces]

    def skip(self, position: int) -> list[str]:
        """Continue at a later position; return the rest of the line before."""
        left = self.end()
        self.cursor = max(self.cursor, position)
        return left

    def end(self) -> list[str]:
        """Return the last line, if it was never ended."""
        rest, self._rest = self._rest, b""
        self.cursor += len(rest)
        return [_text(rest)] if rest else []


class Output:
    """Both outputs of a command, as far as they were read.

    :param stdout: byte offset to begin at.
    :param stderr: byte offset to begin at.
    """

    def __init__(self, stdout: int = 0, stderr: int = 0) -> None:
        self._lines = {"stdout": Lines(stdout), "stderr": Lines(stderr)}

    @property
    def cursors(self) -> dict[str, int]:
        """Offsets from which another reader can continue, by stream."""
        return {stream: lines.cursor for stream, lines in self._lines.items()}

    def position(self, stream: str) -> int:
        """Return the offset to read on from."""
        return self._lines[stream].position

    def is_behind(self, stream: str, found: Any) -> bool:
        """Say whether there is more to read.

        :param found: the exec.
        """
        return self.position(stream) < _total(found, stream)

    def take(self, stream: str, chunks: Iterable[Any]) -> Iterator[str]:
        """Yield the lines that chunks of a page complete.

        :param chunks: behind the position; the first may begin before it.
        """
        lines = self._lines[stream]
        for chunk in chunks:
            for line in lines.take(chunk.content_from(lines.position)):
                yield _labelled(stream, line)

    def skip(self, stream: str, found: Any) -> Iterator[str]:
        """Skip bytes that are not kept any more, and yield the lines that say so.

        :param found: the exec.
        """
        lines, total = self._lines[stream], _total(found, stream)
        before = lines.position
        # If even the newest mebibyte is not kept, nothing that is worth showing is.
        target = total - _SHOWN_AFTER_GAP if before < total - _SHOWN_AFTER_GAP else total
        for line in lines.skip(target):
            yield _labelled(stream, line)
        yield f"(bytes {before} to {target} of {stream} were not read in time and may be lost)"

    def end(self) -> Iterator[str]:
        """Yield the last lines that were never ended."""
        for stream, lines in self._lines.items():
            for line in lines.end():
                yield _labelled(stream, line)


def advances(chunks: Sequence[Any], position: int) -> bool:
    """Return whether a page leads beyond a position. One that does not must not be requested again immediately.

    :param chunks: of the page.
    :param position: that the page was read from.
    """
    return bool(chunks) and chunks[-1].offset_end > position


def read_bytes(source: Any, cursor: int = 0) -> bytes:
    """Read all that a command has written to a stream.

    :param source: of the client that blocks.
    :param cursor: byte offset to begin at.
    :raises HelmrProtocolError: a page does not lead beyond the position that it was read from.
    """
    from helmr_provider.client.errors import HelmrProtocolError

    content = bytearray()
    while chunks := source.list(cursor=cursor, limit=PAGE):
        if not advances(chunks, cursor):
            raise HelmrProtocolError(f"A page of output at byte {cursor} ends at byte {chunks[-1].offset_end}.")
        for chunk in chunks:
            content += chunk.content_from(cursor)
            cursor = max(cursor, chunk.offset_end)
    return bytes(content)


def _total(found: Any, stream: str) -> int:
    total: int = getattr(found, f"{stream}_cursor")
    return total


def _labelled(stream: str, line: str) -> str:
    return line if stream == "stdout" else f"{stream}: {line}"


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")


def _character_boundary(content: bytes, at: int) -> int:
    """Return the last place up to ``at`` that is not inside a character."""
    boundary = at
    while boundary > at - 4 and content[boundary] & 0b1100_0000 == 0b1000_0000:
        boundary -= 1
    return boundary if boundary > at - 4 else at

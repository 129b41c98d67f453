"""Output of a run's process."""

from __future__ import annotations

import codecs

from pydantic import Field

from helmr_provider.client.models.base import Instant, OptionalText, WireModel, decode_base64


class LogSnapshot(WireModel):
    """The end of both output streams (schema LogSnapshot): the newest 1 MiB of each.

    :param cursor: where to follow on from.
    :param stdout_bytes: bytes ever written to stdout.
    :param stderr_bytes: bytes ever written to stderr.
    :param truncated: whether older output is left out.
    """

    stdout_base64: str = Field(default="", repr=False)
    stderr_base64: str = Field(default="", repr=False)
    cursor: str = "0"
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    truncated: bool = False

    @property
    def stdout_content(self) -> bytes:
        """Standard output."""
        return decode_base64(self.stdout_base64)

    @property
    def stderr_content(self) -> bytes:
        """Standard error."""
        return decode_base64(self.stderr_base64)

    @property
    def stdout(self) -> str:
        """Standard output as text, with replacement characters where it is not UTF-8."""
        return self.stdout_content.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """Standard error as text, with replacement characters where it is not UTF-8."""
        return self.stderr_content.decode(errors="replace")


class LogChunk(WireModel):
    """One piece of output (schema RunLogChunk). It can split a character: use :class:`LogDecoder` for text.

    :param id: the cursor behind this chunk.
    :param stream: stdout or stderr.
    :param observed_seq: the worker's own count.
    """

    id: str
    run_id: str = ""
    run_lease_id: OptionalText = None
    attempt_number: int | None = None
    stream: str
    content_base64: str = Field(default="", repr=False)
    observed_seq: int = 0
    at: Instant

    @property
    def content(self) -> bytes:
        """The bytes."""
        return decode_base64(self.content_base64)


class LogDecoder:
    """Turn the chunks of one run into text, also where a chunk ends inside a character."""

    def __init__(self) -> None:
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")(errors="replace") for name in ("stdout", "stderr")
        }

    def decode(self, chunk: LogChunk) -> str:
        """Return the text that a chunk completes."""
        decoder = self._decoders.setdefault(chunk.stream, codecs.getincrementaldecoder("utf-8")(errors="replace"))
        return decoder.decode(chunk.content)

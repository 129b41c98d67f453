"""Turn the bytes of a body into its content, in bounded steps. No I/O.

A few kilobytes of nested or repeated compression can stand for gigabytes, so nothing is decompressed further than the
next step, and no more than one layer is accepted.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from helmr_provider.client.errors import HelmrProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes that are handled before other tasks and the clock have their turn.
STEP: Final = 16 * 1024

_GZIP: Final = frozenset({"gzip", "x-gzip"})


class BodyDecoder:
    """Decode one body.

    :param encoding: value of the header ``Content-Encoding``.
    :param operation: operationId, for errors.
    :param compressed: whether the request offered gzip.
    :raises HelmrProtocolError: the body has an encoding that was not offered, or more than one.
    """

    def __init__(self, encoding: str, operation: str, *, compressed: bool) -> None:
        self._operation = operation
        name = encoding.strip().lower()
        if name not in {"", "identity"} and not (compressed and name in _GZIP):
            raise HelmrProtocolError(
                f"{operation}: the answer has the content encoding {name[:40]!r}, which the request did not offer.",
                operation=operation,
            )
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if name in _GZIP else None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the content of a chunk, in pieces of at most :data:`STEP` bytes.

        :raises HelmrProtocolError: the compression is broken.
        """
        if self._gzip is None:
            for start in range(0, len(chunk), STEP):
                yield chunk[start : start + STEP]
            return
        while chunk:
            if self._gzip.eof:
                raise self._broken("has bytes after its end")
            try:
                piece = self._gzip.decompress(chunk, STEP)
            except zlib.error:
                piece = None
            if piece is None:
                raise self._broken("is broken")
            chunk = self._gzip.unconsumed_tail or self._gzip.unused_data
            yield piece

    def close(self) -> None:
        """End the body.

        :raises HelmrProtocolError: it ends inside its compression.
        """
        if self._gzip is not None and not self._gzip.eof:
            raise self._broken("is cut")

    def _broken(self, what: str) -> HelmrProtocolError:
        return HelmrProtocolError(
            f"{self._operation}: the compression of the answer {what}.", operation=self._operation
        )

"""Decide the next step of following one run over dropped connections. No I/O (contract/behaviour.md §7.3 and 9).

A record that reads as the end only means "read the run now": a retried run writes ``run.failed`` and continues, and
the server closes a live stream there. A stream is never opened behind a run's last record, because it would not end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from helmr_provider.client._retry import Backoff, is_transient
from helmr_provider.client.errors import HelmrApiError, HelmrConnectionError, HelmrProtocolError

if TYPE_CHECKING:
    from helmr_provider.client.models.events import EventRecord
    from helmr_provider.client.models.runs import RunSnapshot

logger = logging.getLogger("helmr_provider.client")

# Between two reads of a run whose record says that it is over while its snapshot does not (contract/behaviour.md §8.4).
_READS = Backoff(attempts=0, base=0.2, cap=2.0)


def is_behind(cursor: str, other: str | None) -> bool:
    """Whether a cursor lies behind another one, and so moves a follower on.

    Cursors are text; only two decimal ones can be compared (contract/behaviour.md §20). Of others, a different one is
    taken to lie behind.
    """
    if other is None:
        return True
    if _is_decimal(cursor) and _is_decimal(other):
        return int(cursor) > int(other)
    return cursor != other


class Followed:
    """Where a follower of numbered records stands.

    :param cursor: behind the last record seen; None for all.
    :param backoff: pauses after failures, and after streams that brought nothing.
    """

    def __init__(self, cursor: str | int | None, backoff: Backoff) -> None:
        self.cursor = None if cursor is None else str(cursor)
        self._backoff = backoff
        self._failures = 0
        self._broken: str | None = None
        self._reached = False

    def advance(self, cursor: str) -> bool:
        """Take note of a record's cursor; false if it was seen before."""
        if not is_behind(cursor, self.cursor):
            return False
        self.cursor = cursor
        self._failures = 0
        return True

    def reconnect_in(self) -> float:
        """Return the pause before the next stream; none after one that brought something."""
        pause = self._backoff.delay(self._failures) if self._failures else 0.0
        self._failures += 1
        return pause

    def reached(self) -> None:
        """Record that the control plane has answered, so that a later outage is survived."""
        self._reached = True

    def tolerate(self, error: Exception) -> float:
        """Return the pause after a failure that following survives, whether the opening failed or a later step.

        A bad frame whose cursor is known is requested once more, because half a frame usually means a cut connection;
        it is skipped when it comes broken again.

        :raises Exception: the error itself, when to follow on makes no sense. That includes a control plane that cannot
            be reached at first, because then the address may be wrong.
        """
        if not self._reached and isinstance(error, HelmrConnectionError) and not error.delivered:
            raise error
        self._reached = True
        if isinstance(error, HelmrProtocolError) and error.cursor is not None and is_behind(error.cursor, self.cursor):
            if error.cursor == self._broken:
                logger.warning("Skipped a broken frame: %s", error)
                self.cursor = error.cursor
            self._broken = error.cursor
        elif not is_transient(error):
            raise error
        self._failures += 1
        retry_after = error.retry_after if isinstance(error, HelmrApiError) else None
        return self._backoff.delay(self._failures, retry_after)


class FollowedLogs(Followed):
    """Where a follower of log chunks stands.

    :param cursor: behind the last chunk seen; None for all.
    :param backoff: pauses after failures, and after streams that brought nothing.
    """

    _MOST = 5

    def __init__(self, cursor: str | int | None, backoff: Backoff) -> None:
        super().__init__(cursor, backoff)
        self._short_at: str | None = None
        self._short = 0

    def is_short_of(self, end: str) -> bool:
        """Whether a stream ended before the last chunk of a run that is over, and has to be opened again.

        A few times only for each cursor: what a server does not have is not asked for forever.

        :param end: cursor of the run's last chunk.
        """
        if not is_behind(end, self.cursor or "0"):
            return False
        self._short = self._short + 1 if self._short_at == self.cursor else 1
        self._short_at = self.cursor
        return self._short <= self._MOST


class FollowedBytes(Followed):
    """Where a follower of bytes stands; its cursors are offsets.

    :param cursor: offset behind the last byte seen; None for all.
    :param backoff: pauses after failures, and after streams that brought nothing.
    """

    def __init__(self, cursor: int | None, backoff: Backoff) -> None:
        super().__init__(cursor, backoff)
        self._lacked_behind: str | None = None

    def lacks(self, offset: int) -> bool:
        """Whether a stream left out bytes before this offset, and has to be opened again at the cursor.

        Only once for each cursor: a server that does not have them any more is not asked forever.
        """
        place = self.cursor or "0"
        if offset <= int(place) or place == self._lacked_behind:
            return False
        self._lacked_behind = place
        return True


class FollowedRun(Followed):
    """Where a follower of a run's records stands."""

    def __init__(self, cursor: str | int | None, backoff: Backoff) -> None:
        super().__init__(cursor, backoff)
        self._reads = 0
        self._reads_as_over = False
        self._cancel_requested = False
        self._is_numbered = True
        self._left_out_behind: str | None = None
        self._must_read_pages = False

    def is_next(self, record: EventRecord) -> bool:
        """Take note of a record of a stream; false if it was seen before, or if the stream left out some before it.

        The records of a run are numbered from 1 without gaps (contract/behaviour.md section 7), and pages have all of
        them. What pages do not have, either, is not asked for again.
        """
        place = self.cursor or "0"
        if self._is_numbered and self._left_out_behind != place and not self._follows(record):
            self._left_out_behind = place
            self._must_read_pages = True
            return False
        return self.is_new(record)

    def is_new_on_page(self, record: EventRecord) -> bool:
        """Take note of a record of a page; false if it was seen before."""
        self._is_numbered = self._is_numbered and self._follows(record)
        return self.is_new(record)

    def must_read_pages(self) -> bool:
        """Whether pages have to be read now: the last record reads as the end, or a stream left out records."""
        return self._must_read_pages or self._reads_as_over

    def pages_read(self) -> None:
        """Record that pages were read to their end."""
        self._must_read_pages = False

    def _follows(self, record: EventRecord) -> bool:
        place = self.cursor or "0"
        return not (_is_decimal(record.id) and _is_decimal(place)) or int(record.id) <= int(place) + 1

    def is_new(self, record: EventRecord) -> bool:
        """Take note of a record; false if it was seen before."""
        if not self.advance(record.id):
            return False
        self._reads = 0
        self._reads_as_over = record.is_terminal or record.kind == "run.dead_lettered"
        if record.kind == "run.cancel_requested":
            self._cancel_requested = True
        elif record.is_terminal:
            self._cancel_requested = False
        return True

    def must_read_run(self) -> bool:
        """Whether the last record reads as the end, so that the run must be read before anything else."""
        return self._reads_as_over

    def is_over(self, run: RunSnapshot) -> bool:
        """Whether nothing follows the records that were there after this snapshot.

        A cancelled run whose worker has not stopped yet still writes ``run.cancelled``.
        """
        return run.is_terminal and not self._cancel_requested

    def stream_ended(self, run: RunSnapshot) -> float:
        """Return the pause before the next stream, after one that the server ended.

        :param run: the snapshot from before that stream. If it was over by then, nothing more is waited for: a worker
            that is lost may never stop it.
        """
        if run.is_terminal:
            self._cancel_requested = False
        return self.reconnect_in()

    def next_read_in(self) -> float:
        """Return the pause before the next read of a run that reads as over."""
        self._reads += 1
        return _READS.delay(self._reads)


def _is_decimal(cursor: str) -> bool:
    return cursor.isascii() and cursor.isdigit()

"""What a run's events say: its attempts, its output, and rows for a table. No I/O.

No event marks the start of an attempt, a wait or a resume (contract/behaviour.md section 7.1). None of these is drawn.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from helmr_provider.client.models.events import EventRecord

MAX_ROWS: Final = 500
MAX_TICKS: Final = 200

# Shown with a failure's kind and detail. Other attributes hold payloads, metadata and names of secrets.
_SHOWN: Final = ("reason", "delay_ms", "exit_code", "message")
_LONGEST_NOTE: Final = 500
_ENDS: Final = {
    "run.completed": "succeeded",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
    "run.expired": "expired",
    "run.dead_lettered": "failed",
    "run.execution_lost": "failed",
}
_WAITS: Final = "run_wait."


@dataclass
class Attempt:
    """One attempt of a run.

    :param number: counts from 1.
    :param began: its first event, or the end of the pause before it.
    :param ended: its last event; ``None`` while it is open.
    :param outcome: status that it ended with; ``None`` while it is open.
    :param output: moments at which it wrote output; every second one is dropped when there are too many.
    """

    number: int
    began: datetime
    ended: datetime | None = None
    outcome: str | None = None
    output: list[datetime] = field(default_factory=list)


@dataclass
class Row:
    """A line of the event table; neighbouring output events share one.

    :param kind: kind of the event, or ``output``.
    :param at: when the first of them happened.
    :param until: when the last of them happened.
    :param count: number of events.
    :param note: the shown attributes, as text.
    :param failure: whether the note says why something failed.
    """

    kind: str
    at: datetime
    until: datetime
    attempt: int | None
    count: int = 1
    note: str = ""
    failure: bool = False


@dataclass
class Timeline:
    """The events of one run, as far as they were read.

    :param cursor: the last record; reading continues behind it.
    :param waits_for: what the run waits for, on servers that say so: token, stream or timer.
    :param waits_for_token: id of the token, if the server names it.
    :param left_out: rows that were dropped because there were too many.
    """

    cursor: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    rows: deque[Row] = field(default_factory=deque)
    waits_for: str | None = None
    waits_for_token: str | None = None
    waits_since: datetime | None = None
    outputs: int = 0
    left_out: int = 0

    def add(self, records: Iterable[EventRecord]) -> int:
        """Take further records, in order.

        :param records: behind the cursor.
        :return: how many there were.
        """
        taken = 0
        for record in records:
            self._add(record)
            self.cursor = record.id
            taken += 1
        return taken

    def snapshot(self) -> Timeline:
        """Return a copy that further records do not change."""
        attempts = [replace(attempt, output=list(attempt.output)) for attempt in self.attempts]
        return replace(self, attempts=attempts, rows=deque(replace(row) for row in self.rows))

    @property
    def began(self) -> datetime | None:
        """When the run was created, or its first event that is known."""
        return self.attempts[0].began if self.attempts else None

    @property
    def ended(self) -> datetime | None:
        """When its last attempt ended; ``None`` while that is open."""
        return self.attempts[-1].ended if self.attempts else None

    @property
    def last_failure(self) -> Row | None:
        """The last event that says why something failed."""
        return next((row for row in reversed(self.rows) if row.failure), None)

    def _add(self, record: EventRecord) -> None:
        at = _utc(record.at)
        attributes = record.attributes if isinstance(record.attributes, dict) else {}
        if record.kind == "run.retry_scheduled":
            self._retry(at, attributes)
        else:
            attempt = self._attempt(record.attempt_number, at)
            if outcome := _ENDS.get(record.kind):
                attempt.ended, attempt.outcome = max(at, attempt.began), outcome
        if record.kind.startswith("log"):
            self._output(record, at)
            return
        if record.kind.startswith(_WAITS):
            self._wait(record.kind, at, attributes)
        failure = record.kind in {"run.failed", "run.execution_lost", "run.dead_lettered"}
        self._row(Row(record.kind, at, at, record.attempt_number, note=_note(attributes), failure=failure))

    def _attempt(self, number: int | None, at: datetime) -> Attempt:
        last = self.attempts[-1] if self.attempts else None
        if last is not None and (number is None or number <= last.number):
            return last
        self.attempts.append(Attempt(number or 1, at))
        return self.attempts[-1]

    def _retry(self, at: datetime, attributes: dict[str, Any]) -> None:
        last = self._attempt(None, at)
        if last.ended is None:
            last.ended, last.outcome = at, "failed"
        delay = attributes.get("delay_ms")
        pause = delay if isinstance(delay, int | float) and not isinstance(delay, bool) and 0 < delay < 1e9 else 0
        number = attributes.get("next_attempt_number")
        following = number if isinstance(number, int) and number > last.number else last.number + 1
        self.attempts.append(Attempt(following, max(at, last.ended) + timedelta(milliseconds=pause)))

    def _output(self, record: EventRecord, at: datetime) -> None:
        self.outputs += 1
        ticks = self.attempts[-1].output
        ticks.append(at)
        if len(ticks) > MAX_TICKS:
            del ticks[1::2]
        last = self.rows[-1] if self.rows else None
        if last is not None and last.kind == "output" and last.attempt == record.attempt_number:
            last.until, last.count = at, last.count + 1
        else:
            self._row(Row("output", at, at, record.attempt_number))

    def _wait(self, kind: str, at: datetime, attributes: dict[str, Any]) -> None:
        if kind != "run_wait.created":
            self.waits_for = self.waits_for_token = self.waits_since = None
            return
        awaited, params = attributes.get("kind"), attributes.get("params")
        token = params.get("token_id") if isinstance(params, dict) else None
        self.waits_for = awaited if isinstance(awaited, str) else None
        self.waits_for_token = token if isinstance(token, str) else None
        self.waits_since = at

    def _row(self, row: Row) -> None:
        self.rows.append(row)
        if len(self.rows) > MAX_ROWS:
            # The first row says when the run was created.
            del self.rows[1]
            self.left_out += 1


def _note(attributes: dict[str, Any]) -> str:
    detail = attributes.get("detail")
    if isinstance(detail, dict):
        detail = detail.get("message")
    first = ": ".join(str(part) for part in (attributes.get("failure_kind"), detail) if _is_plain(part))
    rest = [f"{name.replace('_', ' ')}: {attributes[name]}" for name in _SHOWN if _is_plain(attributes.get(name))]
    note = "; ".join(part for part in (first, *rest) if part)
    return note if len(note) <= _LONGEST_NOTE else f"{note[:_LONGEST_NOTE]}…"


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)

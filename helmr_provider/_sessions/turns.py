"""Turns: an input record, the run that takes it, and the output record that answers it.

The control plane says which record has caused a run, but not which run has taken a record that it found waiting
(contract/behaviour.md §4 and §5). That follows from when runs lived, from what caused those after them, and from
whether the session still owes a run to any input: see :func:`resolve_run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.client.errors import HelmrProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from helmr_provider._common.sans_io import ClientCall, Steps
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.client.models.sessions import SessionRun, SessionSnapshot
    from helmr_provider.client.models.streams import StreamRecord

_PAGE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """The ids of an awaited turn, which survive a deferral.

    :param stream: name of the input stream.
    :param sequence: of the input record.
    :param run_id: the run that takes it, where that is known already.
    :param output: name of the output stream whose next record ends the turn; ``None`` waits for the run's end.
    :param correlation_id: only an output record with it counts.
    :param after: no output record up to this sequence can be the answer.
    """

    session_id: str
    stream: str
    sequence: int
    run_id: str | None = None
    output: str | None = None
    correlation_id: str | None = None
    after: int = 0

    @property
    def ids(self) -> dict[str, Any]:
        """The members that differ from their defaults."""
        defaults = {"run_id": None, "output": None, "correlation_id": None, "after": 0}
        return {name: value for name, value in asdict(self).items() if name not in defaults or value != defaults[name]}


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnState:
    """A turn, as it was read last.

    :param run: the run that has taken the input record, as far as that is known.
    :param answer: the output record.
    :param ended: status of the session, if it ended and no run is known to have taken the input record.
    """

    run: RunSnapshot | None = None
    answer: StreamRecord[Any] | None = None
    ended: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether another poll would return the same."""
        return self.answer is not None or self.ended is not None or (self.run is not None and self.run.is_terminal)


class Cause(NamedTuple):
    """The input record that has caused a run."""

    record_id: str
    stream_id: str
    sequence: int

    @classmethod
    def of(cls, created: Any) -> Cause | None:
        """Read it from a run's first event; ``None`` if it names none.

        :param created: the event's attributes.
        """
        cause = created.get("cause") if isinstance(created, Mapping) else None
        if not isinstance(cause, Mapping):
            return None
        record_id, stream_id, sequence = (cause.get(name) for name in cls._fields)
        if isinstance(record_id, str) and isinstance(stream_id, str) and isinstance(sequence, int):
            return cls(record_id, stream_id, sequence)
        return None

    def is_newer_than(self, record: StreamRecord[Any]) -> bool:
        """Say whether the cause was sent after the record; ids of records are made in the order of time.

        :param record: of the same session.
        """
        if self.stream_id == record.stream_id:
            return self.sequence > record.sequence
        return self.record_id > record.id


def candidates(
    record: StreamRecord[Any], runs: Iterable[SessionRun], causes: Mapping[str, Cause | None]
) -> list[SessionRun]:
    """Return the runs that can have taken an input record, first turn first.

    A run that had ended before the record was sent can't. Pending input starts runs oldest first: from the first run on
    that was caused by a newer record, this one was taken already.

    :param record: the input record.
    :param runs: of its session, first turn first.
    :param causes: of these runs, by their ids, as far as they are known.
    """
    possible: list[SessionRun] = []
    for run in runs:
        cause = causes.get(run.run_id)
        if cause is not None and cause.is_newer_than(record):
            break
        if run.ended_at is None or run.ended_at >= record.created_at:
            possible.append(run)
    return possible


def resolve_run(
    record: StreamRecord[Any], runs: Iterable[SessionRun], causes: Mapping[str, Cause | None], *, owed: bool
) -> str | None:
    """Say which run has taken an input record; ``None`` while that is open.

    It is the run that the record has caused. Else, once the session owes no run to any input, a run has found the
    record waiting: the last one that can have, because a later run that an older record has caused shows that the newer
    one was still there. While that run is active, the record might still be left to the next one.

    :param record: the input record.
    :param runs: of its session, first turn first; read after ``owed``.
    :param causes: of these runs, by their ids.
    :param owed: whether the session may owe a run to some input still.
    """
    possible = candidates(record, runs, causes)
    for run in possible:
        cause = causes.get(run.run_id)
        if cause is not None and cause.record_id == record.id:
            return run.run_id
    return possible[-1].run_id if possible and possible[-1].is_terminal and not owed else None


class TurnPoller:
    """Poll one turn; what cannot change any more is read once.

    :param turn: the awaited turn.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self._run_id = turn.run_id
        self._after = turn.after
        self._record: StreamRecord[Any] | None = None
        self._causes: dict[str, Cause | None] = {}

    def poll(self) -> Steps[TurnState]:
        """Poll once: the run first, so that a run that had ended by then has written all that it will."""
        record = yield from self._sent()
        run_id, doubt = self._run_id, None
        if run_id is None:
            run_id, doubt = yield from self._resolve_run(record)
        run = (yield _read_run(run_id)) if run_id is not None else None
        if run is not None and not run.is_success:
            # Whether it took the record or left it, the turn has come to nothing.
            doubt = None
        answer = (yield from self._answer(record)) if self.turn.output is not None else None
        return TurnState(run=run if doubt is None else None, answer=answer, ended=doubt)

    def _sent(self) -> Steps[StreamRecord[Any]]:
        if self._record is not None:
            return self._record
        turn = self.turn
        found: list[StreamRecord[Any]] = (
            yield lambda client: (
                client.sessions.open(turn.session_id).input(turn.stream).list(after=turn.sequence - 1, limit=1)
            )
        )
        if not found or found[0].sequence != turn.sequence:
            raise HelmrProtocolError(f"Input stream {turn.stream} does not show its record {turn.sequence}.")
        self._record = found[0]
        return found[0]

    def _resolve_run(self, record: StreamRecord[Any]) -> Steps[tuple[str | None, str | None]]:
        """Find the run; with it goes the session's status, if that makes it doubtful that the run took the record."""
        session: SessionSnapshot = yield lambda client: client.sessions.retrieve(self.turn.session_id)
        runs: list[SessionRun] = yield lambda client: client.sessions.open(self.turn.session_id).runs()
        all_known = yield from self._learn_causes(record, runs)
        owed = session.is_open and session.activity == "queued"
        run_id = resolve_run(record, runs, self._causes, owed=owed or not all_known)
        if run_id is None:
            live = any(not run.is_terminal for run in runs)
            return None, None if session.is_open or live or not all_known else session.status
        cause = self._causes.get(run_id)
        # Only these two ends leave input behind that no run has taken.
        if session.status in {"cancelled", "expired"} and (cause is None or cause.record_id != record.id):
            return run_id, session.status
        self._run_id = run_id
        return run_id, None

    def _learn_causes(self, record: StreamRecord[Any], runs: Iterable[SessionRun]) -> Steps[bool]:
        all_known = True
        for run in runs:
            over = run.ended_at is not None and run.ended_at < record.created_at
            # The first run has none but its start.
            if run.turn_index > 0 and not over and run.run_id not in self._causes:
                created = yield _first_event(run.run_id)
                if created is None:
                    all_known = False
                else:
                    self._causes[run.run_id] = Cause.of(created.attributes)
        return all_known

    def _answer(self, record: StreamRecord[Any]) -> Steps[StreamRecord[Any] | None]:
        turn = self.turn
        while True:
            page: list[StreamRecord[Any]] = (
                yield lambda client: (
                    client.sessions.open(turn.session_id)
                    .output(turn.output)
                    .list(after=self._after, limit=_PAGE, correlation_id=turn.correlation_id)
                )
            )
            for found in page:
                # A repeated send does not know how far the stream was before the first one; times do.
                if found.created_at >= record.created_at:
                    return found
                self._after = found.sequence
            if len(page) < _PAGE:
                return None


def with_waiting_run(turn: Turn, record: StreamRecord[Any]) -> Steps[Turn]:
    """Return the turn with the run that was waiting for its record.

    :param turn: of which a waiting run has taken the record.
    :param record: the record.
    """
    runs: list[SessionRun] = yield lambda client: client.sessions.open(turn.session_id).runs()
    possible = candidates(record, runs, {})
    return replace(turn, run_id=possible[0].run_id) if possible else turn


def _read_run(run_id: str) -> ClientCall:
    return lambda client: client.runs.retrieve(run_id)


def _first_event(run_id: str) -> ClientCall:
    return lambda client: client.runs.events.records(run_id, page_size=1)

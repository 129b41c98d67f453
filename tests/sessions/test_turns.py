"""Which run has taken an input record: compared with a session that knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider._sessions.turns import Cause, Turn, TurnPoller, TurnState, candidates, resolve_run
from helmr_provider.client.models.sessions import SessionRun
from helmr_provider.client.models.streams import StreamRecord

_START = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass
class Session:
    """A session with one input stream, as contract/behaviour.md sections 4 and 5 describe it."""

    now: int = 0
    records: list[StreamRecord[Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    causes: dict[str, Cause | None] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    waits: bool = False

    def __post_init__(self) -> None:
        self._begin_run()

    @property
    def live(self) -> str | None:
        return None if self.runs[-1]["ended_at"] else str(self.runs[-1]["run_id"])

    @property
    def pending(self) -> list[StreamRecord[Any]]:
        return [record for record in self.records if record.id not in self.taken]

    def send(self) -> None:
        record = StreamRecord[Any](
            id=f"r{len(self.records):03}",
            stream_id="s",
            sequence=len(self.records) + 1,
            data=1,
            created_at=self._tick(),
        )
        self.records.append(record)
        if self.live and self.waits:
            self.taken[record.id], self.waits = self.live, False
        elif not self.live:
            self._begin_run(record)

    def wait(self) -> None:
        """Let the run that lives ask for input."""
        if self.live and not self.waits:
            if self.pending:
                self.taken[self.pending[0].id] = self.live
            else:
                self.waits = True

    def end(self) -> None:
        if self.live and not self.waits:
            self.runs[-1] |= {"ended_at": self._tick(), "status": "succeeded"}
            if self.pending:
                self._begin_run(self.pending[0])

    def seen_runs(self) -> list[SessionRun]:
        return [SessionRun(**run) for run in self.runs]

    def _begin_run(self, cause: StreamRecord[Any] | None = None) -> None:
        turn = len(self.runs)
        run_id = f"run-{turn}"
        times = {"created_at": self._tick(), "ended_at": None}
        self.runs.append(
            {"id": f"link-{turn}", "run_id": run_id, "deployment_id": "d", "turn_index": turn, "status": "running"}
            | times
        )
        if cause is not None:
            self.causes[run_id] = Cause(cause.id, cause.stream_id, cause.sequence)
            self.taken[cause.id] = run_id

    def _tick(self) -> datetime:
        self.now += 1
        return _START + timedelta(seconds=self.now)


STEPS = st.lists(st.sampled_from(["send", "wait", "end"]), max_size=40)


@given(STEPS)
def test_it_is_never_wrong_and_knows_when_the_session_has_come_to_rest(steps: list[str]) -> None:
    session = Session()
    for step in steps:
        getattr(session, step)()
        owed = bool(session.pending)
        for record in session.records:
            found = resolve_run(record, session.seen_runs(), session.causes, owed=owed)
            if found is not None:
                assert found == session.taken.get(record.id)
            elif not owed and session.live is None:
                pytest.fail(f"{record.id} was taken by {session.taken[record.id]}")


@given(STEPS)
def test_it_is_not_wrong_either_if_a_live_run_hides_that_another_is_owed(steps: list[str]) -> None:
    session = Session()
    for step in steps:
        getattr(session, step)()
        for record in session.records:
            found = resolve_run(record, session.seen_runs(), session.causes, owed=False)
            assert found in {None, session.taken.get(record.id)}


@given(STEPS)
def test_what_was_found_once_is_found_ever_after(steps: list[str]) -> None:
    session, known = Session(), dict[str, str]()
    for step in steps:
        getattr(session, step)()
        for record in session.records:
            found = resolve_run(record, session.seen_runs(), session.causes, owed=bool(session.pending))
            if found is not None:
                assert known.setdefault(record.id, found) == found


@given(STEPS)
def test_a_run_that_waited_is_the_first_that_can_have_taken_the_record(steps: list[str]) -> None:
    session = Session()
    for step in steps:
        waiting = session.live if session.waits else None
        getattr(session, step)()
        if step == "send" and waiting is not None:
            # Known from the answer to the send, before anything is known of causes.
            assert candidates(session.records[-1], session.seen_runs(), {})[0].run_id == waiting


def test_nothing_is_concluded_before_the_causes_of_all_runs_are_known() -> None:
    session = Session()
    session.send()
    session.end()
    session.end()
    polling = TurnPoller(Turn(session_id="s", stream="m", sequence=1)).poll()
    next(polling)
    polling.send([session.records[0]])
    polling.send(SimpleNamespace(status="open", is_open=True, activity="idle"))
    polling.send(session.seen_runs())
    with pytest.raises(StopIteration) as looked:
        # The run is there, its first event is not yet.
        polling.send(None)
    assert looked.value.value == TurnState()


def test_a_cause_in_another_stream_is_compared_by_the_time_in_its_id() -> None:
    record = StreamRecord[Any](id="01a20974-b10d", stream_id="a", sequence=9, data=1, created_at=_START)
    assert Cause("01a20974-b11b", "b", 1).is_newer_than(record)
    assert not Cause("01a20974-b104", "b", 99).is_newer_than(record)


@pytest.mark.parametrize(
    "created", [None, "redacted", {}, {"cause": {}}, {"cause": None}, {"cause": {"record_id": 1, "sequence": "x"}}]
)
def test_a_first_event_without_a_cause_names_none(created: Any) -> None:
    assert Cause.of(created) is None


def test_the_cause_is_read_as_it_was_recorded() -> None:
    cause = {"kind": "stream_record", "sequence": 1, "record_id": "01a20974-b296", "stream_id": "01a20974-b295"}
    assert Cause.of({"reason": "input", "cause": cause}) == Cause("01a20974-b296", "01a20974-b295", 1)


def test_a_turn_keeps_only_what_is_not_at_its_default() -> None:
    assert Turn(session_id="s", stream="m", sequence=1).ids == {"session_id": "s", "stream": "m", "sequence": 1}
    whole = Turn(session_id="s", stream="m", sequence=1, run_id="r", output="o", correlation_id="c", after=2)
    assert Turn(**whole.ids) == whole

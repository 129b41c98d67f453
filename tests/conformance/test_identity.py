"""Starting again with the same identity, state by state (contract/behaviour.md sections 3 and 4)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrApiError, HelmrConflictError, HelmrNotFoundError
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from tests.conformance.conftest import Plane


def conflict(code: str, call: Callable[[], Any]) -> None:
    with pytest.raises(HelmrConflictError) as caught:
        call()
    assert caught.value.code == code


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    def answer(_: int) -> Any:
        try:
            return call()
        except HelmrApiError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(answer, range(count)))


def test_an_unknown_name_is_not_found(plane: Plane, client: HelmrClient) -> None:
    with pytest.raises(HelmrNotFoundError):
        client.sessions.retrieve(external_id=plane.name())


@pytest.mark.parametrize("with_key", [False, True])
def test_of_many_equal_simultaneous_starts_one_creates(plane: Plane, *, with_key: bool) -> None:
    name = plane.name()
    key = name if with_key else None
    starts = at_once(8, lambda: plane.start("echo", {"n": 1}, external_id=name, idempotency_key=key))
    assert len({start.session.id for start in starts}) == 1
    assert len({start.run.id for start in starts}) == 1
    assert [start.is_cached for start in starts].count(False) == 1


def test_a_live_session_is_found_with_its_run(plane: Plane, client: HelmrClient) -> None:
    name = plane.name()
    first = plane.start("wait-for-input", {"n": 1}, external_id=name, metadata={"a": 1})
    plane.reached(first.run, "waiting")
    again = plane.start("wait-for-input", {"n": 1}, external_id=name, metadata={"b": 2})
    assert (again.is_cached, again.run.id, again.session.metadata) == (True, first.run.id, {"a": 1})
    session = client.sessions.retrieve(external_id=name)
    assert (session.status, session.activity, session.can_close) == ("open", "waiting", False)
    assert session.current_run_id == first.run.id


def test_another_start_of_a_live_session_is_refused(plane: Plane) -> None:
    name = plane.name()
    plane.start("wait-for-input", {"n": 1}, external_id=name)
    mismatch = "session_fingerprint_mismatch"
    conflict(mismatch, lambda: plane.start("wait-for-input", {"n": 2}, external_id=name))
    conflict(mismatch, lambda: plane.start("echo", {"n": 1}, external_id=name))
    conflict(mismatch, lambda: plane.start("wait-for-input", {"n": 1}, external_id=name, max_duration=900))


def test_numbers_that_are_written_differently_differ_and_the_order_of_members_does_not(plane: Plane) -> None:
    name = plane.name()
    first = plane.start("echo", {"a": 1, "b": {"c": 2, "d": 3}}, external_id=name)
    again = plane.start("echo", {"b": {"d": 3, "c": 2}, "a": 1}, external_id=name)
    assert (again.is_cached, again.session.id) == (True, first.session.id)
    conflict(
        "session_fingerprint_mismatch",
        lambda: plane.start("echo", {"a": 1.0, "b": {"c": 2, "d": 3}}, external_id=name),
    )


def test_metadata_are_replaced_whole_and_do_not_reach_the_run(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input", metadata={"a": 1, "b": 2}, tags=["x"])
    changed = client.sessions.update(started.session, metadata={"c": 3})
    assert (changed.metadata, changed.tags) == ({"c": 3}, ("x",))
    assert client.runs.retrieve(started.run).metadata == {"a": 1, "b": 2}


def test_a_live_session_cannot_be_closed(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    conflict("close_run_active", lambda: client.sessions.open(started.session).close())


@pytest.mark.parametrize(("role", "status"), [("echo", "succeeded"), ("fail", "failed")])
def test_a_session_outlives_its_run_and_is_found_with_it(
    plane: Plane, client: HelmrClient, role: str, status: str
) -> None:
    name = plane.name()
    started, ended = plane.finished(role, {"n": 1}, external_id=name)
    assert ended.status == status
    session = client.sessions.retrieve(started.session)
    assert (session.status, session.activity, session.can_close) == ("open", "idle", True)
    assert (session.current_run_id, session.result) == (ended.id, None)
    again = plane.start(role, {"n": 1}, external_id=name)
    assert (again.is_cached, again.run.id, again.run.status) == (True, ended.id, status)
    assert again.run.output == ended.output
    conflict("session_fingerprint_mismatch", lambda: plane.start(role, {"n": 2}, external_id=name))
    assert client.sessions.update(session, metadata={"later": True}).metadata == {"later": True}
    assert client.sessions.open(session).close(reason="done").status == "closed"


def test_cancelling_a_session_leaves_a_succeeded_run_as_it_is(plane: Plane, client: HelmrClient) -> None:
    started, ended = plane.finished("echo")
    assert client.sessions.open(started.session).cancel().status == "cancelled"
    assert client.runs.retrieve(ended).is_success


def test_a_cancelled_run_is_found_and_its_session_can_be_closed(plane: Plane, client: HelmrClient) -> None:
    name = plane.name()
    started = plane.start("work", {"seconds": 600}, external_id=name)
    plane.reached(started.run, "running")
    assert client.runs.cancel(started.run).run.status == "cancelled"
    assert client.runs.cancel(started.run).operation.status == "rejected"
    session = client.sessions.retrieve(started.session)
    assert (session.status, session.activity, session.can_close) == ("open", "idle", True)
    again = plane.start("work", {"seconds": 600}, external_id=name)
    assert (again.is_cached, again.run.id, again.run.status) == (True, started.run.id, "cancelled")
    assert client.sessions.open(started.session).close().status == "closed"


def test_pending_input_starts_the_next_turn_of_a_cancelled_run(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    handle = client.sessions.open(started.session)
    plane.reached(started.run, "waiting")
    client.runs.cancel(started.run)
    handle.input("messages").send("more")
    turns = until(lambda: runs if len(runs := handle.runs()) == 2 else None, every=0.05)
    assert [turn.turn_index for turn in turns] == [0, 1]
    follow_up = client.runs.wait(turns[1].run_id, timeout=60)
    assert (follow_up.is_success, follow_up.output["message"]) == (True, "more")


def test_a_name_leads_to_the_newest_turn_and_a_key_to_the_first(plane: Plane, client: HelmrClient) -> None:
    name = plane.name()
    identity: dict[str, Any] = {"external_id": name, "idempotency_key": name}
    started = plane.start("wait-for-input", **identity)
    handle = client.sessions.open(started.session)
    plane.reached(started.run, "waiting")
    handle.input("messages").send("first")
    client.runs.wait(started.run, timeout=60)
    assert handle.input("messages").send("second").continuation_status == "created"
    turns = until(lambda: runs if len(runs := handle.runs()) == 2 else None, every=0.05)
    assert plane.start("wait-for-input", **identity).run.id == started.run.id
    assert plane.start("wait-for-input", external_id=name).run.id == turns[1].run_id


def test_a_closed_session_stays_readable_and_refuses_everything_else(plane: Plane, client: HelmrClient) -> None:
    name = plane.name()
    started, ended = plane.finished("echo", {"n": 1}, external_id=name, idempotency_key=name)
    handle = client.sessions.open(started.session)
    closed = handle.close(reason="over")
    assert (closed.status, closed.terminal_reason["reason"]) == ("closed", "over")
    assert client.runs.retrieve(ended).output == {"n": 1}
    terminal = "session_terminal"
    conflict(terminal, lambda: plane.start("echo", {"n": 1}, external_id=name))
    conflict(terminal, lambda: plane.start("echo", {"n": 2}, external_id=name))
    conflict(terminal, lambda: plane.start("echo", {"n": 1}, external_id=name, idempotency_key=plane.name()))
    cached = plane.start("echo", {"n": 1}, external_id=name, idempotency_key=name)
    assert (cached.is_cached, cached.session.status, cached.run.id) == (True, "closed", ended.id)
    conflict(terminal, lambda: handle.update(metadata={}))
    conflict(terminal, handle.close)
    conflict(terminal, handle.cancel)


def test_of_many_simultaneous_closes_one_closes(plane: Plane, client: HelmrClient) -> None:
    started, _ = plane.finished("echo")
    answers = at_once(8, lambda: client.sessions.open(started.session).close())
    refused = [answer for answer in answers if isinstance(answer, HelmrApiError)]
    assert len(refused) == 7
    assert {error.code for error in refused} == {"session_terminal"}


def test_a_cancelled_session_can_be_cancelled_again_and_nothing_else(plane: Plane, client: HelmrClient) -> None:
    name = plane.name()
    started = plane.start("wait-for-input", external_id=name)
    handle = client.sessions.open(started.session)
    path = {"session_id": started.session.id}
    before = client._transport.call("cancelSession", path=path, body={"reason": "enough"})
    assert (before["status"], before["terminal_reason"]) == ("open", {})
    session = handle.cancel()
    assert (session.status, session.terminal_reason["reason"]) == ("cancelled", "enough")
    assert client.runs.wait(started.run, timeout=60).is_cancelled
    terminal = "session_terminal"
    conflict(terminal, lambda: plane.start("wait-for-input", external_id=name))
    conflict(terminal, lambda: handle.update(metadata={}))
    conflict(terminal, handle.close)


def test_past_its_expiry_a_live_session_is_open_and_cannot_be_started_again(plane: Plane, client: HelmrClient) -> None:
    name = plane.name()
    past = datetime.now(UTC) - timedelta(hours=1)
    started = plane.start("wait-for-input", external_id=name, expires_at=past)
    plane.reached(started.run, "waiting")
    assert client.sessions.retrieve(started.session).status == "open"
    conflict("session_terminal", lambda: plane.start("wait-for-input", external_id=name, expires_at=past))
    conflict("close_run_active", lambda: client.sessions.open(started.session).close())


def test_a_session_expires_once_its_run_is_over(plane: Plane, client: HelmrClient) -> None:
    name = plane.name()
    past = datetime.now(UTC) - timedelta(hours=1)
    started, _ = plane.finished("echo", external_id=name, expires_at=past)
    handle = client.sessions.open(started.session)
    until(lambda: handle.retrieve().status == "expired", every=0.05)
    terminal = "session_terminal"
    conflict(terminal, lambda: plane.start("echo", external_id=name, expires_at=past))
    conflict(terminal, lambda: handle.update(metadata={}))
    conflict(terminal, handle.close)
    conflict(terminal, handle.cancel)


def test_an_expiry_can_only_be_put_off(plane: Plane, client: HelmrClient) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    started = plane.start("wait-for-input", expires_at=soon)
    later = soon + timedelta(hours=1)
    assert client.sessions.update(started.session, expires_at=later).expires_at is not None
    with pytest.raises(HelmrApiError) as caught:
        client.sessions.update(started.session, expires_at=soon)
    assert (caught.value.status, caught.value.code) == (400, "session_expires_at_not_extendable")


def test_a_key_is_of_one_task_and_of_one_request(plane: Plane) -> None:
    key = plane.name()
    first = plane.start("echo", {"n": 1}, idempotency_key=key, metadata={"a": 1})
    again = plane.start("echo", {"n": 1}, idempotency_key=[key], metadata={"b": 2}, tags=["t"])
    assert (again.is_cached, again.run.id, again.session.metadata) == (True, first.run.id, {"a": 1})
    mismatch = "idempotency_fingerprint_mismatch"
    conflict(mismatch, lambda: plane.start("echo", {"n": 2}, idempotency_key=key))
    conflict(mismatch, lambda: plane.start("echo", {"n": 1}, idempotency_key=key, external_id=plane.name()))
    assert not plane.start("work", {"n": 1}, idempotency_key=key).is_cached


def test_a_key_can_be_added_to_a_session_that_has_a_name(plane: Plane) -> None:
    name = plane.name()
    first = plane.start("echo", {"n": 1}, external_id=name)
    keyed = plane.start("echo", {"n": 1}, external_id=name, idempotency_key=name)
    assert (keyed.is_cached, keyed.session.id) == (True, first.session.id)


def test_an_unknown_task_is_not_deployed(plane: Plane, client: HelmrClient) -> None:
    conflict("task_not_deployed", lambda: client.sessions.start("no-such-task-for-sure"))


@pytest.mark.parametrize("odd", ["a/b c", "ünïcode ✓", "..", "#?&%", "x" * 400])
def test_names_may_hold_any_character(plane: Plane, client: HelmrClient, odd: str) -> None:
    name = f"{odd}{plane.name()}"
    started = plane.start("echo", external_id=name)
    assert client.sessions.retrieve(external_id=name).id == started.session.id
    assert [found.id for found in client.sessions.list(external_id=name)] == [started.session.id]
    assert client.sessions.list(external_id=name[:-1]) == []

"""Session streams and public access tokens (contract/behaviour.md sections 5 and 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helmr_provider.client import HelmrApiError, PublicScope
from tests.conformance.refusals import refused
from tests.support.polling import until

if TYPE_CHECKING:
    from helmr_provider.client import HelmrClient
    from tests.conformance.conftest import Plane


def test_a_waiting_run_takes_the_record_and_continues(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    plane.reached(started.run, "waiting")
    handle = client.sessions.open(started.session)
    sent = handle.input("messages").send({"text": "hi"}, correlation_id="c")
    assert (sent.sequence, sent.idempotency_status, sent.continuation_status) == (1, "created", None)
    ended = client.runs.wait(started.run, timeout=60)
    assert ended.output["message"] == {"text": "hi"}
    assert [record.data for record in handle.output("messages").list()] == [{"text": "hi"}]
    assert len(handle.runs()) == 1


def test_input_to_an_idle_session_makes_the_next_turn(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input", {"n": 1})
    handle = client.sessions.open(started.session)
    plane.reached(started.run, "waiting")
    handle.input("messages").send(1)
    client.runs.wait(started.run, timeout=60)
    assert handle.input("messages").send(2).continuation_status == "created"
    turns = until(lambda: runs if len(runs := handle.runs()) == 2 else None, every=0.05)
    follow_up = client.runs.wait(turns[1].run_id, timeout=60)
    assert turns[1].previous_run_id == started.run.id
    created = next(iter(client.runs.events.records(follow_up))).attributes
    assert (created["reason"], created["payload"]) == ("input", {"n": 1})


def test_records_are_numbered_and_repeated_keys_are_duplicates(plane: Plane, client: HelmrClient) -> None:
    started, _ = plane.finished("echo")
    del started
    session = plane.start("wait-for-input").session
    output = client.sessions.open(session).output("messages")
    first = output.append({"n": 1}, idempotency_key="k")
    assert output.append({"n": 1}, idempotency_key="k").is_duplicate
    assert output.append({"n": 2}, correlation_id="c").sequence == first.sequence + 1
    assert [record.data for record in output.list(after=first.sequence)] == [{"n": 2}]
    assert [record.data for record in output.list(correlation_id="c")] == [{"n": 2}]
    assert [record.sequence for record in output.iter(limit=1)] == [1, 2]
    read = output.read(after=1)
    assert read is not None
    assert read.data == {"n": 2}
    assert output.read(after=2) is None


def test_undeclared_streams_and_wrong_directions_are_not_found(plane: Plane, client: HelmrClient) -> None:
    handle = client.sessions.open(plane.start("wait-for-input").session)
    refused(404, "stream_not_found", lambda: handle.input("no-such-stream").send(1))
    refused(404, "stream_not_found", lambda: handle.output("no-such-stream").list())


def test_a_cancelled_session_takes_no_input_but_output(plane: Plane, client: HelmrClient) -> None:
    handle = client.sessions.open(plane.start("wait-for-input").session)
    handle.cancel()
    refused(409, "session_terminal", lambda: handle.input("messages").send(1))
    assert handle.output("messages").append("late").sequence == 1


def test_a_public_token_sends_to_its_stream_only(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    handle = client.sessions.open(started.session)
    plane.reached(started.run, "waiting")
    granted = client.auth.create_public_token(PublicScope.input(started.session, "messages"), max_uses=1)
    public = str(granted.public_access_token)
    assert granted.scope.session.id == started.session.id
    # The rows of declared streams come into being when a key first names them.
    refused(404, "stream_not_found", lambda: handle.output("messages").read(public_access_token=public))
    handle.streams()
    refused(403, "token_scope_denied", lambda: handle.output("messages").read(public_access_token=public))
    assert handle.input("messages").send("hi", public_access_token=public).sequence == 1
    with pytest.raises(HelmrApiError) as caught:
        handle.input("messages").send("more", public_access_token=public)
    assert caught.value.status in {401, 403, 410}
    assert client.runs.wait(started.run, timeout=60).output["message"] == "hi"


def test_a_read_that_finds_nothing_uses_a_public_token_too(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    output = client.sessions.open(started.session).output("messages")
    granted = client.auth.create_public_token(PublicScope.output(started.session, "messages"), max_uses=1)
    public = str(granted.public_access_token)
    assert output.read(public_access_token=public) is None
    with pytest.raises(HelmrApiError):
        output.read(public_access_token=public)


def test_a_credential_of_the_wrong_kind_is_refused(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    output = client.sessions.open(started.session).output("messages")
    refused(401, "token_scope_denied", lambda: output.read(public_access_token="hlmr_pat_" + "x" * 43))

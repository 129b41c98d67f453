"""The client against the local control plane: whole stories over HTTP, with both clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrClient, HelmrNotFoundError, HelmrPermissionError, HelmrTimeoutError
from helmr_provider.local import Fault, LocalControlPlane
from tests.client.scripted_server import VARIANTS, drive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local.testing.faults import FaultKind

both = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(scope="module")
def plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane() as server:
        yield server


@pytest.fixture
def client(plane: LocalControlPlane) -> Iterator[HelmrClient]:
    with HelmrClient(url=plane.url, api_key=plane.api_key) as found:
        yield found


def run_call(plane: LocalControlPlane, variant: str, call: Any) -> Any:
    return drive(variant, call, url=plane.url, api_key=plane.api_key)


@both
def test_a_session_runs_to_its_result(plane: LocalControlPlane, variant: str) -> None:
    result = run_call(
        plane, variant, lambda c: c.sessions.start_and_wait("echo", {"n": [1, None]}, metadata={"k": "v"})
    )
    assert result.run.is_success
    assert result.run.output == {"n": [1, None]}
    assert result.session.metadata == {"k": "v"}
    runs = run_call(plane, variant, lambda c: c.sessions.open(result.session).runs())
    assert [(run.run_id, run.turn_index, run.is_terminal) for run in runs] == [(result.run.id, 0, True)]


@both
def test_the_same_external_id_starts_once(plane: LocalControlPlane, variant: str) -> None:
    name = f"once:{variant}"
    first, second = (
        run_call(plane, variant, lambda c: c.sessions.start("echo", 1, external_id=name)) for _ in range(2)
    )
    assert (first.is_cached, second.is_cached) == (False, True)
    assert (
        first.session.id
        == second.session.id
        == run_call(plane, variant, lambda c: c.sessions.retrieve(external_id=name)).id
    )


@both
def test_every_event_of_a_retried_run_is_followed_live(plane: LocalControlPlane, variant: str) -> None:
    started = run_call(plane, variant, lambda c: c.sessions.start("retry-once"))
    followed = run_call(plane, variant, lambda c: c.runs.events.follow_records(started.run))
    assert [record.raw for record in followed] == [
        record.raw for record in run_call(plane, variant, lambda c: c.runs.events.records(started.run))
    ]
    kinds = [record.kind for record in followed]
    assert [kind for kind in kinds if kind in {"run.failed", "run.retry_scheduled", "run.completed"}] == [
        "run.failed",
        "run.retry_scheduled",
        "run.completed",
    ]


@both
@pytest.mark.parametrize("fault", ["half_frame", "malformed_frame", "reset"])
def test_a_stream_that_breaks_is_taken_up_again(plane: LocalControlPlane, variant: str, fault: FaultKind) -> None:
    started = run_call(plane, variant, lambda c: c.sessions.start("work", {"seconds": 0.3}))
    plane.fail_next("getRunEvents", Fault(kind=fault))
    followed = run_call(plane, variant, lambda c: c.runs.events.follow_records(started.run))
    expected = run_call(plane, variant, lambda c: c.runs.events.records(started.run))
    plane.clear_faults()
    assert [record.id for record in followed] == [record.id for record in expected]


@both
def test_logs_are_there_whole_and_as_they_come(plane: LocalControlPlane, variant: str) -> None:
    started = run_call(plane, variant, lambda c: c.sessions.start("fail", {"message": "ünlucky"}))
    chunks = run_call(plane, variant, lambda c: c.runs.logs.follow(started.run))
    snapshot = run_call(plane, variant, lambda c: c.runs.logs.retrieve(started.run))
    assert "ünlucky" in snapshot.stderr
    for stream, content in (("stdout", snapshot.stdout_content), ("stderr", snapshot.stderr_content)):
        assert b"".join(chunk.content for chunk in chunks if chunk.stream == stream) == content
    failed = [
        event
        for event in run_call(plane, variant, lambda c: c.runs.events.list(started.run))
        if event.type == "run_failed"
    ]
    assert failed[-1].detail["message"] == "ünlucky"


@both
def test_a_run_waits_for_a_token_until_it_is_completed(plane: LocalControlPlane, variant: str) -> None:
    token = run_call(plane, variant, lambda c: c.tokens.create(timeout="1h", metadata={"for": variant}))
    started = run_call(
        plane, variant, lambda c: c.sessions.start("release-summary", {"token_id": token.id, "work_seconds": 0})
    )
    completion = run_call(plane, variant, lambda c: c.tokens.complete(token, {"approved": True}))
    assert completion.status == "completed"
    again = run_call(plane, variant, lambda c: c.tokens.complete_callback(token.callback_url, {"approved": True}))
    assert again.status == "already_completed"
    run = run_call(plane, variant, lambda c: c.runs.wait(started.run, timeout=20))
    assert run.is_success
    assert run.output["approved"] is True


@both
def test_a_wait_with_a_deadline_ends_and_the_run_can_be_cancelled(plane: LocalControlPlane, variant: str) -> None:
    started = run_call(plane, variant, lambda c: c.sessions.start("work", {"seconds": 60}))
    with pytest.raises(HelmrTimeoutError) as caught:
        run_call(plane, variant, lambda c: c.runs.wait(started.run, timeout=0.3))
    assert caught.value.pending == (started.run.id,)
    cancellation = run_call(plane, variant, lambda c: c.runs.cancel(started.run, reason="enough"))
    assert (cancellation.run.is_cancelled, cancellation.operation.status) == (True, "applied")
    again = run_call(plane, variant, lambda c: c.runs.cancel(started.run.id))
    assert again.operation.status == "rejected"
    assert run_call(plane, variant, lambda c: c.sessions.open(started.session).cancel()).status == "cancelled"


def test_lists_and_counts_agree(client: HelmrClient) -> None:
    started = [client.sessions.start("echo", number) for number in range(3)]
    ended = {run.id for run in client.runs.wait_many([start.run for start in started], timeout=20)}
    assert ended == {start.run.id for start in started}
    counts = client.runs.count()
    assert counts.succeeded >= 3
    assert {run.id for run in client.runs.list(status="all", limit=200)} >= ended
    assert [run.id for run in client.runs.list(status="all", session_id=started[0].session.id)] == [started[0].run.id]


def test_health_scopes_and_missing_records(plane: LocalControlPlane, client: HelmrClient) -> None:
    assert client.health().is_ok
    assert client.ready().is_ok
    with pytest.raises(HelmrNotFoundError):
        client.runs.retrieve("01a20973-7173-7b2f-8462-a3ff55e1e68f")
    with HelmrClient(url=plane.url, api_key=plane.create_key(scopes=["runs:read"])) as reader:
        assert reader.runs.list(limit=1) is not None
        with pytest.raises(HelmrPermissionError, match="startSession was answered 403"):
            reader.sessions.start("echo")

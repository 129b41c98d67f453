"""Runs, their events and their logs (contract/behaviour.md sections 6 to 10)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrApiError, HelmrClient, HelmrNotFoundError, HelmrTimeoutError
from tests.support.polling import until

if TYPE_CHECKING:
    from tests.conformance.conftest import Plane

MISSING_ID = "00000000-0000-7000-8000-000000000000"


def kinds(client: HelmrClient, run: Any) -> list[str]:
    return [record.kind for record in client.runs.events.records(run)]


@pytest.mark.parametrize("value", [0, False, "", None, [1, {"a": None}], {"b": 1, "a": "✓"}])
def test_an_output_comes_as_it_was_returned(plane: Plane, value: Any) -> None:
    # The payload is inside a member, so that null is a payload like any other.
    _, ended = plane.finished("echo", {"value": value})
    assert (ended.status, ended.has_output, ended.output) == ("succeeded", True, {"value": value})
    assert ended.attempt_number == 1


def test_a_failed_run_has_no_output_and_says_why_in_its_last_event(plane: Plane, client: HelmrClient) -> None:
    _, ended = plane.finished("fail")
    assert (ended.status, ended.has_output) == ("failed", False)
    last = list(client.runs.events.records(ended))[-1]
    assert (last.kind, last.severity, last.category, last.source) == ("run.failed", "error", "lifecycle", "control")
    assert last.attributes["failure_kind"]


def test_a_retried_run_keeps_its_id_and_counts_its_attempts(plane: Plane, client: HelmrClient) -> None:
    backoff = {"minMs": 200, "maxMs": 200, "factor": 1, "jitter": "none"}
    started, ended = plane.finished("retry-once", retry={"maxAttempts": 2, "backoff": backoff})
    assert (ended.id, ended.status, ended.attempt_number) == (started.run.id, "succeeded", 2)
    seen = kinds(client, ended)
    failed = seen.index("run.failed")
    assert seen[failed + 1] == "run.retry_scheduled"
    assert seen[-1] == "run.completed"
    assert len(client.sessions.open(started.session).runs()) == 1


def test_following_a_retried_run_shows_all_its_attempts(plane: Plane, client: HelmrClient) -> None:
    backoff = {"minMs": 200, "maxMs": 200, "factor": 1, "jitter": "none"}
    started = plane.start("retry-once", retry={"maxAttempts": 2, "backoff": backoff})
    with contextlib.closing(client.runs.events.follow_records(started.run)) as records:
        followed = [(record.id, record.kind) for record in records]
    assert followed == [(record.id, record.kind) for record in client.runs.events.records(started.run)]
    assert [kind for _, kind in followed][-1] == "run.completed"


def test_events_are_numbered_from_one_and_pages_meet(plane: Plane, client: HelmrClient) -> None:
    _, ended = plane.finished("echo", {"n": 1}, metadata={"k": "v"}, tags=["a"])
    records = list(client.runs.events.records(ended, page_size=1))
    assert [record.id for record in records] == [str(number) for number in range(1, len(records) + 1)]
    assert [record.message for record in records] == [record.kind for record in records]
    assert [record.kind for record in records if record.kind.startswith("run.")] == ["run.created", "run.completed"]
    created = records[0].attributes
    assert (created["payload"], created["metadata"], created["tags"]) == ({"n": 1}, {"k": "v"}, ["a"])
    assert created["reason"] == "initial"
    rest = client.runs.events.records(ended, cursor=records[0].id)
    assert [record.id for record in rest] == [record.id for record in records[1:]]


def test_what_a_run_writes_is_in_its_logs_and_not_in_its_events(plane: Plane, client: HelmrClient) -> None:
    _, ended = plane.finished("fail")
    logs = client.runs.logs.retrieve(ended)
    written = [record for record in client.runs.events.records(ended) if record.kind.startswith("log.")]
    assert bool(written) == bool(logs.stdout_bytes + logs.stderr_bytes)
    for record in written:
        assert (record.attributes, record.redaction_class) == ({"redacted": True}, "sensitive")
    followed = list(client.runs.logs.follow(ended))
    assert sum(len(chunk.content) for chunk in followed if chunk.stream == "stderr") == logs.stderr_bytes
    assert [chunk.id for chunk in followed][-1:] == ([logs.cursor] if followed else [])


def test_a_run_that_is_cancelled_while_it_works_says_so_twice(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("work", {"seconds": 600})
    plane.reached(started.run, "running")
    cancellation = client.runs.cancel(started.run, reason="enough")
    assert (cancellation.run.status, cancellation.operation.status) == ("cancelled", "applied")
    until(lambda: kinds(client, started.run)[-1] == "run.cancelled", every=0.05)
    assert kinds(client, started.run)[-2] == "run.cancel_requested"


def test_a_waiting_run_is_cancelled_outright(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    plane.reached(started.run, "waiting")
    client.runs.cancel(started.run)
    seen = kinds(client, started.run)
    assert seen[-1] == "run.cancelled"
    assert "run.cancel_requested" not in seen


def test_a_finished_run_cannot_be_cancelled(plane: Plane, client: HelmrClient) -> None:
    _, ended = plane.finished("echo")
    cancellation = client.runs.cancel(ended)
    assert (cancellation.run.status, cancellation.operation.status) == ("succeeded", "rejected")
    assert cancellation.operation.applied_at is None


def test_the_same_cancellation_is_one_operation(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    key = plane.name()
    first = client.runs.cancel(started.run, idempotency_key=key).operation
    assert client.runs.cancel(started.run, idempotency_key=key).operation.id == first.id


def test_a_wait_with_a_deadline_leaves_the_run_alone(plane: Plane, client: HelmrClient) -> None:
    started = plane.start("wait-for-input")
    with pytest.raises(HelmrTimeoutError) as caught:
        client.runs.wait(started.run, timeout=0.2)
    assert caught.value.pending == (started.run.id,)
    assert not client.runs.retrieve(started.run).is_terminal


def test_only_live_runs_are_listed_unless_asked_for(plane: Plane, client: HelmrClient) -> None:
    over, ended = plane.finished("echo")
    waiting = plane.start("wait-for-input")
    plane.reached(waiting.run, "waiting")
    assert client.runs.list(session_id=over.session.id) == []
    assert [run.id for run in client.runs.list(session_id=over.session.id, status="all")] == [ended.id]
    assert [run.id for run in client.runs.list(session_id=waiting.session.id)] == [waiting.run.id]
    assert waiting.run.id in {run.id for run in client.runs.list(status="waiting", limit=200)}
    newest = client.runs.list(status="all", limit=2)
    assert [run.created_at for run in newest] == sorted((run.created_at for run in newest), reverse=True)
    assert client.runs.count().waiting >= 1


def test_an_unknown_status_is_refused_of_runs_and_matches_no_session(client: HelmrClient) -> None:
    with pytest.raises(HelmrApiError) as caught:
        client.runs.list(status="no-such-status")
    assert caught.value.status == 400
    assert client.sessions.list(status="no-such-status") == []
    assert client._transport.call("listSessions", query={"status": "all"}) == {"sessions": []}


@pytest.mark.parametrize("limit", [0, 201])
def test_a_limit_out_of_range_is_refused(client: HelmrClient, limit: int) -> None:
    for call in (client.runs.list, client.sessions.list, client.workspaces.list):
        with pytest.raises(HelmrApiError) as caught:
            call(limit=limit)
        assert caught.value.status == 400


def test_an_unknown_run_is_not_found_and_a_bad_id_is_refused(client: HelmrClient) -> None:
    with pytest.raises(HelmrNotFoundError):
        client.runs.retrieve(MISSING_ID)
    with pytest.raises(HelmrApiError) as caught:
        client.runs.retrieve("run_123")
    assert caught.value.status == 400


def test_an_unknown_key_is_refused(plane: Plane, client: HelmrClient) -> None:
    with HelmrClient(url=client.url, api_key="hlmr_sk_" + "x" * 43) as stranger, pytest.raises(HelmrApiError) as caught:
        stranger.runs.list()
    assert caught.value.status == 401


def test_the_server_is_up_without_a_credential(client: HelmrClient) -> None:
    assert client.health().is_ok
    assert client.ready().is_ok

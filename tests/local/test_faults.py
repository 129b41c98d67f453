"""Planted faults happen as they are named, to the operation they are named for, as often as they were planted."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import faults
from tests.support.polling import until

if TYPE_CHECKING:
    from helmr_provider.local import Fault, LocalControlPlane
    from tests.support.local.scripted_tasks import Director
    from tests.support.local.wire import Wire


@pytest.fixture
def run_id(server: LocalControlPlane, wire: Wire) -> str:
    """A queued run with four events to come: created, three lines of log."""
    server.pause_worker()
    return str(wire.start("scripted")["run"]["id"])


@pytest.fixture
def finished(server: LocalControlPlane, wire: Wire, director: Director, run_id: str) -> str:
    """A run with the events 1 (created), 2, 3 (log lines) and 4 (completed)."""

    async def write(ctx: Any) -> None:
        ctx.log("one")
        ctx.log("two")

    director.tell(run_id, write)
    director.end(run_id, lambda: "done")
    server.resume_worker()
    wire.ended(run_id)
    return run_id


def _follow(wire: Wire, run_id: str) -> list[str]:
    with wire.stream(f"/api/runs/{run_id}/events") as stream:
        return [frame for frame in stream.frames() if not frame.startswith(":")]


def _ids(frames: list[str]) -> list[str]:
    return [frame.splitlines()[0] for frame in frames]


def test_a_status_is_answered_instead_of_the_operation_and_only_as_often_as_planted(
    server: LocalControlPlane, wire: Wire, run_id: str
) -> None:
    server.fail_next("cancelRun", faults.status(503, retry_after=7, error_code="coordination_unavailable"), times=2)
    for _ in range(2):
        answer = wire.request("POST", f"/api/runs/{run_id}/cancel", {})
        assert (answer.status, answer.headers["retry-after"]) == (503, "7")
        assert answer.json["code"] == "coordination_unavailable"
        assert wire.get(f"/api/runs/{run_id}")["status"] == "queued"
    assert wire.post(f"/api/runs/{run_id}/cancel", {})["run"]["status"] == "cancelled"
    assert server.pending_faults == []


def test_a_fault_waits_for_its_operation(server: LocalControlPlane, wire: Wire, run_id: str) -> None:
    server.fail_next("getRun", 500)
    wire.get("/api/runs")
    assert [planted["operation"] for planted in server.pending_faults] == ["getRun"]
    assert wire.request("GET", f"/api/runs/{run_id}").status == 500


def test_a_fault_for_any_operation_meets_the_next_request(server: LocalControlPlane, wire: Wire) -> None:
    server.fail_next("*", 502)
    assert wire.request("GET", "/api/tokens").status == 502
    assert wire.request("GET", "/api/tokens").status == 200


@pytest.mark.parametrize("fault", [faults.reset(), faults.hang_up()])
def test_a_cut_connection_has_no_effect_on_the_server(
    fault: Fault, server: LocalControlPlane, wire: Wire, run_id: str
) -> None:
    server.fail_next("cancelRun", fault)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        wire.request("POST", f"/api/runs/{run_id}/cancel", {})
    assert wire.get(f"/api/runs/{run_id}")["status"] == "queued"
    assert server.journal[-2].fault == fault.kind
    assert server.journal[-2].status is None


def test_a_lost_answer_has_its_effect(server: LocalControlPlane, wire: Wire) -> None:
    server.fail_next("startSession", faults.lose_answer())
    with pytest.raises(ConnectionResetError):
        wire.start("scripted", external_id="once")
    assert wire.get("/api/sessions/by-external-id", external_id="once")["status"] == "open"


def test_refused_connections_are_accepted_again_after_the_time_asked_for(server: LocalControlPlane, wire: Wire) -> None:
    server.fail_next("listRuns", faults.refuse(0.2))
    with pytest.raises(ConnectionResetError):
        wire.get("/api/runs")
    with pytest.raises(ConnectionRefusedError):
        wire.get("/api/runs")
    until(lambda: _reachable(wire))


def _reachable(wire: Wire) -> bool:
    try:
        return wire.request("GET", "/api/runs").status == 200
    except ConnectionRefusedError:
        return False


def test_a_delayed_answer_is_the_usual_one(server: LocalControlPlane, wire: Wire) -> None:
    server.fail_next("listRuns", faults.delay(0.05))
    assert wire.get("/api/runs") == {"runs": []}
    assert server.journal[-1].fault == "delay"


def test_a_stream_can_end_properly_in_the_middle(server: LocalControlPlane, wire: Wire, finished: str) -> None:
    server.fail_next("getRunEvents", faults.close_stream(after=2))
    assert _ids(_follow(wire, finished)) == ["id: 1", "id: 2"]
    assert _ids(_follow(wire, finished)) == ["id: 1", "id: 2", "id: 3", "id: 4"]


def test_a_stream_can_end_before_its_first_event(server: LocalControlPlane, wire: Wire, finished: str) -> None:
    server.fail_next("getRunEvents", faults.close_stream())
    assert _follow(wire, finished) == []


def test_a_stream_can_be_reset_in_the_middle(server: LocalControlPlane, wire: Wire, finished: str) -> None:
    server.fail_next("getRunEvents", faults.reset_stream(after=1))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        _follow(wire, finished)


def test_half_a_frame_is_the_last_thing_that_comes(server: LocalControlPlane, wire: Wire, finished: str) -> None:
    whole = _follow(wire, finished)
    server.fail_next("getRunEvents", faults.half_frame(after=1))
    first, half = _follow(wire, finished)
    assert first == whole[0]
    assert half == whole[1][: len(half)]
    assert 0 < len(half) < len(whole[1])


def test_a_malformed_frame_keeps_its_id_and_the_stream_continues(
    server: LocalControlPlane, wire: Wire, finished: str
) -> None:
    server.fail_next("getRunEvents", faults.malformed_frame(after=1))
    frames = _follow(wire, finished)
    assert _ids(frames) == ["id: 1", "id: 2", "id: 3", "id: 4"]
    data = [frame.partition("data: ")[2].strip() for frame in frames]
    assert [_is_json(text) for text in data] == [True, False, True, True]


def test_an_oversize_frame_has_the_size_asked_for(server: LocalControlPlane, wire: Wire, finished: str) -> None:
    server.fail_next("getRunEvents", faults.oversize_frame(size=2_000_000))
    frames = _follow(wire, finished)
    assert len(frames[0]) > 2_000_000
    assert _ids(frames) == ["id: 1", "id: 2", "id: 3", "id: 4"]


def test_a_silent_stream_stays_open_without_a_comment(
    server: LocalControlPlane, wire: Wire, run_id: str, director: Director
) -> None:
    server.fail_next("getRunEvents", faults.silent_stream(after=1))
    with wire.stream(f"/api/runs/{run_id}/events") as stream:
        frames = stream.frames()
        assert next(frames).startswith("id: 1\n")
        director.end(run_id, lambda: None)
        server.resume_worker()
        wire.ended(run_id)
        # Longer than two comments would take.
        stream.response.fp.raw._sock.settimeout(0.5)  # type: ignore[attr-defined]
        with pytest.raises(TimeoutError):
            next(frames)


def test_a_stream_that_is_silent_from_the_beginning_sends_no_headers(
    server: LocalControlPlane, wire: Wire, finished: str
) -> None:
    server.fail_next("getRunEvents", faults.silent_stream())
    with wire.stream(f"/api/runs/{finished}/events") as stream:
        stream._connection.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            _ = stream.response


def test_dripped_frames_are_whole_in_the_end(server: LocalControlPlane, wire: Wire, finished: str) -> None:
    whole = _follow(wire, finished)
    server.fail_next("getRunEvents", faults.drip(0.0001, after=2))
    with wire.stream(f"/api/runs/{finished}/events") as stream:
        sizes = []
        while part := stream.response.read1(65536):
            sizes.append(len(part))
    assert sum(sizes) == sum(map(len, whole))
    # A read may return a few bytes, but never a frame.
    assert len(sizes) > 20
    server.fail_next("getRunEvents", faults.drip())
    assert _follow(wire, finished) == whole


def test_a_frame_can_come_twice_or_not_at_all(server: LocalControlPlane, wire: Wire, finished: str) -> None:
    server.fail_next("getRunEvents", faults.duplicate(after=1))
    assert _ids(_follow(wire, finished)) == ["id: 1", "id: 2", "id: 2", "id: 3", "id: 4"]
    server.fail_next("getRunEvents", faults.gap(after=1))
    assert _ids(_follow(wire, finished)) == ["id: 1", "id: 3", "id: 4"]


def test_a_cursor_can_be_expired_immediately_or_on_the_way(
    server: LocalControlPlane, wire: Wire, finished: str
) -> None:
    server.fail_next("getRunEvents", faults.expired_cursor())
    answer = wire.request("GET", f"/api/runs/{finished}/events")
    assert (answer.status, answer.json["code"]) == (410, "workspace_stream_cursor_expired")
    server.fail_next("getRunEvents", faults.expired_cursor(after=2))
    frames = _follow(wire, finished)
    assert _ids(frames[:2]) == ["id: 1", "id: 2"]
    assert [frame.splitlines()[1] for frame in frames[2:]] == ["event: workspace_stream_error"]


def test_late_headers_come_after_the_effect(server: LocalControlPlane, wire: Wire, run_id: str) -> None:
    server.fail_next("cancelRun", faults.late_headers(1.0))
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(wire.post, f"/api/runs/{run_id}/cancel", {})
        until(lambda: wire.get(f"/api/runs/{run_id}")["status"] == "cancelled")
        assert not answer.done()
        assert answer.result()["run"]["status"] == "cancelled"


def test_faults_of_streams_leave_pages_alone(server: LocalControlPlane, wire: Wire, finished: str) -> None:
    server.fail_next("getRunEvents", faults.half_frame())
    assert len(wire.get(f"/api/runs/{finished}/events")["events"]) == 4
    assert len(server.pending_faults) == 1


def test_down_and_up_again_is_the_same_control_plane(server: LocalControlPlane, wire: Wire, run_id: str) -> None:
    url = server.url
    with wire.stream(f"/api/runs/{run_id}/events") as stream:
        frames = stream.frames()
        next(frames)
        server.stop_listening()
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            next(frames)
    with pytest.raises(ConnectionRefusedError):
        wire.get("/api/runs")
    server.listen_again()
    assert server.url == url
    assert wire.get(f"/api/runs/{run_id}")["status"] == "queued"


def test_runs_continue_while_the_control_plane_does_not_listen(
    server: LocalControlPlane, wire: Wire, run_id: str, director: Director
) -> None:
    server.resume_worker()
    wire.until(run_id, "running")
    server.stop_listening()
    director.end(run_id, lambda: "meanwhile")
    server.listen_again()
    assert wire.ended(run_id)["output"] == "meanwhile"


def test_the_administration_plants_and_lists_faults_over_http(server: LocalControlPlane, wire: Wire) -> None:
    planted = {"operation": "listRuns", "fault": {"kind": "status", "status": 429, "retry_after": "3"}}
    assert wire.request("POST", "/_local/faults", planted).status == 201
    assert len(wire.request("GET", "/_local/faults").json["faults"]) == 1
    assert wire.request("GET", "/api/runs").headers["retry-after"] == "3"
    wire.request("POST", "/_local/faults", planted)
    wire.request("DELETE", "/_local/faults")
    assert server.pending_faults == []


def test_a_fault_that_does_not_exist_is_refused(wire: Wire) -> None:
    answer = wire.request("POST", "/_local/faults", {"operation": "listRuns", "fault": {"kind": "explode"}})
    assert answer.status == 400
    assert "explode" in answer.json["error"]
    assert wire.request("POST", "/_local/faults", {"fault": {"kind": "reset"}}).status == 400


def test_the_journal_shows_requests_without_secrets(server: LocalControlPlane, wire: Wire) -> None:
    token = wire.post("/api/tokens", {"metadata": {"leak": server.api_key}}, 201)
    server.clear_journal()
    request = urllib.request.Request(token["callback_url"], data=b'{"data": {"ok": 1}}', method="POST")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    wire.request("GET", "/api/nowhere", query={"limit": "5"})
    called, nowhere = server.journal
    assert called.path == f"/api/v1/tokens/{token['id']}/callback/<secret>"
    assert (called.method, called.operation, called.status) == ("POST", "callbackCompleteToken", 200)
    assert called.body == {"data": {"ok": 1}}
    assert (nowhere.operation, nowhere.status, nowhere.query) == (None, 404, {"limit": "5"})
    wire.post("/api/tokens", {"metadata": {"leak": server.api_key}}, 201)
    listed = json.dumps(wire.request("GET", "/_local/journal").json)
    assert server.api_key not in listed
    assert server.api_key not in repr(server.journal)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

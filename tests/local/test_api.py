"""Rules of the API that no single recording shows: concurrency, order of checks, scopes, what is absent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import SCOPES, LocalControlPlane, Settings
from helmr_provider.local.api.operations import OPERATIONS
from tests.conftest import CONTRACT
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from tests.support.local.scripted_tasks import Director


def _at_once(count: int, act: Any) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(act) for _ in range(count)]]


@pytest.fixture
def slow_starts(director: Director) -> Any:
    tasks = [director.define("scripted")]
    with LocalControlPlane(tasks, settings=Settings(start_latency=0.6)) as server:
        yield Wire(server)


def test_twelve_starts_of_one_external_id_make_one_session(slow_starts: Wire) -> None:
    body = {"task_id": "scripted", "external_id": "once"}
    answers = _at_once(12, lambda: slow_starts.request("POST", "/api/sessions", body))
    assert sorted(answer.status for answer in answers) == [200] * 11 + [201]
    assert len({answer.json["session"]["id"] for answer in answers}) == 1
    assert len({answer.json["run"]["id"] for answer in answers}) == 1


def test_of_simultaneous_starts_with_one_key_one_is_made_and_the_others_are_pending(slow_starts: Wire) -> None:
    body = {"task_id": "scripted", "idempotency_key": "k"}
    answers = _at_once(6, lambda: slow_starts.request("POST", "/api/sessions", body))
    made = [answer for answer in answers if answer.status == 201]
    pending = [answer for answer in answers if answer.status == 202]
    assert len(made) == 1
    assert pending
    for answer in pending:
        assert answer.headers["retry-after"] == "1"
        assert answer.json == {"code": "idempotency_pending", "error": "session_start_pending"}
    again = slow_starts.request("POST", "/api/sessions", body)
    assert (again.status, again.json["session"]["id"]) == (200, made[0].json["session"]["id"])


def test_of_eight_simultaneous_closes_exactly_one_succeeds(wire: Wire, director: Director) -> None:
    started = wire.start("scripted")
    director.end(started["run"]["id"], lambda: None)
    wire.ended(started["run"]["id"])
    path = f"/api/sessions/{started['session']['id']}/close"
    statuses = sorted(answer.status for answer in _at_once(8, lambda: wire.request("POST", path, {})))
    assert statuses == [200] + [409] * 7


def test_of_simultaneous_completions_with_other_data_one_wins(wire: Wire) -> None:
    token = wire.post("/api/tokens", {}, 201)["id"]
    numbers = iter(range(6))
    answers = _at_once(6, lambda: wire.request("POST", f"/api/tokens/{token}/complete", {"data": next(numbers)}))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 5


def test_an_absent_limit_and_the_same_limit_named_are_different_starts(wire: Wire) -> None:
    wire.start("scripted", external_id="x")
    answer = wire.request(
        "POST", "/api/sessions", {"task_id": "scripted", "external_id": "x", "max_duration_seconds": 900}
    )
    assert (answer.status, answer.json["code"]) == (409, "session_fingerprint_mismatch")


@pytest.mark.parametrize(("first", "second", "same"), [({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), (1, 1.0, False)])
def test_payloads_are_compared_as_json_values_with_their_number_format(
    wire: Wire, first: object, second: object, same: bool
) -> None:
    wire.start("scripted", first, external_id="x")
    body = {"task_id": "scripted", "payload": second, "external_id": "x"}
    assert wire.request("POST", "/api/sessions", body).status == (200 if same else 409)


def test_a_key_whose_time_is_over_starts_anew(wire: Wire) -> None:
    first = wire.start("scripted", idempotency_key="k", idempotency_key_ttl="50ms")
    body = {"task_id": "scripted", "idempotency_key": "k", "idempotency_key_ttl": "50ms"}
    until(lambda: wire.request("POST", "/api/sessions", body).json["session"]["id"] != first["session"]["id"])


def test_a_start_past_the_expiry_is_refused_though_the_run_lives(wire: Wire) -> None:
    started = wire.start("scripted", external_id="x", expires_at="2020-01-01T00:00:00Z")
    wire.until(started["run"]["id"], "running")
    body = {"task_id": "scripted", "external_id": "x", "expires_at": "2020-01-01T00:00:00Z"}
    assert wire.request("POST", "/api/sessions", body).json["code"] == "session_terminal"
    assert wire.get(f"/api/sessions/{started['session']['id']}")["status"] == "open"
    answer = wire.request("POST", f"/api/sessions/{started['session']['id']}/close", {})
    assert answer.json["code"] == "close_run_active"


def test_closing_a_session_past_its_expiry_that_was_not_swept_answers_expired(director: Director) -> None:
    with LocalControlPlane([director.define("scripted")], settings=Settings(sweep=3600)) as server:
        wire = Wire(server)
        started = wire.start("scripted", expires_at="2020-01-01T00:00:00Z")
        director.end(started["run"]["id"], lambda: None)
        wire.ended(started["run"]["id"])
        session = wire.get(f"/api/sessions/{started['session']['id']}")
        assert (session["status"], session["activity"], session["can_close"]) == ("open", "idle", False)
        closed = wire.post(f"/api/sessions/{started['session']['id']}/close", {})
        assert closed["status"] == "expired"


def test_cancelling_a_run_lets_pending_input_start_another_and_cancelling_the_session_ends_all(
    wire: Wire,
) -> None:
    started = wire.start("scripted")
    session = f"/api/sessions/{started['session']['id']}"
    wire.until(started["run"]["id"], "running")
    wire.post(f"{session}/inputs/messages", {"data": 1}, 201)
    wire.post(f"/api/runs/{started['run']['id']}/cancel", {})
    until(lambda: wire.get(session)["current_run_id"] != started["run"]["id"])
    second = wire.get(session)["current_run_id"]
    wire.post(f"{session}/inputs/messages", {"data": 2}, 201)
    wire.post(f"{session}/cancel", {"reason": "all of it"})
    assert wire.get(f"/api/runs/{second}")["status"] == "cancelled"
    assert wire.get(session)["status"] == "cancelled"
    assert len(wire.get(f"{session}/runs")["runs"]) == 2


def test_the_whole_session_lives_in_its_environment(server: LocalControlPlane, wire: Wire) -> None:
    staging = Wire(server, server.create_key(environment="staging"))
    mine = wire.start("scripted", external_id="shared", idempotency_key="k")
    theirs = staging.start("scripted", external_id="shared", idempotency_key="k")
    assert mine["session"]["id"] != theirs["session"]["id"]
    for path in (
        f"/api/sessions/{mine['session']['id']}",
        f"/api/sessions/{mine['session']['id']}/runs",
        f"/api/runs/{mine['run']['id']}",
        f"/api/runs/{mine['run']['id']}/events",
        f"/api/runs/{mine['run']['id']}/logs",
    ):
        assert staging.request("GET", path).status == 404
    assert staging.request("POST", f"/api/runs/{mine['run']['id']}/cancel", {}).status == 404
    assert [run["id"] for run in staging.get("/api/runs")["runs"]] == [theirs["run"]["id"]]


def test_the_version_is_checked_before_credentials_and_these_before_the_body(wire: Wire) -> None:
    old = {"Helmr-API-Version": "2020-01-01"}
    assert wire.request("POST", "/api/sessions", raw=b"{", headers=old).status == 400
    assert wire.request("POST", "/api/sessions", raw=b"{", headers={}).status == 401
    blank = {"Helmr-API-Version": " ", "Authorization": f"Bearer {wire.key}"}
    assert wire.request("GET", "/api/runs", headers=blank).status == 200


def test_an_unknown_scope_is_refused_when_a_key_is_made(server: LocalControlPlane) -> None:
    with pytest.raises(ValueError, match="runs:everything"):
        server.create_key(["runs:everything"])


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.scope in SCOPES], ids=lambda operation: operation.name
)
def test_every_operation_refuses_a_key_without_its_scope(operation: Any, shared: LocalControlPlane) -> None:
    path = operation.path.replace("{", "").replace("}", "")
    others = [scope for scope in SCOPES if scope != operation.scope]
    answer = Wire(shared, shared.create_key(others)).request(operation.method, path, {})
    assert (answer.status, answer.json) == (403, {"error": "permission is required"})


@pytest.fixture(scope="module")
def shared() -> Any:
    with LocalControlPlane(settings=QUICK) as server:
        yield server


def test_no_operation_is_there_twice() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_the_table_has_every_operation_of_the_contract_at_its_place() -> None:
    import yaml

    paths = yaml.safe_load((CONTRACT / "openapi.yaml").read_text())["paths"]
    wanted = {
        (operation["operationId"], method.upper(), path)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if path.startswith("/api/") and isinstance(operation, dict)
    }
    assert {(one.name, one.method, one.path) for one in OPERATIONS} == wanted


def test_a_body_over_the_limit_is_refused_without_being_declared(director: Director) -> None:
    with LocalControlPlane([director.define("scripted")], settings=Settings(max_body=1000)) as server:
        answer = Wire(server).request("POST", "/api/tokens", {"metadata": {"big": "x" * 1000}})
        assert (answer.status, answer.json) == (413, {"error": "request body is too large"})


def test_a_list_is_cut_at_its_limit_newest_first(server: LocalControlPlane, wire: Wire) -> None:
    server.pause_worker()
    made = [wire.start("scripted")["run"]["id"] for _ in range(5)]
    assert [run["id"] for run in wire.get("/api/runs", limit="3")["runs"]] == made[:1:-1]


def test_pages_of_tokens_lead_through_all_of_them_once(wire: Wire) -> None:
    made = [wire.post("/api/tokens", {}, 201)["id"] for _ in range(7)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = wire.get("/api/tokens", limit="3", status="pending", **cursor)
        seen += [token["id"] for token in page["tokens"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == made


def test_readiness_and_health_need_no_key(wire: Wire) -> None:
    assert wire.request("GET", "/healthz", headers={}).json == {"status": "ok"}
    assert wire.request("GET", "/readyz", headers={}).json == {"status": "ready"}

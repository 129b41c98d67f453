"""The actions of tasks, and the runs that result."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import (
    LocalControlPlane,
    TaskFailure,
    TaskInput,
    TokenCancelled,
    TokenExpired,
    WaitTimedOut,
    task,
)
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.local import (
        TaskContext,
    )
    from tests.support.local.scripted_tasks import Director


def _logs(wire: Wire, run_id: str) -> tuple[str, str]:
    found = wire.get(f"/api/runs/{run_id}/logs")
    return base64.b64decode(found["stdout_base64"]).decode(), base64.b64decode(found["stderr_base64"]).decode()


def _last_event(wire: Wire, run_id: str) -> Any:
    return wire.get(f"/api/runs/{run_id}/events")["events"][-1]


def test_the_release_summary_asks_no_one_when_the_payload_has_the_decision(examples: Wire) -> None:
    started = examples.start("release-summary", {"repository": "acme/api", "decision": {"approved": True}})
    run = examples.ended(started["run"]["id"])
    assert run["status"] == "succeeded"
    assert run["output"]["repository"] == "acme/api"
    assert run["output"]["approved"] is True
    stdout, stderr = _logs(examples, run["id"])
    assert "acme/api" in stdout
    assert stderr == ""


@pytest.mark.parametrize(("decision", "approved"), [({"approved": True}, True), ({"approved": False}, False)])
def test_the_release_summary_waits_for_the_token_that_the_payload_names(
    examples: Wire, decision: dict[str, bool], approved: bool
) -> None:
    token = examples.post("/api/tokens", {}, 201)["id"]
    run_id = examples.start("release-summary", {"token_id": token, "work_seconds": 0})["run"]["id"]
    examples.until(run_id, "waiting")
    examples.post(f"/api/tokens/{token}/complete", {"data": decision})
    run = examples.ended(run_id)
    assert (run["output"]["approved"], run["output"]["decision"]) == (approved, decision)


def test_the_release_summary_makes_a_token_of_its_own_and_names_it(examples: Wire) -> None:
    run_id = examples.start("release-summary", {"work_seconds": 0})["run"]["id"]
    token = examples.until(run_id, "waiting")["metadata"]["token_id"]
    examples.post(f"/api/tokens/{token}/complete", {"data": "approved"})
    assert examples.ended(run_id)["output"]["approved"] is True


def test_the_example_that_fails_says_why_in_event_and_stderr_but_not_in_the_snapshot(examples: Wire) -> None:
    run = examples.ended(examples.start("fail", {"message": "no disk left"})["run"]["id"])
    assert run["status"] == "failed"
    assert "no disk left" not in str(run)
    assert _last_event(examples, run["id"])["attributes"] == {
        "detail": {"message": "no disk left"},
        "failure_kind": "worker_failed",
    }
    assert _logs(examples, run["id"])[1] == "no disk left\n"


def test_the_example_that_retries_succeeds_with_its_second_attempt(examples: Wire) -> None:
    run = examples.ended(examples.start("retry-once")["run"]["id"])
    assert (run["status"], run["attempt_number"], run["output"]) == ("succeeded", 2, {"attempt": 2})


def test_echo_returns_falsy_payloads_as_they_are(examples: Wire) -> None:
    payloads: tuple[Any, ...] = (0, False, "", [], {})
    for payload in payloads:
        run = examples.ended(examples.start("echo", payload)["run"]["id"])
        assert run["output"] == payload
        assert type(run["output"]) is type(payload)


def test_the_conversation_answers_each_message_until_the_end(examples: Wire) -> None:
    started = examples.start("conversation", {"greeting": "Hi"})
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    for message in ("one", {"text": "two", "end": True}):
        examples.until(run_id, "waiting")
        record = {"data": message, "correlation_id": f"c-{message}"}
        examples.post(f"/api/sessions/{session_id}/inputs/messages", record, 201)
    assert examples.ended(run_id)["output"] == {"messages": 2, "heard": ["one", "two"]}
    answers = examples.get(f"/api/sessions/{session_id}/outputs/messages")["records"]
    assert [(answer["data"]["text"], answer["correlation_id"]) for answer in answers] == [
        ("Hi. You said: one", "c-one"),
        ("Hi. You said: two", "c-{'text': 'two', 'end': True}"),
    ]


def test_work_is_running_or_waiting_as_asked(examples: Wire) -> None:
    running = examples.start("work", {"seconds": 600})["run"]["id"]
    waiting = examples.start("work", {"seconds": 600, "waiting": True})["run"]["id"]
    examples.until(running, "running")
    examples.until(waiting, "waiting")


def test_an_exception_is_a_failed_task_with_its_traceback_on_stderr(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]

    def explode() -> None:
        raise LookupError("nothing there")

    director.end(run_id, explode)
    run = wire.ended(run_id)
    assert (run["status"], run["exit_code"]) == ("failed", 1)
    attributes = _last_event(wire, run_id)["attributes"]
    assert attributes["failure_kind"] == "task_failed"
    assert attributes["detail"] == {"message": "LookupError: nothing there", "exit_code": 1}
    assert _logs(wire, run_id)[1].rstrip().endswith("LookupError: nothing there")


@pytest.mark.parametrize(("code", "status", "exit_code"), [(0, "succeeded", 0), (3, "failed", 3), ("why", "failed", 1)])
def test_leaving_the_process_is_the_end_of_the_run_only(
    wire: Wire, director: Director, code: int | str, status: str, exit_code: int
) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    director.end(run_id, lambda: sys.exit(code))
    run = wire.ended(run_id)
    assert (run["status"], run["exit_code"]) == (status, exit_code)
    assert "output" not in run


def test_a_task_that_leaves_a_wait_behind_fails_with_advice(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]

    async def impatient(ctx: TaskContext) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ctx.sleep(3600), timeout=0.05)
        ctx.log("never written")

    director.tell(run_id, impatient)
    assert wire.ended(run_id)["status"] == "failed"
    assert "timeout" in _last_event(wire, run_id)["attributes"]["detail"]["message"]


def test_a_result_that_is_no_json_fails_the_run(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    director.end(run_id, lambda: {1, 2})
    assert wire.ended(run_id)["status"] == "failed"
    assert "not JSON serializable" in _last_event(wire, run_id)["attributes"]["detail"]["message"]


@pytest.mark.parametrize(
    ("ending", "error"), [("cancel", TokenCancelled), ("expire", TokenExpired), ("time out", WaitTimedOut)]
)
def test_a_wait_for_a_token_ends_with_what_happened_to_it(
    wire: Wire, director: Director, ending: str, error: type[Exception]
) -> None:
    token = wire.post("/api/tokens", {"timeout": 150 if ending == "expire" else "1h"}, 201)["id"]
    run_id = wire.start("scripted")["run"]["id"]

    async def wait(ctx: TaskContext) -> str:
        with pytest.raises(error):
            await ctx.wait_for_token(token, timeout=0.05 if ending == "time out" else None)
        return "done"

    director.tell(run_id, wait)
    if ending == "cancel":
        wire.until(run_id, "waiting")
        wire.request("POST", f"/api/tokens/{token}/cancel")
    until(lambda: director.results(run_id) == ["done"])


def test_a_token_that_is_completed_already_is_not_waited_for(wire: Wire, director: Director) -> None:
    token = wire.post("/api/tokens", {}, 201)["id"]
    wire.post(f"/api/tokens/{token}/complete", {"data": [1]})
    run_id = wire.start("scripted")["run"]["id"]
    director.tell(run_id, lambda ctx: ctx.wait_for_token(token))
    until(lambda: director.results(run_id) == [[1]])


def test_two_runs_that_wait_for_one_token_both_continue(wire: Wire, director: Director) -> None:
    token = wire.post("/api/tokens", {}, 201)["id"]
    waiting = [wire.start("scripted")["run"]["id"] for _ in range(2)]
    for run_id in waiting:
        director.tell(run_id, lambda ctx: ctx.wait_for_token(token))
        wire.until(run_id, "waiting")
    wire.post(f"/api/tokens/{token}/complete", {"data": "go"})
    until(lambda: all(director.results(run_id) == ["go"] for run_id in waiting))


def test_a_token_of_another_environment_cannot_be_waited_for(
    server: LocalControlPlane, wire: Wire, director: Director
) -> None:
    staging = Wire(server, server.create_key(environment="staging"))
    token = staging.post("/api/tokens", {}, 201)["id"]
    run_id = wire.start("scripted")["run"]["id"]
    director.tell(run_id, lambda ctx: ctx.wait_for_token(token))
    assert wire.ended(run_id)["status"] == "failed"


def test_a_token_that_a_cancelled_run_waited_for_stays_pending(wire: Wire, director: Director) -> None:
    token = wire.post("/api/tokens", {}, 201)["id"]
    run_id = wire.start("scripted")["run"]["id"]
    director.tell(run_id, lambda ctx: ctx.wait_for_token(token))
    wire.until(run_id, "waiting")
    wire.post(f"/api/runs/{run_id}/cancel", {})
    assert wire.get(f"/api/tokens/{token}")["status"] == "pending"


def test_secrets_of_a_token_stay_out_of_its_text(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]

    async def create(ctx: TaskContext) -> str:
        return repr(await ctx.create_token())

    director.tell(run_id, create)
    until(lambda: len(director.results(run_id)) == 1)
    assert "hlmr_" not in director.results(run_id)[0]


def test_a_run_reads_its_input_in_order_and_by_correlation(wire: Wire, director: Director) -> None:
    started = wire.start("scripted")
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    for data, correlation in (("a", "x"), ("b", "y"), ("c", "x")):
        record = {"data": data, "correlation_id": correlation}
        wire.post(f"/api/sessions/{session_id}/inputs/messages", record, 201)
    director.tell(run_id, lambda ctx: ctx.wait_for_input("messages", correlation_id="y"))
    director.tell(run_id, lambda ctx: ctx.wait_for_input("messages"))
    # Reading uses nothing up.
    for _ in range(2):
        director.tell(run_id, lambda ctx: ctx.wait_for_input("messages", after_sequence=0))
    director.tell(run_id, lambda ctx: ctx.wait_for_input("messages", correlation_id="x"))
    until(lambda: director.results(run_id) == ["b", "c", "a", "a", "c"])


def test_a_wait_ignores_records_up_to_its_sequence(wire: Wire, director: Director) -> None:
    started = wire.start("scripted")
    path, run_id = f"/api/sessions/{started['session']['id']}/inputs/messages", started["run"]["id"]
    director.tell(run_id, lambda ctx: ctx.wait_for_input("messages", after_sequence=1))
    wire.until(run_id, "waiting")
    wire.post(path, {"data": "first"}, 201)
    assert wire.get(f"/api/runs/{run_id}")["status"] == "waiting"
    wire.post(path, {"data": "second"}, 201)
    until(lambda: director.results(run_id) == ["second"])


def test_each_turn_begins_with_the_first_record_unless_it_continues_after_its_cause(
    wire: Wire, director: Director
) -> None:
    started = wire.start("scripted")
    path, run_id = f"/api/sessions/{started['session']['id']}/inputs/messages", started["run"]["id"]
    director.end(run_id, lambda: None)
    wire.ended(run_id)
    for sequence, data in enumerate(("a", "b"), start=1):
        wire.post(path, {"data": data, "correlation_id": f"id-{data}"}, 201)
        run_id = wire.get(f"/api/sessions/{started['session']['id']}")["current_run_id"]
        director.tell(run_id, lambda ctx: ctx.wait_for_input("messages"))
        director.tell(run_id, _waits_for_its_cause)
        director.tell(run_id, _reads_its_cause)
        until(lambda: len(director.results(_current_run(wire, started))) == 3)
        first, caused, record = director.results(run_id)
        assert (first, caused) == ("a", data)
        assert (record.sequence, record.correlation_id, record.data) == (sequence, f"id-{data}", data)
        director.end(run_id, lambda: None)
        wire.ended(run_id)


async def _waits_for_its_cause(ctx: TaskContext) -> Any:
    assert ctx.cause is not None
    return await ctx.wait_for_input("messages", after_sequence=ctx.cause.sequence - 1)


async def _reads_its_cause(ctx: TaskContext) -> Any:
    assert ctx.cause is not None
    return await ctx.peek("messages", after_sequence=ctx.cause.sequence - 1)


def _current_run(wire: Wire, started: dict[str, Any]) -> str:
    return str(wire.get(f"/api/sessions/{started['session']['id']}")["current_run_id"])


def test_input_can_be_received_with_what_it_came_with(wire: Wire, director: Director) -> None:
    started = wire.start("scripted")
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    for record in ({"data": {"text": "a"}, "correlation_id": "x"}, {"data": None}):
        wire.post(f"/api/sessions/{session_id}/inputs/messages", record, 201)
    for _ in range(2):
        director.tell(run_id, lambda ctx: ctx.receive("messages"))
    until(lambda: director.results(run_id) == [TaskInput({"text": "a"}, 1, "messages"), TaskInput(None, 2, "messages")])


def test_unconsumed_input_starts_the_next_turn_and_is_its_first_record(wire: Wire, director: Director) -> None:
    started = wire.start("scripted", {"n": 1}, metadata={"k": "v"})
    session_id, first = started["session"]["id"], started["run"]["id"]
    wire.post(f"/api/sessions/{session_id}/inputs/messages", {"data": "hello"}, 201)
    director.end(first, lambda: None)
    until(lambda: wire.get(f"/api/sessions/{session_id}")["current_run_id"] != first)
    second = wire.get(f"/api/sessions/{session_id}")["current_run_id"]
    created = wire.get(f"/api/runs/{second}/events")["events"][0]["attributes"]
    assert (created["reason"], created["payload"], created["cause"]["sequence"]) == ("input", {"n": 1}, 1)
    director.tell(second, lambda ctx: ctx.wait_for_input("messages"))
    until(lambda: director.results(second) == ["hello"])
    director.end(second, lambda: None)
    wire.ended(second)
    assert len(wire.get(f"/api/sessions/{session_id}/runs")["runs"]) == 2
    assert wire.get(f"/api/sessions/{session_id}")["activity"] == "idle"


def test_a_stream_that_no_task_declares_fails_the_task(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    director.tell(run_id, lambda ctx: ctx.publish("nowhere", 1))
    wire.ended(run_id)
    assert "nowhere" in _last_event(wire, run_id)["attributes"]["detail"]["message"]


def test_max_duration_ends_an_attempt_and_does_not_count_waits() -> None:
    @task("limited", max_duration=1.5)
    async def limited(ctx: TaskContext, payload: Any) -> str:
        await ctx.sleep(1.6)
        if payload == "too long":
            await asyncio.sleep(3600)
        return "in time"

    with LocalControlPlane([limited], settings=QUICK) as server:
        wire = Wire(server)
        quick = wire.start("limited", "quick")["run"]["id"]
        late = wire.start("limited", "too long")["run"]["id"]
        assert wire.ended(quick)["output"] == "in time"
        assert wire.ended(late)["status"] == "failed"
        attributes = _last_event(wire, late)["attributes"]
        assert attributes["failure_kind"] == "max_duration"
        assert attributes["detail"]["message"] == "run exceeded max duration"


def test_a_cancelled_run_changes_nothing_any_more(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    wire.until(run_id, "running")
    wire.post(f"/api/runs/{run_id}/cancel", {"force": True, "reason": "enough"})
    director.end(run_id, lambda: "too late")
    run = wire.get(f"/api/runs/{run_id}")
    assert run["status"] == "cancelled"
    assert "output" not in run
    assert wire.kinds(run_id) == ["run.created", "run.cancelled"]


def test_a_task_that_answers_its_cancellation_with_a_result_stays_cancelled() -> None:
    @task("stubborn")
    async def stubborn(ctx: TaskContext, payload: Any) -> str:
        del payload
        ctx.log("started")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "an ignored result"
        return "done"

    with LocalControlPlane([stubborn], settings=QUICK) as server:
        wire = Wire(server)
        run_id = wire.start("stubborn")["run"]["id"]
        until(lambda: "log.stdout" in wire.kinds(run_id))
        wire.post(f"/api/runs/{run_id}/cancel", {})
        until(lambda: wire.kinds(run_id)[-1] == "run.cancelled")
        assert wire.get(f"/api/runs/{run_id}")["status"] == "cancelled"


def test_priority_decides_which_queued_run_is_executed_first(
    server: LocalControlPlane, wire: Wire, director: Director
) -> None:
    order: list[str] = []
    server.pause_worker()
    for name, priority in (("low", 0), ("high", 9), ("middle", 5)):
        run_id = wire.start("scripted", priority=priority)["run"]["id"]

        async def note(ctx: TaskContext, name: str = name) -> None:
            del ctx
            order.append(name)

        director.tell(run_id, note)
    server.resume_worker()
    until(lambda: len(order) == 3)
    assert order == ["high", "middle", "low"]


def test_tasks_come_from_a_file(tmp_path: Path) -> None:
    source = "from helmr_provider.local import task\n@task('mine')\nasync def mine(ctx, payload):\n    return payload\n"
    (tmp_path / "tasks.py").write_text(source)
    with LocalControlPlane(tmp_path / "tasks.py", settings=QUICK) as server:
        wire = Wire(server)
        assert wire.ended(wire.start("mine", 7)["run"]["id"])["output"] == 7
        assert wire.request("POST", "/api/sessions", {"task_id": "echo"}).json["code"] == "task_not_deployed"


def test_a_file_without_tasks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match="defines no task"):
        LocalControlPlane(tmp_path / "empty.py")


def test_malformed_tasks_are_refused_where_they_are_defined() -> None:
    with pytest.raises(ValueError, match="must match"):
        task("has space")
    with pytest.raises(ValueError, match="maxAttempts"):
        task("fine", retry={"maxAttempts": 11})


def test_a_failure_has_its_arguments_in_its_repr() -> None:
    failure = TaskFailure("no", exit_code=3)
    assert (failure.failure_kind, failure.exit_code, failure.detail) == ("worker_failed", 3, {"message": "no"})

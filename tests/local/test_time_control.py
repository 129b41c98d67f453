"""Time that is moved: everything that comes due does so at its own moment."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import DeclaredSchedule, LocalControlPlane, Settings, WaitTimedOut, _server_thread, task
from helmr_provider.local.common.clock import SECOND, Clock, parse_rfc3339
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local import TaskContext


@task("naps", max_duration=86_400)
async def naps(ctx: TaskContext, payload: Any) -> Any:
    for _ in range(3):
        await ctx.sleep(3600)
    return "awake"


@task("impatient")
async def impatient(ctx: TaskContext, payload: Any) -> Any:
    token = await ctx.create_token(timeout="2h")
    try:
        await ctx.wait_for_token(token, timeout=3600)
    except WaitTimedOut:
        return "waited an hour"


@task("endless", max_duration=600)
async def endless(ctx: TaskContext, payload: Any) -> Any:
    import asyncio

    await asyncio.Event().wait()


@task("again", retry={"maxAttempts": 2, "backoff": {"minMs": 60_000, "maxMs": 60_000, "factor": 1, "jitter": "none"}})
async def again(ctx: TaskContext, payload: Any) -> Any:
    if ctx.attempt_number == 1:
        raise ValueError("not yet")
    return "done"


@pytest.fixture
def server() -> Iterator[LocalControlPlane]:
    # No sweep comes by itself: what happens, happens because time was moved.
    settings = Settings(sweep=3600, schedule_jitter=0)
    with LocalControlPlane([naps, impatient, endless, again], settings=settings) as running:
        running.set_clock("manual")
        yield running


def _age(run: dict[str, Any]) -> int:
    return (parse_rfc3339(run["updated_at"]) - parse_rfc3339(run["created_at"])) // SECOND


@pytest.mark.parametrize(("task_id", "by", "before"), [("naps", "3h", "waiting"), ("impatient", "1h", "waiting")])
def test_a_waiting_run_wakes_when_its_time_has_come_and_not_before(
    server: LocalControlPlane, wire: Wire, task_id: str, by: str, before: str
) -> None:
    run_id = wire.start(task_id)["run"]["id"]
    wire.until(run_id, before)
    server.advance(1)
    assert wire.get(f"/api/runs/{run_id}")["status"] == before
    server.advance(by)
    assert wire.ended(run_id)["status"] == "succeeded"


def test_each_moment_on_the_way_is_stopped_at(server: LocalControlPlane, wire: Wire) -> None:
    run_id = wire.start("naps")["run"]["id"]
    wire.until(run_id, "waiting")
    server.advance("1d")
    run = wire.ended(run_id)
    assert _age(run) == 3 * 3600


def test_an_attempt_s_time_limit_is_of_the_same_clock(server: LocalControlPlane, wire: Wire) -> None:
    run_id = wire.start("endless")["run"]["id"]
    wire.until(run_id, "running")
    server.advance(timedelta(minutes=11))
    run = wire.ended(run_id)
    assert (run["status"], _age(run)) == ("failed", 600)


def test_a_retry_comes_after_its_delay(server: LocalControlPlane, wire: Wire) -> None:
    run_id = wire.start("again")["run"]["id"]
    until(lambda: "run.retry_scheduled" in wire.kinds(run_id))
    server.advance("59s")
    assert wire.get(f"/api/runs/{run_id}")["status"] == "queued"
    server.advance("1s")
    assert wire.ended(run_id)["output"] == "done"


def test_a_queued_run_and_a_pending_token_expire(server: LocalControlPlane, wire: Wire) -> None:
    server.pause_worker()
    run_id = wire.start("naps", ttl="10m")["run"]["id"]
    token = wire.post("/api/tokens", {"timeout": "1h"}, 201)
    server.advance("10m")
    assert wire.get(f"/api/runs/{run_id}")["status"] == "expired"
    assert wire.get(f"/api/tokens/{token['id']}")["status"] == "pending"
    server.advance("50m")
    assert wire.get(f"/api/tokens/{token['id']}")["status"] == "expired"


def test_a_schedule_fires_as_often_as_its_time_comes(server: LocalControlPlane, wire: Wire) -> None:
    body = {"task": "naps", "deduplication_key": "hourly", "cron": "0 * * * *", "timezone": "UTC"}
    answer = wire.request("POST", "/api/schedules", body)
    assert answer.status in (200, 201), answer
    server.advance("1d")
    assert len(wire.get("/api/sessions")["sessions"]) == 24


def test_over_http_it_is_the_same_clock(server: LocalControlPlane, wire: Wire) -> None:
    before = wire.get("/_local/clock")
    assert (wire.get("/_local/clock"), before["rate"]) == (before, 0)
    after = wire.post("/_local/clock/advance", {"by": "90m"})
    assert parse_rfc3339(after["now"]) - parse_rfc3339(before["now"]) == 5400 * SECOND
    assert wire.request("PUT", "/_local/clock", {"mode": "scaled", "rate": 3600}).json["rate"] == 3600
    run_id = wire.start("impatient")["run"]["id"]
    wire.until(run_id, "waiting")
    assert wire.request("PUT", "/_local/clock", {"mode": "real"}).json["rate"] == 1
    for wrong in ({"mode": "sideways"}, {"mode": "scaled"}, {"mode": "manual", "rate": 2}):
        assert wire.request("PUT", "/_local/clock", wrong).status == 400
    assert wire.request("POST", "/_local/clock/advance", {"by": "-1h"}).status == 400


def test_scaled_time_passes_by_itself() -> None:
    with LocalControlPlane([naps], settings=Settings(sweep=0.01)) as server:
        server.set_clock("scaled", 36_000)
        wire = Wire(server)
        run = wire.ended(wire.start("naps")["run"]["id"])
    assert run["output"] == "awake"
    assert _age(run) >= 3 * 3600


def test_a_clock_that_stands_still_never_comes_to_a_later_instant() -> None:
    clock = Clock()
    clock.set_rate(0)
    assert clock.now() == clock.now()
    assert clock.seconds_until(clock.now() + 1) == float("inf")
    assert clock.seconds_until(clock.now()) == 0
    clock.set_rate(2)
    assert 0 < clock.seconds_until(clock.now() + 10 * SECOND) <= 5


def test_a_day_with_a_schedule_of_every_minute_is_advanced_to_its_end() -> None:
    @task("tick", schedules=[DeclaredSchedule("each-minute", "* * * * *")])
    async def tick(ctx: TaskContext, payload: Any) -> None: ...

    settings = Settings(sweep=3600, schedule_jitter=0)
    with LocalControlPlane([tick], settings=settings) as server:
        server.set_clock("manual")
        server.advance("6h")
        wire = Wire(server)
        assert wire.get("/api/runs/counts")["succeeded"] == 360


def test_a_chain_of_steps_at_one_moment_is_finished_before_time_moves() -> None:
    @task("busy", max_duration=86_400)
    async def busy(ctx: TaskContext, payload: Any) -> Any:
        import asyncio

        await ctx.sleep(60)
        for number in range(20):
            ctx.log(str(number))
            for _ in range(20):
                await asyncio.sleep(0)
        return "done"

    with LocalControlPlane([busy], settings=Settings(sweep=3600)) as server:
        server.set_clock("manual")
        wire = Wire(server)
        run_id = wire.start("busy")["run"]["id"]
        wire.until(run_id, "waiting")
        server.advance(60)
        assert wire.get(f"/api/runs/{run_id}")["status"] == "succeeded"


def test_the_end_of_one_environment_leaves_the_clock_to_the_others() -> None:
    with LocalControlPlane() as server:
        first, second = server.environment("first"), server.environment("second")
        server.set_clock("manual")
        first.end()
        assert server.running.core.clock.rate == 0
        second.end()
        assert server.running.core.clock.rate == 1


def test_a_command_that_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    with LocalControlPlane() as server:
        monkeypatch.setattr(_server_thread, "_ANSWER_SECONDS", 0.01)
        monkeypatch.setattr(server.running.worker, "pause", lambda: time.sleep(0.2))
        with pytest.raises(TimeoutError, match="did not answer within"):
            server.pause_worker()
        monkeypatch.undo()

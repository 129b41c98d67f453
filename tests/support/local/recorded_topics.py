"""The recordings by topic, each with the state that it needs, reached as a user would reach it."""

from __future__ import annotations

import base64
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from helmr_provider.local import DeclaredSchedule, LocalControlPlane, Settings, TaskFailure
from tests.support.local import recorded_later_topics as later_topics
from tests.support.local import recorded_resource_topics as resource_topics
from tests.support.local.scenario import MovableClock, Scenario
from tests.support.local.scripted_tasks import Director
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.local.scripted_tasks import Act

FAST = Settings(start_and_wait=0.5, keep_alive=0.3, log_poll=0.05, sweep=0.05)

_OUTPUTS: dict[int, Any] = {
    897: 0,
    898: False,
    899: "",
    900: {},
    901: [1, {"a": None}],
    902: "done ✓",
    903: None,
}


def errors(scenario: Scenario) -> None:
    """Errors, credentials, scopes."""
    scenario.server.pause_worker()
    started = scenario.wire.start("code-review")
    scenario.replay.bind("01a20972-364e-75ae-a50d-ebaecf02e71e", started["run"]["id"])
    scenario.replay.bind("01a20972-364e-75b1-a17b-0ebce737ce79", started["session"]["id"])
    scenario.replay.bind("01a20972-3651-787e-a895-833f248e6702", started["session"]["workspace_id"])
    scenario.play(*range(1, 10), *range(11, 28), *range(33, 48))


def sessions(scenario: Scenario) -> None:
    """Sessions."""
    scenario.server.pause_worker()
    scenario.play(*range(60, 64))
    workspace = scenario.wire.get("/api/sessions", limit="1")["sessions"][0]["workspace_id"]
    scenario.replay.bind("01a20973-71ca-79b8-9004-043b2648bcc3", workspace)
    scenario.play(*range(64, 143))
    scenario.server.resume_worker()
    run = scenario.begin(143, "session", payload={"a": 1}, external_id="close-me:9ed099")
    scenario.play(143, 144)
    scenario.end(run, {"ok": True, "value": {"summary": "fine"}})
    scenario.play(*range(145, 154))
    run = scenario.begin(154, "session")
    scenario.director.hold(run)
    scenario.play(154, 155, 156)
    scenario.director.release(run)
    until(lambda: scenario.wire.kinds(run)[-1] == "run.cancelled")
    scenario.play(157)
    soon = f"{datetime.now(UTC) + timedelta(seconds=2):%Y-%m-%dT%H:%M:%SZ}"
    run = scenario.begin(158, "session", external_id="exp:9ed099", expires_at=soon)
    scenario.end(run)
    session = scenario.wire.get("/api/sessions/by-external-id", external_id="exp:9ed099")["id"]
    until(lambda: scenario.wire.get(f"/api/sessions/{session}")["status"] == "expired")
    scenario.play(*range(158, 162))
    core = scenario.server.running.core
    quick, core.settings = core.settings, replace(core.settings, start_and_wait=60.0)
    scenario.play(162, during=_end_next(scenario, {"answer": 42}))
    scenario.play(163)
    scenario.play(164, during=_fail_next(scenario))
    scenario.play(165, during=_exit_next(scenario))
    core.settings = quick
    scenario.server.pause_worker()
    scenario.play(166, 167)
    scenario.play(920, 921, 922)


def pending_starts(scenario: Scenario) -> None:
    """Starts while another start holds the same idempotency key."""
    scenario.server.pause_worker()
    body = scenario.recorded(890)["request"]["json"]
    with _started(scenario, body):
        scenario.play(890)
    scenario.replay.bind("pending-70e2f1", "another")
    # This one is refused in the end, as another session has the name by then, and leaves its key free.
    named = {"task_id": body["task_id"], "external_id": "taken"}
    with _started(scenario, named), _started(scenario, {**named, "idempotency_key": "another", "payload": "other"}):
        scenario.play(891)
    scenario.play(892)


@contextmanager
def _started(scenario: Scenario, body: dict[str, Any]) -> Iterator[None]:
    """Have a start under way for the whole block, and for as long as it takes after it."""
    known = len(scenario.server.journal)
    start = threading.Thread(target=scenario.wire.request, args=("POST", "/api/sessions", body))
    start.start()
    until(lambda: len(scenario.server.journal) > known)
    yield
    start.join()


def streams(scenario: Scenario) -> None:
    """Session streams."""
    run = scenario.begin(240, "session", external_id="chat/37f93f", task="approval-message")
    scenario.play(*range(240, 265))
    scenario.do(
        run,
        lambda ctx: ctx.publish("progress", {"pct": 10}),
        lambda ctx: ctx.publish("progress", {"pct": 60}, correlation_id="step-2"),
        lambda ctx: ctx.publish("progress", {"pct": 100}),
    )
    scenario.play(*range(265, 279))
    waiting = scenario.begin(279, "session", task="approval-message")
    scenario.director.tell(waiting, lambda ctx: ctx.wait_for_input("approval"))
    scenario.wire.until(waiting, "waiting")
    scenario.play(279)
    scenario.server.pause_worker()
    scenario.play(280)
    scenario.replay.bind("01a20974-b17a-7651-8795-135bbd297899", waiting)
    scenario.play(281)
    scenario.server.resume_worker()
    scenario.wire.until(waiting, "running")
    scenario.end(waiting)
    scenario.server.pause_worker()
    scenario.play(282, 283, 284, 285)
    scenario.end(run)
    session = scenario.wire.get("/api/sessions/by-external-id", external_id="chat/37f93f")["id"]
    until(lambda: len(scenario.wire.get(f"/api/sessions/{session}/runs")["runs"]) == 2)
    scenario.play(286)
    scenario.wire.post(f"/api/sessions/{session}/cancel", {})
    scenario.play(287, 288)


def runs(scenario: Scenario) -> None:
    """Runs, their events, their logs."""
    _a_run_from_queue_to_success(scenario)
    _failures_and_retries(scenario)
    _cancellations(scenario)
    scenario.play(377, 379)
    woken = scenario.begin(380, status="running")
    scenario.end(woken, "woke up")
    scenario.play(*range(380, 394))
    scenario.play(394, masked=True)
    scenario.play(395, 396)


def _a_run_from_queue_to_success(scenario: Scenario) -> None:
    scenario.server.pause_worker()
    run = scenario.begin(310, "run", status="queued", payload={"n": 1}, metadata={"k": "v"}, tags=["a", "b"])
    scenario.play(310, 311, 312)
    scenario.server.resume_worker()
    scenario.wire.until(run, "running")
    scenario.play(313, 314)
    scenario.do(
        run,
        _writes("stdout", b"cloning acme/web\n"),
        _writes("stderr", "warning: héllo ✓\n".encode()),
        _notes_an_entry,
        lambda ctx: ctx.set_metadata(phase="review", count=2, progress={"pct": 50}),
    )
    scenario.play(315)
    scenario.director.tell(run, _waits_for_its_token)
    scenario.wire.until(run, "waiting")
    scenario.play(316)
    session = scenario.wire.get(f"/api/runs/{run}")["session_id"]
    scenario.replay.bind("01a20975-ca7f-7a7a-852f-21b355e632d8", session)
    scenario.play(*range(317, 321))
    scenario.server.pause_worker()
    token = scenario.wire.get("/api/tokens")["tokens"][-1]["id"]
    scenario.wire.post(f"/api/tokens/{token}/complete", {"data": {"approved": True}})
    scenario.play(321)
    scenario.server.resume_worker()
    scenario.wire.until(run, "running")
    scenario.play(322)
    scenario.do(run, _writes("stdout", b"\0\xff\n"))
    scenario.end(run, {"ok": True, "summary": "merged"})
    scenario.play(*range(323, 336), *range(337, 345))


def _failures_and_retries(scenario: Scenario) -> None:
    run = scenario.begin(345, "run", task="failure-boundary", payload={"mode": "worker"})
    scenario.do(run, _writes("stderr", b"oops\n"))
    scenario.fail(run, TaskFailure("boom: fixture failure"))
    scenario.wire.ended(run)
    scenario.play(345, 346, 347)
    run = scenario.begin(348, "run", task="failure-boundary")
    scenario.fail(run, TaskFailure(failure_kind="task_failed", exit_code=3, detail={"exit_code": 3}))
    scenario.wire.ended(run)
    scenario.play(348, 349)
    run = scenario.begin(350, "run", task="failure-boundary")
    limit = {"message": "run exceeded max duration", "limit_seconds": 600}
    scenario.fail(run, TaskFailure(failure_kind="max_duration", detail=limit))
    scenario.wire.ended(run)
    scenario.play(350)
    run = scenario.begin(351, "run", task="failure-boundary", retry=_retry(300))
    scenario.server.pause_worker()
    scenario.fail(run, TaskFailure("first attempt failed"))
    scenario.wire.until(run, "queued")
    scenario.play(351, 352)
    scenario.server.resume_worker()
    scenario.wire.until(run, "running")
    scenario.end(run, {"attempt": 2})
    scenario.play(353, 354)
    scenario.server.pause_worker()
    scenario.begin(355, "run", status="queued", ttl="2s")
    scenario.play(355, 356, 357, 358)


def _cancellations(scenario: Scenario) -> None:
    scenario.begin(359, "run", status="queued")
    scenario.play(*range(359, 365), 375, 376)
    scenario.server.resume_worker()
    run = scenario.begin(365, "run")
    scenario.director.hold(run)
    scenario.play(365, 366)
    scenario.director.release(run)
    until(lambda: scenario.wire.kinds(run)[-1] == "run.cancelled")
    scenario.play(367)
    scenario.begin(368, "run")
    scenario.play(368, 369, 370)
    run = scenario.begin(371, "run")
    scenario.director.tell(run, lambda ctx: ctx.sleep(3600))
    scenario.wire.until(run, "waiting")
    scenario.play(371, 372, 373, 374)


def live_streams(scenario: Scenario) -> None:
    """Streams of live runs."""
    scenario.server.pause_worker()
    run = scenario.begin(397, "run", status="queued", payload={"live": True})
    first = [
        lambda: _resume_with(scenario, run, _writes("stdout", b"line\n")),
        lambda: scenario.director.tell(run, _notes_an_entry),
        lambda: scenario.director.tell(run, lambda ctx: ctx.set_metadata(a=1)),
        lambda: scenario.director.end(run, lambda: None),
    ]
    scenario.play(397, steps=first)
    logging = scenario.begin(398, "run")
    lines = [("stdout", b"line 1\n"), ("stderr", b"oops\n"), ("stdout", b"line 2\n")]
    steps: list[Callable[[], Any]] = [
        lambda line=line: scenario.director.tell(logging, _writes(*line))  # type: ignore[misc]
        for line in lines
    ]
    scenario.play(398, steps=[*steps, lambda: scenario.director.end(logging, lambda: None)])
    cancelled = scenario.begin(399, "run")
    scenario.director.hold(cancelled)
    cancel = [
        lambda: scenario.wire.post(f"/api/runs/{cancelled}/cancel", {"reason": "user"}),
        lambda: scenario.director.release(cancelled),
    ]
    scenario.play(399, steps=cancel)
    scenario.server.pause_worker()
    idle = scenario.begin(400, "run", status="queued")
    scenario.play(400)
    scenario.wire.post(f"/api/runs/{idle}/cancel", {})
    scenario.server.resume_worker()
    retried = scenario.begin(401, "run", task="failure-boundary", retry=_retry(1500))
    fails = [lambda: scenario.fail(retried, TaskFailure("first attempt failed"))]
    scenario.play(401, steps=fails)
    scenario.play(402)
    scenario.play(403, steps=[lambda: scenario.director.end(retried, lambda: None)])
    scenario.play(404)
    _timers(scenario)


def _timers(scenario: Scenario) -> None:
    run = scenario.begin(405, "run")
    scenario.server.set_clock("manual")
    scenario.director.tell(run, lambda ctx: ctx.sleep(60))
    scenario.wire.until(run, "waiting")
    scenario.server.pause_worker()
    scenario.server.advance(60)
    scenario.wire.until(run, "queued")
    scenario.play(405, 406, 407)
    scenario.server.resume_worker()
    scenario.wire.until(run, "running")
    finished = scenario.begin(408, "run")
    scenario.end(finished)
    scenario.play(408)
    waiting = scenario.begin(409, "run", task="approval-message")
    scenario.director.tell(waiting, lambda ctx: ctx.wait_for_input("approval", timeout=60))
    scenario.wire.until(waiting, "waiting")
    scenario.server.pause_worker()
    scenario.server.advance(60)
    scenario.wire.until(waiting, "queued")
    scenario.play(409)


def outputs(scenario: Scenario) -> None:
    """Order of lists, every kind of output, many logs."""
    scenario.server.pause_worker()
    queued = [scenario.wire.start("code-review")["run"]["id"] for _ in range(3)]
    scenario.play(894, 895)
    scenario.play(896, masked=True)
    for run in queued:
        scenario.wire.post(f"/api/runs/{run}/cancel", {})
    scenario.server.resume_worker()
    for number, output in _OUTPUTS.items():
        scenario.end(scenario.begin(number, "run"), output)
        scenario.play(number)
    events = scenario.recorded(905)["response"]["json"]["events"]
    run = scenario.begin(904, "run", payload=events[0]["attributes"]["payload"])
    content = base64.b64decode(scenario.recorded(904)["response"]["json"]["stdout_base64"])
    scenario.do(run, *(_writes("stdout", line) for line in content.splitlines(keepends=True)))
    if scenario.recorded(906)["response"]["json"]["events"][-1]["kind"] == "run.completed":
        scenario.end(run)
    scenario.play(904, 905, 906)


def tokens(scenario: Scenario) -> None:
    """Tokens."""
    old = [_new_token(scenario), _new_token(scenario), _new_token(scenario, tags=["approve"], metadata={"who": "dana"})]
    scenario.wire.post(f"/api/tokens/{old[0]['id']}/complete", {"data": {"ok": True}})
    scenario.wire.post(f"/api/tokens/{old[2]['id']}/complete", {"data": {"approved": True}})
    scenario.play(*range(420, 454))
    _bind_token(scenario, 454)
    scenario.play(454)
    _bind_token(scenario, 455)
    scenario.play(*range(455, 462))
    expired = _bind_token(scenario, 462, timeout=1)
    until(lambda: datetime.now(UTC) > datetime.fromisoformat(expired["timeout_at"]))
    scenario.play(462, 463)
    scenario.server.sweep()
    scenario.play(464, 465, 466)
    right = _bind_token(scenario, 467)["public_access_token"]
    presented = {468: "hlmr_public_access_wrong", 470: old[1]["public_access_token"]}
    for number in range(467, 476):
        scenario.replay.public_token = presented.get(number, right)
        scenario.play(number)
    _bind_callback(scenario, 476)
    scenario.play(*range(476, 480))
    _bind_callback(scenario, 480)
    scenario.play(480, 481)
    run = scenario.begin(484, "run", task="approval-message")
    made: list[str] = []

    async def waits(ctx: Any) -> None:
        token = await ctx.create_token(timeout="10m", tags=["from-run"], metadata={"step": 2})
        made.append(token.id)
        await ctx.wait_for_token(token)

    scenario.director.tell(run, waits)
    scenario.wire.until(run, "waiting")
    scenario.replay.bind("01a20979-f6d6-7492-8f6e-86181d5b0649", made[0])
    scenario.play(482)
    scenario.server.pause_worker()
    scenario.play(483, 484)
    completed = _bind_token(scenario, 893, position=4)
    scenario.wire.post(f"/api/tokens/{completed['id']}/complete", {"data": 1})
    scenario.replay.public_token = completed["public_access_token"]
    scenario.play(893)


TOPICS: dict[str, tuple[Callable[[Scenario], None], str, Settings]] = {
    "errors": (errors, "2026-11-23T17:26:49Z", FAST),
    "sessions": (sessions, "2026-11-23T17:28:10Z", FAST),
    "starts in flight": (pending_starts, "2026-11-23T17:45:26Z", Settings(start_latency=1.0)),
    "session streams": (streams, "2026-11-23T17:29:31Z", FAST),
    "runs": (runs, "2026-11-23T17:30:44Z", FAST),
    "live streams": (live_streams, "2026-11-23T17:31:10Z", FAST),
    "outputs": (outputs, "2026-11-23T17:44:59Z", FAST),
    "tokens": (tokens, "2026-11-23T17:35:15Z", Settings(sweep=3600)),
    "public access tokens": (resource_topics.public_tokens, "2026-11-23T17:36:34Z", FAST),
    "workspaces": (resource_topics.workspaces, "2026-11-23T17:36:37Z", FAST),
    "execs and terminals": (resource_topics.execs_and_terminals, "2026-11-23T17:38:28Z", FAST),
    "schedules": (resource_topics.schedules, "2026-11-23T17:39:27Z", Settings(sweep=3600)),
    "deployments": (resource_topics.deployed, "2026-11-23T17:42:06Z", FAST),
    "turns": (later_topics.turns, "2026-11-28T16:06:25Z", FAST),
    "commands beside runs": (later_topics.commands_beside_runs, "2026-11-28T16:08:12Z", FAST),
    "untouched streams": (later_topics.untouched_streams, "2026-11-28T16:08:12Z", FAST),
    "stopping workspaces": (later_topics.stopping_workspaces, "2026-11-28T16:09:56Z", FAST),
    "stale workspaces": (later_topics.stale_workspaces, "2026-11-28T16:08:27Z", FAST),
    "NUL characters": (later_topics.nul_characters, "2026-11-28T16:07:25Z", FAST),
    "numbers": (later_topics.numbers, "2026-11-28T16:09:56Z", FAST),
    "lists": (later_topics.lists, "2026-11-28T16:16:00Z", FAST),
    "stream waits": (later_topics.stream_waits, "2026-11-28T16:10:22Z", FAST),
    "stops under runs": (later_topics.stops_under_runs, "2026-11-28T16:10:58Z", FAST),
    "retries": (later_topics.retries, "2026-11-28T16:16:54Z", Settings(sweep=0.05)),
}


def play_topic(topic: str, folder: Path) -> dict[str, list[str]]:
    """Play a topic from its beginning to its end and return what differed, by recording."""
    scene, recorded_at, settings = TOPICS[topic]
    director = Director()
    declared: dict[str, Any] = {"inputs": ("approval", "messages"), "outputs": ("messages", "progress")}
    morning = DeclaredSchedule("weekday-morning", "0 9 * * 1-5", "Europe/Amsterdam")
    tasks = [
        director.define("code-review", max_duration=1800, queues=("reviews",), sandbox="node-22"),
        director.define("approval-message", **declared, sandbox="node-22"),
        director.define("failure-boundary", max_duration=600, sandbox="node-22"),
        director.define(
            "release-summary",
            max_duration=1200,
            sandbox="node-22",
            schedules=[morning] if topic == "schedules" else [],
        ),
    ]
    if recorded_at > "2026-11-28":
        tasks = [
            director.define("wait-for-input", **declared, sandbox="node-22"),
            *(director.define(name, sandbox="node-22") for name in ("code-review", "echo", "work")),
        ]
    clock = MovableClock()
    with LocalControlPlane(tasks, settings=settings, clock=clock) as server:
        scenario = Scenario(server, director, folder, recorded_at, clock)
        scene(scenario)
        return scenario.replay.problems


def _resume_with(scenario: Scenario, run: str, act: Act) -> None:
    scenario.director.tell(run, act)
    scenario.server.resume_worker()


def _retry(milliseconds: int) -> dict[str, Any]:
    backoff = {"minMs": milliseconds, "maxMs": milliseconds, "factor": 1, "jitter": "none"}
    return {"maxAttempts": 2, "backoff": backoff}


def _writes(stream: str, content: bytes) -> Act:
    async def write(ctx: Any) -> None:
        getattr(ctx, stream)(content)

    return write


async def _notes_an_entry(ctx: Any) -> None:
    ctx.log_entry()


async def _waits_for_its_token(ctx: Any) -> None:
    await ctx.wait_for_token(await ctx.create_token())


def _end_next(scenario: Scenario, output: Any) -> Callable[[], None]:
    before = scenario.newest_run()

    def end() -> None:
        until(lambda: scenario.newest_run() != before)
        scenario.end(scenario.newest_run(), output)

    return end


def _fail_next(scenario: Scenario) -> Callable[[], None]:
    before = scenario.newest_run()

    def fail() -> None:
        until(lambda: scenario.newest_run() != before)
        scenario.fail(scenario.newest_run(), TaskFailure("boom"))

    return fail


def _exit_next(scenario: Scenario) -> Callable[[], None]:
    before = scenario.newest_run()

    def leave() -> None:
        until(lambda: scenario.newest_run() != before)
        scenario.director.end(scenario.newest_run(), sys.exit)

    return leave


def _new_token(scenario: Scenario, **options: Any) -> Any:
    return scenario.wire.post("/api/tokens", options, 201)


def _bind_token(scenario: Scenario, number: int, *, position: int | None = None, **options: Any) -> Any:
    token = _new_token(scenario, **options)
    parts: list[str] = scenario.recorded(number)["request"]["path"].split("/")
    scenario.replay.bind(parts[position or parts.index("tokens") + 1], token["id"])
    return token


def _bind_callback(scenario: Scenario, number: int) -> None:
    token = _bind_token(scenario, number)
    recorded = scenario.recorded(number)["request"]["path"].rpartition("/")[2]
    scenario.replay.bind(recorded, token["callback_url"].rpartition("/")[2])

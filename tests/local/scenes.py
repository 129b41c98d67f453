"""The recordings by topic, each with the state that it needs, reached as a user would reach it."""

from __future__ import annotations

import base64
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from helmr_provider.local import DeclaredSchedule, LocalControlPlane, Settings, TaskFailure
from tests.local import resource_scenes
from tests.local.scripted import Director
from tests.local.stage import MovableClock, Stage, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.local.scripted import Act

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


def errors(stage: Stage) -> None:
    """Errors, credentials, scopes."""
    stage.server.pause_worker()
    started = stage.wire.start("code-review")
    stage.replay.bind("01a20972-364e-75ae-a50d-ebaecf02e71e", started["run"]["id"])
    stage.replay.bind("01a20972-364e-75b1-a17b-0ebce737ce79", started["session"]["id"])
    stage.replay.bind("01a20972-3651-787e-a895-833f248e6702", started["session"]["workspace_id"])
    stage.play(*range(1, 10), *range(11, 28), *range(33, 48))


def sessions(stage: Stage) -> None:
    """Sessions."""
    stage.server.pause_worker()
    stage.play(*range(60, 64))
    workspace = stage.wire.get("/api/sessions", limit="1")["sessions"][0]["workspace_id"]
    stage.replay.bind("01a20973-71ca-79b8-9004-043b2648bcc3", workspace)
    stage.play(*range(64, 143))
    stage.server.resume_worker()
    run = stage.begin(143, "session", payload={"a": 1}, external_id="close-me:9ed099")
    stage.play(143, 144)
    stage.end(run, {"ok": True, "value": {"summary": "fine"}})
    stage.play(*range(145, 154))
    run = stage.begin(154, "session")
    stage.director.hold(run)
    stage.play(154, 155, 156)
    stage.director.release(run)
    until(lambda: stage.wire.kinds(run)[-1] == "run.cancelled")
    stage.play(157)
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    run = stage.begin(158, "session", external_id="exp:9ed099", expires_at=soon)
    stage.end(run)
    session = stage.wire.get("/api/sessions/by-external-id", external_id="exp:9ed099")["id"]
    until(lambda: stage.wire.get(f"/api/sessions/{session}")["status"] == "expired")
    stage.play(*range(158, 162))
    stage.play(162, meanwhile=_end_next(stage, {"answer": 42}))
    stage.play(163)
    stage.play(164, meanwhile=_fail_next(stage))
    stage.play(165, meanwhile=_exit_next(stage))
    stage.server.pause_worker()
    stage.play(166, 167)
    stage.play(920, 921, 922)


def pending_starts(stage: Stage) -> None:
    """Starts while another start holds the same idempotency key."""
    stage.server.pause_worker()
    body = stage.recorded(890)["request"]["json"]
    with _started(stage, body):
        stage.play(890)
    stage.replay.bind("pending-70e2f1", "another")
    # This one is refused in the end, as another session has the name by then, and leaves its key free.
    named = {"task_id": body["task_id"], "external_id": "taken"}
    with _started(stage, named), _started(stage, {**named, "idempotency_key": "another", "payload": "other"}):
        stage.play(891)
    stage.play(892)


@contextmanager
def _started(stage: Stage, body: dict[str, Any]) -> Iterator[None]:
    """Have a start under way for the whole block, and for as long as it takes after it."""
    known = len(stage.server.journal)
    start = threading.Thread(target=stage.wire.request, args=("POST", "/api/sessions", body))
    start.start()
    until(lambda: len(stage.server.journal) > known)
    yield
    start.join()


def streams(stage: Stage) -> None:
    """Session streams."""
    run = stage.begin(240, "session", external_id="chat/37f93f", task="approval-message")
    stage.play(*range(240, 265))
    stage.do(
        run,
        lambda ctx: ctx.publish("progress", {"pct": 10}),
        lambda ctx: ctx.publish("progress", {"pct": 60}, correlation_id="step-2"),
        lambda ctx: ctx.publish("progress", {"pct": 100}),
    )
    stage.play(*range(265, 279))
    waiting = stage.begin(279, "session", task="approval-message")
    stage.director.tell(waiting, lambda ctx: ctx.wait_for_input("approval"))
    stage.wire.until(waiting, "waiting")
    stage.play(279)
    stage.server.pause_worker()
    stage.play(280)
    stage.replay.bind("01a20974-b17a-7651-8795-135bbd297899", waiting)
    stage.play(281)
    stage.server.resume_worker()
    stage.wire.until(waiting, "running")
    stage.end(waiting)
    stage.server.pause_worker()
    stage.play(282, 283, 284, 285)
    stage.end(run)
    session = stage.wire.get("/api/sessions/by-external-id", external_id="chat/37f93f")["id"]
    until(lambda: len(stage.wire.get(f"/api/sessions/{session}/runs")["runs"]) == 2)
    stage.play(286)
    stage.wire.post(f"/api/sessions/{session}/cancel", {})
    stage.play(287, 288)


def runs(stage: Stage) -> None:
    """Runs, their events, their logs."""
    _a_run_from_queue_to_success(stage)
    _failures_and_retries(stage)
    _cancellations(stage)
    stage.play(377, 379)
    woken = stage.begin(380, status="running")
    stage.end(woken, "woke up")
    stage.play(*range(380, 394))
    stage.play(394, masked=True)
    stage.play(395, 396)


def _a_run_from_queue_to_success(stage: Stage) -> None:
    stage.server.pause_worker()
    run = stage.begin(310, "run", status="queued", payload={"n": 1}, metadata={"k": "v"}, tags=["a", "b"])
    stage.play(310, 311, 312)
    stage.server.resume_worker()
    stage.wire.until(run, "running")
    stage.play(313, 314)
    stage.do(
        run,
        _writes("stdout", b"cloning acme/web\n"),
        _writes("stderr", "warning: héllo ✓\n".encode()),
        _notes_an_entry,
        lambda ctx: ctx.set_metadata(phase="review", count=2, progress={"pct": 50}),
    )
    stage.play(315)
    stage.director.tell(run, _waits_for_its_token)
    stage.wire.until(run, "waiting")
    stage.play(316)
    session = stage.wire.get(f"/api/runs/{run}")["session_id"]
    stage.replay.bind("01a20975-ca7f-7a7a-852f-21b355e632d8", session)
    stage.play(*range(317, 321))
    stage.server.pause_worker()
    token = stage.wire.get("/api/tokens")["tokens"][-1]["id"]
    stage.wire.post(f"/api/tokens/{token}/complete", {"data": {"approved": True}})
    stage.play(321)
    stage.server.resume_worker()
    stage.wire.until(run, "running")
    stage.play(322)
    stage.do(run, _writes("stdout", b"\0\xff\n"))
    stage.end(run, {"ok": True, "summary": "merged"})
    stage.play(*range(323, 336), *range(337, 345))


def _failures_and_retries(stage: Stage) -> None:
    run = stage.begin(345, "run", task="failure-boundary", payload={"mode": "worker"})
    stage.do(run, _writes("stderr", b"oops\n"))
    stage.fail(run, TaskFailure("boom: fixture failure"))
    stage.wire.ended(run)
    stage.play(345, 346, 347)
    run = stage.begin(348, "run", task="failure-boundary")
    stage.fail(run, TaskFailure(failure_kind="task_failed", exit_code=3, detail={"exit_code": 3}))
    stage.wire.ended(run)
    stage.play(348, 349)
    run = stage.begin(350, "run", task="failure-boundary")
    limit = {"message": "run exceeded max duration", "limit_seconds": 600}
    stage.fail(run, TaskFailure(failure_kind="max_duration", detail=limit))
    stage.wire.ended(run)
    stage.play(350)
    run = stage.begin(351, "run", task="failure-boundary", retry=_retry(300))
    stage.server.pause_worker()
    stage.fail(run, TaskFailure("first attempt failed"))
    stage.wire.until(run, "queued")
    stage.play(351, 352)
    stage.server.resume_worker()
    stage.wire.until(run, "running")
    stage.end(run, {"attempt": 2})
    stage.play(353, 354)
    stage.server.pause_worker()
    stage.begin(355, "run", status="queued", ttl="2s")
    stage.play(355, 356, 357, 358)


def _cancellations(stage: Stage) -> None:
    stage.begin(359, "run", status="queued")
    stage.play(*range(359, 365), 375, 376)
    stage.server.resume_worker()
    run = stage.begin(365, "run")
    stage.director.hold(run)
    stage.play(365, 366)
    stage.director.release(run)
    until(lambda: stage.wire.kinds(run)[-1] == "run.cancelled")
    stage.play(367)
    stage.begin(368, "run")
    stage.play(368, 369, 370)
    run = stage.begin(371, "run")
    stage.director.tell(run, lambda ctx: ctx.sleep(3600))
    stage.wire.until(run, "waiting")
    stage.play(371, 372, 373, 374)


def live_streams(stage: Stage) -> None:
    """Streams of runs that go on."""
    stage.server.pause_worker()
    run = stage.begin(397, "run", status="queued", payload={"live": True})
    first = [
        lambda: _resume_with(stage, run, _writes("stdout", b"line\n")),
        lambda: stage.director.tell(run, _notes_an_entry),
        lambda: stage.director.tell(run, lambda ctx: ctx.set_metadata(a=1)),
        lambda: stage.director.end(run, lambda: None),
    ]
    stage.play(397, steps=first)
    logging = stage.begin(398, "run")
    lines = [("stdout", b"line 1\n"), ("stderr", b"oops\n"), ("stdout", b"line 2\n")]
    told: list[Callable[[], Any]] = [
        lambda line=line: stage.director.tell(logging, _writes(*line))  # type: ignore[misc]
        for line in lines
    ]
    stage.play(398, steps=[*told, lambda: stage.director.end(logging, lambda: None)])
    cancelled = stage.begin(399, "run")
    stage.director.hold(cancelled)
    cancel = [
        lambda: stage.wire.post(f"/api/runs/{cancelled}/cancel", {"reason": "user"}),
        lambda: stage.director.release(cancelled),
    ]
    stage.play(399, steps=cancel)
    stage.server.pause_worker()
    idle = stage.begin(400, "run", status="queued")
    stage.play(400)
    stage.wire.post(f"/api/runs/{idle}/cancel", {})
    stage.server.resume_worker()
    retried = stage.begin(401, "run", task="failure-boundary", retry=_retry(1500))
    fails = [lambda: stage.fail(retried, TaskFailure("first attempt failed"))]
    stage.play(401, steps=fails)
    stage.play(402)
    stage.play(403, steps=[lambda: stage.director.end(retried, lambda: None)])
    stage.play(404)
    _timers(stage)


def _timers(stage: Stage) -> None:
    run = stage.begin(405, "run")
    stage.server.set_clock("manual")
    stage.director.tell(run, lambda ctx: ctx.sleep(60))
    stage.wire.until(run, "waiting")
    stage.server.pause_worker()
    stage.server.advance(60)
    stage.wire.until(run, "queued")
    stage.play(405, 406, 407)
    stage.server.resume_worker()
    stage.wire.until(run, "running")
    finished = stage.begin(408, "run")
    stage.end(finished)
    stage.play(408)
    waiting = stage.begin(409, "run", task="approval-message")
    stage.director.tell(waiting, lambda ctx: ctx.wait_for_input("approval", timeout=60))
    stage.wire.until(waiting, "waiting")
    stage.server.pause_worker()
    stage.server.advance(60)
    stage.wire.until(waiting, "queued")
    stage.play(409)


def outputs(stage: Stage) -> None:
    """Order of lists, every kind of output, many logs."""
    stage.server.pause_worker()
    queued = [stage.wire.start("code-review")["run"]["id"] for _ in range(3)]
    stage.play(894, 895)
    stage.play(896, masked=True)
    for run in queued:
        stage.wire.post(f"/api/runs/{run}/cancel", {})
    stage.server.resume_worker()
    for number, output in _OUTPUTS.items():
        stage.end(stage.begin(number, "run"), output)
        stage.play(number)
    events = stage.recorded(905)["response"]["json"]["events"]
    run = stage.begin(904, "run", payload=events[0]["attributes"]["payload"])
    content = base64.b64decode(stage.recorded(904)["response"]["json"]["stdout_base64"])
    stage.do(run, *(_writes("stdout", line) for line in content.splitlines(keepends=True)))
    if stage.recorded(906)["response"]["json"]["events"][-1]["kind"] == "run.completed":
        stage.end(run)
    stage.play(904, 905, 906)


def tokens(stage: Stage) -> None:
    """Tokens."""
    old = [_new_token(stage), _new_token(stage), _new_token(stage, tags=["approve"], metadata={"who": "dana"})]
    stage.wire.post(f"/api/tokens/{old[0]['id']}/complete", {"data": {"ok": True}})
    stage.wire.post(f"/api/tokens/{old[2]['id']}/complete", {"data": {"approved": True}})
    stage.play(*range(420, 454))
    _bind_token(stage, 454)
    stage.play(454)
    _bind_token(stage, 455)
    stage.play(*range(455, 462))
    _bind_token(stage, 462, timeout=1)
    time.sleep(0.002)
    stage.play(462, 463)
    stage.server.sweep()
    stage.play(464, 465, 466)
    right = _bind_token(stage, 467)["public_access_token"]
    presented = {468: "hlmr_public_access_wrong", 470: old[1]["public_access_token"]}
    for number in range(467, 476):
        stage.replay.public_token = presented.get(number, right)
        stage.play(number)
    _bind_callback(stage, 476)
    stage.play(*range(476, 480))
    _bind_callback(stage, 480)
    stage.play(480, 481)
    run = stage.begin(484, "run", task="approval-message")
    made: list[str] = []

    async def waits(ctx: Any) -> None:
        token = await ctx.create_token(timeout="10m", tags=["from-run"], metadata={"step": 2})
        made.append(token.id)
        await ctx.wait_for_token(token)

    stage.director.tell(run, waits)
    stage.wire.until(run, "waiting")
    stage.replay.bind("01a20979-f6d6-7492-8f6e-86181d5b0649", made[0])
    stage.play(482)
    stage.server.pause_worker()
    stage.play(483, 484)
    completed = _bind_token(stage, 893, position=4)
    stage.wire.post(f"/api/tokens/{completed['id']}/complete", {"data": 1})
    stage.replay.public_token = completed["public_access_token"]
    stage.play(893)


SCENES: dict[str, tuple[Callable[[Stage], None], str, Settings]] = {
    "errors": (errors, "2026-11-23T17:26:49Z", FAST),
    "sessions": (sessions, "2026-11-23T17:28:10Z", FAST),
    "starts in flight": (pending_starts, "2026-11-23T17:45:26Z", Settings(start_latency=1.0)),
    "session streams": (streams, "2026-11-23T17:29:31Z", FAST),
    "runs": (runs, "2026-11-23T17:30:44Z", FAST),
    "live streams": (live_streams, "2026-11-23T17:31:10Z", FAST),
    "outputs": (outputs, "2026-11-23T17:44:59Z", FAST),
    "tokens": (tokens, "2026-11-23T17:35:15Z", Settings(sweep=3600)),
    "public access tokens": (resource_scenes.public_tokens, "2026-11-23T17:36:34Z", FAST),
    "workspaces": (resource_scenes.workspaces, "2026-11-23T17:36:37Z", FAST),
    "execs and terminals": (resource_scenes.execs_and_terminals, "2026-11-23T17:38:28Z", FAST),
    "schedules": (resource_scenes.schedules, "2026-11-23T17:39:27Z", Settings(sweep=3600)),
    "deployments": (resource_scenes.deployed, "2026-11-23T17:42:06Z", FAST),
}


def play_topic(topic: str, folder: Path) -> dict[str, list[str]]:
    """Play a topic from its beginning to its end and return what differed, by recording."""
    scene, recorded_at, settings = SCENES[topic]
    director = Director()
    declared = {"inputs": ("approval", "messages"), "outputs": ("messages", "progress")}
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
    clock = MovableClock()
    with LocalControlPlane(tasks, settings=settings, clock=clock) as server:
        stage = Stage(server, director, folder, recorded_at, clock)
        scene(stage)
        return stage.replay.problems


def _resume_with(stage: Stage, run: str, act: Act) -> None:
    stage.director.tell(run, act)
    stage.server.resume_worker()


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


def _end_next(stage: Stage, output: Any) -> Callable[[], None]:
    before = stage.newest_run()

    def end() -> None:
        until(lambda: stage.newest_run() != before)
        stage.end(stage.newest_run(), output)

    return end


def _fail_next(stage: Stage) -> Callable[[], None]:
    before = stage.newest_run()

    def fail() -> None:
        until(lambda: stage.newest_run() != before)
        stage.fail(stage.newest_run(), TaskFailure("boom"))

    return fail


def _exit_next(stage: Stage) -> Callable[[], None]:
    before = stage.newest_run()

    def leave() -> None:
        until(lambda: stage.newest_run() != before)
        stage.director.end(stage.newest_run(), sys.exit)

    return leave


def _new_token(stage: Stage, **options: Any) -> Any:
    return stage.wire.post("/api/tokens", options, 201)


def _bind_token(stage: Stage, number: int, *, position: int | None = None, **options: Any) -> Any:
    token = _new_token(stage, **options)
    parts: list[str] = stage.recorded(number)["request"]["path"].split("/")
    stage.replay.bind(parts[position or parts.index("tokens") + 1], token["id"])
    return token


def _bind_callback(stage: Stage, number: int) -> None:
    token = _bind_token(stage, number)
    recorded = stage.recorded(number)["request"]["path"].rpartition("/")[2]
    stage.replay.bind(recorded, token["callback_url"].rpartition("/")[2])

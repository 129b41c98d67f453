"""Recordings of workspaces, execs, terminals, schedules, public access tokens and what is deployed."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.local.puppets import puppets
from tests.local.stage import until

if TYPE_CHECKING:
    from helmr_provider.local import TaskContext
    from tests.local.puppets import Puppets
    from tests.local.stage import Stage

_JUNE = 1780740000
_FILES = {
    "README.md": b"# Release desk\n\nDemo workspace.\n",
    "bin/run.sh": b"#!/bin/sh\necho hello\n",
    "data/blob.bin": bytes(range(256)),
    "data/empty.txt": b"",
    "docs/guide/intro.md": b"intro\n",
    "docs/résumé ✓.txt": b"unicode name\n",
    "package.json": b'{"name":"release-desk","private":true}\n',
}


def workspaces(stage: Stage) -> None:
    """Workspaces, versions, files."""
    stage.server.pause_workspaces()
    stage.play(*range(530, 560))
    live = stage.replay.known(_path_id(stage, 556))
    stage.server.pause_workspaces("preparations")
    until(lambda: _connect(stage, live)["state"] == "materializing")
    stage.play(560)
    stage.server.pause_workspaces(None)
    until(lambda: _connect(stage, live)["state"] == "running")
    stage.play(561, 562)
    stage.server.pause_workspaces()
    stage.play(563, 564, 565)
    stage.server.pause_workspaces(None)
    until(lambda: _is_stopped(stage, live))
    stage.play(566, 567)
    filled = stage.wire.post("/api/workspaces", {"sandbox_id": "node-22", "external_id": "files/f7fc14"}, 201)
    filled_id = filled["workspace"]["id"]
    stage.replay.bind(_path_id(stage, 568), filled_id)
    run = stage.begin(568, workspace_id=filled_id)
    stage.do(run, _fills_its_workspace)
    stage.end(run)
    stage.replay.bind(
        _first_version(stage, 569), stage.wire.get(f"/api/workspaces/{filled_id}/versions")["versions"][-1]["id"]
    )
    stage.play(*range(568, 621))


def execs_and_terminals(stage: Stage) -> None:
    """Execs and terminals."""
    with tempfile.TemporaryDirectory() as folder, puppets(Path(folder), "sh", "npm", "ls", "sleep", "bash") as troupe:
        workspace = stage.wire.post("/api/workspaces", {"sandbox_id": "node-22", "external_id": "exec/e6e0a3"}, 201)
        workspace_id = workspace["workspace"]["id"]
        stage.replay.bind(_path_id(stage, 630), workspace_id)
        _an_exec(stage, troupe, workspace_id)
        _how_execs_end(stage, troupe, workspace_id)
        _a_lost_exec(stage, troupe)
        _terminals(stage, troupe, workspace_id)
        _stops(stage, troupe)


def _an_exec(stage: Stage, troupe: Puppets, workspace_id: str) -> None:
    stage.server.pause_workspaces()
    stage.play(630, 631, 632, 633)
    exec_id = stage.replay.known(stage.recorded(634)["request"]["path"].split("/")[5])
    path = f"/api/workspaces/{workspace_id}/execs/{exec_id}"
    stage.server.pause_workspaces("commands")
    until(lambda: stage.wire.get(path)["exec"]["state"] == "queued")
    stage.play(634)
    stage.server.pause_workspaces(None)
    puppet = troupe.next()
    puppet.do("os.makedirs('packages/web')")
    puppet.do("os.mkdir('docs')")
    puppet.do("[open(f'file-{n}', 'w').write('x') for n in range(10)]")
    stage.play(635)

    def writes(stream: int, content: bytes) -> None:
        name = ("stdin", "stdout", "stderr")[stream]
        before = stage.wire.get(path)["exec"][f"{name}_cursor"]
        puppet.write(stream, content)
        until(lambda: stage.wire.get(path)["exec"][f"{name}_cursor"] == before + len(content))

    writes(1, b"hi\n")
    writes(2, b"warn\n")
    writes(1, "there ✓\n".encode())
    stage.replay.bind("(base64 of 1048577 bytes)", base64.b64encode(bytes(1024 * 1024 + 1)).decode())
    stage.play(*range(636, 654))

    def writes_to_both() -> None:
        writes(2, b"e2\n")
        writes(1, b"\0\xff\xfe")

    stage.play(654, steps=[lambda: None, lambda: writes(1, b"more\n"), writes_to_both, puppet.end])
    stage.play(*range(655, 664))


def _how_execs_end(stage: Stage, troupe: Puppets, workspace_id: str) -> None:
    stage.server.pause_workspaces("commands")
    stage.play(*range(664, 668))
    stage.server.pause_workspaces(None)
    puppet = troupe.next()
    puppet.write(1, b"not ok 1 -")
    puppet.end(1)
    _until_execs_end(stage, workspace_id)
    stage.play(668)
    _run(stage, workspace_id, "sleep", "100", number=669)
    troupe.next().kill("SIGTERM")
    _until_execs_end(stage, workspace_id)
    stage.play(669)
    _run(stage, workspace_id, "nope", number=670)
    _until_execs_end(stage, workspace_id)
    stage.play(*range(670, 681))
    for numbers in ((681, 682), (683, *range(684, 690))):
        stage.server.pause_workspaces("commands")
        stage.play(numbers[0])
        stage.server.pause_workspaces(None)
        troupe.next().end()
        _until_execs_end(stage, workspace_id)
        stage.play(*numbers[1:])


def _a_lost_exec(stage: Stage, troupe: Puppets) -> None:
    workspace_id = _new_workspace(stage, 690)
    _run(stage, workspace_id, "sleep", "9", number=690)
    troupe.next().write(1, b"partial\n")
    stage.play(690, steps=[lambda: stage.server.lose_workspace(workspace_id)])
    stage.play(691, 692)


def _terminals(stage: Stage, troupe: Puppets, workspace_id: str) -> None:
    stage.server.pause_workspaces("commands")
    stage.play(*range(720, 727))

    def is_(state: str) -> bool:
        newest = stage.wire.get(f"/api/workspaces/{workspace_id}/pty", limit="1")["ptys"][0]
        return bool(newest["state"] == state)

    stage.server.pause_workspaces(None)
    puppet = troupe.next()
    until(lambda: is_("open"))
    stage.play(727, 728, 729)
    puppet.write(1, b"$ pwd\r\n/workspace/docs\r\n")
    until(lambda: stage.wire.get(f"/api/workspaces/{workspace_id}/pty")["ptys"][0]["output_cursor"] == 24)
    stage.play(730, 731, 732)
    until(lambda: is_("open"))
    stage.play(733, 734)
    until(lambda: is_("open"))
    stage.play(735)
    pty_id = stage.replay.known(stage.recorded(736)["request"]["path"].split("/")[5])
    closing = f"/api/workspaces/{workspace_id}/pty/{pty_id}/close"
    stage.play(736, steps=[lambda: puppet.write(1, b"$ exit\r\n"), lambda: stage.wire.post(closing, {})])
    stage.play(*range(737, 742))
    stage.server.pause_workspaces("commands")
    stage.play(742)
    stage.server.pause_workspaces(None)
    troupe.next()
    until(lambda: is_("open"))
    stage.server.pause_workspaces("commands")
    stage.play(743, 744, 745)
    stage.server.pause_workspaces(None)
    until(lambda: is_("closed"))
    stage.play(*range(746, 752))
    stage.server.pause_workspaces()
    stage.play(752)
    stage.server.pause_workspaces(None)
    until(lambda: _is_stopped(stage, workspace_id))
    stage.replay.bind(
        _first_version(stage, 754), stage.wire.get(f"/api/workspaces/{workspace_id}/versions")["versions"][-1]["id"]
    )
    stage.play(753, 754)


def _stops(stage: Stage, troupe: Puppets) -> None:
    workspace_id = _new_workspace(stage, 913)
    _run(stage, workspace_id, "sleep", "60", number=914)
    troupe.next()
    stage.server.pause_workspaces()
    stage.play(913, 914)
    stage.server.pause_workspaces(None)
    _until_execs_end(stage, workspace_id)
    stage.play(915)
    until(lambda: _is_stopped(stage, workspace_id))
    stage.server.pause_worker()
    stage.play(916)
    stage.server.resume_worker()
    held = _new_workspace(stage, 917)
    run = stage.begin(919, "run", workspace_id=held)
    stage.play(917, 918, 919)
    stage.end(run)


def schedules(stage: Stage) -> None:
    """Schedules."""
    stage.play(*range(770, 816))
    wanted = stage.recorded(817)["response"]["json"]
    body = {name: wanted[name] for name in ("deduplication_key", "external_id", "task", "cron")}
    stage.server.pause_worker()
    created = stage.wire.post("/api/schedules", body, 201)
    stage.replay.bind(wanted["id"], created["id"])
    for schedule in stage.wire.get("/api/schedules")["schedules"]:
        if schedule["type"] == "imperative" and schedule["id"] != created["id"]:
            stage.wire.post(f"/api/schedules/{schedule['id']}/deactivate", {})
    _next_minute(stage)
    stage.play(817)
    session = _newest_session(stage)
    stage.replay.bind(_path_id(stage, 818), session["id"])
    stage.replay.bind(_path_id(stage, 819), session["current_run_id"])
    stage.play(818, 819, 820)
    stage.server.resume_worker()
    stage.end(session["current_run_id"])
    _next_minute(stage)
    stage.wire.until(_newest_session(stage)["current_run_id"], "running")
    stage.play(821, 822, 823)


def public_tokens(stage: Stage) -> None:
    """Public access tokens."""
    run = stage.begin(500, task="approval-message", external_id="cust/f7fc14")
    session = stage.wire.get(f"/api/runs/{run}")["session_id"]
    stage.replay.bind(stage.recorded(500)["request"]["json"]["scope"]["session"]["id"], session)
    stage.play(*range(500, 516))
    stage.wire.post(f"/api/sessions/{session}/outputs/progress", {"data": {"pct": 5}}, 201)
    presented = {516: 500, 517: 501, 518: 501, 519: 500, 522: 502, 523: 502, 524: 502, 525: 500}
    for number in range(516, 526):
        if number in presented:
            secret = stage.recorded(presented[number])["response"]["json"]["public_access_token"]
            stage.replay.public_token = stage.replay.known(secret)
        stage.play(number)
    other = stage.wire.start("approval-message")["session"]["id"]
    stage.replay.bind(stage.recorded(924)["request"]["path"].split("/")[4], other)
    scope = {"type": "session.output.read", "session": {"type": "id", "id": other}, "stream": "progress"}
    minted = stage.wire.post("/api/public-access-tokens", {"scope": scope, "max_uses": 1}, 201)
    stage.replay.public_token = minted["public_access_token"]
    stage.play(924, 925)


def deployed(stage: Stage) -> None:
    """Tasks, sandboxes, deployments, secrets, and who asks."""
    stage.play(840, 841, 842, 843, 844, 845)
    current = stage.wire.get("/api/deployments/current")["deployment"]
    stage.replay.bind(stage.recorded(846)["response"]["json"]["deployment"]["id"], current["id"])
    stage.play(846, 847, 848, masked=True)
    stage.play(*range(849, 860))


def _next_minute(stage: Stage) -> None:
    before = len(stage.wire.get("/api/sessions")["sessions"])
    stage.clock.advance(90)
    stage.server.sweep()
    until(lambda: len(stage.wire.get("/api/sessions")["sessions"]) == before + 1)


def _newest_session(stage: Stage) -> Any:
    sessions = stage.wire.get("/api/sessions")["sessions"]
    return max(sessions, key=lambda session: str(session["created_at"]))


def _path_id(stage: Stage, number: int) -> str:
    return str(stage.recorded(number)["request"]["path"].split("/")[3])


def _first_version(stage: Stage, number: int) -> str:
    return str(stage.recorded(number)["response"]["json"]["versions"][-1]["id"])


def _connect(stage: Stage, workspace_id: str) -> Any:
    return stage.wire.post(f"/api/workspaces/{workspace_id}/connect", {})


def _is_stopped(stage: Stage, workspace_id: str) -> bool:
    answer = stage.wire.post(f"/api/workspaces/{workspace_id}/stop", {})
    return bool(answer["state"] == "no_active_materialization")


def _new_workspace(stage: Stage, number: int) -> str:
    workspace_id = str(stage.wire.post("/api/workspaces", {"sandbox_id": "node-22"}, 201)["workspace"]["id"])
    stage.replay.bind(_path_id(stage, number), workspace_id)
    return workspace_id


def _run(stage: Stage, workspace_id: str, *command: str, number: int) -> None:
    created = stage.wire.post(f"/api/workspaces/{workspace_id}/execs", {"command": list(command)}, 201)
    stage.replay.bind(stage.recorded(number)["request"]["path"].split("/")[5], created["exec"]["id"])


def _until_execs_end(stage: Stage, workspace_id: str) -> None:
    path = f"/api/workspaces/{workspace_id}/execs"
    live = ("materializing", "queued", "running")
    until(lambda: all(row["state"] not in live for row in stage.wire.get(path)["execs"]))


async def _fills_its_workspace(ctx: TaskContext) -> None:
    directory = await ctx.workspace()
    for name, content in _FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (directory / "bin/run.sh").chmod(0o755)
    (directory / "latest").symlink_to("docs/guide/intro.md")
    for path in sorted(directory.rglob("*"), reverse=True):
        os.utime(path, (_JUNE, _JUNE), follow_symlinks=False)

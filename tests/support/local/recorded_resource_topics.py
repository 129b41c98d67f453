"""Recordings of workspaces, execs, terminals, schedules, public access tokens and what is deployed."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.local.controlled_processes import controlled_processes
from tests.support.polling import until

if TYPE_CHECKING:
    from helmr_provider.local import TaskContext
    from tests.support.local.controlled_processes import ControlledProcesses
    from tests.support.local.scenario import Scenario

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


def workspaces(scenario: Scenario) -> None:
    """Workspaces, versions, files."""
    scenario.server.pause_workspaces()
    scenario.play(*range(530, 560))
    live = scenario.replay.known(_path_id(scenario, 556))
    scenario.server.pause_workspaces("preparations")
    until(lambda: _connect(scenario, live)["state"] == "materializing")
    scenario.play(560)
    scenario.server.pause_workspaces(None)
    until(lambda: _connect(scenario, live)["state"] == "running")
    scenario.play(561, 562)
    scenario.server.pause_workspaces()
    scenario.play(563, 564, 565)
    scenario.server.pause_workspaces(None)
    until(lambda: _is_stopped(scenario, live))
    scenario.play(566, 567)
    filled = scenario.wire.post("/api/workspaces", {"sandbox_id": "node-22", "external_id": "files/f7fc14"}, 201)
    filled_id = filled["workspace"]["id"]
    scenario.replay.bind(_path_id(scenario, 568), filled_id)
    run = scenario.begin(568, workspace_id=filled_id)
    scenario.do(run, _fills_its_workspace)
    scenario.end(run)
    scenario.replay.bind(
        _first_version(scenario, 569), scenario.wire.get(f"/api/workspaces/{filled_id}/versions")["versions"][-1]["id"]
    )
    scenario.play(*range(568, 621))


def execs_and_terminals(scenario: Scenario) -> None:
    """Execs and terminals."""
    with (
        tempfile.TemporaryDirectory() as folder,
        controlled_processes(Path(folder), "sh", "npm", "ls", "sleep", "bash") as processes,
    ):
        workspace = scenario.wire.post("/api/workspaces", {"sandbox_id": "node-22", "external_id": "exec/e6e0a3"}, 201)
        workspace_id = workspace["workspace"]["id"]
        scenario.replay.bind(_path_id(scenario, 630), workspace_id)
        _an_exec(scenario, processes, workspace_id)
        _how_execs_end(scenario, processes, workspace_id)
        _a_lost_exec(scenario, processes)
        _terminals(scenario, processes, workspace_id)
        _stops(scenario, processes)


def _an_exec(scenario: Scenario, processes: ControlledProcesses, workspace_id: str) -> None:
    scenario.server.pause_workspaces()
    scenario.play(630, 631, 632, 633)
    exec_id = scenario.replay.known(scenario.recorded(634)["request"]["path"].split("/")[5])
    path = f"/api/workspaces/{workspace_id}/execs/{exec_id}"
    scenario.server.pause_workspaces("commands")
    until(lambda: scenario.wire.get(path)["exec"]["state"] == "queued")
    scenario.play(634)
    scenario.server.pause_workspaces(None)
    process = processes.next()
    process.do("os.makedirs('packages/web')")
    process.do("os.mkdir('docs')")
    process.do("[open(f'file-{n}', 'w').write('x') for n in range(10)]")
    scenario.play(635)

    def writes(stream: int, content: bytes) -> None:
        name = ("stdin", "stdout", "stderr")[stream]
        before = scenario.wire.get(path)["exec"][f"{name}_cursor"]
        process.write(stream, content)
        until(lambda: scenario.wire.get(path)["exec"][f"{name}_cursor"] == before + len(content))

    writes(1, b"hi\n")
    writes(2, b"warn\n")
    writes(1, "there ✓\n".encode())
    scenario.replay.bind("(base64 of 1048577 bytes)", base64.b64encode(bytes(1024 * 1024 + 1)).decode())
    scenario.play(*range(636, 654))

    def writes_to_both() -> None:
        writes(2, b"e2\n")
        writes(1, b"\0\xff\xfe")

    scenario.play(654, steps=[lambda: None, lambda: writes(1, b"more\n"), writes_to_both, process.end])
    scenario.play(*range(655, 664))


def _how_execs_end(scenario: Scenario, processes: ControlledProcesses, workspace_id: str) -> None:
    scenario.server.pause_workspaces("commands")
    scenario.play(*range(664, 668))
    scenario.server.pause_workspaces(None)
    process = processes.next()
    process.write(1, b"not ok 1 -")
    process.end(1)
    _until_execs_end(scenario, workspace_id)
    scenario.play(668)
    _run(scenario, workspace_id, "sleep", "100", number=669)
    processes.next().kill("SIGTERM")
    _until_execs_end(scenario, workspace_id)
    scenario.play(669)
    _run(scenario, workspace_id, "nope", number=670)
    _until_execs_end(scenario, workspace_id)
    scenario.play(*range(670, 681))
    for numbers in ((681, 682), (683, *range(684, 690))):
        scenario.server.pause_workspaces("commands")
        scenario.play(numbers[0])
        scenario.server.pause_workspaces(None)
        processes.next().end()
        _until_execs_end(scenario, workspace_id)
        scenario.play(*numbers[1:])


def _a_lost_exec(scenario: Scenario, processes: ControlledProcesses) -> None:
    workspace_id = _new_workspace(scenario, 690)
    _run(scenario, workspace_id, "sleep", "9", number=690)
    processes.next().write(1, b"partial\n")
    scenario.play(690, steps=[lambda: scenario.server.lose_workspace(workspace_id)])
    scenario.play(691, 692)


def _terminals(scenario: Scenario, processes: ControlledProcesses, workspace_id: str) -> None:
    scenario.server.pause_workspaces("commands")
    scenario.play(*range(720, 727))

    def is_(state: str) -> bool:
        newest = scenario.wire.get(f"/api/workspaces/{workspace_id}/pty", limit="1")["ptys"][0]
        return bool(newest["state"] == state)

    scenario.server.pause_workspaces(None)
    process = processes.next()
    until(lambda: is_("open"))
    scenario.play(727, 728, 729)
    process.write(1, b"$ pwd\r\n/workspace/docs\r\n")
    until(lambda: scenario.wire.get(f"/api/workspaces/{workspace_id}/pty")["ptys"][0]["output_cursor"] == 24)
    scenario.play(730, 731, 732)
    until(lambda: is_("open"))
    scenario.play(733, 734)
    until(lambda: is_("open"))
    scenario.play(735)
    pty_id = scenario.replay.known(scenario.recorded(736)["request"]["path"].split("/")[5])
    closing = f"/api/workspaces/{workspace_id}/pty/{pty_id}/close"
    scenario.play(736, steps=[lambda: process.write(1, b"$ exit\r\n"), lambda: scenario.wire.post(closing, {})])
    scenario.play(*range(737, 742))
    scenario.server.pause_workspaces("commands")
    scenario.play(742)
    scenario.server.pause_workspaces(None)
    processes.next()
    until(lambda: is_("open"))
    scenario.server.pause_workspaces("commands")
    scenario.play(743, 744, 745)
    scenario.server.pause_workspaces(None)
    until(lambda: is_("closed"))
    scenario.play(*range(746, 752))
    scenario.server.pause_workspaces()
    scenario.play(752)
    scenario.server.pause_workspaces(None)
    until(lambda: _is_stopped(scenario, workspace_id))
    scenario.replay.bind(
        _first_version(scenario, 754),
        scenario.wire.get(f"/api/workspaces/{workspace_id}/versions")["versions"][-1]["id"],
    )
    scenario.play(753, 754)


def _stops(scenario: Scenario, processes: ControlledProcesses) -> None:
    workspace_id = _new_workspace(scenario, 913)
    _run(scenario, workspace_id, "sleep", "60", number=914)
    processes.next()
    scenario.server.pause_workspaces()
    scenario.play(913, 914)
    scenario.server.pause_workspaces(None)
    _until_execs_end(scenario, workspace_id)
    scenario.play(915)
    until(lambda: _is_stopped(scenario, workspace_id))
    scenario.server.pause_worker()
    scenario.play(916)
    scenario.server.resume_worker()
    held = _new_workspace(scenario, 917)
    run = scenario.begin(919, "run", workspace_id=held)
    scenario.play(917, 918, 919)
    scenario.end(run)


def schedules(scenario: Scenario) -> None:
    """Schedules."""
    scenario.play(*range(770, 816))
    wanted = scenario.recorded(817)["response"]["json"]
    body = {name: wanted[name] for name in ("deduplication_key", "external_id", "task", "cron")}
    scenario.server.pause_worker()
    created = scenario.wire.post("/api/schedules", body, 201)
    scenario.replay.bind(wanted["id"], created["id"])
    for schedule in scenario.wire.get("/api/schedules")["schedules"]:
        if schedule["type"] == "imperative" and schedule["id"] != created["id"]:
            scenario.wire.post(f"/api/schedules/{schedule['id']}/deactivate", {})
    _next_minute(scenario)
    scenario.play(817)
    session = _newest_session(scenario)
    scenario.replay.bind(_path_id(scenario, 818), session["id"])
    scenario.replay.bind(_path_id(scenario, 819), session["current_run_id"])
    scenario.play(818, 819, 820)
    scenario.server.resume_worker()
    scenario.end(session["current_run_id"])
    _next_minute(scenario)
    scenario.wire.until(_newest_session(scenario)["current_run_id"], "running")
    scenario.play(821, 822, 823)


def public_tokens(scenario: Scenario) -> None:
    """Public access tokens."""
    run = scenario.begin(500, task="approval-message", external_id="cust/f7fc14")
    session = scenario.wire.get(f"/api/runs/{run}")["session_id"]
    scenario.replay.bind(scenario.recorded(500)["request"]["json"]["scope"]["session"]["id"], session)
    scenario.play(*range(500, 516))
    scenario.wire.post(f"/api/sessions/{session}/outputs/progress", {"data": {"pct": 5}}, 201)
    presented = {516: 500, 517: 501, 518: 501, 519: 500, 522: 502, 523: 502, 524: 502, 525: 500}
    for number in range(516, 526):
        if number in presented:
            secret = scenario.recorded(presented[number])["response"]["json"]["public_access_token"]
            scenario.replay.public_token = scenario.replay.known(secret)
        scenario.play(number)
    other = scenario.wire.start("approval-message")["session"]["id"]
    scenario.replay.bind(scenario.recorded(924)["request"]["path"].split("/")[4], other)
    scope = {"type": "session.output.read", "session": {"type": "id", "id": other}, "stream": "progress"}
    minted = scenario.wire.post("/api/public-access-tokens", {"scope": scope, "max_uses": 1}, 201)
    scenario.replay.public_token = minted["public_access_token"]
    scenario.play(924, 925)


def deployed(scenario: Scenario) -> None:
    """Tasks, sandboxes, deployments, secrets, and who asks."""
    scenario.play(840, 841, 842, 843, 844, 845)
    current = scenario.wire.get("/api/deployments/current")["deployment"]
    scenario.replay.bind(scenario.recorded(846)["response"]["json"]["deployment"]["id"], current["id"])
    scenario.play(846, 847, 848, masked=True)
    scenario.play(*range(849, 860))


def _next_minute(scenario: Scenario) -> None:
    before = len(scenario.wire.get("/api/sessions")["sessions"])
    scenario.clock.advance(90)
    scenario.server.sweep()
    until(lambda: len(scenario.wire.get("/api/sessions")["sessions"]) == before + 1)


def _newest_session(scenario: Scenario) -> Any:
    sessions = scenario.wire.get("/api/sessions")["sessions"]
    return max(sessions, key=lambda session: str(session["created_at"]))


def _path_id(scenario: Scenario, number: int) -> str:
    return str(scenario.recorded(number)["request"]["path"].split("/")[3])


def _first_version(scenario: Scenario, number: int) -> str:
    return str(scenario.recorded(number)["response"]["json"]["versions"][-1]["id"])


def _connect(scenario: Scenario, workspace_id: str) -> Any:
    return scenario.wire.post(f"/api/workspaces/{workspace_id}/connect", {})


def _is_stopped(scenario: Scenario, workspace_id: str) -> bool:
    answer = scenario.wire.post(f"/api/workspaces/{workspace_id}/stop", {})
    return bool(answer["state"] == "no_active_materialization")


def _new_workspace(scenario: Scenario, number: int) -> str:
    workspace_id = str(scenario.wire.post("/api/workspaces", {"sandbox_id": "node-22"}, 201)["workspace"]["id"])
    scenario.replay.bind(_path_id(scenario, number), workspace_id)
    return workspace_id


def _run(scenario: Scenario, workspace_id: str, *command: str, number: int) -> None:
    created = scenario.wire.post(f"/api/workspaces/{workspace_id}/execs", {"command": list(command)}, 201)
    scenario.replay.bind(scenario.recorded(number)["request"]["path"].split("/")[5], created["exec"]["id"])


def _until_execs_end(scenario: Scenario, workspace_id: str) -> None:
    path = f"/api/workspaces/{workspace_id}/execs"
    live = ("materializing", "queued", "running")
    until(lambda: all(row["state"] not in live for row in scenario.wire.get(path)["execs"]))


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

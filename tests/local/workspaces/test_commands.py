"""Execs and terminals: real processes in a workspace's directory, and nothing left of them."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from helmr_provider.local import LocalControlPlane, Settings
from helmr_provider.local._core import Core
from helmr_provider.local._server import Server
from helmr_provider.local.api import bytestreams
from helmr_provider.local.execution.worker import Worker
from helmr_provider.local.state import chunks
from helmr_provider.local.workspaces import commands
from helmr_provider.local.workspaces.processes import Reader
from helmr_provider.local.workspaces.worker import WorkspaceWorker
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JOB = re.compile(r"job=(\d+)=")
RUNNING: Any = {"state": "running", "error": "{}"}
ENDED = ("exited", "terminated", "lost", "failed", "closed")


class Workspace:
    """A workspace and what one does in it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.id = str(wire.post("/api/workspaces", {"sandbox_id": "local"}, 201)["workspace"]["id"])
        self.path = f"/api/workspaces/{self.id}"

    def start(self, *command: str, **options: Any) -> str:
        created = self.wire.post(f"{self.path}/execs", {"command": list(command), **options}, 201)
        return f"{self.path}/execs/{created['exec']['id']}"

    def run(self, *command: str, **options: Any) -> Any:
        """Run a command to its end; return the exec."""
        exec_path = self.start(*command, **options)
        return self.ended(exec_path)

    def ended(self, path: str) -> Any:
        until(lambda: self.shown(path)["state"] in ENDED)
        return self.shown(path)

    def shown(self, path: str) -> Any:
        return next(iter(self.wire.get(path).values()))

    def output(self, exec_path: str, stream: str = "stdout") -> bytes:
        """Follow a stream to its end."""
        with self.wire.stream(f"{exec_path}/{stream}", query={"follow": "1"}) as followed:
            return b"".join(base64.b64decode(event["data"]) for event in followed.events() if "data" in event)

    def sh(self, script: str, **options: Any) -> str:
        return self.output(self.start("sh", "-c", script, **options)).decode()

    def write(self, path: str, content: bytes) -> None:
        """Write to an input stream at its end."""
        name = "stdin" if path.endswith("stdin") else "input"
        offset = self.shown(path.rpartition("/")[0])[f"{name}_cursor"]
        self.wire.post(path, {"offset": offset, "data": base64.b64encode(content).decode()})

    def terminal(self, **options: Any) -> str:
        created = self.wire.post(f"{self.path}/pty", options, 201)
        path = f"{self.path}/pty/{created['pty']['id']}"
        until(lambda: self.shown(path)["state"] != "creating")
        return path

    def screen(self, terminal: str) -> str:
        shown = self.wire.get(f"{terminal}/output", limit="500")["chunks"]
        return b"".join(base64.b64decode(chunk["data"]) for chunk in shown).decode(errors="replace")


@pytest.fixture
def workspace(wire: Wire) -> Workspace:
    return Workspace(wire)


def _is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _sentinels() -> set[int]:
    return {child.pid for child in psutil.Process().children() if "process_reaper" in " ".join(child.cmdline())}


def test_a_command_reads_its_stdin_to_the_end_and_every_byte_comes_back(workspace: Workspace) -> None:
    exec_path = workspace.start("cat")
    content = os.urandom(2_500_000)
    for start in range(0, len(content), 1_000_000):
        workspace.write(f"{exec_path}/stdin", content[start : start + 1_000_000])
    workspace.wire.post(f"{exec_path}/stdin/close", {})
    assert workspace.output(exec_path) == content
    assert workspace.ended(exec_path)["stdout_cursor"] == len(content)


def test_a_write_that_is_repeated_reaches_the_command_once(workspace: Workspace) -> None:
    exec_path = workspace.start("cat")
    body = {"offset": 0, "data": base64.b64encode(b"once\n").decode()}
    first = workspace.wire.post(f"{exec_path}/stdin", body)
    assert workspace.wire.post(f"{exec_path}/stdin", body) == first
    workspace.wire.post(f"{exec_path}/stdin/close", {})
    assert workspace.output(exec_path) == b"once\n"


def test_a_command_that_does_not_read_can_be_written_to_and_ends_all_the_same(
    workspace: Workspace, tmp_path: Path
) -> None:
    written = tmp_path / "written"
    exec_path = workspace.start("sh", "-c", f"until test -e '{written}'; do sleep 0.02; done; exit 3")
    workspace.write(f"{exec_path}/stdin", bytes(1_000_000))
    written.touch()
    assert workspace.ended(exec_path)["exit_code"] == 3


def test_output_that_was_not_read_in_time_is_kept(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Reader.__init__

    def begin_and_get_no_time(reader: Reader, descriptor: int, take: Callable[[bytes], None]) -> None:
        begin(reader, descriptor, take)
        reader._loop.remove_reader(descriptor)

    # On a busy machine, the loop can read later than a command that has ended is waited for.
    monkeypatch.setattr(Reader, "__init__", begin_and_get_no_time)
    monkeypatch.setattr(commands, "_DRAIN_SECONDS", 0.0)
    assert workspace.sh("head -c 60000 /dev/zero | tr '\\0' x; echo the end") == "x" * 60_000 + "the end\n"


def test_a_command_ends_although_the_reaper_was_killed(
    server: LocalControlPlane, workspace: Workspace, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    exec_path = workspace.start("sh", "-c", f"until test -e '{killed}'; do sleep 0.02; done; exit 3")
    until(lambda: workspace.shown(exec_path)["state"] == "running")
    reaper = server.running.workspaces._reaper._process
    assert reaper is not None
    psutil.Process(reaper.pid).kill()
    killed.touch()
    assert workspace.ended(exec_path)["exit_code"] == 3
    assert workspace.sh("echo another") == "another\n"


def test_a_signal_ends_a_command_without_an_exit_code(workspace: Workspace) -> None:
    ended = workspace.run("sh", "-c", "kill -KILL $$")
    assert (ended["state"], ended["signal"], "exit_code" in ended) == ("exited", "SIGKILL", False)


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (["no-such-program"], {}, "executable not found"),
        (["true"], {"cwd": "/workspace/missing"}, "working directory not found"),
        (["/"], {}, "Permission denied"),
    ],
)
def test_what_cannot_start_has_failed_and_says_why(
    command: list[str], options: dict[str, str], message: str, workspace: Workspace
) -> None:
    ended = workspace.run(*command, **options)
    assert (ended["state"], ended["error"]) == ("failed", {"code": "exec_start_failed", "message": message})


def test_the_mount_path_means_the_directory_and_other_paths_are_unchanged(workspace: Workspace) -> None:
    here = workspace.sh("mkdir sub; pwd").strip()
    assert workspace.sh("pwd", cwd="/workspace").strip() == here
    assert workspace.sh("pwd", cwd="/workspace/sub").strip() == f"{here}/sub"
    assert workspace.sh("pwd", cwd="/").strip() == "/"


def test_the_environment_holds_what_was_asked_for_and_no_secret_of_this_process(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hidden")
    names = dict(line.split("=", 1) for line in workspace.sh("env", env={"CI": "1"}).splitlines())
    assert names["CI"] == "1"
    assert "SOME_API_KEY" not in names
    assert workspace.sh('cd "$HOME" && echo kept > .cache && pwd').strip() == names["HOME"]


def test_what_a_command_leaves_running_ends_with_it(workspace: Workspace) -> None:
    left = int(workspace.sh("sleep 600 >/dev/null 2>&1 & echo $!"))
    until(lambda: _is_gone(left))


def test_old_bytes_of_a_long_output_are_forgotten() -> None:
    settings = replace(QUICK, stream_retention=100_000)
    with LocalControlPlane(settings=settings) as server:
        workspace = Workspace(Wire(server))
        exec_path = workspace.start("sh", "-c", "head -c 400000 /dev/zero; echo end")
        assert workspace.ended(exec_path)["stdout_cursor"] == 400_004
        for query in ({}, {"follow": "1"}):
            answer = workspace.wire.request("GET", f"{exec_path}/stdout", query=query)
            assert (answer.status, answer.json["code"]) == (410, "workspace_stream_cursor_expired")
        newest = workspace.wire.get(f"{exec_path}/stdout", cursor="400000")["chunks"]
        assert base64.b64decode(newest[-1]["data"]).endswith(b"end\n")


async def test_a_follower_that_falls_behind_the_kept_output_gets_an_error() -> None:
    core = Core([], None, Settings(stream_retention=1000), executor=Worker, workspaces=WorkspaceWorker)
    source = bytestreams.Source("workspace_exec", "some-exec", "stdout", lambda *_: RUNNING, ("running",))
    chunks.append(core, "some-exec", "stdout", b"first")
    frames = bytestreams.frames(core, source, 0, 1)
    assert "event: workspace_stream_chunk" in (await anext(frames)).decode()
    for _ in range(2):
        chunks.append(core, "some-exec", "stdout", bytes(2000))
    error = (await anext(frames)).decode()
    assert error.startswith("id: 5\nevent: workspace_stream_error\ndata: ")
    assert json.loads(error.partition("data: ")[2])["code"] == "workspace_stream_cursor_expired"
    assert [frame async for frame in frames] == []
    core.close()


def test_a_follower_hears_comments_while_nothing_happens(workspace: Workspace) -> None:
    exec_path = workspace.start("sleep", "600")
    with workspace.wire.stream(f"{exec_path}/stdout", query={"follow": "1"}) as stream:
        assert next(stream.frames()) == ": keep-alive\n\n"


def test_a_terminal_ignores_no_signal_though_the_control_plane_does(workspace: Workspace) -> None:
    """As it does Ctrl-C when it was started with `&` in a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        terminal = workspace.terminal()
    finally:
        signal.signal(signal.SIGINT, before)
    workspace.write(f"{terminal}/input", b"grep SigIgn /proc/self/status\n")
    until(lambda: re.search(r"SigIgn:\s+[0-9a-f]{16}", workspace.screen(terminal)) is not None)
    [mask] = re.findall(r"SigIgn:\s+([0-9a-f]{16})", workspace.screen(terminal))
    assert [number for number in (signal.SIGINT, signal.SIGPIPE) if int(mask, 16) & 1 << number - 1] == []


def test_a_terminal_has_job_control_and_the_size_that_was_asked_for(workspace: Workspace) -> None:
    terminal = workspace.terminal(cols=100, rows=30)
    # What is interrupted can be so at any moment, and the job itself says that it was.
    job = b"""sh -c 'trap : INT; sh -c "stty size; exec sleep 600"; echo inter""rupted'\n"""
    workspace.write(f"{terminal}/input", job)
    until(lambda: "30 100" in workspace.screen(terminal))
    workspace.write(f"{terminal}/input", b"\x03")
    until(lambda: "interrupted" in workspace.screen(terminal))
    workspace.wire.post(f"{terminal}/resize", {"cols": 60, "rows": 20})
    until(lambda: workspace.shown(terminal)["state"] == "open")
    workspace.write(f"{terminal}/input", b"stty size\n")
    until(lambda: "20 60" in workspace.screen(terminal))


def test_closing_a_terminal_ends_its_jobs_too(workspace: Workspace) -> None:
    terminal = workspace.terminal()
    workspace.write(f"{terminal}/input", b"nohup sleep 600 & echo job=$!=\n")
    until(lambda: JOB.search(workspace.screen(terminal)) is not None)
    job = int(JOB.findall(workspace.screen(terminal))[-1])
    workspace.wire.post(f"{terminal}/close", {})
    assert workspace.ended(terminal)["state"] == "closed"
    until(lambda: _is_gone(job))


def test_a_terminal_whose_shell_exits_is_closed(workspace: Workspace) -> None:
    terminal = workspace.terminal()
    workspace.write(f"{terminal}/input", b"exit\n")
    assert workspace.ended(terminal)["error"] == {}


def test_a_stop_ends_commands_that_ignore_a_polite_request(workspace: Workspace) -> None:
    exec_path = workspace.start("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done")
    until(lambda: workspace.shown(exec_path)["stdout_cursor"] > 0)
    workspace.wire.post(f"{workspace.path}/stop", {})
    assert workspace.ended(exec_path)["state"] == "terminated"
    assert _is_gone(int(workspace.output(exec_path)))


def test_nothing_runs_any_more_when_the_server_has_stopped() -> None:
    # Other tests' servers, which last longer than one test, have sentinels too.
    before = _sentinels()
    with LocalControlPlane(settings=QUICK) as server:
        first, second = Workspace(Wire(server)), Workspace(Wire(server))
        exec_path = first.start("sh", "-c", "sleep 600 & echo $!; echo $$; wait")
        until(lambda: first.wire.get(f"{exec_path}/stdout")["chunks"] != [])
        until(lambda: len(_text(first, exec_path).split()) == 2)
        pids = [int(pid) for pid in _text(first, exec_path).split()]
        pids.append(int(second.shown(second.terminal())["process_id"]))
    for pid in pids:
        until(lambda pid=pid: _is_gone(pid))  # type: ignore[misc]
    assert _sentinels() <= before


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Wire]]:
    command = [sys.executable, "-W", "error", "-m", "helmr_provider.local", "serve", "--port", "0"]
    command += ["--db", str(folder / "state.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, Wire(_Address(process))
        finally:
            process.kill()


class _Address:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip().removeprefix("export ").partition("=")[::2] for _ in range(5)]
        self.url, self.api_key = dict(lines)["HELMR_API_URL"], dict(lines)["HELMR_API_KEY"]


def test_a_killed_server_leaves_no_process_and_its_workspaces_are_lost(tmp_path: Path) -> None:
    with served(tmp_path) as (process, wire):
        workspace = Workspace(wire)
        assert workspace.sh("echo done > before") == ""
        exec_path = workspace.start("sh", "-c", "sleep 600 & echo $!; echo $$; wait")
        until(lambda: len(_text(workspace, exec_path).split()) == 2)
        pids = [int(pid) for pid in _text(workspace, exec_path).split()]
        process.send_signal(signal.SIGKILL)
        process.wait()
        for pid in pids:
            until(lambda pid=pid: _is_gone(pid))  # type: ignore[misc]
    with served(tmp_path) as (process, wire):
        workspace.wire = wire
        lost = workspace.shown(exec_path)
        assert (lost["state"], lost["error"]) == ("lost", {"code": "workspace_materialization_failed"})
        with wire.stream(f"{exec_path}/stdout", query={"follow": "1"}) as stream:
            assert "event: workspace_stream_lost" in list(stream.frames())[-1]
        assert workspace.sh("ls") == ""
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=15)
        assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("resource", ["execs", "pty"])
def test_commands_are_not_run_where_that_is_off(resource: str) -> None:
    with LocalControlPlane(settings=Settings(execute=False)) as server:
        workspace = Workspace(Wire(server))
        answer = workspace.wire.request(
            "POST", f"{workspace.path}/{resource}", {"command": ["true"]} if resource == "execs" else {}
        )
        assert answer.status == 501
        assert "runs no commands" in answer.json["error"]


def test_commands_are_not_run_for_an_address_that_others_can_reach() -> None:
    server = Server([], host="0.0.0.0", allow_remote=True)
    assert not server.core.executes
    server.core.close()
    loopback = Server([])
    assert loopback.core.executes
    loopback.core.close()


def _text(workspace: Workspace, exec_path: str) -> str:
    written = workspace.wire.get(f"{exec_path}/stdout")["chunks"]
    return b"".join(base64.b64decode(chunk["data"]) for chunk in written).decode()

"""`helmr-local serve` as a person or a script uses it."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local.__main__ import main
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.local import Settings

_COMMAND = [sys.executable, "-W", "error", "-m", "helmr_provider.local"]


class _Address:
    def __init__(self, lines: list[str]) -> None:
        members = dict(part.split("=", 1) for line in lines[:3] for part in shlex.split(line.removeprefix("export ")))
        self.url, self.api_key = members["HELMR_API_URL"], members["HELMR_API_KEY"]


def _serve(*options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*_COMMAND, "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def _read(process: subprocess.Popen[str]) -> _Address:
    assert process.stdout is not None
    return _Address([process.stdout.readline().strip() for _ in range(5)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_what_a_shell_needs_and_ends_cleanly_with_runs_and_followers(number: signal.Signals) -> None:
    with _serve() as process:
        wire = Wire(_read(process))
        run_id = wire.start("work", {"seconds": 600})["run"]["id"]
        wire.until(run_id, "running")
        with wire.stream(f"/api/runs/{run_id}/events") as stream:
            next(stream.frames())
            process.send_signal(number)
            output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")


_TASKS = """
import asyncio, sys, threading
from helmr_provider.local import task

@task("blocking")
async def blocking(ctx, payload):
    ctx.log("blocks")
    await asyncio.to_thread(threading.Event().wait)

@task("leaving")
async def leaving(ctx, payload):
    async def part():
        sys.exit(3)
    await asyncio.gather(part())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_although_a_thread_of_a_task_does_not_end(
    number: signal.Signals, tmp_path: Path
) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(_TASKS)
    with _serve("--tasks", str(file)) as process:
        address = _read(process)
        wire = Wire(address)
        try:
            run_id = wire.start("blocking")["run"]["id"]
            until(lambda: wire.get(f"/api/runs/{run_id}/logs")["stdout_base64"])
            process.send_signal(number)
            until(lambda: _refuses(address))
            process.send_signal(number)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -number


def test_a_part_of_a_task_that_exits_does_not_end_it(tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(_TASKS)
    with _serve("--tasks", str(file)) as process:
        try:
            wire = Wire(_read(process))
            for _ in range(2):
                assert wire.ended(wire.start("leaving")["run"]["id"])["status"] == "failed"
            process.terminate()
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0


def _refuses(address: _Address) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(address.url.rpartition(":")[2]))).close()
    except OSError:
        return True
    return False


def _limited(soft: int, hard: int) -> subprocess.Popen[str]:
    shell = f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec " + shlex.join([*_COMMAND, "serve", "--port", "0"])
    return subprocess.Popen(
        ["bash", "-c", shell], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_serve_raises_its_limit_on_open_files() -> None:
    hard = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    with _limited(256, hard) as process:
        _read(process)
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
        process.terminate()
        assert process.communicate(timeout=60)[1] == ""


def test_serve_says_that_the_hard_limit_on_open_files_is_too_low() -> None:
    with _limited(256, 256) as process:
        _read(process)
        process.terminate()
        assert "(ulimit -Hn) is 256" in process.communicate(timeout=60)[1]


def test_what_serve_prints_can_be_evaluated_by_a_shell() -> None:
    with _serve() as process:
        assert process.stdout is not None
        printed = "".join(process.stdout.readline() for _ in range(5))
        shell = f"{printed}\nprintf '%s' \"$AIRFLOW_CONN_HELMR_DEFAULT\""
        connection = json.loads(subprocess.run(["sh", "-c", shell], capture_output=True, check=True).stdout)
        assert Wire(_Address(printed.splitlines())).get("/api/runs") == {"runs": []}
        assert f"# Console: {connection['host']}/" in printed
        assert connection["conn_type"] == "helmr"
        process.terminate()
        process.communicate(timeout=60)


def test_the_key_comes_from_the_command_line_or_the_environment() -> None:
    for options, environment in (
        (["--api-key", "hlmr_sk_demo"], {}),
        ([], {"HELMR_LOCAL_API_KEY": "hlmr_sk_demo"}),
    ):
        with _serve(*options, **environment) as process:
            address = _read(process)
            assert address.api_key == "hlmr_sk_demo"
            assert Wire(address).get("/api/runs") == {"runs": []}
            process.terminate()
            process.communicate(timeout=60)


@pytest.mark.parametrize(("options", "slots"), [([], None), (["--event-slots", "20"], 20)])
def test_event_slots_are_scarce_only_if_asked_for(
    options: list[str], slots: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[int | None] = []

    def refuse(*_: Any, settings: Settings, **__: Any) -> None:
        received.append(settings.event_slots)
        raise OSError("not now")

    monkeypatch.setattr("helmr_provider._local_cli.serving.Server", refuse)
    assert main(["serve", *options]) == 1
    assert received == [slots]


@pytest.mark.parametrize("number", ["0", "-1"])
def test_there_is_at_least_one_event_slot(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--event-slots", number]) == 1
    assert "at least 1" in capsys.readouterr().err


def test_an_address_that_others_can_reach_needs_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0"]) == 1
    assert "not a loopback address" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    said = capsys.readouterr().err
    assert said.startswith("helmr-local: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--api-key", "secret"], "begins with hlmr_sk_"),
        (["--tasks", "no/such/file.py"], "file.py"),
        (["--certfile", "no.pem"], "--certfile and --keyfile belong together"),
        (["--certfile", "no.pem", "--keyfile", "no.key"], "no.pem does not exist"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0", *options]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_broken_database_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state.db").write_bytes(b"this is not a database " * 100)
    assert main(["serve", "--db", str(tmp_path / "state.db")]) == 1
    assert "not a database" in capsys.readouterr().err


def test_the_variables_of_a_running_one_come_with_a_new_key_of_the_environment_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _serve() as process:
        served = _read(process)
        port = served.url.rpartition(":")[2]
        Wire(served).start("echo")
        addresses = []
        for options in ([], ["--environment", "staging"]):
            assert main(["env", "--port", port, *options]) == 0
            addresses.append(_Address(capsys.readouterr().out.splitlines()))
        assert {address.url for address in addresses} == {served.url}
        assert served.api_key not in {address.api_key for address in addresses}
        assert [len(Wire(address).get("/api/sessions")["sessions"]) for address in addresses] == [1, 0]
        process.terminate()
        process.communicate(timeout=60)
    assert main(["env", "--port", port]) == 1
    assert capsys.readouterr().err.startswith("helmr-local: ")


def test_tasks_are_listed_with_what_they_say_of_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert listed["echo"] == "Return the payload."
    file = tmp_path / "mine.py"
    file.write_text("from helmr_provider.local import task\n@task('mine')\nasync def mine(ctx, payload): ...\n")
    assert main(["tasks", "--tasks", str(file)]) == 0
    assert capsys.readouterr().out == "mine\n"
    assert main(["tasks", "--tasks", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"id": "mine", "summary": ""}]


def test_the_real_failures_can_be_turned_into_refusals() -> None:
    for options, status in (([], 500), (["--quirks"], 500), (["--no-quirks"], 400)):
        with _serve(*options) as process:
            wire = Wire(_read(process))
            assert wire.request("POST", "/api/workspaces", {}).status == status
            process.terminate()
            process.communicate(timeout=60)

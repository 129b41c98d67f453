"""The commands of `helmr-local` that speak to a running control plane, as a person and as a script use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider import __version__
from helmr_provider._local_cli import main
from helmr_provider._local_cli.parser import DEFAULT_PORT
from helmr_provider.client import HelmrClient
from helmr_provider.local import LocalControlPlane
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[LocalControlPlane]:
    with LocalControlPlane() as running:
        yield running


@pytest.fixture
def cli(
    server: LocalControlPlane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    monkeypatch.delenv("HELMR_API_URL", raising=False)
    monkeypatch.delenv("HELMR_API_KEY", raising=False)

    def run(*arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--port", server.url.rpartition(":")[2]]) == status, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"helmr-local {__version__}\n"


def test_a_task_is_started_and_waited_for(cli: Callable[..., str]) -> None:
    assert json.loads(cli("start", "echo", "--payload", '{"a": 1}', "--wait")) == {"a": 1}
    assert cli("start", "fail", "--wait", status=1) == ""
    run = json.loads(cli("start", "echo", "--wait", "--json"))
    assert (run["task_id"], run["status"], run["output"]) == ("echo", "succeeded", {})


def test_sessions_are_listed_and_shown_by_id_or_external_id(cli: Callable[..., str]) -> None:
    run = cli("start", "echo", "--external-id", "mine:1").strip()
    (session,) = json.loads(cli("sessions", "list", "--task", "echo", "--limit", "1", "--json"))
    assert session["external_id"] == "mine:1"
    assert "mine:1" in cli("sessions", "list")
    for named in ("mine:1", session["id"]):
        shown = cli("sessions", "show", named)
        assert session["id"] in shown
        assert run in shown
    assert json.loads(cli("sessions", "show", "mine:1", "--json"))["runs"][0]["run_id"] == run


def test_runs_are_listed_and_shown(cli: Callable[..., str]) -> None:
    run = json.loads(cli("start", "echo", "--payload", '"text"', "--wait", "--json"))["id"]
    lines = cli("runs", "list", "--status", "succeeded", "--limit", "1").splitlines()
    assert [lines[0].split()[0], lines[1].split()[0], lines[1].split()[-1]] == ["TASK", "echo", run]
    assert 'Output     "text"' in cli("runs", "show", run)
    assert json.loads(cli("runs", "show", run, "--json"))["output"] == "text"


def test_logs_and_events_of_a_run_are_printed_and_followed(
    server: LocalControlPlane, capfd: pytest.CaptureFixture[str]
) -> None:
    port = ("--port", server.url.rpartition(":")[2])
    assert main(["start", "fail", "--payload", '{"message": "no luck"}', "--wait", "--json", *port]) == 1
    run = json.loads(capfd.readouterr().out)["id"]
    for follow in ([], ["--follow"]):
        assert main(["runs", "logs", run, *follow, *port]) == 0
        printed = capfd.readouterr()
        assert "About to fail" in printed.out
        assert "no luck" in printed.err
        assert main(["runs", "events", run, *follow, *port]) == 0
        kinds = [line.split()[1] for line in capfd.readouterr().out.splitlines()]
        assert (kinds[0], kinds[-1]) == ("run.created", "run.failed")
        assert main(["runs", "events", run, *follow, "--json", *port]) == 0
        assert json.loads(capfd.readouterr().out.splitlines()[-1])["kind"] == "run.failed"


def test_every_list_is_json_for_a_script(cli: Callable[..., str]) -> None:
    run = cli("start", "echo", "--wait", "--json")
    for name in ("sessions", "runs", "tokens"):
        assert isinstance(json.loads(cli(name, "list", "--json")), list)
    assert json.loads(run)["id"] in {each["id"] for each in json.loads(cli("runs", "list", "--json"))}


def test_a_token_is_listed_and_completed(server: LocalControlPlane, cli: Callable[..., str]) -> None:
    with HelmrClient(url=server.url, api_key=server.api_key) as client:
        token = client.tokens.create(tags=["approve"], metadata={"approval": {"subject": "Publish\n2.4?"}})
        listed = cli("tokens", "list", "--status", "pending")
        assert "approve" in listed
        assert "Publish 2.4?" in listed
        assert "in 6 d" in listed
        assert cli("tokens", "complete", token.id, "--data", '{"approved": true}').endswith(": completed\n")
        assert client.tokens.retrieve(token.id).data == {"approved": True}
        assert json.loads(cli("tokens", "complete", token.id, "--data", '{"approved": true}', "--json"))["status"] == (
            "already_completed"
        )


def test_the_environment_names_the_control_plane(
    server: LocalControlPlane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = server.create_key(environment="other")
    monkeypatch.setenv("HELMR_API_URL", server.url)
    monkeypatch.setenv("HELMR_API_KEY", other)
    assert main(["sessions", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs", "show", "not-an-id"], "id must be a UUID"),
        (["sessions", "show", "no-such-name"], "session not found"),
        (["start", "no-such-task"], "task_not_deployed"),
        (["start", "echo", "--payload", "{"], "--payload is not JSON"),
        (["tokens", "complete", "x", "--data", "nope"], "--data is not JSON"),
    ],
)
def test_a_mistake_is_said_in_one_line(
    arguments: list[str], said: str, server: LocalControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--url", server.url]) == 1
    error = capsys.readouterr().err
    assert error.startswith("helmr-local: ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["env"], ["runs", "list"]])
def test_without_a_server_it_says_how_to_start_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert main([*arguments, "--port", str(closed.getsockname()[1])]) == 1
    error = capsys.readouterr().err
    assert "helmr-local serve" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def broken(:\n", "mine.py, line 1: "),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("a = 1\n", "defines no task"),
    ],
)
def test_a_broken_file_of_tasks_is_said_in_one_line(
    source: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    for command in ("tasks", "serve"):
        assert main([command, "--tasks", str(file)]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_taken_default_port_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", DEFAULT_PORT))
            taken.listen()
        except OSError:
            pass  # another process has it, which is as good
        assert main(["serve"]) == 1
    assert "choose one with --port" in capsys.readouterr().err


def test_it_serves_https(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    command = [sys.executable, "-m", "helmr_provider.local", "serve", "--port", "0"]
    command += ["--certfile", str(certificate), "--keyfile", str(key)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        url, api_key = (process.stdout.readline().strip().partition("=")[2] for _ in range(2))
        assert url.startswith("https://127.0.0.1:")
        with HelmrClient(url=url, api_key=api_key, verify=str(certificate)) as client:
            run = client.sessions.start_and_wait("echo", {"over": "tls"}).run
            assert run.output == {"over": "tls"}
            assert [record.kind for record in client.runs.events.records(run)][-1] == "run.completed"
        process.terminate()


def test_a_table_is_drawn_for_a_person(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from helmr_provider._local_cli import output

    monkeypatch.setattr(output, "_is_rich", lambda: True)
    output.print_table(("TASK", "STATUS"), [("[echo]", "succeeded")], "none")
    printed: Any = capsys.readouterr().out
    assert "[echo]" in printed
    assert "succeeded" in printed


def test_following_stops_quietly_when_the_reader_leaves(server: LocalControlPlane) -> None:
    wire_run: list[str] = []
    with HelmrClient(url=server.url, api_key=server.api_key) as client:
        wire_run.append(client.sessions.start("work", {"seconds": 0.1}).run.id)
        until(lambda: client.runs.retrieve(wire_run[0]).status == "succeeded")
    command = [sys.executable, "-m", "helmr_provider.local", "runs", "events", wire_run[0], "--url", server.url]
    shell = " ".join(command) + " | head -n 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""

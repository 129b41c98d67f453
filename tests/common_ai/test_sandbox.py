"""Workspaces as sandboxes, against the contract of the common-ai provider's own classes."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("airflow.providers.common.ai.sandbox", reason="needs the extra common-ai")

from airflow.providers.common.ai.sandbox import (  # type: ignore[import-not-found, unused-ignore]
    AttachableSandboxBackend,
    SandboxError,
    SandboxFileTooLargeError,
    SandboxSpec,
    SandboxTerminalError,
)

from helmr_provider.client import ExecHandle
from helmr_provider.common_ai.sandbox import HelmrSandboxBackend, _refusal
from helmr_provider.local import faults
from tests.support.polling import until
from tests.support.workspace_tasks import execs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")

OPEN = SandboxSpec(block_network=False)


@pytest.fixture
def backend() -> HelmrSandboxBackend:
    return HelmrSandboxBackend(sandbox_id="local")


@pytest.fixture
def sandbox(backend: HelmrSandboxBackend) -> Iterator[str]:
    created = backend.create(spec=SandboxSpec(block_network=False, env={"NAME": "value"}, owner="nightly/r"))
    yield created
    backend.destroy(created)


def run(backend: HelmrSandboxBackend, sandbox: str, command: str, **options: Any) -> Any:
    return backend.run_command(sandbox, command, **{"timeout": 30.0, "max_output_bytes": 10_000} | options)


def test_it_is_what_the_toolset_attaches_to(backend: HelmrSandboxBackend) -> None:
    assert isinstance(backend, AttachableSandboxBackend)
    assert backend.name == "helmr"


def test_building_one_reads_no_connection(control_plane: LocalControlPlane) -> None:
    HelmrSandboxBackend(sandbox_id="any", helmr_conn_id="nowhere")
    assert control_plane.journal == []


def test_a_command_has_its_outputs_code_and_environment(backend: HelmrSandboxBackend, sandbox: str) -> None:
    result = run(backend, sandbox, "echo $NAME; echo é >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "value\n", "é\n")
    assert not any((result.timed_out, result.stdout_truncated, result.stderr_truncated, result.sandbox_terminated))


def test_a_signal_is_a_code_as_in_a_shell(backend: HelmrSandboxBackend, sandbox: str) -> None:
    assert run(backend, sandbox, "kill -9 $$").exit_code == 137


def test_of_a_long_output_the_end_is_kept_and_the_cut_is_marked(backend: HelmrSandboxBackend, sandbox: str) -> None:
    result = run(backend, sandbox, "seq 100000; echo short >&2", max_output_bytes=20)
    assert len(result.stdout.encode()) == 20
    assert result.stdout.endswith("99999\n100000\n")
    assert (result.stdout_truncated, result.stderr_truncated) == (True, False)


def test_a_command_that_takes_too_long_is_ended_and_the_files_stay(
    client: HelmrClient, backend: HelmrSandboxBackend, sandbox: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun, wait = tmp_path / "begun", ExecHandle.wait

    def wait_when_begun(handle: ExecHandle, **limits: Any) -> Any:
        until(begun.exists)
        return wait(handle, **limits)

    # The time is over only after the command has written, also on a busy machine.
    monkeypatch.setattr(ExecHandle, "wait", wait_when_begun)
    result = run(backend, sandbox, f"echo kept > file; echo begun; touch '{begun}'; sleep 3600", timeout=0.5)
    assert (result.timed_out, result.sandbox_terminated, result.stdout) == (True, False, "begun\n")
    assert execs(client, sandbox)[0].state == "terminated"
    assert run(backend, sandbox, "cat file").stdout == "kept\n"


def test_simultaneous_commands_run_one_after_the_other(backend: HelmrSandboxBackend, sandbox: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda n: run(backend, sandbox, f"sleep 0.3; echo {n}"), range(3)))
    assert [result.stdout for result in results] == ["0\n", "1\n", "2\n"]


def test_waiting_for_another_command_counts_as_the_time_of_this_one(
    client: HelmrClient, backend: HelmrSandboxBackend, sandbox: str
) -> None:
    other = client.workspaces.open(sandbox).exec(["cat"])
    assert run(backend, sandbox, "true", timeout=0.5).timed_out
    assert not other.retrieve().is_terminal, "what is another's is not ended"


def test_a_command_waits_until_the_workspace_has_stopped(
    control_plane: LocalControlPlane, client: HelmrClient, backend: HelmrSandboxBackend, sandbox: str
) -> None:
    assert run(backend, sandbox, "echo kept > file").exit_code == 0
    control_plane.pause_workspaces()
    client.workspaces.stop(sandbox)
    control_plane.clear_journal()

    def answers() -> list[int | None]:
        return [entry.status for entry in control_plane.journal if entry.operation == "createWorkspaceExec"]

    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(run, backend, sandbox, "cat file")
        until(lambda: len(answers()) >= 2 or result.done())
        control_plane.pause_workspaces(None)
        assert result.result().stdout == "kept\n"
    assert answers()[:2] == [404, 404]


def test_a_lost_answer_runs_a_command_once(
    control_plane: LocalControlPlane, backend: HelmrSandboxBackend, sandbox: str
) -> None:
    control_plane.fail_next("createWorkspaceExec", faults.lose_answer())
    assert run(backend, sandbox, "echo run >> runs; cat runs").stdout == "run\n"


def test_a_machine_that_fails_is_terminal(
    control_plane: LocalControlPlane, client: HelmrClient, backend: HelmrSandboxBackend, sandbox: str
) -> None:
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(run, backend, sandbox, "sleep 3600")
        until(lambda: any(found.state == "running" for found in execs(client, sandbox)))
        control_plane.lose_workspace(sandbox)
        with pytest.raises(SandboxTerminalError, match="is lost"):
            result.result(timeout=30)


# Files


@pytest.mark.parametrize("content", [b"", b"caf\xc3\xa9\n", b"\x00\xff" * 1_500_000], ids=["empty", "text", "3 MB"])
def test_a_file_is_written_into_new_folders_and_read_back(
    backend: HelmrSandboxBackend, sandbox: str, content: bytes
) -> None:
    backend.write_file(sandbox, "new dir/it's.bin", content)
    assert backend.read_file(sandbox, "new dir/it's.bin", max_bytes=4_000_000) == content
    assert backend.list_directory(sandbox, "new dir") == [("it's.bin", False)]
    copied = io.BytesIO()
    assert backend.export_file(sandbox, "new dir/it's.bin", copied, max_bytes=4_000_000) == len(content)
    assert copied.getvalue() == content


def test_what_cannot_be_read_or_written_can_be_worked_around(backend: HelmrSandboxBackend, sandbox: str) -> None:
    backend.write_file(sandbox, "file", b"12345")
    with pytest.raises(SandboxFileTooLargeError):
        backend.read_file(sandbox, "file", max_bytes=4)
    for call in (
        lambda: backend.read_file(sandbox, "none", max_bytes=4),
        lambda: backend.write_file(sandbox, "file/below", b"x"),
        lambda: backend.list_directory(sandbox, "none"),
    ):
        with pytest.raises(SandboxError) as failed:
            call()
        assert not isinstance(failed.value, SandboxTerminalError)


# Attaching


def test_a_sandbox_is_attached_to_by_its_owner_and_one_at_a_time(backend: HelmrSandboxBackend, sandbox: str) -> None:
    other_task = HelmrSandboxBackend(sandbox_id="local")
    attached = other_task.attach(sandbox, owner="nightly/r", holder="nightly/r/agent")
    assert attached.remaining_lifetime is None
    assert attached.network is not None
    assert attached.network.block_network is False
    with pytest.raises(SandboxTerminalError, match="already held"):
        backend.attach(sandbox, owner="nightly/r", holder="nightly/r/another")
    backend.attach(sandbox, owner="nightly/r", holder="nightly/r/agent")
    backend.release(sandbox, holder="nightly/r/agent")
    backend.attach(sandbox, owner="nightly/r", holder="nightly/r/another")
    with pytest.raises(SandboxTerminalError, match="not owned by"):
        backend.attach(sandbox, owner="nightly/s", holder="x")


def test_who_attaches_runs_in_the_directory_and_environment_of_the_creator(backend: HelmrSandboxBackend) -> None:
    created = HelmrSandboxBackend(sandbox_id="local", workdir="/tmp").create(
        spec=SandboxSpec(block_network=False, env={"NAME": "value"})
    )
    assert run(backend, created, "pwd; echo $NAME").stdout == "/tmp\nvalue\n"
    backend.destroy(created)


def test_tags_are_replaced_and_other_metadata_stay(
    client: HelmrClient, backend: HelmrSandboxBackend, sandbox: str
) -> None:
    backend.write_tags(sandbox, {"a": "b"})
    assert backend.read_tags(sandbox) == {"a": "b"}
    assert client.workspaces.retrieve(sandbox).metadata["airflow_sandbox_env"] == {"NAME": "value"}


# Ends


def test_destroying_ends_what_runs_and_may_be_repeated(
    client: HelmrClient, backend: HelmrSandboxBackend, sandbox: str
) -> None:
    run(backend, sandbox, "sleep 3600 > /dev/null 2>&1 &")
    backend.destroy(sandbox)
    backend.destroy(sandbox)
    backend.destroy("01a2097b-2f65-7e2f-9772-516e906b0804")
    assert client.workspaces.retrieve(sandbox).state == "archived"
    for call in (lambda: backend.read_tags(sandbox), lambda: run(backend, sandbox, "true")):
        with pytest.raises(SandboxTerminalError, match="is archived"):
            call()


def test_what_helmr_cannot_keep_is_refused_before_anything_is_created(
    client: HelmrClient, backend: HelmrSandboxBackend
) -> None:
    for spec in (
        SandboxSpec(),
        SandboxSpec(allow_egress_to=["example.com"]),
        SandboxSpec(allow_egress_to_cidrs=["1.2.3.4/32"]),
    ):
        with pytest.raises(SandboxTerminalError, match=r"network|addresses"):
            backend.create(spec=spec)
    assert client.workspaces.list() == []


def test_a_blocked_network_is_accepted_where_it_is_declared_and_only_there() -> None:
    assert _refusal(SandboxSpec(), {"internet": False}) is None
    for policy in ({"internet": True}, {"internet": False, "allow": ["x"]}, {}, None):
        assert _refusal(SandboxSpec(), policy) is not None
        assert _refusal(OPEN, policy) is None
    assert _refusal(None, {"internet": True}) is None


def test_every_error_of_the_control_plane_is_terminal(
    control_plane: LocalControlPlane, connect: Any, sandbox: str
) -> None:
    connect("wrong", host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    wrong = HelmrSandboxBackend(sandbox_id="local", helmr_conn_id="wrong")
    for call in (lambda: wrong.create(spec=OPEN), lambda: run(wrong, sandbox, "true"), lambda: wrong.destroy(sandbox)):
        with pytest.raises(SandboxTerminalError, match="401"):
            call()

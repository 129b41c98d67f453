"""Commands in workspaces: their output in the log, how they end, and that each runs as often as it should."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowTaskTimeout

from helmr_provider._workspaces.ownership import MARK
from helmr_provider.client import HelmrClient
from helmr_provider.client._async.byte_streams import AsyncByteStream
from helmr_provider.client._sync.byte_streams import ByteStream
from helmr_provider.local import LocalControlPlane, Settings, faults
from helmr_provider.triggers.workspace import HelmrExecTrigger, HelmrWorkspaceTrigger
from tests.support.journal import requests_of
from tests.support.polling import until
from tests.support.task_attempts import both_ways, deferred, fire
from tests.support.workspace_tasks import SLEEPS, Gate, a_workspace, an_exec, execs, until_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("helmr_connection")


@pytest.fixture
def workspace(client: HelmrClient) -> str:
    return a_workspace(client)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


# What it does


@both_ways
def test_what_a_command_writes_is_in_the_log_and_its_exit_code_is_returned(
    workspace: str, task_log: Callable[[], str], deferrable: bool
) -> None:
    # In capitals only where it is written, because the command itself is in the log, too.
    command = "printf 'one\\ntwo é\\nhalf' | tr a-z A-Z; echo oops | tr a-z A-Z >&2"
    assert an_exec(workspace, command, deferrable=deferrable).start().finish() == 0
    said = task_log()
    for line in ("ONE", "TWO é", "HALF", "stderr: OOPS"):
        assert said.count(line) == 1


def test_stdout_can_be_returned(workspace: str) -> None:
    assert an_exec(workspace, ["printf", "a\nb é"], result="stdout").start().finish() == "a\nb é"


def test_a_stdout_that_is_too_large_for_an_xcom_fails_for_good_with_advice(workspace: str) -> None:
    task = an_exec(workspace, ["printf", "123456"], result="stdout", max_result_bytes=5)
    with pytest.raises(AirflowFailException, match="6 bytes to stdout, more than max_result_bytes=5"):
        task.start().finish()
    assert an_exec(workspace, ["printf", "123456"], result="stdout", max_result_bytes=6, task_id="b").start().finish()


def test_a_list_is_read_by_no_shell_and_a_text_by_one(workspace: str) -> None:
    assert an_exec(workspace, ["echo", "$HOME && x"], result="stdout").start().finish() == "$HOME && x\n"
    assert an_exec(workspace, "echo $((1 + 1))", result="stdout", task_id="b").start().finish() == "2\n"


def test_directory_and_environment_reach_the_command(workspace: str) -> None:
    task = an_exec(workspace, "pwd; echo $NAME", cwd="/workspace/", env={"NAME": "value"}, result="stdout")
    directory, name = task.start().finish().split()
    assert directory.endswith(f"{workspace}/files")
    assert name == "value"


@pytest.mark.parametrize("data", ["é\n" * 700_000, b"\x00\xff", "", None], ids=["text", "bytes", "empty", "none"])
def test_standard_input_is_written_and_closed(workspace: str, data: Any) -> None:
    task = an_exec(workspace, "cat | wc -c", stdin=data, result="stdout")
    size = len(data.encode() if isinstance(data, str) else data or b"")
    assert int(task.start().finish()) == size


def test_a_command_that_does_not_read_its_input_may_succeed(workspace: str) -> None:
    assert an_exec(workspace, ["true"], stdin="x" * 3_000_000).start().finish() == 0


def test_ids_and_link_are_pushed_at_the_start(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str
) -> None:
    attempt = an_exec(workspace, SLEEPS, deferrable=True).start()
    deferred(attempt.execute())
    [found] = execs(client, workspace)
    assert attempt.xcoms == {
        "workspace_id": workspace,
        "exec_id": found.id,
        "_link_HelmrWorkspaceLink": f"{control_plane.url}/workspaces/{workspace}",
    }


def test_nothing_is_pushed_for_a_task_that_pushes_nothing(workspace: str) -> None:
    attempt = an_exec(workspace, ["true"], do_xcom_push=False).start()
    attempt.finish()
    assert set(attempt.xcoms) == {"_link_HelmrWorkspaceLink"}


def test_outputs_are_read_in_pages_and_never_followed(control_plane: LocalControlPlane, workspace: str) -> None:
    an_exec(workspace, "seq 20000", deferrable=True).start().finish()
    pages = requests_of(control_plane, "listWorkspaceExecStdout")
    assert pages
    assert not any("follow" in page.query for page in pages)


def test_a_log_can_be_kept_free_of_output(workspace: str, task_log: Callable[[], str]) -> None:
    an_exec(workspace, "echo abc | tr a-z A-Z", log_output=False).start().finish()
    assert "ABC" not in task_log()


def test_output_that_is_not_kept_any_more_is_said_to_be_lost(
    connect: Callable[..., str], gate: Gate, task_log: Callable[[], str]
) -> None:
    with (
        LocalControlPlane(settings=Settings(stream_retention=1000)) as small,
        HelmrClient(url=small.url, api_key=small.api_key) as client,
    ):
        connect(host=small.url, password=small.api_key)
        workspace = a_workspace(client)
        attempt = an_exec(workspace, f"{gate.wait}; seq 100000", deferrable=True).start()
        deferral = deferred(attempt.execute())
        gate.open()
        until_state(client, workspace, "exited")
        assert attempt.resume(deferral, {"status": "ended"}) == 0
    assert "were not read in time" in task_log()


# How it fails


@both_ways
def test_an_exit_code_fails_the_task_with_the_last_lines(
    control_plane: LocalControlPlane, workspace: str, deferrable: bool
) -> None:
    task = an_exec(workspace, "seq 100 >&2; echo done; exit 3", deferrable=deferrable)
    with pytest.raises(AirflowException) as failed:
        task.start().finish()
    assert not isinstance(failed.value, AirflowFailException)
    said = str(failed.value)
    assert "exited with code 3" in said
    assert "  86\n" in said
    assert "  100\n" in said
    assert "  85\n" not in said
    assert f"See {control_plane.url}/workspaces/{workspace}" in said


def test_without_stderr_the_last_lines_are_those_of_stdout(workspace: str) -> None:
    with pytest.raises(AirflowException, match=r"Last lines of stdout:\n  the reason"):
        an_exec(workspace, "echo the reason; false").start().finish()


def test_a_signal_is_named(workspace: str) -> None:
    with pytest.raises(AirflowException, match="was ended by the signal SIGKILL"):
        an_exec(workspace, "kill -9 $$").start().finish()


def test_a_command_that_cannot_be_started_says_why(workspace: str) -> None:
    with pytest.raises(AirflowException, match=r"could not be started: executable not found \(exec_start_failed\)"):
        an_exec(workspace, ["no-such-program"]).start().finish()


def test_a_lost_machine_is_worth_a_retry(control_plane: LocalControlPlane, client: HelmrClient, workspace: str) -> None:
    attempt = an_exec(workspace, SLEEPS, deferrable=True).start()
    deferral = deferred(attempt.execute())
    until_state(client, workspace, "running")
    control_plane.lose_workspace(workspace)
    with pytest.raises(AirflowException, match=r"is lost.*workspace_materialization_failed") as failed:
        attempt.resume(deferral, fire(deferral))
    assert not isinstance(failed.value, AirflowFailException)


def test_a_workspace_that_another_client_has_stopped_fails_permanently(client: HelmrClient, workspace: str) -> None:
    attempt = an_exec(workspace, SLEEPS, deferrable=True).start()
    deferral = deferred(attempt.execute())
    until_state(client, workspace, "running")
    client.workspaces.stop(workspace)
    with pytest.raises(AirflowFailException, match="which another client has stopped"):
        attempt.resume(deferral, fire(deferral))


def test_an_archived_workspace_fails_for_good(client: HelmrClient, workspace: str) -> None:
    client.workspaces.delete(workspace)
    with pytest.raises(AirflowFailException, match="create a new one"):
        an_exec(workspace, ["true"]).start().execute()


@pytest.mark.parametrize(
    "options",
    [
        {"command": []},
        {"command": ["true"], "env": {"A": []}},
        {"command": [None]},
        {"command": ["x"], "cwd": "relative"},
    ],
)
def test_what_cannot_be_a_command_fails_for_good(workspace: str, options: Any) -> None:
    with pytest.raises(AirflowFailException):
        an_exec(workspace, options.pop("command"), **options).start().execute()


@pytest.mark.parametrize("workspace_id", [None, "None", ""], ids=repr)
def test_a_missing_workspace_id_is_reported(workspace_id: Any) -> None:
    with pytest.raises(AirflowFailException, match="workspace_id must be an id"):
        an_exec(workspace_id, ["true"]).start().execute()


def test_an_outage_while_it_waits_is_not_a_failure(
    control_plane: LocalControlPlane, workspace: str, task_log: Callable[[], str]
) -> None:
    control_plane.fail_next("getWorkspaceExec", faults.status(503), times=4)
    assert an_exec(workspace, ["true"]).start().finish() == 0
    assert "the wait continues" in task_log()


# Once


def test_a_retry_adopts_the_command_that_a_killed_try_left_running(
    client: HelmrClient, workspace: str, gate: Gate
) -> None:
    task = an_exec(workspace, f"{gate.wait}; cat", stdin="the input", deferrable=True, result="stdout")
    deferred(task.start().execute())
    gate.open()
    assert task.start().finish() == "the input"
    assert len(execs(client, workspace)) == 1


def test_a_retry_after_the_command_has_succeeded_takes_its_result(
    client: HelmrClient, workspace: str, gate: Gate
) -> None:
    task = an_exec(workspace, f"{gate.wait}; echo run >> runs; cat runs", deferrable=True, result="stdout")
    deferred(task.start().execute())
    gate.open()
    until_state(client, workspace, "exited")
    assert task.start().finish() == "run\n"
    assert len(execs(client, workspace)) == 1


def test_a_retry_after_the_command_has_failed_runs_it_again(client: HelmrClient, workspace: str) -> None:
    task = an_exec(workspace, "echo run >> runs; test $(wc -l < runs) = 3", retries=2)
    for _ in range(2):
        with pytest.raises(AirflowException, match="exited with code 1"):
            task.start().finish()
    assert task.start().finish() == 0
    assert [found.exit_code for found in execs(client, workspace)] == [1, 1, 0]
    assert len({found.env_shape[MARK] for found in execs(client, workspace)}) == 3


def test_a_clear_runs_the_command_again(client: HelmrClient, workspace: str) -> None:
    task = an_exec(workspace, ["true"])
    task.start().finish()
    task.clear()
    task.start().finish()
    assert len(execs(client, workspace)) == 2


@pytest.mark.parametrize("other", [{"task_id": "other"}, {"map_index": 3}, {"run_id": "manual__2"}])
def test_each_task_instance_runs_its_own(client: HelmrClient, workspace: str, other: Any) -> None:
    an_exec(workspace, ["true"]).start().finish()
    an_exec(workspace, ["true"], **other).start().finish()
    assert len(execs(client, workspace)) == 2


def test_a_lost_answer_starts_no_second_command(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str
) -> None:
    control_plane.fail_next("createWorkspaceExec", faults.lose_answer())
    assert an_exec(workspace, ["true"]).start().finish() == 0
    assert len(execs(client, workspace)) == 1


def test_a_retry_whose_command_reads_differently_adopts_the_first_one(
    client: HelmrClient, workspace: str, gate: Gate, task_log: Callable[[], str]
) -> None:
    task = an_exec(workspace, f"{gate.wait}; echo first", deferrable=True, result="stdout")
    deferred(task.start().execute())
    task.make = an_exec(workspace, "echo second", deferrable=True, result="stdout").make
    retry = task.start()
    deferral = deferred(retry.execute())
    gate.open()
    assert retry.resume(deferral, fire(deferral)) == "first\n"
    assert len(execs(client, workspace)) == 1
    assert "was started with another command" in task_log()


def test_a_failed_command_is_replaced_by_one_that_reads_differently(client: HelmrClient, workspace: str) -> None:
    task = an_exec(workspace, ["false"])
    with pytest.raises(AirflowException):
        task.start().finish()
    task.make = an_exec(workspace, ["true"]).make
    assert task.start().finish() == 0
    assert [found.command for found in execs(client, workspace)] == [("false",), ("true",)]


# While another writer is active


@both_ways
def test_it_waits_for_every_writer(
    client: HelmrClient, workspace: str, task_log: Callable[[], str], deferrable: bool
) -> None:
    other = client.workspaces.open(workspace).exec(["sh", "-c", "read line"])
    attempt = an_exec(workspace, ["true"], deferrable=deferrable).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.finish)
        until(lambda: "is busy, waiting" in task_log())
        assert len(execs(client, workspace)) == 1
        other.stdin.close()
        assert result.result(timeout=40) == 0


def test_while_it_waits_for_a_writer_only_the_workspace_is_in_the_trigger(client: HelmrClient, workspace: str) -> None:
    client.workspaces.open(workspace).exec(SLEEPS)
    attempt = an_exec(workspace, ["true"], deferrable=True).start()
    deferral = deferred(attempt.execute())
    assert isinstance(deferral.trigger, HelmrWorkspaceTrigger)
    assert "exec_id" not in attempt.xcoms


@both_ways
def test_it_waits_for_a_stop(client: HelmrClient, workspace: str, deferrable: bool) -> None:
    client.workspaces.open(workspace).exec(["sh", "-c", "trap '' TERM; echo deaf; while true; do sleep 0.1; done"])
    until(lambda: execs(client, workspace)[0].stdout_cursor > 0)
    client.workspaces.stop(workspace)
    assert an_exec(workspace, ["true"], deferrable=deferrable).start().finish() == 0
    assert [found.state for found in execs(client, workspace)] == ["terminated", "exited"]


def test_it_can_fail_instead_of_waiting(client: HelmrClient, workspace: str) -> None:
    client.workspaces.open(workspace).exec(SLEEPS)
    with pytest.raises(AirflowException, match="workspace_writer_active") as failed:
        an_exec(workspace, ["true"], wait_for_writer=False).start().execute()
    assert not isinstance(failed.value, AirflowFailException)


@both_ways
def test_the_wait_for_a_writer_has_the_task_s_deadline(client: HelmrClient, workspace: str, deferrable: bool) -> None:
    client.workspaces.open(workspace).exec(SLEEPS)
    with pytest.raises(AirflowTaskTimeout, match="It was not started"):
        an_exec(workspace, ["true"], timeout=0.5, deferrable=deferrable).start().finish()
    assert len(execs(client, workspace)) == 1


# What is handed on


def test_a_deferral_holds_ids_and_cursors_only(workspace: str, client: HelmrClient) -> None:
    attempt = an_exec(workspace, SLEEPS, env={"A": "hidden"}, stdin="hidden", deferrable=True).start()
    deferral = deferred(attempt.execute())
    [found] = execs(client, workspace)
    assert isinstance(deferral.trigger, HelmrExecTrigger)
    stored = deferral.trigger.serialize()[1]
    assert stored == {
        "helmr_conn_id": "helmr_default",
        "workspace_id": workspace,
        "exec_id": found.id,
        "owner": stored["owner"],
        "stop_on_kill": True,
        "version": 1,
    }
    assert deferral.kwargs == {
        "begun": {"workspace_id": workspace, "exec_id": found.id, "stdout_cursor": 0, "stderr_cursor": 0},
        "try_number": 1,
    }


def test_an_event_alone_is_enough_to_resume(workspace: str, client: HelmrClient, gate: Gate) -> None:
    attempt = an_exec(workspace, f"{gate.wait}; false", deferrable=True).start()
    deferral = deferred(attempt.execute())
    gate.open()
    event = fire(deferral)
    deferral.kwargs = {}
    with pytest.raises(AirflowException, match="exited with code 1"):
        attempt.resume(deferral, event)
    assert len(execs(client, workspace)) == 1, "what has failed in this try is not run again in it"


def test_the_resumed_task_logs_on_where_the_trigger_has_stopped(
    workspace: str, gate: Gate, task_log: Callable[[], str]
) -> None:
    attempt = an_exec(workspace, f"echo beginning | tr a-z A-Z; {gate.wait}; echo end", deferrable=True).start()
    deferral = deferred(attempt.execute())
    gate.open()
    event = fire(deferral)
    assert attempt.resume(deferral, event) == 0
    assert event["stdout_cursor"] == len("beginning\nend\n")
    assert task_log().count("BEGINNING") == 1


def test_a_late_try_finds_the_last_command_of_many_in_few_requests(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str
) -> None:
    task = an_exec(workspace, ["false"], retries=40)
    for _ in range(8):
        with pytest.raises(AirflowException):
            task.start().finish()
    control_plane.clear_journal()
    with pytest.raises(AirflowException, match="exited with code 1"):
        task.start().finish()
    assert len(requests_of(control_plane, "createWorkspaceExec")) <= 3
    assert len(requests_of(control_plane, "listWorkspaceExecs")) <= 1
    assert len(execs(client, workspace)) == 9


@both_ways
def test_output_whose_pages_lead_nowhere_does_not_keep_the_task(
    workspace: str, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursors: list[int] = []

    def page(cursor: int) -> Any:
        cursors.append(cursor)
        assert len(cursors) < 100, "asked for again and again"
        return [SimpleNamespace(offset_end=cursor, content_from=lambda _: b"")]

    async def apage(_: Any, *, cursor: int, limit: int) -> Any:
        return page(cursor)

    monkeypatch.setattr(ByteStream, "list", lambda _, *, cursor, limit: page(cursor))
    monkeypatch.setattr(AsyncByteStream, "list", apage)
    assert an_exec(workspace, "echo one", deferrable=deferrable).start().finish() == 0
    assert cursors

"""Commands whose task is ended from outside: their workspace is stopped, if both are still ours."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowTaskTimeout

from helmr_provider._sessions.identity import owner_of
from helmr_provider._workspaces.ownership import HOLDER, HOLDING_TRY
from helmr_provider.local import faults
from helmr_provider.triggers._shared_client import shared_client
from tests.support.journal import requests_of
from tests.support.polling import until
from tests.support.task_attempts import both_ways, deferred, fire, overdue, stored
from tests.support.task_states import set_task_state
from tests.support.workspace_tasks import SLEEPS, Gate, a_workspace, an_exec, execs, until_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane
    from tests.support.task_attempts import TaskRun

pytestmark = pytest.mark.usefixtures("helmr_connection")


@pytest.fixture
def workspace(client: HelmrClient) -> str:
    return a_workspace(client)


def waiting(client: HelmrClient, workspace: str, **options: Any) -> tuple[Any, Any]:
    """A deferred task whose command runs, and its deferral."""
    attempt = an_exec(workspace, SLEEPS, deferrable=True, **options).start()
    deferral = deferred(attempt.execute())
    until_state(client, workspace, "running")
    return attempt, deferral


def ended(client: HelmrClient, workspace: str) -> str:
    """Wait for the newest command to be over, and return its state."""
    return until_state(client, workspace, "terminated", "exited", "lost", "failed").state


# Tries that Airflow has given up


def test_a_process_of_a_try_that_was_given_up_takes_no_command_from_the_next_try(
    client: HelmrClient, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = an_exec(workspace, SLEEPS, deferrable=True, timeout=600)
    frozen, retry = task.start(), task.start()
    deferral = deferred(retry.execute())
    with pytest.raises(AirflowException, match=r"belongs to try 2 .* and this is try 1: Airflow has given it up"):
        frozen.execute()
    metadata = client.workspaces.retrieve(workspace).metadata
    assert metadata[HOLDER] == owner_of(retry.ti)
    set_task_state(monkeypatch, "failed")
    frozen.operator.on_kill()
    assert len(execs(client, workspace)) == 1
    # The retry still owns the command, so that it can stop it.
    with pytest.raises(AirflowTaskTimeout, match="It was stopped"):
        retry.resume(deferral, fire(overdue(deferral)))
    assert ended(client, workspace) == "terminated"


def test_a_process_that_was_given_up_while_its_command_was_created_takes_none(
    client: HelmrClient, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = an_exec(workspace, SLEEPS, deferrable=True)
    frozen, retry = task.start(), task.start()
    create = frozen.operator._adopt_or_create

    def overtaken(*args: Any) -> Any:
        deferred(retry.execute())
        return create(*args)

    monkeypatch.setattr(frozen.operator, "_adopt_or_create", overtaken)
    with pytest.raises(AirflowException, match="Airflow has given it up"):
        frozen.execute()
    assert client.workspaces.retrieve(workspace).metadata[HOLDER] == owner_of(retry.ti)


def test_a_process_that_was_given_up_before_a_clear_runs_no_second_command(client: HelmrClient, workspace: str) -> None:
    task = an_exec(workspace, ["true"])
    frozen = task.start()
    task.clear()
    assert task.start().finish() == 0
    with pytest.raises(AirflowException, match="Airflow has given it up"):
        frozen.execute()
    assert len(execs(client, workspace)) == 1


def test_a_command_of_another_task_does_not_hide_that_a_process_was_given_up(
    client: HelmrClient, workspace: str
) -> None:
    task = an_exec(workspace, ["true"])
    frozen = task.start()
    task.clear()
    assert task.start().finish() == 0
    assert an_exec(workspace, ["true"], task_id="other").start().finish() == 0
    with pytest.raises(AirflowException, match="Airflow has given it up"):
        frozen.execute()
    assert len(execs(client, workspace)) == 2


def test_a_workspace_has_notes_of_twenty_tasks_at_most(client: HelmrClient, workspace: str) -> None:
    for number in range(22):
        assert an_exec(workspace, ["true"], task_id=f"task_{number}").start().finish() == 0
    notes = client.workspaces.retrieve(workspace).metadata[HOLDING_TRY]
    assert {note["number"] for note in notes.values()} == set(range(3, 23))


@pytest.mark.parametrize("edited", [{"try_number": "7", "epoch": "x/1"}, {"try_number": 7, "epoch": 1}, [], None])
def test_a_note_that_was_edited_by_hand_stops_no_command(client: HelmrClient, workspace: str, edited: object) -> None:
    task = an_exec(workspace, ["true"])
    attempt = task.start()
    notes = {f"{task.dag_id}/{task.run_id}/{attempt.ti.task_id}/{task.map_index}": edited}
    metadata = client.workspaces.retrieve(workspace).metadata
    client.workspaces.update(workspace, metadata={**metadata, HOLDING_TRY: notes})
    assert attempt.finish() == 0


def test_tries_of_a_dag_run_that_was_created_anew_are_counted_anew(client: HelmrClient, workspace: str) -> None:
    task = an_exec(workspace, ["true"])
    task.try_number = 4
    assert task.start().finish() == 0
    anew = an_exec(workspace, ["true"])
    assert anew.start().finish() == 0
    assert len(execs(client, workspace)) == 2


# On a worker


def test_a_task_that_a_user_ends_on_a_worker_ends_with_its_workspace(
    client: HelmrClient, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    attempt = an_exec(workspace, SLEEPS).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until(lambda: attempt.xcoms.get("exec_id"))
        until_state(client, workspace, "running")
        attempt.operator.on_kill()
        with pytest.raises(AirflowException, match=r"was killed|because the Airflow task was ended") as failed:
            result.result(timeout=30)
    assert not isinstance(failed.value, AirflowFailException)
    assert ended(client, workspace) == "terminated"


def test_a_worker_that_is_drained_leaves_its_command_to_the_retry(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "running")
    task = an_exec(workspace, SLEEPS)
    attempt = task.start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until(lambda: attempt.xcoms.get("exec_id"))
        attempt.operator.on_kill()
        with pytest.raises(AirflowException, match="a retry finds it again"):
            result.result(timeout=30)
    assert requests_of(control_plane, "stopWorkspace") == []
    task.make = an_exec(workspace, SLEEPS, deferrable=True).make
    retry = task.start()
    deferred(retry.execute())
    assert retry.xcoms["exec_id"] == attempt.xcoms["exec_id"]
    assert len(execs(client, workspace)) == 1


def test_a_worker_that_is_drained_in_the_last_try_stops_the_workspace(
    client: HelmrClient, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "running")
    attempt = an_exec(workspace, SLEEPS, retries=0).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until(lambda: attempt.xcoms.get("exec_id"))
        attempt.operator.on_kill()
        with pytest.raises(AirflowException):
            result.result(timeout=30)
    assert ended(client, workspace) == "terminated"


def test_a_user_who_ends_a_task_whose_start_is_not_answered_yet_stops_what_came_of_it(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    attempt = an_exec(workspace, SLEEPS).start()
    control_plane.fail_next("createWorkspaceExec", faults.delay(1.0))
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        until(lambda: requests_of(control_plane, "createWorkspaceExec"))
        attempt.operator.on_kill()
        with pytest.raises(AirflowException, match="was killed"):
            result.result(timeout=30)
    assert ended(client, workspace) == "terminated"


def test_a_task_that_has_nothing_started_has_nothing_to_stop(control_plane: LocalControlPlane, workspace: str) -> None:
    control_plane.clear_journal()
    an_exec(workspace, SLEEPS).make().on_kill()
    assert control_plane.journal == []


@both_ways
def test_a_task_that_is_out_of_time_stops_the_workspace(client: HelmrClient, workspace: str, deferrable: bool) -> None:
    with pytest.raises(AirflowTaskTimeout, match="It was stopped with its workspace"):
        an_exec(workspace, SLEEPS, timeout=1, deferrable=deferrable).start().finish()
    assert ended(client, workspace) == "terminated"


def out_of_time(task: TaskRun, begun: Path) -> None:
    """Run a task whose command makes a file, and whose time is over then."""
    attempt = task.start()
    deferral = deferred(attempt.execute())
    until(begun.exists)
    overdue(deferral)
    with pytest.raises(AirflowTaskTimeout):
        attempt.resume(deferral, fire(deferral))


def test_the_retry_after_that_runs_the_command_again(client: HelmrClient, workspace: str, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = f"echo run >> runs; touch '{begun}'; test $(wc -l < runs) = 2 || sleep 3600"
    task = an_exec(workspace, command, timeout=60, deferrable=True)
    out_of_time(task, begun)
    assert task.start().finish() == 0
    assert [found.state for found in execs(client, workspace)] == ["terminated", "exited"]


def test_what_was_written_before_the_stop_is_captured(client: HelmrClient, workspace: str, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = f"echo kept > file; touch '{begun}'; sleep 3600"
    out_of_time(an_exec(workspace, command, timeout=60, deferrable=True), begun)
    handle = client.workspaces.open(workspace)
    until(lambda: handle.stop().materialization is None)
    assert handle.files.read("file") == b"kept\n"


def test_stopping_can_be_switched_off(client: HelmrClient, workspace: str) -> None:
    with pytest.raises(AirflowTaskTimeout, match="It continues"):
        an_exec(workspace, SLEEPS, timeout=0.5, stop_on_kill=False).start().finish()
    assert execs(client, workspace)[0].state in {"queued", "materializing", "running"}
    assert HOLDER not in client.workspaces.retrieve(workspace).metadata


@pytest.mark.parametrize("whose", ["nobody's", "another DAG run's", "the author's", "another installation's"])
def test_a_workspace_that_is_not_ours_is_never_stopped(
    client: HelmrClient, control_plane: LocalControlPlane, connect: Callable[..., str], whose: str
) -> None:
    conn_id = "helmr_default"
    match whose:
        case "nobody's":
            workspace = client.workspaces.create(client.sandboxes.list()[0].sandbox_id).id
        case "another DAG run's":
            workspace = a_workspace(client, run_id="manual__another")
        case "the author's":
            workspace = a_workspace(client, external_id="shared")
        case _:
            workspace = a_workspace(client)
            address = {"host": control_plane.url, "password": control_plane.api_key}
            conn_id = connect("other", **address, extra={"session_prefix": "staging"})
    with pytest.raises(AirflowTaskTimeout, match="It continues, and a retry finds it again"):
        an_exec(workspace, SLEEPS, timeout=0.5, helmr_conn_id=conn_id).start().finish()
    assert requests_of(control_plane, "stopWorkspace") == []
    assert HOLDER not in client.workspaces.retrieve(workspace).metadata


def test_the_author_s_metadata_survive_the_note_of_who_answers(client: HelmrClient) -> None:
    workspace = a_workspace(client, metadata={"ticket": "T-1"})
    an_exec(workspace, ["true"]).start().finish()
    metadata = client.workspaces.retrieve(workspace).metadata
    assert metadata.keys() == {"ticket", "airflow", HOLDER, HOLDING_TRY}
    assert metadata["ticket"] == "T-1"


def test_a_key_that_may_not_stop_runs_commands_all_the_same(
    control_plane: LocalControlPlane, connect: Callable[..., str], workspace: str, task_log: Callable[[], str]
) -> None:
    scopes = ["workspace-exec:create", "workspace-exec:read", "workspace-exec:manage"]
    connect("narrow", host=control_plane.url, password=control_plane.create_key(scopes))
    assert an_exec(workspace, ["true"], helmr_conn_id="narrow").start().finish() == 0
    assert "will continue if this task is killed" in task_log()


def test_a_control_plane_that_is_down_does_not_stop_a_worker_from_stopping(
    control_plane: LocalControlPlane,
    client: HelmrClient,
    workspace: str,
    task_log: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempt, _ = waiting(client, workspace)
    control_plane.stop_listening()
    set_task_state(monkeypatch, "failed")
    attempt.operator.on_kill()
    assert "HelmrStopWorkspaceOperator" in task_log()


# In the triggerer


def kill(deferral: Any) -> None:
    """Do as the trigger does when a user has ended the deferred task."""

    async def run() -> None:
        async with shared_client("helmr_default") as client:
            await stored(deferral.trigger).kill(client)

    asyncio.run(run())


def test_a_killed_trigger_stops_the_workspace(client: HelmrClient, workspace: str) -> None:
    _, deferral = waiting(client, workspace)
    assert deferral.trigger.kills
    kill(deferral)
    assert ended(client, workspace) == "terminated"


def test_a_killed_trigger_leaves_alone_what_another_try_has_adopted(client: HelmrClient, workspace: str) -> None:
    attempt, deferral = waiting(client, workspace)
    adopted = deferred(attempt.of.start().execute())
    assert adopted.trigger.exec_id == deferral.trigger.exec_id
    kill(deferral)
    assert execs(client, workspace)[0].state == "running"
    kill(adopted)
    assert ended(client, workspace) == "terminated"


def test_a_killed_trigger_stops_no_other_command(client: HelmrClient, workspace: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    attempt = an_exec(workspace, gate.wait, deferrable=True).start()
    deferral = deferred(attempt.execute())
    gate.open()
    until_state(client, workspace, "exited")
    client.workspaces.open(workspace).exec(SLEEPS)
    kill(deferral)
    assert until_state(client, workspace, "running", "terminated").state == "running"


def test_a_trigger_kills_nothing_when_stopping_is_switched_off(client: HelmrClient, workspace: str) -> None:
    _, deferral = waiting(client, workspace, stop_on_kill=False)
    assert not deferral.trigger.kills


# A trigger that is lost


def test_a_lost_trigger_with_a_retry_to_come_leaves_the_command_to_it(client: HelmrClient, workspace: str) -> None:
    attempt, _ = waiting(client, workspace, retries=1)
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger()
    assert [found.state for found in execs(client, workspace)] == ["running"]


def test_a_lost_trigger_of_the_last_try_stops_the_workspace(client: HelmrClient, workspace: str) -> None:
    attempt, _ = waiting(client, workspace, retries=0)
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger()
    assert ended(client, workspace) == "terminated"


@pytest.mark.parametrize("reason", ["Trigger timeout", "Trigger/execution timeout"])
def test_a_trigger_that_timed_out_stops_the_workspace(client: HelmrClient, workspace: str, reason: str) -> None:
    attempt, _ = waiting(client, workspace)
    with pytest.raises(AirflowTaskTimeout, match="It was stopped with its workspace"):
        attempt.lose_trigger(reason)
    assert ended(client, workspace) == "terminated"


def test_a_trigger_that_was_lost_at_the_end_does_not_lose_the_result(
    client: HelmrClient, workspace: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    attempt = an_exec(workspace, f"{gate.wait}; echo result", deferrable=True, result="stdout").start()
    deferred(attempt.execute())
    gate.open()
    until_state(client, workspace, "exited")
    assert attempt.lose_trigger() == "result\n"


def test_a_command_that_failed_while_its_trigger_was_lost_fails_the_try_and_runs_once(
    client: HelmrClient, workspace: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    attempt = an_exec(workspace, f"{gate.wait}; exit 4", deferrable=True).start()
    deferred(attempt.execute())
    gate.open()
    until_state(client, workspace, "exited")
    with pytest.raises(AirflowException, match="exited with code 4"):
        attempt.lose_trigger()
    assert len(execs(client, workspace)) == 1


def test_a_trigger_that_was_lost_while_it_waited_for_a_writer_starts_nothing(
    client: HelmrClient, workspace: str
) -> None:
    client.workspaces.open(workspace).exec(SLEEPS)
    attempt = an_exec(workspace, ["true"], deferrable=True).start()
    deferred(attempt.execute())
    with pytest.raises(AirflowException, match="Trigger failure"):
        attempt.lose_trigger()
    assert len(execs(client, workspace)) == 1


def test_a_deferral_that_ends_with_an_error_stops_the_workspace_of_the_last_try(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str
) -> None:
    attempt, deferral = waiting(client, workspace, retries=0)
    with pytest.raises(AirflowException, match="in the triggerer failed"):
        attempt.resume(deferral, {"status": "error", "error": "HelmrAuthError"})
    assert ended(client, workspace) == "terminated"
    assert requests_of(control_plane, "stopWorkspace")


def test_the_trigger_of_a_workspace_that_is_busy_ends_when_it_is_free(client: HelmrClient, workspace: str) -> None:
    other = client.workspaces.open(workspace).exec(["cat"])
    deferral = deferred(an_exec(workspace, ["true"], deferrable=True).start().execute())
    with ThreadPoolExecutor(1) as triggerer:
        event = triggerer.submit(fire, deferral)
        other.stdin.close()
        assert event.result(timeout=30) == {"schema": 1, "status": "ended", "workspace_id": workspace}

"""Creating, stopping and deleting workspaces: once per task instance, and nothing live left behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException, AirflowTaskTimeout

from helmr_provider.local import faults
from helmr_provider.operators.workspace import (
    HelmrCreateWorkspaceOperator,
    HelmrDeleteWorkspaceOperator,
    HelmrExecOperator,
    HelmrStopWorkspaceOperator,
)
from helmr_provider.triggers.workspace import HelmrWorkspaceTrigger
from tests.support.journal import requests_of
from tests.support.polling import until
from tests.support.task_attempts import both_ways, deferred, fire
from tests.support.workspace_tasks import SLEEPS, a_workspace, an_exec, execs, task_run, until_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane
    from tests.support.task_attempts import TaskRun

pytestmark = pytest.mark.usefixtures("helmr_connection")


@pytest.fixture
def sandbox(client: HelmrClient) -> str:
    return client.sandboxes.list()[0].sandbox_id


@pytest.fixture
def workspace(client: HelmrClient) -> str:
    return a_workspace(client)


def creating(sandbox_id: str, **options: Any) -> TaskRun:
    return task_run(HelmrCreateWorkspaceOperator, sandbox_id=sandbox_id, **options)


# Creating


def test_a_workspace_is_created_with_what_was_asked_for_and_says_whose_it_is(
    control_plane: LocalControlPlane, client: HelmrClient, sandbox: str
) -> None:
    attempt = creating(sandbox, metadata={"ticket": "T-1"}, tags=["nightly"]).start()
    workspace = client.workspaces.retrieve(attempt.execute())
    assert workspace.external_id == "airflow:nightly:manual__2026-11-23:work:-1:1"
    assert (workspace.sandbox_id, workspace.tags, workspace.metadata["ticket"]) == (sandbox, ("nightly",), "T-1")
    assert workspace.metadata["airflow"]["task_id"] == "work"
    assert attempt.xcoms == {
        "workspace_id": workspace.id,
        "_link_HelmrWorkspaceLink": f"{control_plane.url}/workspaces/{workspace.id}",
    }


def test_a_retry_returns_the_same_workspace_with_any_options(client: HelmrClient, sandbox: str) -> None:
    task = creating(sandbox, tags=["a"])
    first = task.start().execute()
    task.make = creating(sandbox, tags=["b"]).make
    assert task.start().execute() == first
    assert len(client.workspaces.list()) == 1


def test_a_clear_creates_a_new_one(client: HelmrClient, sandbox: str) -> None:
    task = creating(sandbox)
    first = task.start().execute()
    task.clear()
    second = task.start().execute()
    assert first != second
    assert task.start().execute() == second
    assert client.workspaces.retrieve(second).external_id == "airflow:nightly:manual__2026-11-23:work:-1:2"


def test_a_retry_after_the_workspace_was_deleted_creates_a_new_one(client: HelmrClient, sandbox: str) -> None:
    task = creating(sandbox)
    first = task.start().execute()
    client.workspaces.delete(first)
    assert task.start().execute() != first


@pytest.mark.parametrize("other", [{"task_id": "other"}, {"map_index": 3}, {"run_id": "manual__2"}])
def test_each_task_instance_has_its_own(sandbox: str, other: Any) -> None:
    assert creating(sandbox).start().execute() != creating(sandbox, **other).start().execute()


def test_a_lost_answer_makes_no_second_workspace(
    control_plane: LocalControlPlane, client: HelmrClient, sandbox: str
) -> None:
    control_plane.fail_next("createWorkspace", faults.lose_answer())
    created = creating(sandbox).start().execute()
    assert [found.id for found in client.workspaces.list()] == [created]


def test_two_simultaneous_tries_have_one_workspace(client: HelmrClient, sandbox: str) -> None:
    task = creating(sandbox)
    tries = [task.start() for _ in range(6)]
    with ThreadPoolExecutor(len(tries)) as workers:
        created = set(workers.map(lambda attempt: attempt.execute(), tries))
    assert [found.id for found in client.workspaces.list()] == list(created)


def test_an_external_id_of_the_author_s_own_names_one_workspace_for_all(client: HelmrClient, sandbox: str) -> None:
    first = creating(sandbox, external_id="ticket-7").start().execute()
    assert creating(sandbox, external_id="ticket-7", run_id="another").start().execute() == first
    assert client.workspaces.retrieve(first).external_id == "ticket-7"


def test_an_archived_workspace_of_the_author_s_own_fails_for_good(client: HelmrClient, sandbox: str) -> None:
    client.workspaces.delete(creating(sandbox, external_id="ticket-7").start().execute())
    with pytest.raises(AirflowFailException, match=r"is archived.*\{\{ run_id \}\}"):
        creating(sandbox, external_id="ticket-7").start().execute()


def test_a_workspace_of_the_author_s_own_for_another_sandbox_fails_for_good(client: HelmrClient, sandbox: str) -> None:
    creating(sandbox, external_id="ticket-7").start().execute()
    with pytest.raises(AirflowFailException, match="not for 'another'"):
        creating("another", external_id="ticket-7").start().execute()


@pytest.mark.parametrize(
    "options",
    [{"metadata": {"airflow": 1}}, {"tags": "a"}, {"deployment_id": "no uuid"}, {"external_id": "x" * 513}],
)
def test_what_cannot_become_a_workspace_fails_for_good(
    control_plane: LocalControlPlane, sandbox: str, options: Any
) -> None:
    with pytest.raises(AirflowFailException):
        creating(sandbox, **options).start().execute()
    assert requests_of(control_plane, "createWorkspace") == []


def test_a_sandbox_that_is_not_deployed_fails_for_good(sandbox: str) -> None:
    with pytest.raises(AirflowFailException, match="sandbox_not_deployed"):
        creating(f"{sandbox}-not").start().execute()


def test_an_outage_is_worth_a_retry(control_plane: LocalControlPlane, sandbox: str) -> None:
    control_plane.stop_listening()
    with pytest.raises(AirflowException, match="Could not create") as failed:
        creating(sandbox).start().execute()
    assert not isinstance(failed.value, AirflowFailException)


# Stopping


@both_ways
def test_a_stop_waits_for_the_capture_and_returns_the_version(
    client: HelmrClient, workspace: str, deferrable: bool
) -> None:
    an_exec(workspace, "echo hello > a.txt").start().finish()
    before = client.workspaces.retrieve(workspace).current_version_id
    version = task_run(HelmrStopWorkspaceOperator, workspace_id=workspace, deferrable=deferrable).start().finish()
    assert version == client.workspaces.retrieve(workspace).current_version_id != before
    assert client.workspaces.open(workspace).files.read("a.txt") == b"hello\n"


def test_a_workspace_that_is_not_live_is_stopped_immediately(client: HelmrClient, workspace: str) -> None:
    version = task_run(HelmrStopWorkspaceOperator, workspace_id=workspace, deferrable=True).start().execute()
    assert version == client.workspaces.retrieve(workspace).current_version_id


def test_a_stop_need_not_be_awaited(control_plane: LocalControlPlane, client: HelmrClient, workspace: str) -> None:
    an_exec(workspace, ["true"]).start().finish()
    control_plane.pause_workspaces()
    attempt = task_run(HelmrStopWorkspaceOperator, workspace_id=workspace, wait_for_completion=False).start()
    assert attempt.execute() == client.workspaces.retrieve(workspace).current_version_id
    assert client.workspaces.retrieve(workspace).desired_state == "stopped"


def test_a_stop_ends_what_runs(client: HelmrClient, workspace: str) -> None:
    client.workspaces.open(workspace).exec(SLEEPS)
    until_state(client, workspace, "running")
    task_run(HelmrStopWorkspaceOperator, workspace_id=workspace).start().finish()
    assert execs(client, workspace)[0].state == "terminated"


@both_ways
def test_a_stop_that_takes_too_long_fails_the_task(
    control_plane: LocalControlPlane, workspace: str, deferrable: bool
) -> None:
    an_exec(workspace, ["true"]).start().finish()
    control_plane.pause_workspaces()
    task = task_run(HelmrStopWorkspaceOperator, workspace_id=workspace, timeout=0.5, deferrable=deferrable)
    with pytest.raises(AirflowTaskTimeout, match="had not ended"):
        task.start().finish()


def test_the_deferral_of_a_stop_ends_when_another_client_has_started_the_workspace_again(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str
) -> None:
    an_exec(workspace, ["true"]).start().finish()
    control_plane.pause_workspaces()
    deferral = deferred(task_run(HelmrStopWorkspaceOperator, workspace_id=workspace, deferrable=True).start().execute())
    assert isinstance(deferral.trigger, HelmrWorkspaceTrigger)
    assert deferral.trigger.materialization_id
    control_plane.pause_workspaces(None)
    assert fire(deferral)["status"] == "ended"


def test_an_unknown_workspace_cannot_be_stopped() -> None:
    unknown = "01a2097b-2f65-7e2f-9772-516e906b0804"
    with pytest.raises(AirflowFailException, match="404"):
        task_run(HelmrStopWorkspaceOperator, workspace_id=unknown).start().execute()


# Deleting


@both_ways
def test_a_live_workspace_is_stopped_and_then_deleted(client: HelmrClient, workspace: str, deferrable: bool) -> None:
    client.workspaces.open(workspace).exec(SLEEPS)
    until_state(client, workspace, "running")
    task = task_run(HelmrDeleteWorkspaceOperator, workspace_id=workspace, deferrable=deferrable)
    assert task.start().finish() == workspace
    assert client.workspaces.retrieve(workspace).state == "archived"
    assert execs(client, workspace)[0].state == "terminated"


def test_deleting_again_does_no_harm(client: HelmrClient, workspace: str) -> None:
    task = task_run(HelmrDeleteWorkspaceOperator, workspace_id=workspace)
    assert [task.start().finish() for _ in range(2)] == [workspace, workspace]


def test_a_workspace_that_a_run_holds_is_deleted_when_the_run_releases_it(client: HelmrClient) -> None:
    started = client.sessions.start("work", {"seconds": 3600, "waiting": False})
    until(lambda: client.runs.retrieve(started.run.id).status == "running")
    workspace = client.sessions.retrieve(started.session.id).workspace_id
    assert workspace
    attempt = task_run(HelmrDeleteWorkspaceOperator, workspace_id=workspace, deferrable=True).start()
    deferral = deferred(attempt.execute())
    client.runs.cancel(started.run.id)
    assert attempt.resume(deferral, fire(deferral)) == workspace


@pytest.mark.parametrize("operator", [HelmrStopWorkspaceOperator, HelmrDeleteWorkspaceOperator])
@pytest.mark.parametrize("workspace_id", [None, "None"], ids=repr)
def test_a_missing_workspace_id_is_reported(operator: type, workspace_id: Any) -> None:
    with pytest.raises(AirflowFailException, match="workspace_id must be an id"):
        task_run(operator, workspace_id=workspace_id).start().execute()


# Setup and teardown


@pytest.mark.parametrize("command", ["true", "exit 3"], ids=["work succeeds", "work fails"])
def test_a_dag_leaves_nothing_live_behind_however_its_work_ends(
    client: HelmrClient, sandbox: str, run_dag: Callable[..., Any], command: str
) -> None:
    with DAG("with_a_workspace", schedule=None) as dag:
        create = HelmrCreateWorkspaceOperator(task_id="create", sandbox_id=sandbox)
        work = HelmrExecOperator(
            task_id="work", workspace_id="{{ ti.xcom_pull('create') }}", command=command, deferrable=True
        )
        delete = HelmrDeleteWorkspaceOperator(task_id="delete", workspace_id="{{ ti.xcom_pull('create') }}")
        create >> work >> delete.as_teardown(setups=create)
    run = run_dag(dag)
    assert run.state == ("success" if command == "true" else "failed")
    assert {ti.task_id: ti.state for ti in run.get_task_instances()} == {
        "create": "success",
        "work": "success" if command == "true" else "failed",
        "delete": "success",
    }
    [workspace] = client.workspaces.list()
    assert workspace.state == "archived"
    assert client.workspaces.open(workspace.id).stop().materialization is None

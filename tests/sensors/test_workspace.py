"""Waiting for workspaces and commands that something else has made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from helmr_provider.sensors.workspace import HelmrWorkspaceSensor
from tests.support.journal import requests_of
from tests.support.polling import until
from tests.support.task_attempts import both_ways, deferred, fire, overdue
from tests.support.workspace_tasks import SLEEPS, Gate, a_workspace, task_run

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane
    from tests.support.task_attempts import TaskRun

pytestmark = pytest.mark.usefixtures("helmr_connection")


@pytest.fixture
def workspace(client: HelmrClient) -> str:
    return a_workspace(client)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def sensing(workspace_id: Any, **options: Any) -> TaskRun:
    return task_run(HelmrWorkspaceSensor, workspace_id=workspace_id, poke_interval=0.05, **options)


@both_ways
def test_it_waits_for_a_state_of_the_workspace(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str, deferrable: bool
) -> None:
    control_plane.clear_journal()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(sensing(workspace, state="archived", deferrable=deferrable).start().finish)
        until(lambda: requests_of(control_plane, "getWorkspace"))
        client.workspaces.delete(workspace)
        assert result.result(timeout=30) == "archived"


def test_a_state_that_is_there_already_needs_no_trigger(workspace: str) -> None:
    assert sensing(workspace, state=["active", "archived"], deferrable=True).start().execute() == "active"


@both_ways
def test_a_state_that_cannot_come_any_more_fails_for_good(
    client: HelmrClient, workspace: str, deferrable: bool
) -> None:
    client.workspaces.delete(workspace)
    with pytest.raises(AirflowFailException, match="is archived, and will never be active or deleting"):
        sensing(workspace, state=("active", "deleting"), deferrable=deferrable).start().finish()


@both_ways
def test_it_waits_for_a_machine_and_asks_for_one(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str, deferrable: bool
) -> None:
    control_plane.pause_workspaces("preparations")
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(sensing(workspace, running=True, deferrable=deferrable).start().finish)
        until(lambda: requests_of(control_plane, "connectWorkspace"))
        control_plane.pause_workspaces(None)
        assert result.result(timeout=30) == "running"
    assert client.workspaces.connect(workspace).is_running


def test_a_workspace_that_is_being_stopped_gets_a_machine_afterwards(
    control_plane: LocalControlPlane, client: HelmrClient, workspace: str
) -> None:
    client.workspaces.open(workspace).exec(["true"]).wait(timeout=30)
    control_plane.pause_workspaces()
    client.workspaces.stop(workspace)
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(sensing(workspace, running=True).start().finish)
        until(lambda: requests_of(control_plane, "connectWorkspace"))
        control_plane.pause_workspaces(None)
        assert result.result(timeout=30) == "running"


@both_ways
def test_it_waits_for_the_end_of_a_command_with_any_exit_code(
    client: HelmrClient, workspace: str, gate: Gate, deferrable: bool
) -> None:
    found = client.workspaces.open(workspace).exec(["sh", "-c", f"{gate.wait}; exit 3"])
    attempt = sensing(workspace, exec_id=found.id, deferrable=deferrable).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.finish)
        gate.open()
        assert result.result(timeout=30) == {"id": found.id, "state": "exited", "exit_code": 3, "signal": None}


def test_it_can_wait_for_a_command_to_begin(client: HelmrClient, workspace: str) -> None:
    found = client.workspaces.open(workspace).exec(SLEEPS)
    seen = sensing(workspace, exec_id=found.id, exec_state=("running", "exited"), deferrable=True).start().finish()
    assert seen["state"] == "running"


@both_ways
def test_another_end_of_a_command_fails_for_good(client: HelmrClient, workspace: str, deferrable: bool) -> None:
    found = client.workspaces.open(workspace).exec(["no-such-program"])
    with pytest.raises(AirflowFailException, match=r"has ended as failed .*exec_start_failed.*not as exited"):
        sensing(workspace, exec_id=found.id, deferrable=deferrable).start().finish()


def test_soft_fail_does_not_skip_a_state_that_cannot_come(client: HelmrClient, workspace: str) -> None:
    found = client.workspaces.open(workspace).exec(["no-such-program"])
    with pytest.raises(AirflowFailException, match="has ended as failed"):
        sensing(workspace, exec_id=found.id, soft_fail=True).start().finish()


def test_the_timeout_ends_the_wait_and_nothing_else(client: HelmrClient, workspace: str) -> None:
    found = client.workspaces.open(workspace).exec(SLEEPS)
    attempt = sensing(workspace, exec_id=found.id, deferrable=True, timeout=60).start()
    deferral = overdue(deferred(attempt.execute()))
    with pytest.raises(AirflowSensorTimeout):
        attempt.resume(deferral, fire(deferral))
    assert not found.retrieve().is_terminal


@pytest.mark.parametrize(
    "options",
    [{}, {"state": "active", "running": True}, {"running": True, "exec_id": "x"}, {"state": "a", "exec_id": 1}],
)
def test_one_thing_is_waited_for(options: Any) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        HelmrWorkspaceSensor(task_id="wait", workspace_id="w", **options)


def test_a_missing_workspace_id_is_reported() -> None:
    with pytest.raises(AirflowFailException, match="workspace_id must be an id"):
        sensing(None, state="active").start().execute()

"""Waiting for commands and workspaces in the triggerer: the stored form, the log, the event, and outages."""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.module_loading import import_string
from blockbuster import blockbuster_ctx

from helmr_provider.client import AsyncHelmrClient
from helmr_provider.local import faults
from helmr_provider.triggers._shared_client import shared_client
from helmr_provider.triggers.workspace import HelmrExecTrigger, HelmrWorkspaceTrigger
from tests.support.journal import requests_of, until_requested_async
from tests.support.polling import until_async
from tests.support.workspace_tasks import SLEEPS, Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from helmr_provider.client import AsyncExecHandle, AsyncWorkspaceHandle
    from helmr_provider.local import LocalControlPlane

STORED = sorted(
    path for path in (Path(__file__).parent / "stored").glob("*.json") if path.name.startswith(("exec-", "workspace-"))
)
FORMS = [pytest.param(path, form, id=f"{path.stem} {form}") for path in STORED for form in ("smallest", "largest")]


@pytest.mark.parametrize(("path", "form"), FORMS)
def test_what_a_release_has_stored_is_resumed_and_stored_as_it_was(path: Path, form: str) -> None:
    class_path, kwargs = json.loads(path.read_text())[form]
    trigger = import_string(class_path)(**kwargs)
    assert trigger.serialize() == (class_path, kwargs)


@pytest.fixture
async def client(control_plane: LocalControlPlane) -> AsyncIterator[AsyncHelmrClient]:
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key) as client:
        yield client


@pytest.fixture
async def workspace(client: AsyncHelmrClient) -> AsyncWorkspaceHandle:
    sandbox = (await client.sandboxes.list())[0]
    return client.workspaces.open(await client.workspaces.create(sandbox.sandbox_id))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


async def events(trigger: Any) -> list[Any]:
    return [event.payload async for event in trigger.run()]


def watching(handle: AsyncExecHandle, **options: Any) -> HelmrExecTrigger:
    return HelmrExecTrigger(
        helmr_conn_id="helmr_default", workspace_id=handle.workspace_id, exec_id=handle.id, **options
    )


def waiting(workspace: AsyncWorkspaceHandle, **options: Any) -> HelmrWorkspaceTrigger:
    return HelmrWorkspaceTrigger(helmr_conn_id="helmr_default", workspace_id=workspace.id, **options)


pytestmark = pytest.mark.usefixtures("helmr_connection")


# A command


async def test_what_a_command_writes_is_logged_as_it_comes_and_its_end_is_one_event(
    workspace: AsyncWorkspaceHandle, gate: Gate, task_log: Callable[[], str]
) -> None:
    handle = await workspace.exec(["sh", "-c", f"echo one; echo two >&2; {gate.wait}; printf three; exit 5"])
    waits = asyncio.create_task(events(watching(handle)))
    said: list[str] = []

    def both_are_logged() -> bool:
        said.append(task_log())
        return "one" in "".join(said) and "stderr: two" in "".join(said)

    await until_async(both_are_logged)
    assert not waits.done()
    gate.open()
    assert await waits == [
        {
            "schema": 1,
            "status": "ended",
            "workspace_id": workspace.id,
            "exec_id": handle.id,
            # The line that was never ended is left to the worker.
            "stdout_cursor": 4,
            "stderr_cursor": 4,
        }
    ]


async def test_it_begins_where_the_worker_has_stopped(
    workspace: AsyncWorkspaceHandle, task_log: Callable[[], str]
) -> None:
    handle = await workspace.exec(["sh", "-c", "echo first; echo second"])
    await handle.wait(timeout=30)
    [event] = await events(watching(handle, stdout_cursor=len("first\n")))
    said = task_log()
    assert "second" in said
    assert "first" not in said
    assert event["stdout_cursor"] == len("first\nsecond\n")


async def test_two_triggers_log_each_into_the_log_of_its_own_task(workspace: AsyncWorkspaceHandle, gate: Gate) -> None:
    # Airflow knows by a context variable to whose log a line belongs; the waiter's requests run in another context.
    whose = contextvars.ContextVar("whose", default="nobody's")
    heard: list[tuple[str, str]] = []

    async def watch(name: str, trigger: HelmrExecTrigger) -> None:
        whose.set(name)
        trigger._say = lambda lines: heard.extend((whose.get(), line) for line in lines)  # type: ignore[method-assign]
        await events(trigger)

    other = await _another_workspace(workspace)
    commands = {
        name: await each.exec(["sh", "-c", f"echo from {name}; {gate.wait}; echo more from {name}"])
        for name, each in (("a", workspace), ("b", other))
    }
    async with asyncio.TaskGroup() as group:
        for name, handle in commands.items():
            group.create_task(watch(name, watching(handle)))
        async with asyncio.timeout(30):
            await until_async(lambda: len(heard) >= 2)
        gate.open()
    assert sorted(heard) == [("a", "from a"), ("a", "more from a"), ("b", "from b"), ("b", "more from b")]


async def _another_workspace(workspace: AsyncWorkspaceHandle) -> AsyncWorkspaceHandle:
    async with shared_client("helmr_default") as client:
        sandbox = (await client.sandboxes.list())[0]
        made = await client.workspaces.create(sandbox.sandbox_id)
    return type(workspace)(workspace._client, made.id)


async def test_without_output_only_the_command_is_read(
    control_plane: LocalControlPlane, workspace: AsyncWorkspaceHandle
) -> None:
    handle = await workspace.exec(["echo", "unheard"])
    [event] = await events(watching(handle, log_output=False))
    assert (event["status"], event["stdout_cursor"]) == ("ended", 0)
    assert requests_of(control_plane, "listWorkspaceExecStdout") == []


async def test_no_stream_is_ever_held(control_plane: LocalControlPlane, workspace: AsyncWorkspaceHandle) -> None:
    handle = await workspace.exec(["sh", "-c", "seq 3000; seq 3000 >&2"])
    await events(watching(handle))
    pages = requests_of(control_plane, "listWorkspaceExecStdout", "listWorkspaceExecStderr")
    assert pages
    assert not any("follow" in page.query for page in pages)


async def test_an_outage_is_waited_out_and_no_line_is_lost_or_doubled(
    control_plane: LocalControlPlane, workspace: AsyncWorkspaceHandle, task_log: Callable[[], str]
) -> None:
    handle = await workspace.exec(["sh", "-c", "echo alpha; echo beta"])
    control_plane.fail_next("listWorkspaceExecStdout", faults.status(503), times=2)
    control_plane.fail_next("getWorkspaceExec", faults.status(502), times=2)
    [event] = await events(watching(handle))
    assert event["status"] == "ended"
    said = task_log()
    assert (said.count("alpha"), said.count("beta")) == (1, 1)


async def test_the_deadline_is_an_event_and_ends_nothing(workspace: AsyncWorkspaceHandle) -> None:
    handle = await workspace.exec(SLEEPS)
    [event] = await events(watching(handle, deadline=time.time() + 0.3, owner="me", stop_on_kill=True))
    assert event["status"] == "timeout"
    assert not (await handle.retrieve()).is_terminal


async def test_a_command_that_does_not_exist_is_an_error_event_with_ids_only(
    workspace: AsyncWorkspaceHandle,
) -> None:
    handle = workspace.execs.open("01a2097b-2f65-7e2f-9772-516e906b0804")
    [event] = await events(watching(handle))
    assert (event["status"], event["error"], event["exec_id"]) == ("error", "HelmrNotFoundError", handle.id)


async def test_nothing_blocks_the_loop(workspace: AsyncWorkspaceHandle) -> None:
    handle = await workspace.exec(["sh", "-c", "seq 100"])
    trigger = watching(handle)
    # The control plane runs in this process, on a loop of its own; it may do as it likes.
    with blockbuster_ctx(scanned_modules=["helmr_provider"], excluded_modules=["helmr_provider.local"]):
        [event] = await events(trigger)
    assert event["status"] == "ended"


# A workspace


async def test_a_workspace_is_free_when_nothing_writes(workspace: AsyncWorkspaceHandle) -> None:
    handle = await workspace.exec(["cat"])
    waits = asyncio.create_task(events(waiting(workspace, what="free")))
    await handle.stdin.close()
    assert await waits == [{"schema": 1, "status": "ended", "workspace_id": workspace.id}]


async def test_a_terminal_is_a_writer_too(control_plane: LocalControlPlane, workspace: AsyncWorkspaceHandle) -> None:
    terminal = await workspace.pty.create()
    waits = asyncio.create_task(events(waiting(workspace, what="free")))
    await until_requested_async(control_plane, "listWorkspacePtys", times=2)
    assert not waits.done()
    await terminal.input("exit\n", offset=0)
    assert (await waits)[0]["status"] == "ended"


async def test_a_run_is_a_writer_too(control_plane: LocalControlPlane, client: AsyncHelmrClient) -> None:
    started = await client.sessions.start("work", {"seconds": 3600, "waiting": False})

    async def is_running() -> bool:
        return (await client.runs.retrieve(started.run.id)).status == "running"

    await until_async(is_running)
    workspace_id = (await client.sessions.retrieve(started.session.id)).workspace_id
    assert workspace_id
    waits = asyncio.create_task(events(waiting(client.workspaces.open(workspace_id), what="free")))
    await until_requested_async(control_plane, "listSessions", times=3)
    assert not waits.done()
    await client.runs.cancel(started.run.id)
    assert (await waits)[0]["status"] == "ended"


async def test_a_key_that_may_not_see_all_writers_leaves_it_to_the_worker_to_try(
    control_plane: LocalControlPlane, connect: Callable[..., str], workspace: AsyncWorkspaceHandle
) -> None:
    connect(host=control_plane.url, password=control_plane.create_key(["workspace-exec:read"]))
    [event] = await events(waiting(workspace, what="free"))
    assert event["status"] == "ended"


async def test_a_stop_is_asked_for_until_it_is_done(
    control_plane: LocalControlPlane, workspace: AsyncWorkspaceHandle
) -> None:
    await (await workspace.exec(["true"])).wait(timeout=30)
    control_plane.pause_workspaces()
    live = (await workspace.stop()).materialization
    assert live
    waits = asyncio.create_task(events(waiting(workspace, what="stopped", materialization_id=live.id)))
    await until_requested_async(control_plane, "stopWorkspace", times=2)
    assert not waits.done()
    control_plane.pause_workspaces(None)
    assert (await waits)[0]["status"] == "ended"


async def test_a_machine_is_asked_for_until_it_is_there(
    control_plane: LocalControlPlane, workspace: AsyncWorkspaceHandle
) -> None:
    control_plane.pause_workspaces("preparations")
    waits = asyncio.create_task(events(waiting(workspace, what="running")))
    await until_requested_async(control_plane, "connectWorkspace", times=2)
    assert not waits.done()
    control_plane.pause_workspaces(None)
    assert (await waits)[0]["status"] == "ended"


async def test_a_machine_is_waited_for_behind_a_stop(
    control_plane: LocalControlPlane, workspace: AsyncWorkspaceHandle
) -> None:
    await (await workspace.exec(["true"])).wait(timeout=30)
    control_plane.pause_workspaces()
    await workspace.stop()
    waits = asyncio.create_task(events(waiting(workspace, what="running")))
    await until_requested_async(control_plane, "connectWorkspace")
    control_plane.pause_workspaces(None)
    assert (await waits)[0]["status"] == "ended"


@pytest.mark.parametrize("states", [["archived"], ["recovery_required"]])
async def test_an_end_fires_whether_it_was_awaited_or_rules_that_out(
    control_plane: LocalControlPlane, workspace: AsyncWorkspaceHandle, states: list[str]
) -> None:
    waits = asyncio.create_task(events(waiting(workspace, what="state", states=states)))
    await until_requested_async(control_plane, "getWorkspace")
    await workspace.delete()
    assert (await waits)[0]["status"] == "ended"


@pytest.mark.parametrize("states", [["running"], ["lost"]])
async def test_a_command_fires_in_its_state_or_when_it_is_over(
    workspace: AsyncWorkspaceHandle, gate: Gate, states: list[str]
) -> None:
    handle = await workspace.exec(["sh", "-c", gate.wait])
    waits = asyncio.create_task(events(waiting(workspace, what="exec", exec_id=handle.id, states=states)))
    if states == ["lost"]:
        gate.open()
    assert await waits == [{"schema": 1, "status": "ended", "workspace_id": workspace.id, "exec_id": handle.id}]
    gate.open()

"""Directories of live workspaces: nobody removes one that another still reads, or makes one that another removes."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local.common.threads import in_thread
from helmr_provider.local.storage.files import Files
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local import LocalControlPlane, TaskContext
    from tests.support.local.scripted_tasks import Director
    from tests.support.local.wire import Wire

_SECONDS = 60


class Gate:
    """Holds the first call of one of the methods of :class:`Files` in its thread, and notes what is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.held: str | None = None
        self.reached, self.opened = threading.Event(), threading.Event()
        for name in ("materialize", "capture", "discard"):
            monkeypatch.setattr(Files, name, self._noted(name, getattr(Files, name)))

    def _noted(self, name: str, method: Any) -> Any:
        def noted(files: Files, *args: Any) -> Any:
            self.calls.append(name)
            if self.held == name:
                self.held = None
                self.reached.set()
                assert self.opened.wait(_SECONDS)
            try:
                return method(files, *args)
            finally:
                self.calls.append(f"{name} done")

        return noted

    def hold(self, name: str) -> None:
        """Hold the next call of this method; forget the calls so far."""
        self.calls.clear()
        self.held = name

    def wait(self) -> None:
        """Wait until a call is held."""
        assert self.reached.wait(_SECONDS)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


def turns(server: LocalControlPlane) -> None:
    """Let the control plane do what it can."""

    async def pass_by() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    for _ in range(10):
        server._run(pass_by())


async def _writes(ctx: TaskContext) -> None:
    (await ctx.workspace() / "report.md").write_text("done\n")


def _began(wire: Wire, director: Director) -> tuple[str, str]:
    """Start a run that has written a file; return its id and its workspace."""
    run_id: str = wire.start("scripted")["run"]["id"]
    director.tell(run_id, _writes)
    until(lambda: len(director.results(run_id)) == 1)
    session = wire.get(f"/api/sessions/{wire.get(f'/api/runs/{run_id}')['session_id']}")
    return run_id, session["workspace_id"]


def _kinds(wire: Wire, workspace_id: str) -> list[str]:
    return [version["kind"] for version in wire.get(f"/api/workspaces/{workspace_id}/versions")["versions"]]


def _stopped(wire: Wire, workspace_id: str) -> None:
    until(
        lambda: wire.post(f"/api/workspaces/{workspace_id}/stop", {})["state"] == "no_active_materialization",
    )


@pytest.mark.parametrize("ending", ["stop", "loss", "cancellation"])
def test_a_directory_is_not_removed_while_its_run_commits_it(
    server: LocalControlPlane, wire: Wire, director: Director, gate: Gate, ending: str
) -> None:
    run_id, workspace_id = _began(wire, director)
    gate.hold("capture")
    director.end(run_id, lambda: None)
    gate.wait()
    with ThreadPoolExecutor(1) as threads:
        lost = None
        if ending == "stop":
            assert wire.post(f"/api/workspaces/{workspace_id}/stop", {})["state"] == "stopping"
        elif ending == "loss":
            lost = threads.submit(server.lose_workspace, workspace_id)
        else:
            wire.post(f"/api/runs/{run_id}/cancel", {})
        turns(server)
        assert gate.calls == ["capture"]
        gate.opened.set()
        if lost is not None:
            lost.result(_SECONDS)
    status = wire.ended(run_id)["status"]
    _stopped(wire, workspace_id)
    assert gate.calls == ["capture", "capture done", "discard", "discard done"]
    if ending == "cancellation":
        assert (status, _kinds(wire, workspace_id)) == ("cancelled", ["system"])
    else:
        assert (status, _kinds(wire, workspace_id)) == ("succeeded", ["user", "system"])
        files = wire.get(f"/api/workspaces/{workspace_id}/files")
        assert [entry["path"] for entry in files["entries"]] == ["report.md"]


def test_a_run_that_commits_when_its_directory_is_being_removed_fails(
    server: LocalControlPlane, wire: Wire, director: Director, gate: Gate
) -> None:
    run_id, workspace_id = _began(wire, director)
    gate.hold("discard")
    assert wire.post(f"/api/workspaces/{workspace_id}/stop", {})["state"] == "stopping"
    gate.wait()
    director.end(run_id, lambda: None)
    turns(server)
    assert gate.calls == ["discard"]
    gate.opened.set()
    assert wire.ended(run_id)["status"] == "failed"
    failed = wire.get(f"/api/runs/{run_id}/events")["events"][-1]
    assert failed["attributes"]["detail"] == {"message": "the workspace was stopped"}
    assert _kinds(wire, workspace_id) == ["system"]
    assert gate.calls == ["discard", "discard done"]


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "stopped"])
def test_a_directory_is_not_made_again_while_it_is_being_removed(
    server: LocalControlPlane, wire: Wire, director: Director, gate: Gate, lost: bool
) -> None:
    """What is made would be removed."""
    run_id, workspace_id = _began(wire, director)
    director.end(run_id, lambda: None)
    assert wire.ended(run_id)["status"] == "succeeded"
    _stopped(wire, workspace_id)
    path = f"/api/workspaces/{workspace_id}"
    wire.post(f"{path}/connect", {}, 201)
    until(lambda: wire.post(f"{path}/connect", {})["state"] == "running")
    gate.hold("discard")
    with ThreadPoolExecutor(1) as threads:
        if lost:
            ending = threads.submit(server.lose_workspace, workspace_id)
        else:
            ending = threads.submit(_stopped, wire, workspace_id)
        gate.wait()
        turns(server)
        if lost:
            wire.post(f"{path}/connect", {}, 201)
            turns(server)
        assert gate.calls == ["discard"]
        gate.opened.set()
        ending.result(_SECONDS)
    created = wire.post(f"{path}/execs", {"command": ["cat", "report.md"]}, 201)["exec"]
    until(
        lambda: wire.get(f"{path}/execs/{created['id']}")["exec"]["state"] not in ("materializing", "queued", "running")
    )
    ended = wire.get(f"{path}/execs/{created['id']}")["exec"]
    assert (ended["state"], ended["exit_code"]) == ("exited", 0)


def test_a_run_whose_workspace_was_stopped_while_it_waited_commits_what_is_left(wire: Wire, director: Director) -> None:
    """What it wrote before is lost, as the machine that held it is gone."""
    run_id, workspace_id = _began(wire, director)
    director.tell(run_id, lambda ctx: ctx.receive("messages"))
    session_id = wire.until(run_id, "waiting")["session_id"]
    _stopped(wire, workspace_id)
    wire.post(f"/api/sessions/{session_id}/inputs/messages", {"data": 1}, 201)
    until(lambda: len(director.results(run_id)) == 2)
    director.end(run_id, lambda: None)
    assert wire.ended(run_id)["status"] == "succeeded"
    assert _kinds(wire, workspace_id) == ["user", "system"]
    assert wire.get(f"/api/workspaces/{workspace_id}/files")["entries"] == []


async def test_a_cancelled_call_in_a_thread_ends_with_its_thread() -> None:
    begun, release = threading.Event(), threading.Event()
    done: list[bool] = []

    def work() -> None:
        begun.set()
        done.append(release.wait(_SECONDS))
        raise OSError("nobody asks for it any more")

    call = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait, _SECONDS)
    for _ in range(2):
        call.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not call.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert done == [True]


async def test_a_call_in_a_thread_returns_and_raises_what_its_function_does() -> None:
    assert await in_thread(int, "7f", base=16) == 127
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")


async def test_a_call_in_a_thread_needs_no_thread_of_those_that_tasks_can_block() -> None:
    release = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    blocking = asyncio.create_task(asyncio.to_thread(release.wait, _SECONDS))
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(_SECONDS / 2):
            assert await in_thread(int, "7") == 7
        assert not blocking.done()
    finally:
        release.set()
        await blocking

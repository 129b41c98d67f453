"""The worker of workspaces: makes them live, runs commands in them, captures and stops them.

What a restart finds: everything that was live is lost, as it is when a real guest machine dies. Its execs and terminals
are `lost`, and what it had written since its version is gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal, get_args
from weakref import WeakValueDictionary

from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.common.threads import in_thread
from helmr_provider.local.definitions.tasks import TaskFailure
from helmr_provider.local.state import execs, materializations, ptys, runs, versions, workspaces, writers
from helmr_provider.local.workspaces.commands import Command, Terminal
from helmr_provider.local.workspaces.process_reaper import ProcessReaper

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

LOST = {"code": "workspace_materialization_failed"}
_log = logging.getLogger(__name__)

Pause = Literal["workspaces", "preparations", "commands"]

_TRY_AGAIN = 1.0
_LONGEST_PAUSE = 3600.0
_CAPTURED = "system capture before workspace stop"
_WORK = """
    SELECT m.* FROM materializations AS m WHERE m.state IN ('requested', 'capturing', 'stopping')
    OR (m.state = 'running' AND (
        EXISTS (SELECT 1 FROM workspace_execs AS e WHERE e.materialization_id = m.id
            AND e.state IN ('materializing', 'queued'))
        OR EXISTS (SELECT 1 FROM workspace_ptys AS p WHERE p.materialization_id = m.id AND p.state = 'creating')))
"""


class WorkspaceWorker:
    """Does the work of one control plane's workspaces.

    :param core: the control plane's state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._live: dict[str, _LiveWorkspace] = {}
        self._reaper = ProcessReaper()
        self._held_by: dict[str, str] = {}
        self._directory_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.worker_id = uuid7(core.clock.now())
        self.paused: Pause | None = None

    def recover(self) -> None:
        """Record the loss of machines that were live when the process ended."""
        for row in self._core.db.all("SELECT * FROM materializations WHERE state NOT IN ('stopped', 'lost', 'failed')"):
            _lose(self._core, row, "lost")
            self._core.files.discard(row["workspace_id"])

    async def tend(self) -> None:
        """Serve requests as they come, until cancelled."""
        while True:
            pause = _LONGEST_PAUSE
            try:
                if self.paused != "workspaces":
                    for row in self._core.db.all(_WORK):
                        self._live_workspace(row)
            except Exception:  # noqa: BLE001 - one failure must not end the care of all workspaces
                _log.exception("a round of the workspaces failed")
                pause = _TRY_AGAIN
            await self._core.notifier.wait(materializations.TOPIC, pause)

    def pause(self, what: Pause | None) -> None:
        """Pause one kind of work, so that a test can check the state before it; continue everything else.

        :param what: `workspaces`: nothing at all; `preparations`: workspaces stay `materializing`; `commands`: execs
            stay `queued`, terminals `creating`; None: nothing is paused.
        :raises ValueError: for anything else.
        """
        if what is not None and what not in get_args(Pause):
            raise ValueError(f"{what!r} is nothing to pause; known are {', '.join(get_args(Pause))}")
        self.paused = what
        for live in self._live.values():
            self._core.notifier.notify(materializations.topic(live.workspace_id))
        self._core.notifier.notify(materializations.TOPIC)

    async def lose(self, workspace_id: str) -> None:
        """Let a live workspace's machine die: what ran in it is `lost`, what it wrote since its version is gone."""
        async with self.directory_lock(workspace_id):
            row = materializations.live(self._core, workspace_id)
            if row is None:
                return
            _lose(self._core, row, "failed")
            live = self._live.get(row["id"])
            if live is not None:
                await asyncio.wait(live.drop())
            await in_thread(self._core.files.discard, workspace_id)

    async def stop(self) -> None:
        """Drop everything where it is, as the end of the process would; return when nothing uses a directory."""
        tasks = [task for live in self._live.values() for task in live.drop()]
        if tasks:
            await asyncio.wait(tasks)
        for lock in list(self._directory_locks.values()):
            # A subtask of a task may still use one: it is not cancelled with the task.
            async with lock:
                pass
        await in_thread(self._reaper.stop)

    def directory_lock(self, workspace_id: str) -> asyncio.Lock:
        """Return the lock on the directory of a workspace.

        It is held while the directory is made, packed or removed as a whole, and until the new state is recorded.
        """
        return self._directory_locks.setdefault(workspace_id, asyncio.Lock())

    def acquire(self, run: Row) -> bool:
        """Let a run hold its session's workspace; tell whether it may."""
        core = self._core
        workspace = runs.workspace_of(core, run)
        if not writers.can_run(core, workspace["id"]):
            return False
        materialization, is_new = materializations.ensure(core, workspace, run["id"])
        materializations.take_writer(core, materialization["id"])
        self._held_by[run["id"]] = materialization["id"]
        if is_new:
            # The directory is made when the run asks for it.
            materializations.claim(core, materialization, self.worker_id, "running")
        return True

    def release(self, run_id: str) -> None:
        """Take the workspace back from a run that is over; a machine that was live only for the run ends with it."""
        core = self._core
        self._held_by.pop(run_id, None)
        row = core.db.one("SELECT * FROM materializations WHERE run_id = ? AND state = 'running'", run_id)
        if row is not None and not writers.commands_hold(core, row["workspace_id"]):
            if row["id"] in self._live:
                materializations.begin_stop(core, row)
            else:
                materializations.end(core, row, "stopped")
        held = core.db.one("SELECT * FROM runs WHERE id = ?", run_id)
        if held is not None:
            materializations.notify(core, runs.workspace_of(core, held)["id"])

    async def directory(self, run: Row) -> Path:
        """Return the directory of the workspace that a run holds, for the run to change."""
        live = self._live_workspace(self._held(run))
        async with live.directory_lock:
            self._held(run)
            return await live.prepared()

    async def commit(self, run: Row, *, changed: bool) -> None:
        """Store the workspace of a run that has succeeded as the current version.

        :param changed: store the directory; else the content stays that of the version before.
        :raises TaskFailure: if the workspace was stopped under the run.
        """
        async with self.directory_lock(runs.workspace_of(self._core, run)["id"]):
            # A stop that was first has removed the directory; one that comes now waits.
            row = self._held(run)
            if changed:
                live = self._live_workspace(row)
                # It is missing if the workspace was stopped during a wait and the run has not asked for it again.
                await live.prepared()
                await live.capture("user", None)
            else:
                versions.repeat(self._core, runs.workspace_of(self._core, run))

    def require_held(self, run: Row) -> None:
        """Refuse a run whose workspace was stopped under it.

        :raises TaskFailure: if it was.
        """
        self._held(run)

    def _held(self, run: Row) -> Row:
        row = materializations.live(self._core, runs.workspace_of(self._core, run)["id"])
        if row is None or row["id"] != self._held_by.get(run["id"]):
            raise TaskFailure("the workspace was stopped")
        return row

    def _live_workspace(self, row: Row) -> _LiveWorkspace:
        live = self._live.get(row["id"])
        if live is None:
            live = _LiveWorkspace(self, self._core, row, self._reaper)
            self._live[row["id"]] = live
            live.task.add_done_callback(lambda _: self._live.pop(row["id"], None))
        return live


class _LiveWorkspace:
    """One live workspace, from its request to its stop."""

    def __init__(self, worker: WorkspaceWorker, core: Core, row: Row, reaper: ProcessReaper) -> None:
        self._worker = worker
        self._core = core
        self._reaper = reaper
        self._id: str = row["id"]
        self.workspace_id: str = row["workspace_id"]
        self._version_id: str = row["base_version_id"]
        self.directory_lock = worker.directory_lock(self.workspace_id)
        self._is_begun = self._is_ready = False
        self._commands: dict[str, Command | Terminal] = {}
        self.task = asyncio.create_task(self._live(), name=f"workspace {self.workspace_id}")

    async def prepared(self) -> Path:
        """Return the directory, made from the version now if it is not there yet. The caller holds its lock.

        :raises OSError: if it cannot be made.
        :raises tarfile.TarError: if the version's archive is damaged.
        """
        files = self._core.files
        if not self._is_ready:
            row = versions.find(self._core, self._workspace(), self._version_id)
            files.make()
            if files.temporary is not None:
                self._reaper.remove(files.temporary)
            self._is_begun = True
            await in_thread(files.materialize, self.workspace_id, row["content_digest"])
            self._is_ready = True
        return files.directory(self.workspace_id)

    async def capture(self, kind: str, message: str | None) -> None:
        """Make the directory's present content the workspace's current version. The caller holds its lock.

        :raises OSError: if it cannot be read.
        """
        packed = await in_thread(self._core.files.capture, self.workspace_id)
        versions.promote(self._core, self._workspace(), packed, kind, message)

    def drop(self) -> list[asyncio.Task[None]]:
        """Drop everything where it is; return the tasks that end."""
        self.task.cancel()
        return [self.task, *(command.drop() for command in self._commands.values())]

    async def _live(self) -> None:
        try:
            while await self._step():
                pass
        except Exception:  # noqa: BLE001 - any error ends this workspace's machine only
            _log.exception("workspace %s could not be kept live", self.workspace_id)
            async with self.directory_lock:
                _lose(self._core, materializations.reread(self._core, self._id), "failed")
                await self._stop_commands()
                await in_thread(self._core.files.discard, self.workspace_id)

    async def _step(self) -> bool:
        """Take the next step, or wait for one; say whether the workspace is still live."""
        row = materializations.reread(self._core, self._id)
        if row["state"] in materializations.ENDED:
            return False
        paused = self._worker.paused
        if paused == "workspaces":
            pass
        elif row["state"] == "requested":
            materializations.claim(self._core, row, self._worker.worker_id, "materializing")
            return True
        elif row["state"] == "materializing":
            if paused != "preparations":
                await self._prepare()
                self._now_running()
                return True
        elif row["state"] in materializations.ENDING:
            await self._end(row)
            return False
        elif self._has_pending_commands() and not self._is_ready:
            await self._prepare()
            return True
        else:
            self._serve()
        await self._core.notifier.wait(materializations.topic(self.workspace_id), _LONGEST_PAUSE)
        return True

    async def _prepare(self) -> None:
        async with self.directory_lock:
            await self.prepared()

    def _now_running(self) -> None:
        row = materializations.reread(self._core, self._id)
        if row["state"] == "materializing":
            materializations.claim(self._core, row, self._worker.worker_id, "running")

    def _has_pending_commands(self) -> bool:
        return bool(execs.EXECS.unended(self._core, self._id) or ptys.PTYS.unended(self._core, self._id))

    def _serve(self) -> None:
        for row in execs.EXECS.unended(self._core, self._id):
            if row["state"] == "materializing":
                execs.EXECS.change(self._core, row["id"], state="queued")
            if self._worker.paused is None and row["id"] not in self._commands:
                self._watch(row["id"], Command(self._core, row, self._reaper))
        for row in ptys.PTYS.unended(self._core, self._id):
            terminal = self._commands.get(row["id"])
            if self._worker.paused is not None:
                continue
            if terminal is None:
                self._watch(row["id"], Terminal(self._core, row, self._reaper))
            elif isinstance(terminal, Terminal) and row["state"] == "resizing":
                terminal.resize(row)
            elif isinstance(terminal, Terminal) and row["state"] == "closing":
                terminal.close()

    def _watch(self, resource_id: str, command: Command | Terminal) -> None:
        self._commands[resource_id] = command

        def ended(task: asyncio.Task[None]) -> None:
            self._commands.pop(resource_id, None)
            failure = None if task.cancelled() else task.exception()
            if failure is not None:
                _log.error("%s failed", task.get_name(), exc_info=failure)
                end = execs.end if isinstance(command, Command) else ptys.end
                end(self._core, resource_id, "lost", error={"code": "workspace_command_failed"})

        command.task.add_done_callback(ended)

    async def _end(self, row: Row) -> None:
        await self._stop_commands()
        async with self.directory_lock:
            if row["state"] == "capturing" and self._is_ready:
                if self._workspace()["current_version_id"] != self._version_id:
                    await self._end_stale(row)
                    return
                self._core.db.update("workspaces", self.workspace_id, dirty_state="capturing")
                try:
                    await self.capture("system", _CAPTURED)
                except OSError:
                    self._core.db.update("workspaces", self.workspace_id, dirty_state="capture_failed")
                    raise
            if self._is_begun:
                await in_thread(self._core.files.discard, self.workspace_id)
            materializations.end(self._core, row, "stopped")

    async def _end_stale(self, row: Row) -> None:
        """Drop what commands wrote: a run has made a newer version than this materialization began with.

        The real control plane refuses such a capture, and nothing leads back (contract/behaviour.md section 22).
        """
        await in_thread(self._core.files.discard, self.workspace_id)
        with self._core.db.transaction():
            workspaces.require_recovery(self._core, self.workspace_id)
            materializations.end(self._core, row, "failed")
            for run in runs.queued_on(self._core, self.workspace_id):
                runs.fail_for_workspace(self._core, run, self.workspace_id, self._id)

    async def _stop_commands(self) -> None:
        for command in list(self._commands.values()):
            await command.stop()
        for row in execs.EXECS.unended(self._core, self._id):
            execs.end(self._core, row["id"], "terminated", error={"code": "workspace_materialization_stopped"})
        for row in ptys.PTYS.unended(self._core, self._id):
            ptys.end(self._core, row["id"], "closed", {"code": "workspace_materialization_stopped"})

    def _workspace(self) -> Row:
        row = self._core.db.one("SELECT * FROM workspaces WHERE id = ?", self.workspace_id)
        if row is None:
            raise RuntimeError(f"workspace {self.workspace_id} is gone")
        return row


def _lose(core: Core, materialization: Row, state: str) -> None:
    """Record that a live workspace is gone, and all that ran in it."""
    with core.db.transaction():
        materializations.end(core, materialization, state)
        for row in execs.EXECS.unended(core, materialization["id"]):
            execs.end(core, row["id"], "lost", error=LOST)
        for row in ptys.PTYS.unended(core, materialization["id"]):
            ptys.end(core, row["id"], "lost", LOST)

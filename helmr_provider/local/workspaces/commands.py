"""Execs and terminals as processes of this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.jsontext import loads
from helmr_provider.local.state import chunks, execs, ptys
from helmr_provider.local.state.deployments import MOUNT_PATH
from helmr_provider.local.workspaces import processes, tty

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row
    from helmr_provider.local.workspaces.process_reaper import ProcessReaper

STOPPED = {"code": "workspace_materialization_stopped"}
_DRAIN_SECONDS = 1.0
_GRACE_SECONDS = 1.0
_LONGEST_PAUSE = 3600.0
_PAGE = 16


class Command:
    """One exec from its start to its end.

    :param row: the exec.
    """

    def __init__(self, core: Core, row: Row, reaper: ProcessReaper) -> None:
        self._core = core
        self._row = row
        self._reaper = reaper
        self._process: processes.Process | None = None
        self._stopped = False
        self.task = asyncio.create_task(self._run(), name=f"exec {row['id']}")

    async def stop(self) -> None:
        """End the process because its workspace stops."""
        self._stopped = True
        await _end(self._process, self.task)

    def drop(self) -> asyncio.Task[None]:
        """End the process where it is, as the end of this process would; return the task."""
        return _drop(self._process, self.task)

    async def _run(self) -> None:
        core, exec_id, workspace_id = self._core, self._row["id"], self._row["workspace_id"]
        cwd = _directory(core, workspace_id, self._row["cwd"])
        try:
            process = processes.Process(
                loads(self._row["command"]),
                cwd=cwd,
                env=processes.environment(core.files.home(workspace_id), loads(self._row["env"])),
                reaper=self._reaper,
            )
        except (OSError, ValueError) as error:
            execs.end(core, exec_id, "failed", error={"code": "exec_start_failed", "message": _why(error, cwd)})
            return
        self._process = process
        execs.start(core, self._row, process.pid)
        readers = [
            processes.Reader(_taken(pipe), _keeper(core, exec_id, stream))
            for stream, pipe in (("stdout", process.popen.stdout), ("stderr", process.popen.stderr))
        ]
        feeding = asyncio.create_task(self._feed(_taken(process.popen.stdin)))
        try:
            code = await process.wait()
            await _drained(readers)
        finally:
            feeding.cancel()
            for reader in readers:
                reader.close()
        if self._stopped:
            execs.end(core, exec_id, "terminated", error=STOPPED)
        elif code < 0:
            execs.end(core, exec_id, "exited", signal=signal.Signals(-code).name)
        else:
            execs.end(core, exec_id, "exited", exit_code=code)

    async def _feed(self, descriptor: int) -> None:
        """Pass the stdin written so far to the process, then further input, then its end."""
        core, exec_id = self._core, self._row["id"]
        try:
            await _deliver(core, exec_id, "stdin", descriptor, lambda: _closed(core, exec_id))
        finally:
            os.close(descriptor)


class Terminal:
    """One terminal from its opening to its end.

    :param row: the terminal.
    """

    def __init__(self, core: Core, row: Row, reaper: ProcessReaper) -> None:
        self._core = core
        self._row = row
        self._reaper = reaper
        self._process: processes.Process | None = None
        self._master: int | None = None
        self._closing = False
        self._error: dict[str, str] = {}
        self.task = asyncio.create_task(self._run(), name=f"pty {row['id']}")

    def resize(self, row: Row) -> None:
        """Give the terminal the size that was asked for."""
        if self._master is not None:
            termios.tcsetwinsize(self._master, (row["wanted_rows"], row["wanted_cols"]))
            ptys.resized(self._core, row)

    def close(self) -> None:
        """Hang up."""
        if not self._closing:
            self._closing = True
            self._closer = asyncio.create_task(_end(self._process, self.task, signal.SIGHUP))

    async def stop(self) -> None:
        """End the processes because their workspace stops."""
        self._error = STOPPED
        await _end(self._process, self.task, signal.SIGHUP)

    def drop(self) -> asyncio.Task[None]:
        """End the processes where they are, as the end of this process would; return the task."""
        return _drop(self._process, self.task)

    async def _run(self) -> None:
        core, pty_id, workspace_id = self._core, self._row["id"], self._row["workspace_id"]
        cwd = _directory(core, workspace_id, self._row["cwd"])
        master, slave = os.openpty()
        try:
            termios.tcsetwinsize(master, (self._row["rows"], self._row["cols"]))
            shell = shutil.which("bash") or "/bin/sh"
            process = processes.Process(
                [sys.executable, "-I", "-S", str(tty.__file__), shell],
                cwd=cwd,
                env=processes.environment(core.files.home(workspace_id), {"TERM": "xterm-256color", "SHELL": shell}),
                reaper=self._reaper,
                terminal=slave,
            )
        except (OSError, ValueError) as error:
            os.close(master)
            ptys.end(core, pty_id, "failed", {"code": "pty_start_failed", "message": _why(error, cwd)})
            return
        finally:
            os.close(slave)
        self._process, self._master = process, master
        ptys.start(core, self._row, process.pid)
        writer = os.dup(master)
        reader = processes.Reader(master, _keeper(core, pty_id, "output"))
        feeding = asyncio.create_task(self._feed(writer))
        try:
            await process.wait()
            await _drained([reader])
        finally:
            self._master = None
            feeding.cancel()
            reader.close()
        ptys.end(core, pty_id, "closed", self._error)

    async def _feed(self, descriptor: int) -> None:
        try:
            await _deliver(self._core, self._row["id"], "input", descriptor, lambda: False)
        finally:
            os.close(descriptor)


def _keeper(core: Core, resource_id: str, stream: str) -> Callable[[bytes], None]:
    def keep(content: bytes) -> None:
        chunks.append(core, resource_id, stream, content)

    return keep


async def _deliver(core: Core, resource_id: str, stream: str, descriptor: int, is_closed: Callable[[], bool]) -> None:
    os.set_blocking(descriptor, False)
    delivered = 0
    while True:
        closed = is_closed()
        rows = chunks.after(core, resource_id, stream, delivered, _PAGE)
        for row in rows:
            delivered = row["offset_end"]
            if not await processes.feed(descriptor, row["content"]):
                return
        if not rows:
            if closed:
                return
            await core.notifier.wait(chunks.topic(resource_id), _LONGEST_PAUSE)


async def _drained(readers: list[processes.Reader]) -> None:
    """Read the rest of an ended process's output.

    It has no end while a process that has left the session keeps it open, so the wait for the end is limited.
    """
    await asyncio.wait([reader.ended for reader in readers], timeout=_DRAIN_SECONDS)
    for reader in readers:
        # On a busy machine, output can be unread after that time.
        reader.drain()


async def _end(process: processes.Process | None, task: asyncio.Task[None], number: int = signal.SIGTERM) -> None:
    """Ask a process to end, then end it; return when all about it is recorded."""
    if process is not None and not task.done():
        process.kill(number)
        await asyncio.wait({task}, timeout=_GRACE_SECONDS)
        if not task.done():
            process.kill()
    await asyncio.wait({task})


def _drop(process: processes.Process | None, task: asyncio.Task[None]) -> asyncio.Task[None]:
    if process is not None and not task.done():
        process.kill()
    task.cancel()
    return task


def _closed(core: Core, exec_id: str) -> bool:
    return execs.EXECS.reread(core, exec_id)["stdin_closed_at"] is not None


def _directory(core: Core, workspace_id: str, cwd: str) -> str:
    """Return the working directory of a command; the sandbox's mount path means the workspace's directory."""
    directory = core.files.directory(workspace_id)
    if not cwd:
        return str(directory)
    inside = Path(cwd)
    if inside.is_relative_to(MOUNT_PATH):
        return str(directory / inside.relative_to(MOUNT_PATH))
    return cwd


def _why(error: Exception, cwd: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "working directory not found" if error.filename == cwd else "executable not found"
    return str(getattr(error, "strerror", None) or error)


def _taken(pipe: Any) -> int:
    """Return a pipe's descriptor as one that its file object does not close."""
    descriptor = os.dup(pipe.fileno())
    pipe.close()
    return descriptor

"""Processes on the event loop: read as they write, fed as they read, waited for without blocking."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from helmr_provider.local.workspaces.process_reaper import kill_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from helmr_provider.local.workspaces.process_reaper import ProcessReaper

_READ = 64 * 1024
# A process without privileges can enlarge a pipe to this.
_LARGEST_PIPE = 1024 * 1024
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME")


class Process:
    """A process in a session of its own.

    :param command: the program and its arguments.
    :param cwd: where it begins.
    :param env: its whole environment.
    :param reaper: what ends it if this process is killed.
    :param terminal: the terminal's side of a pseudo-terminal, which is all three standard streams; pipes if absent.
    :raises OSError: if it cannot be started.
    :raises ValueError: if the command or a variable is malformed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        reaper: ProcessReaper,
        terminal: int = subprocess.PIPE,
    ) -> None:
        self._reaper = reaper
        self.popen = subprocess.Popen(  # noqa: S603 - running commands is the purpose
            command, cwd=cwd, env=env, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
        )
        self.pid = self.popen.pid
        reaper.watch(self.pid)
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        threading.Thread(target=self._wait, args=(asyncio.get_running_loop(),), daemon=True).start()

    async def wait(self) -> int:
        """Wait for the process to end, and what it left in its session with it; return the code of `subprocess`."""
        return await asyncio.shield(self._ended)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to everything in the session."""
        kill_session(self.pid, number)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        code = self.popen.wait()

        def tell() -> None:
            self.kill()
            self._reaper.forget(self.pid)
            self._ended.set_result(code)

        # The loop may be gone when a process outlives the control plane's patience.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell)


class Reader:
    """Hands on what a descriptor brings until it ends, and closes it.

    :param descriptor: taken over.
    :param take: receives the bytes.
    """

    def __init__(self, descriptor: int, take: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._take = take
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._readable)

    def drain(self) -> None:
        """Read what is available now, at most as much as a pipe holds: all that an ended process has written."""
        taken = 0
        while taken < _LARGEST_PIPE and not self.ended.done() and (size := self._readable()):
            taken += size

    def close(self) -> None:
        """Read no more."""
        if not self.ended.done():
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self.ended.set_result(None)

    def _readable(self) -> int:
        try:
            content = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return 0
        except OSError:
            # A terminal reports that its other side is closed.
            content = b""
        if content:
            self._take(content)
        else:
            self.close()
        return len(content)


async def feed(descriptor: int, content: bytes) -> bool:
    """Write all of the bytes as fast as they are read; return whether there is still a reader."""
    loop = asyncio.get_running_loop()
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            writable = loop.create_future()
            loop.add_writer(descriptor, _tell, writable)
            try:
                await writable
            finally:
                loop.remove_writer(descriptor)
        except OSError:
            return False
    return True


def environment(home: Path, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process: few of this process's own, since those may hold secrets."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # A name may hold an equals sign: what the process sees then ends at the first.
    pairs = (f"{name}={value}".partition("=") for name, value in wanted.items())
    return {**kept, "HOME": str(home), **{name: value for name, _, value in pairs if name}}


def _tell(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

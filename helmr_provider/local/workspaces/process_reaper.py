"""Clean up after a control plane that was killed: end processes in workspaces, remove its temporary directory.

Run as a program it reads commands from stdin, one per line: `+ID` for a session of processes to end, `-ID` for one that
has ended by itself, `/path` for a directory to remove. It acts at an empty line or when its stdin ends. It imports
nothing but the standard library, so that it starts quickly.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_PROC = Path("/proc")
_SESSION_FIELD = 3


def kill_session(session_id: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to every process of a session: its first process group, and the groups that shells made in it."""
    groups = {session_id}
    if _PROC.is_dir():
        for entry in _PROC.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    # What follows the command's name in parentheses: state, parent, process group, session.
                    fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                    if int(fields[_SESSION_FIELD]) == session_id:
                        groups.add(int(fields[_SESSION_FIELD - 1]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


class ProcessReaper:
    """Tells a process of its own what to end if this one is killed; started when there is something to tell."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, session_id: int) -> None:
        """End this session of processes, should this process be killed."""
        self._tell(f"+{session_id}")

    def forget(self, session_id: int) -> None:
        """Forget this session: it has ended, and its number may be used again."""
        if self._process is not None:
            self._tell(f"-{session_id}")

    def remove(self, directory: Path) -> None:
        """Remove this directory, should this process be killed."""
        self._tell(str(directory))

    def stop(self) -> None:
        """End the reaper, and with it everything that it still watches. Large directories take it a while."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                # Closing alone is not enough: a fork of this process keeps the pipe open.
                process.stdin.write(b"\n")
                process.stdin.close()
            process.wait()

    def _tell(self, line: str) -> None:
        if self._process is None:
            # A session of its own: a Ctrl-C in the terminal must not reach it before it has done its work.
            self._process = subprocess.Popen(  # noqa: S603 - this very file
                [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
            )
        if self._process.stdin is not None:
            # One that was killed cleans up nothing; that must not stop the work in workspaces.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(os.fsencode(f"{line}\n"))
                self._process.stdin.flush()


def _main() -> None:
    sessions: set[int] = set()
    directories: set[Path] = set()
    for line in sys.stdin.buffer:
        text = os.fsdecode(line).rstrip("\n")
        if not text:
            break
        if text.startswith("+"):
            sessions.add(int(text[1:]))
        elif text.startswith("-"):
            sessions.discard(int(text[1:]))
        else:
            directories.add(Path(text))
    for session_id in sessions:
        kill_session(session_id)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _main()

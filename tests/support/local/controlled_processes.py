"""Programs that do what a test tells them, for execs and terminals: real processes with real pipes."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

_SECONDS = 15.0
_PROGRAM = """#!{python} -IS
import os, signal, socket, sys
if os.isatty(0):
    import tty
    tty.setraw(0)
orders = socket.create_connection(("127.0.0.1", {port})).makefile("rw")
for order in orders:
    exec(eval(order))
    orders.write("done\\n")
    orders.flush()
"""


class ControlledProcess:
    """One process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._orders = connection.makefile("rw")

    def do(self, statement: str) -> None:
        """Let it execute a statement and wait until it has."""
        self._tell(statement)
        assert self._orders.readline() == "done\n"

    def write(self, stream: int, content: bytes) -> None:
        """Let it write to one of its standard streams."""
        self.do(f"os.write({stream}, {content!r})")

    def end(self, status: int = 0) -> None:
        """Let it exit."""
        self._tell(f"os._exit({status})")
        self.close()

    def kill(self, name: str) -> None:
        """Let it die of a signal."""
        self._tell(f"os.kill(os.getpid(), signal.{name})")
        self.close()

    def close(self) -> None:
        """Tell it no more."""
        self._orders.close()
        self._connection.close()

    def _tell(self, statement: str) -> None:
        self._orders.write(f"{statement!r}\n")
        self._orders.flush()


class ControlledProcesses:
    """The programs `names` on the PATH, each of whose processes reports here."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._made: list[ControlledProcess] = []

    def next(self) -> ControlledProcess:
        """Wait for the next process to start."""
        connection, _ = self._listener.accept()
        connection.settimeout(_SECONDS)
        process = ControlledProcess(connection)
        self._made.append(process)
        return process

    def close(self) -> None:
        """Release all of them."""
        for process in self._made:
            process.close()


@contextmanager
def controlled_processes(folder: Path, *names: str) -> Generator[ControlledProcesses]:
    """Put programs of these names first on the PATH of this process for the time of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener, _path_begins_with(folder):
        listener.settimeout(_SECONDS)
        for name in names:
            program = folder / name
            program.write_text(_PROGRAM.format(python=sys.executable, port=listener.getsockname()[1]))
            program.chmod(0o755)
        processes = ControlledProcesses(listener)
        try:
            yield processes
        finally:
            processes.close()


@contextmanager
def _path_begins_with(folder: Path) -> Iterator[None]:
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before

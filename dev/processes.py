"""Start and stop programs that have children of their own, leaving none behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

# What interrupts a program: Ctrl-C, a request to end, and the end of its terminal.
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Every process of a stack inherits this variable, so that what outlives its parent is still found.
MARK = "HELMR_STACK"


class StackError(Exception):
    """Something of the stack did not start, or died; the text says what and where its log is."""


def interrupt_on_signals() -> None:
    """Let SIGTERM and SIGHUP raise ``KeyboardInterrupt`` as Ctrl-C does.

    Only the first signal raises, so that a second one does not interrupt the way out. A signal that the caller of this
    program ignores, as ``nohup`` does, stays ignored.
    """
    for each in INTERRUPTS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _interrupted)


def ignore_signals() -> None:
    """Let no signal interrupt the way out, which must be bounded in time."""
    for each in INTERRUPTS:
        # Not SIG_IGN, which a process that is started on the way out would inherit.
        signal.signal(each, _ignored)


def _interrupted(*_: object) -> NoReturn:
    ignore_signals()
    raise KeyboardInterrupt


def _ignored(*_: object) -> None:
    pass


@contextlib.contextmanager
def leave_nothing_running() -> Iterator[None]:
    """Interrupt the block on the signals of `interrupt_on_signals`, and end every process that it has started.

    It decorates the main of each program that starts processes.
    """
    interrupt_on_signals()
    try:
        yield
    finally:
        ignore_signals()
        kill_descendants()


def kill_descendants() -> None:
    """Kill all children of this process and their children, until there is none."""
    while found := [each for each in _family(os.getpid())[1:] if _alive(each)]:
        for each in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(found, timeout=1)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program for the length of a block, with text pipes as its stdin and stdout.

    :param options: further arguments of ``subprocess.Popen``.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **options) as process:
        try:
            yield process
        finally:
            # After Ctrl-C, Popen itself would neither end the process nor wait for its end.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def stop_completely(stop: Callable[[], None]) -> None:
    """Call a function that stops something, from its beginning again if it is interrupted."""
    try:
        stop()
    except KeyboardInterrupt:
        stop()
        raise


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    # Below the ports that Linux assigns to connections: one could be taken before the program has started.
    candidates = iter(random.sample(range(20_000, 32_768), 1_000))
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            each = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", next(candidates)))
                ports.append(int(each.getsockname()[1]))
        return ports


def poll(question: Callable[[], T | None], *, seconds: float, waiting_for: str, every: float = 0.25) -> T:
    """Ask until the answer is neither ``None`` nor false; a bounded wait, for tests and the demo."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            msg = f"gave up after {seconds:.0f} s waiting for {waiting_for}"
            raise StackError(msg)
        time.sleep(every)


@dataclass
class Program:
    """One program of the stack: a process group and a log file, to be started, killed and started again."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    gentle: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Start it; what it prints is appended to its log."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exited(self) -> int | None:
        """Its exit code, or ``None`` while it runs."""
        return None if self.process is None else self.process.poll()

    def check(self) -> None:
        """Raise if it has ended, naming its log."""
        if self.exited is not None:
            raise StackError(f"{self.name} ended with code {self.exited}; its log: {self.log}\n{self.tail()}")

    def tail(self, lines: int = 8) -> str:
        """Return the last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def kill(self) -> None:
        """Kill it and its children immediately (SIGKILL), as an outage of its machine would."""
        if self.process is None:
            return
        for each in _family(self.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()

    def busy_children(self) -> list[psutil.Process]:
        """Return those of its children that have children: of a scheduler, what supervises tasks."""
        busy = []
        if self.process is not None:
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.children():
                        busy.append(child)
        return busy

    def ask_children_of_children_to_stop(self) -> None:
        """Send SIGTERM to those of its children that have children."""
        for child in self.busy_children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGTERM)

    def ask_to_stop(self) -> None:
        """Ask it to end, without waiting."""
        if self.process is not None and self.exited is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.gentle)

    def stop(self, *, seconds: float = 10) -> None:
        """Ask it to end, and kill it when it has not after ``seconds``."""
        self.ask_to_stop()
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        self.kill()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def marked(mark: str) -> Iterator[psutil.Process]:
    """Find the processes that carry this mark, also after their parent has ended."""
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if each.pid != os.getpid() and each.environ().get(MARK) == mark:
                yield each


def kill_marked(mark: str) -> int:
    """Kill what an earlier run in the same folder left behind; returns how many there were."""
    found = list(marked(mark))
    for each in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(found, timeout=10)
    return len(found)

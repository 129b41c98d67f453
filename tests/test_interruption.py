"""A benchmark or development program that is interrupted leaves none of its processes running."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from dev.processes import MARK, kill_marked, marked
from dev.stack import ROOT
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A control plane, a child that ends with its block, and one that no block ends and that has a child of its own.
_PROGRAM = """
import signal, subprocess, sys, time

# Whatever the tests were started with: nohup ignores SIGHUP.
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(each, signal.SIG_DFL)

from benchmarks.client import control_plane
from dev.processes import child, leave_nothing_running

FORGOTTEN = "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN); subprocess.run(['sleep', '600'])"

@leave_nothing_running()
def main():
    try:
        with control_plane(), child(["sleep", "600"]):
            forgotten = subprocess.Popen([sys.executable, "-c", FORGOTTEN])
            print("ready", flush=True)
            time.sleep(600)
    finally:
        time.sleep(0.2)
        print("stopped", flush=True)

main()
"""
_CHILDREN = 4

_STARTS_PROCESSES = {"benchmarks.client", "dev.celery_stack", "dev.postgres_stack", "dev.stack", "subprocess"}
# It runs from a copy without the other modules, and what it starts ends by itself in a moment.
_EXCEPT = {"dev/unasync.py"}


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """Mark the processes of a test, so that those are found whose parent has ended."""
    mark = str(tmp_path)
    yield mark
    kill_marked(mark)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (signal.SIGTERM, None),
        (signal.SIGHUP, None),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
def test_an_interrupted_program_leaves_no_process(
    mark: str, first: signal.Signals, later: signal.Signals | None
) -> None:
    command = [sys.executable, "-c", _PROGRAM]
    environment = os.environ | {MARK: mark}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            until(lambda: len(list(marked(mark))) == 1 + _CHILDREN)
            program.send_signal(first)
            while later is not None and program.poll() is None:
                program.send_signal(later)
                time.sleep(0.02)
            assert program.wait(60) != 0
            assert list(marked(mark)) == []
            assert program.stdout.read() == "stopped\n"
        finally:
            program.kill()


def _imports(path: Path) -> set[str]:
    found = set[str]()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return found


def test_each_program_that_starts_processes_can_be_interrupted() -> None:
    programs = {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in ("benchmarks", "dev")
        for path in (ROOT / folder).glob("*.py")
        if '\nif __name__ == "__main__":' in path.read_text() and _imports(path) & _STARTS_PROCESSES
    }
    assert len(programs) > 10
    interruptible = {
        name for name, text in programs.items() if "leave_nothing_running()" in text or "interrupt_on_signals()" in text
    }
    assert set(programs) - interruptible == _EXCEPT

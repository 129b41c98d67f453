"""The process that ends what a killed control plane leaves behind."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from helmr_provider.local.workspaces.process_reaper import ProcessReaper
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "left"
    directory.mkdir()
    return directory


@pytest.fixture
def reaper(directory: Path) -> Iterator[ProcessReaper]:
    reaper = ProcessReaper()
    reaper.remove(directory)
    try:
        yield reaper
    finally:
        reaper.stop()


def process_of(reaper: ProcessReaper) -> psutil.Process:
    process = reaper._process
    assert process is not None
    return psutil.Process(process.pid)


def test_it_stops_although_a_fork_keeps_its_pipe_open(reaper: ProcessReaper, directory: Path) -> None:
    assert reaper._process is not None
    assert reaper._process.stdin is not None
    kept = os.dup(reaper._process.stdin.fileno())
    try:
        reaper.stop()
    finally:
        os.close(kept)
    assert not directory.exists()


def test_a_stop_waits_for_a_reaper_that_gets_no_time(
    reaper: ProcessReaper, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    popen, process = reaper._process, process_of(reaper)
    assert popen is not None
    wait = popen.wait

    def noted(timeout: float | None = None) -> int:
        waits.append(timeout)
        return wait(timeout)

    monkeypatch.setattr(popen, "wait", noted)
    process.send_signal(signal.SIGSTOP)
    stopping = threading.Thread(target=reaper.stop)
    stopping.start()
    try:
        until(lambda: waits)
        assert directory.exists()
    finally:
        process.send_signal(signal.SIGCONT)
        stopping.join()
    assert waits == [None], "a limit would leave the control plane half stopped"
    assert not directory.exists()


def test_a_reaper_that_was_killed_does_not_keep_the_control_plane_from_stopping(reaper: ProcessReaper) -> None:
    process_of(reaper).kill()
    reaper.stop()
    reaper.stop()


def test_a_reaper_that_was_killed_accepts_further_commands(reaper: ProcessReaper) -> None:
    killed = process_of(reaper)
    killed.kill()
    until(lambda: killed.status() == psutil.STATUS_ZOMBIE)
    for _ in range(2):
        reaper.watch(1)
        reaper.forget(1)

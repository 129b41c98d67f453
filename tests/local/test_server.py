"""The server behind the control plane: what it opens it closes, and what it loses it says."""

from __future__ import annotations

import gc
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from helmr_provider.local import JournalEntry, LocalControlPlane, Queue, Settings, task
from helmr_provider.local._server import Server
from helmr_provider.local.execution.worker import Worker
from helmr_provider.local.testing.journal import Journal
from tests.support.polling import until

if TYPE_CHECKING:
    from helmr_provider.local import TaskContext


async def test_an_error_in_the_background_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(worker: Worker) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(Worker, "dispatch", broken)
    with LocalControlPlane():
        until(lambda: "a mistake of ours" in caplog.text)
    assert "continues without" in caplog.text


async def test_a_start_that_fails_leaves_no_database_open() -> None:
    """From Python 3.13 on, the garbage collector would report one."""

    @task("a", queue=Queue("narrow", 1))
    async def first(ctx: TaskContext, payload: object) -> None: ...

    @task("b", queue=Queue("narrow", 2))
    async def second(ctx: TaskContext, payload: object) -> None: ...

    with pytest.raises(ValueError, match="limits"):
        Server([first, second])
    with pytest.raises(ValueError, match="at least 1"):
        Server([], settings=Settings(event_slots=0))
    with pytest.raises(ValueError, match="key"):
        Server([], api_key="no key")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server([], port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await server.start()
    del server
    gc.collect()


def test_the_journal_can_be_cleared_while_requests_come_in() -> None:
    entry = JournalEntry("GET", "/api/runs", {}, "listRuns")
    journal = Journal()
    stop = threading.Event()

    def append() -> None:
        while not stop.is_set():
            journal.open(entry)

    writers = [threading.Thread(target=append) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(300):
            journal.entries("some")
            journal.clear()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    journal.clear()
    assert journal.entries() == []

"""The server behind the control plane: what it opens it closes, and what it loses it says."""

from __future__ import annotations

import asyncio
import gc
import socket
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from helmr_provider.local import JournalEntry, LocalControlPlane, Queue, Settings, _server_thread, task
from helmr_provider.local._core import DEFAULT_ENVIRONMENT
from helmr_provider.local._server import Server
from helmr_provider.local.api.starts import checked
from helmr_provider.local.execution import worker
from helmr_provider.local.execution.worker import Worker
from helmr_provider.local.network.listener import Listener
from helmr_provider.local.state.api_keys import environment_id
from helmr_provider.local.state.starting import Starter
from helmr_provider.local.testing.journal import Journal
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire
from tests.support.polling import until, until_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


def test_the_database_belongs_to_the_thread_of_the_control_plane() -> None:
    with LocalControlPlane() as server, pytest.raises(sqlite3.ProgrammingError, match="same thread"):
        server.running.core.db.one("SELECT 1")


async def test_a_task_that_outlives_the_stop_cannot_use_the_closed_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ignores its cancellation, and begins subtasks that nobody cancels."""
    cancelled, release = asyncio.Event(), asyncio.Event()
    uses: dict[str, Callable[[TaskContext], Any]] = {
        "log": lambda ctx: ctx.log("too late"),
        "log_entry": lambda ctx: ctx.log_entry(),
        "set_metadata": lambda ctx: ctx.set_metadata(late=True),
        "create_token": lambda ctx: ctx.create_token(),
        "wait_for_token": lambda ctx: ctx.wait_for_token("00000000-0000-0000-0000-000000000000"),
        "receive": lambda ctx: ctx.receive("messages"),
        "peek": lambda ctx: ctx.peek("messages"),
        "publish": lambda ctx: ctx.publish("progress", 1),
        "workspace": lambda ctx: ctx.workspace(),
        "sleep": lambda ctx: ctx.sleep(1),
    }
    ended: dict[str, BaseException | None] = {}

    async def use(name: str, ctx: TaskContext) -> None:
        await release.wait()
        try:
            result = uses[name](ctx)
            if asyncio.iscoroutine(result):
                await result
        except BaseException as error:  # noqa: BLE001 - compared below
            ended[name] = error

    @task("stubborn", inputs=("messages",), outputs=("progress",))
    async def stubborn(ctx: TaskContext, payload: object) -> None:
        subtasks = [asyncio.create_task(use(name, ctx)) for name in uses]
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            await release.wait()
        await asyncio.wait(subtasks)

    monkeypatch.setattr(worker, "_STOP_SECONDS", 0.0)
    server = Server([stubborn], settings=QUICK)
    await server.start()
    environment = environment_id(server.core, DEFAULT_ENVIRONMENT)
    Starter(server.core).start_new(environment, checked({"task_id": "stubborn"}, None))
    await until_async(lambda: server.worker._executions)
    (execution,) = server.worker._executions.values()
    for _ in range(10):
        await asyncio.sleep(0)
    await server.stop()
    assert cancelled.is_set()
    release.set()
    async with asyncio.timeout(60):
        await asyncio.wait([execution.task])
    assert {name: type(error) for name, error in ended.items()} == dict.fromkeys(uses, asyncio.CancelledError)


def test_a_stop_that_a_task_delays_happens_when_the_task_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks, release = threading.Event(), threading.Event()

    @task("blocking")
    async def blocking(ctx: TaskContext, payload: object) -> None:
        blocks.set()
        release.wait(60)

    before = set(threading.enumerate())
    server = LocalControlPlane([blocking], db=tmp_path / "state.db", settings=QUICK)
    server.start()
    (thread,) = set(threading.enumerate()) - before
    run_id = Wire(server).start("blocking")["run"]["id"]
    assert blocks.wait(60)
    with monkeypatch.context() as patched:
        patched.setattr(_server_thread, "_ANSWER_SECONDS", 0.01)
        with pytest.raises(TimeoutError, match="did not stop"):
            server.stop()
    release.set()
    thread.join(60)
    assert not thread.is_alive()
    # Another control plane would be refused if the database were still open.
    with LocalControlPlane([blocking], db=tmp_path / "state.db", settings=QUICK) as server:
        assert Wire(server).ended(run_id)["status"] in ("succeeded", "failed")


def test_a_start_that_takes_too_long_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Server.start

    async def started(server: Server) -> None:
        await start(server)
        await asyncio.Event().wait()

    before = set(threading.enumerate())
    with monkeypatch.context() as patched:
        patched.setattr(Server, "start", started)
        patched.setattr(_server_thread, "_ANSWER_SECONDS", 0.01)
        with pytest.raises(TimeoutError, match="did not"):
            LocalControlPlane(db=tmp_path / "state.db").start()
    for thread in set(threading.enumerate()) - before:
        if thread.name == "helmr-local":
            thread.join(60)
    with LocalControlPlane(db=tmp_path / "state.db") as server:
        assert Wire(server).request("GET", "/api/runs").status == 200


def test_a_call_that_has_not_returned_when_the_control_plane_stops_fails() -> None:
    began = threading.Event()

    async def endless() -> None:
        began.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as threads:
        with LocalControlPlane() as server:
            call = threads.submit(server._run, endless(), limited=False)
            assert began.wait(60)
        with pytest.raises(RuntimeError, match="not running"):
            call.result(60)


@pytest.mark.parametrize("leave", [lambda: sys.exit(3), lambda: _raise(KeyboardInterrupt())], ids=["exit", "interrupt"])
def test_a_part_of_a_task_that_exits_ends_its_run_and_not_the_control_plane(leave: Callable[[], NoReturn]) -> None:
    """asyncio raises these out of the event loop, too."""

    async def part() -> None:
        leave()

    @task("leaving")
    async def leaving(ctx: TaskContext, payload: object) -> None:
        await asyncio.gather(part())

    @task("staying")
    async def staying(ctx: TaskContext, payload: object) -> None: ...

    with LocalControlPlane([leaving, staying], settings=QUICK) as server:
        wire = Wire(server)
        assert wire.ended(wire.start("leaving")["run"]["id"])["status"] == "failed"
        assert wire.ended(wire.start("staying")["run"]["id"])["status"] == "succeeded"


def _raise(error: BaseException) -> NoReturn:
    raise error


def test_nothing_that_a_task_has_begun_is_left_in_the_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    began, cancelled = threading.Event(), threading.Event()
    # asyncio does not keep them, so that they could be collected before the stop.
    kept: list[asyncio.Task[Any]] = []

    async def forgotten() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @task("forgetful")
    async def forgetful(ctx: TaskContext, payload: object) -> None:
        kept.extend((asyncio.create_task(forgotten()), asyncio.create_task(asyncio.Event().wait())))
        await asyncio.wait(kept)

    with LocalControlPlane([forgetful], settings=QUICK) as server:
        Wire(server).start("forgetful")
        assert began.wait(60)
    assert cancelled.is_set()
    assert all(each.cancelled() for each in kept)
    kept.clear()
    gc.collect()
    assert "was destroyed" not in caplog.text


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupt_while_the_thread_begins_leaves_no_thread(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    threads: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        if thread.name != "helmr-local":
            return start(thread)
        threads.append(thread)
        if begun:
            start(thread)
        raise KeyboardInterrupt if begun else RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt if begun else RuntimeError):
        LocalControlPlane().start()
    (thread,) = threads
    if begun:
        thread.join(60)
    assert not thread.is_alive()


def test_a_part_that_cannot_be_stopped_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Listener.close

    async def closed(listener: Listener) -> None:
        await close(listener)
        raise OSError("not quite")

    server = LocalControlPlane(db=tmp_path / "state.db")
    server.start()
    with monkeypatch.context() as patched:
        patched.setattr(Listener, "close", closed)
        with pytest.raises(OSError, match="not quite"):
            server.stop()
    # It would be refused if the database were still open.
    with LocalControlPlane(db=tmp_path / "state.db") as server:
        assert Wire(server).request("GET", "/api/runs").status == 200

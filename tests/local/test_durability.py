"""What was acknowledged survives `kill -9`, and runs continue as the documentation of the worker says."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import LocalControlPlane, Settings, task
from helmr_provider.local.storage.database import Database, DatabaseError
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helmr_provider.local import TaskContext

TASKS = """
import asyncio
from pathlib import Path
from helmr_provider.local import task

@task("gate", inputs=("messages",), outputs=("progress",))
async def gate(ctx, payload):
    ctx.log("before the wait")
    await ctx.set_metadata(step="before")
    token = await ctx.create_token(metadata={"for": "the gate"})
    await ctx.set_metadata(token_id=token.id)
    await ctx.publish("progress", {"pct": 50})
    decision = await ctx.wait_for_token(token)
    ctx.log("after the wait")
    return {"decision": decision, "token": token.id, "attempt": ctx.attempt_number}

@task("busy")
async def busy(ctx, payload):
    ctx.log(f"attempt {ctx.attempt_number}")
    if ctx.attempt_number == 1:
        await asyncio.sleep(3600)
    return {"attempt": ctx.attempt_number}

@task("nap")
async def nap(ctx, payload):
    await ctx.sleep(payload["seconds"])
    return "rested"
"""


class Served:
    """`helmr-local serve` in a process of its own, as :class:`Wire` wants a server."""

    def __init__(self, folder: Path) -> None:
        (folder / "tasks.py").write_text(TASKS)
        command = [
            sys.executable,
            "-m",
            "helmr_provider.local",
            "serve",
            "--port",
            "0",
            "--db",
            str(folder / "state.db"),
        ]
        self.process = subprocess.Popen(
            [*command, "--tasks", str(folder / "tasks.py")], stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert self.process.stdout is not None
        self.env = dict(self.process.stdout.readline().strip().removeprefix("export ").split("=", 1) for _ in range(2))
        self.url, self.api_key = self.env["HELMR_API_URL"], self.env["HELMR_API_KEY"]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def served(folder: Path) -> Iterator[tuple[Served, Wire]]:
    server = Served(folder)
    try:
        yield server, Wire(server)
    finally:
        server.kill()


def _logged(wire: Wire, run_id: str) -> str:
    return base64.b64decode(wire.get(f"/api/runs/{run_id}/logs")["stdout_base64"]).decode()


def test_every_start_that_was_acknowledged_survives_a_kill_in_the_middle_of_many(tmp_path: Path) -> None:
    acknowledged: list[tuple[str, str]] = []
    with served(tmp_path) as (server, wire):

        def start(number: int) -> None:
            for index in range(200):
                external_id = f"{number}-{index}"
                try:
                    started = wire.start("nap", {"seconds": 3600}, external_id=external_id)
                except (OSError, http.client.HTTPException):
                    return
                acknowledged.append((external_id, started["run"]["id"]))

        threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged) > 60)
        server.kill()
        for thread in threads:
            thread.join()
    with served(tmp_path) as (_, wire):
        for external_id, run_id in acknowledged:
            session = wire.get("/api/sessions/by-external-id", external_id=external_id)
            assert session["current_run_id"] == run_id
            again = wire.start("nap", {"seconds": 3600}, 200, external_id=external_id)
            assert again["is_cached"] is True
            assert again["run"]["id"] == run_id
            assert wire.kinds(run_id)[0] == "run.created"


def test_a_run_that_waited_when_the_process_was_killed_continues_where_it_was(tmp_path: Path) -> None:
    with served(tmp_path) as (_, wire):
        run_id = wire.start("gate")["run"]["id"]
        token_id = wire.until(run_id, "waiting")["metadata"]["token_id"]
        events = wire.kinds(run_id)
    with served(tmp_path) as (_, wire):
        assert wire.get(f"/api/runs/{run_id}")["status"] == "waiting"
        assert wire.kinds(run_id) == events
        wire.post(f"/api/tokens/{token_id}/complete", {"data": "yes"})
        run = wire.ended(run_id)
        assert run["output"] == {"decision": "yes", "token": token_id, "attempt": 1}
        assert run["attempt_number"] == 1
        assert _logged(wire, run_id) == "before the wait\nafter the wait\n"
        assert wire.kinds(run_id) == [*events, "log.stdout", "run.completed"]
        assert len(wire.get("/api/tokens")["tokens"]) == 1
        assert len(wire.get(f"/api/sessions/{run['session_id']}/outputs/progress")["records"]) == 1


def test_a_token_completed_just_before_the_process_is_killed_still_resumes_the_run(tmp_path: Path) -> None:
    with served(tmp_path) as (server, wire):
        run_id = wire.start("gate")["run"]["id"]
        token_id = wire.until(run_id, "waiting")["metadata"]["token_id"]
        wire.request("POST", "/_local/worker/pause")
        wire.post(f"/api/tokens/{token_id}/complete", {"data": 1})
        server.kill()
    with served(tmp_path) as (_, wire):
        assert wire.ended(run_id)["output"]["decision"] == 1


def test_a_timer_that_came_due_without_a_server_fires_immediately(tmp_path: Path) -> None:
    with served(tmp_path) as (_, wire):
        run_id = wire.start("nap", {"seconds": 2})["run"]["id"]
        wire.until(run_id, "waiting")
    with served(tmp_path) as (_, wire):
        assert wire.ended(run_id)["output"] == "rested"


def test_a_run_that_ran_when_the_process_was_killed_is_lost_and_retried_with_the_next_attempt(tmp_path: Path) -> None:
    retry = {"maxAttempts": 2, "backoff": {"minMs": 1, "maxMs": 1}}
    with served(tmp_path) as (_, wire):
        run_id = wire.start("busy", retry=retry)["run"]["id"]
        wire.until(run_id, "running")
        until(lambda: "log.stdout" in wire.kinds(run_id))
    with served(tmp_path) as (_, wire):
        run = wire.ended(run_id)
        assert (run["status"], run["attempt_number"], run["output"]) == ("succeeded", 2, {"attempt": 2})
        assert wire.kinds(run_id) == [
            "run.created",
            "log.stdout",
            "run.execution_lost",
            "run.failed",
            "run.retry_scheduled",
            "log.stdout",
            "run.completed",
        ]


def test_a_run_that_ran_when_the_process_was_killed_has_failed_without_a_retry_policy(tmp_path: Path) -> None:
    with served(tmp_path) as (_, wire):
        run_id = wire.start("busy")["run"]["id"]
        wire.until(run_id, "running")
    with served(tmp_path) as (_, wire):
        run = wire.get(f"/api/runs/{run_id}")
        assert (run["status"], run["exit_code"]) == ("failed", None)
        failed = wire.get(f"/api/runs/{run_id}/events")["events"][-1]
        assert failed["kind"] == "run.failed"
        assert failed["attributes"]["failure_kind"] == "worker_failed"


def test_keys_and_secrets_outlive_the_process(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with LocalControlPlane(db=database) as server:
        key = server.api_key
        token = Wire(server).post("/api/tokens", {"idempotency_key": "k"}, 201)
        reader = server.create_key(["tokens:read"])
        port = int(server.url.rpartition(":")[2])
    with LocalControlPlane(db=database, port=port) as server:
        assert server.api_key == key
        assert Wire(server).post("/api/tokens", {"idempotency_key": "k"}, 200) == token
        assert Wire(server, reader).get(f"/api/tokens/{token['id']}")["status"] == "pending"


def test_the_database_holds_no_secret(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with LocalControlPlane(db=database) as server:
        key = server.api_key
        token = Wire(server).post("/api/tokens", {}, 201)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (key, token["public_access_token"], token["callback_url"].rpartition("/")[2]):
        assert secret.encode() not in content


def test_a_task_that_takes_another_way_when_it_is_resumed_fails_instead_of_guessing(tmp_path: Path) -> None:
    def define(first: str) -> Any:
        @task("changed", outputs=("progress",))
        async def changed(ctx: TaskContext, payload: Any) -> None:
            del payload
            if first == "log":
                ctx.log("one way")
            else:
                await ctx.publish("progress", "the other way")
            await ctx.sleep(0.05)

        return changed

    database = tmp_path / "state.db"
    with LocalControlPlane([define("log")], database, settings=Settings(sweep=3600)) as server:
        run_id = Wire(server).start("changed")["run"]["id"]
        Wire(server).until(run_id, "waiting")
    with LocalControlPlane([define("publish")], database, settings=QUICK) as server:
        wire = Wire(server)
        assert wire.ended(run_id)["status"] == "failed"
        failed = wire.get(f"/api/runs/{run_id}/events")["events"][-1]
        assert "another way" in failed["attributes"]["detail"]["message"]


def test_a_waiting_run_whose_task_is_gone_fails_with_its_own_kind(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with LocalControlPlane(db=database, settings=Settings(sweep=3600)) as server:
        run_id = Wire(server).start("work", {"seconds": 0.05, "waiting": True})["run"]["id"]
        Wire(server).until(run_id, "waiting")

    @task("other")
    async def other(ctx: TaskContext, payload: Any) -> None:
        del ctx, payload

    with LocalControlPlane([other], database, settings=QUICK) as server:
        wire = Wire(server)
        wire.ended(run_id)
        failed = wire.get(f"/api/runs/{run_id}/events")["events"][-1]
        assert failed["attributes"]["failure_kind"] == "task_not_found"


def test_two_control_planes_on_one_file_are_refused(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with (
        LocalControlPlane(db=database),
        pytest.raises(DatabaseError, match="in use by another"),
        LocalControlPlane(db=database),
    ):
        pass


def test_a_file_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(DatabaseError, match="schema version 999"), LocalControlPlane(db=database):
        pass
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be read as the header of one" * 20)
    with pytest.raises(DatabaseError, match="not a database"), LocalControlPlane(db=tmp_path / "notes.txt"):
        pass


def test_a_full_disk_leaves_no_run_running_once_there_is_room_again(tmp_path: Path) -> None:
    with LocalControlPlane(db=tmp_path / "state.db", settings=QUICK) as server:
        wire = Wire(server)
        runs = [wire.start("work", {"seconds": 0.05})["run"]["id"] for _ in range(5)]

        def pragma(text: str) -> Any:
            return server._call(lambda: server.running.core.db.one(f"PRAGMA {text}"))

        pragma(f"max_page_count = {pragma('page_count')[0]}")
        # Fill what is left in the pages.
        for _ in range(200):
            if wire.request("POST", "/api/tokens", {"metadata": {"x": "x" * 3000}}).status == 500:
                break
        else:
            raise AssertionError("the disk did not become full")
        until(lambda: not server.running.worker._executions)
        pragma("max_page_count = 1000000")
        assert {wire.ended(run)["status"] for run in runs} <= {"succeeded", "failed"}
        assert wire.ended(wire.start("echo")["run"]["id"])["status"] == "succeeded"


def test_a_failed_commit_leaves_no_transaction_open() -> None:
    database = Database(None)
    database.execute("CREATE TABLE parents (id TEXT PRIMARY KEY)")
    database.execute("CREATE TABLE kids (parent TEXT REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
    notified: list[str] = []

    def inserts() -> None:
        with database.transaction():
            database.insert("kids", parent="nobody")
            database.after_commit(lambda: notified.append("committed"))

    with pytest.raises(sqlite3.IntegrityError):
        inserts()
    with database.transaction():
        database.insert("parents", id="somebody")
    assert database.all("SELECT * FROM kids") == []
    assert notified == []
    database.close()


def test_a_step_of_the_machines_clock_ends_no_running_task(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalControlPlane(settings=QUICK) as server:
        wire = Wire(server)
        run_id = wire.start("work", {"seconds": 600})["run"]["id"]
        wire.until(run_id, "running")
        later = time.time_ns() + 86_400 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: later)
        server.sweep()
        server.resume_worker()
        until(lambda: wire.request("GET", f"/api/runs/{run_id}").status == 200)
        assert wire.get(f"/api/runs/{run_id}")["status"] == "running"
        monkeypatch.undo()

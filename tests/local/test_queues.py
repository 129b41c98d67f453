"""Queues: how many runs execute together, which is next, and that a restart changes neither."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import LocalControlPlane, Queue, Settings, TaskFailure, task
from helmr_provider.local.state import queueing
from helmr_provider.local.storage.schema import SCRIPTS
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire
from tests.support.polling import until, until_async

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helmr_provider.local import TaskContext, TaskDefinition

RETRY = {"maxAttempts": 2, "backoff": {"minMs": 50, "maxMs": 50, "factor": 1, "jitter": "none"}}


class Gate:
    """Tasks of one queue whose runs end when the test says so, and a record of their work."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.began: list[str] = []
        self.at_once: Counter[Any] = Counter()
        self.most: Counter[Any] = Counter()

    def task(self, task_id: str = "gate", limit: int | None = 1, **options: Any) -> TaskDefinition:
        @task(task_id, queue=Queue("narrow", limit), inputs=("word",), **options)
        async def gate(ctx: TaskContext, payload: Any) -> Any:
            name = payload["name"]
            if payload.get("waits"):
                await ctx.wait_for_input("word")
            self.began.append(name)
            group = payload.get("group")
            self.at_once[group] += 1
            self.most[group] = max(self.most[group], self.at_once[group])
            try:
                await until_async(lambda: name in self.open or "all" in self.open)
            finally:
                self.at_once[group] -= 1
            if payload.get("fails") and ctx.attempt_number == 1:
                raise TaskFailure("on purpose")
            return name

        return gate


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def server(gate: Gate) -> Iterator[LocalControlPlane]:
    with LocalControlPlane([gate.task(retry=RETRY)], settings=QUICK) as running:
        yield running
        gate.open.add("all")


@pytest.fixture
def wire(server: LocalControlPlane) -> Wire:
    return Wire(server)


def begin(wire: Wire, name: str, payload: dict[str, Any] | None = None, **options: Any) -> str:
    started = wire.start("gate", {"name": name, **(payload or {})}, **options)
    return str(started["run"]["id"])


def status(wire: Wire, run_id: str) -> str:
    return str(wire.get(f"/api/runs/{run_id}")["status"])


def test_runs_beyond_the_limit_are_queued_and_execute_in_the_order_of_their_starts(wire: Wire, gate: Gate) -> None:
    runs = {name: begin(wire, name) for name in "abc"}
    wire.until(runs["a"], "running")
    assert [status(wire, run) for run in runs.values()] == ["running", "queued", "queued"]
    gate.open.add("a")
    wire.until(runs["b"], "running")
    assert status(wire, runs["c"]) == "queued"
    gate.open |= {"b", "c"}
    assert wire.ended(runs["c"])["output"] == "c"
    assert gate.began == ["a", "b", "c"]


def test_a_higher_priority_goes_first(wire: Wire, gate: Gate) -> None:
    first = begin(wire, "first")
    wire.until(first, "running")
    low, high = begin(wire, "low"), begin(wire, "high", priority=5)
    gate.open.add("all")
    for run in (low, high):
        wire.ended(run)
    assert gate.began == ["first", "high", "low"]


def test_each_concurrency_key_and_each_environment_has_places_of_its_own(
    server: LocalControlPlane, wire: Wire, gate: Gate
) -> None:
    runs = [begin(wire, f"{key}-{n}", concurrency_key=key) for n in range(2) for key in ("x", "y")]
    other = Wire(server, server.create_key(environment="elsewhere"))
    apart = begin(other, "apart", concurrency_key="x")
    without = begin(wire, "without")
    for run in (runs[0], runs[1], without):
        wire.until(run, "running")
    other.until(apart, "running")
    assert [status(wire, run) for run in runs] == ["running", "running", "queued", "queued"]
    gate.open.add("x-0")
    wire.until(runs[2], "running")
    assert status(wire, runs[3]) == "queued"


def test_a_waiting_run_gives_its_place_away_and_continues_when_there_is_one(wire: Wire, gate: Gate) -> None:
    started = wire.start("gate", {"name": "waits", "waits": True})
    waits = started["run"]["id"]
    wire.until(waits, "waiting")
    other = begin(wire, "other")
    wire.until(other, "running")
    wire.post(f"/api/sessions/{started['session']['id']}/inputs/word", {"data": 1}, 201)
    wire.until(waits, "queued")
    gate.open.add("waits")
    assert status(wire, waits) == "queued"
    gate.open.add("other")
    assert wire.ended(waits)["output"] == "waits"
    assert gate.most[None] == 1


def test_between_two_attempts_the_place_is_free(wire: Wire, gate: Gate) -> None:
    fails = begin(wire, "fails", {"fails": True})
    wire.until(fails, "running")
    other = begin(wire, "other")
    gate.open.add("fails")
    wire.until(other, "running")
    until(lambda: wire.get(f"/api/runs/{fails}")["attempt_number"] == 2)
    assert status(wire, fails) == "queued"
    gate.open.add("other")
    assert wire.ended(fails)["output"] == "fails"


def test_a_cancelled_run_holds_its_place_until_its_worker_releases_it(gate: Gate) -> None:
    @task("stubborn", queue=Queue("narrow", 1))
    async def stubborn(ctx: TaskContext, payload: Any) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await until_async(lambda: "released" in gate.open)

    with LocalControlPlane([stubborn, gate.task(limit=None)], settings=QUICK) as server:
        wire = Wire(server)
        held = wire.start("stubborn")["run"]["id"]
        wire.until(held, "running")
        next_one = begin(wire, "next")
        wire.post(f"/api/runs/{held}/cancel", {})
        assert [status(wire, held), status(wire, next_one)] == ["cancelled", "queued"]
        gate.open.add("released")
        wire.until(next_one, "running")
        gate.open.add("next")
        wire.ended(next_one)


def test_a_run_that_finds_no_place_within_its_ttl_expires(wire: Wire, gate: Gate) -> None:
    first = begin(wire, "first")
    wire.until(first, "running")
    late = begin(wire, "late", ttl="100ms")
    assert wire.ended(late)["status"] == "expired"
    gate.open.add("first")
    assert wire.ended(first)["status"] == "succeeded"


def test_a_start_may_name_another_declared_queue_and_no_other(gate: Gate) -> None:
    with LocalControlPlane([gate.task(queues=["wide"])], settings=QUICK) as server:
        wire = Wire(server)
        runs = [begin(wire, "narrow"), begin(wire, "wide", queue={"name": "wide"})]
        for run in runs:
            wire.until(run, "running")
        body = {"task_id": "gate", "payload": {"name": "x"}, "queue": {"name": "none"}}
        assert wire.request("POST", "/api/sessions", body).status == 400
        gate.open.add("all")
        for run in runs:
            wire.ended(run)


def test_the_next_turn_of_a_session_stands_in_the_same_queue(wire: Wire, gate: Gate) -> None:
    started = wire.start("gate", {"name": "turn"}, concurrency_key="k")
    session = started["session"]["id"]
    gate.open.add("turn")
    wire.ended(started["run"]["id"])
    gate.open.clear()
    blocks = begin(wire, "blocks", concurrency_key="k")
    wire.until(blocks, "running")
    wire.post(f"/api/sessions/{session}/inputs/word", {"data": 1}, 201)
    until(lambda: len(wire.get(f"/api/sessions/{session}/runs")["runs"]) == 2)
    second = wire.get(f"/api/sessions/{session}/runs")["runs"][-1]["run_id"]
    assert status(wire, second) == "queued"
    gate.open.add("all")
    assert wire.ended(second)["status"] == "succeeded"
    assert gate.began == ["turn", "blocks", "turn"]


def test_a_deployed_task_shows_its_queue_and_its_limit(wire: Wire) -> None:
    shown = wire.get("/api/tasks/gate")
    assert (shown["queue_name"], shown["concurrency_limit"]) == ("narrow", 1)


def test_a_queue_has_one_limit(gate: Gate, server: LocalControlPlane) -> None:
    with pytest.raises(ValueError, match="limits 1 and 2"):
        LocalControlPlane([gate.task("a", 1), gate.task("b", 2)]).__enter__()
    with pytest.raises(ValueError, match="limits"):
        server.deploy(gate.task("other", 3))
    assert Wire(server).get("/api/tasks")["tasks"][0]["concurrency_limit"] == 1
    for wrong in (Queue(""), Queue("a", 0)):
        with pytest.raises(ValueError, match="queue"):
            task("wrong", queue=wrong)


def test_never_more_than_the_limit_execute_and_all_end(gate: Gate) -> None:
    random = Random(7)
    with LocalControlPlane([gate.task(limit=3, retry=RETRY)], settings=QUICK) as server:
        wire = Wire(server)
        gate.open.add("all")
        runs = []
        for number in range(60):
            key = random.choice(["a", "b"])
            payload = {"group": key, "fails": random.random() < 0.3}
            runs.append(begin(wire, str(number), payload, concurrency_key=key, priority=random.choice([0, 1])))
        assert {wire.ended(run)["status"] for run in runs} == {"succeeded"}
    assert 1 <= gate.most["a"] <= 3
    assert 1 <= gate.most["b"] <= 3


def test_a_restart_keeps_the_order_and_the_limit(tmp_path: Path) -> None:
    database, first, second = tmp_path / "state.db", Gate(), Gate()
    with LocalControlPlane([first.task(retry=RETRY)], db=database, settings=QUICK) as server:
        runs = {name: begin(Wire(server), name, concurrency_key="k") for name in "abc"}
        Wire(server).until(runs["a"], "running")
    with LocalControlPlane([second.task(retry=RETRY)], db=database, settings=QUICK) as server:
        wire = Wire(server)
        # The one that was interrupted is between two attempts, so the next one had its place.
        until(lambda: len(second.began) == 1)
        assert sorted(status(wire, run) for run in runs.values()) == ["queued", "queued", "running"]
        second.open.add("all")
        assert {wire.ended(run)["status"] for run in runs.values()} == {"succeeded"}
    assert first.began == ["a"]
    assert sorted(second.began) == ["a", "b", "c"]
    assert second.most[None] == 1


def test_a_database_of_the_release_before_queues_is_usable(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with sqlite3.connect(database) as old:
        for script in SCRIPTS[:2]:
            old.executescript(script)
        old.execute("PRAGMA user_version = 2")
    old.close()
    gate = Gate()
    gate.open.add("all")
    with LocalControlPlane([gate.task()], db=database, settings=Settings()) as server:
        wire = Wire(server)
        assert wire.ended(begin(wire, "a"))["status"] == "succeeded"


def test_a_round_of_leases_reads_no_more_than_a_page_of_a_full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    @task("one", queue=Queue("narrow", concurrency_limit=1))
    async def one(ctx: TaskContext, payload: Any) -> None: ...

    with LocalControlPlane([one], settings=QUICK) as server:
        server.pause_worker()
        wire = Wire(server)
        for number in range(450):
            wire.start("one", {"filler": "x" * 1000}, priority=number % 3)
        core = server.running.core
        places = server._call(lambda: queueing.Places(core))
        read: list[int] = []
        every = core.db.all

        def counted(sql: str, *values: object) -> list[Any]:
            rows = every(sql, *values)
            read.append(len(rows))
            assert all("payload" not in row.keys() for row in rows)  # noqa: SIM118 - a row is no mapping
            return rows

        monkeypatch.setattr(core.db, "all", counted)

        def candidates(most: int | None) -> list[Any]:
            return server._call(lambda: list(islice(queueing.candidates(core, places, core.clock.now()), most)))

        (first,) = candidates(1)
        assert first["priority"] == 2
        assert sum(read) <= 101
        ordered = [(-run["priority"], run["created_at"]) for run in candidates(None)]
        assert len(ordered) == 450
        assert ordered == sorted(ordered)
        monkeypatch.undo()

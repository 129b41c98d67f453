"""The log lines of a wait whose requests fail: few, in time order, and in the context of its caller."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import itertools
import logging
from typing import TYPE_CHECKING

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrClient, HelmrConnectionError
from helmr_provider.client._waiting.actions import RUN, Failure, ListRuns, Retrieve, WaitKey
from helmr_provider.client._waiting.wait_log import WaitLog, WaitLogs, is_repeated
from helmr_provider.local import LocalControlPlane, faults
from tests.client.run_json import run_json, snapshot
from tests.client.scripted_server import VARIANTS, Reply, ScriptedServer, drive
from tests.client.waiting.tasks import TASKS
from tests.support.polling import until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.scripted_server import ReceivedRequest

READ = Retrieve(WaitKey(RUN, "run-1"))
OUTAGE = Failure(retryable=True, outage=True)
ONLY_ONE = Failure(retryable=True)
ERROR = HelmrConnectionError("connection\nrefused")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the lines that the client has logged since the last call."""
    caplog.set_level(logging.INFO, "helmr_provider.client")

    def read() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.name == "helmr_provider.client"]
        caplog.clear()
        return found

    return read


@pytest.fixture(scope="module")
def server() -> Iterator[LocalControlPlane]:
    with LocalControlPlane(TASKS) as plane:
        yield plane


# The rules, with a clock of numbers


def test_a_day_of_failures_is_a_line_at_the_start_and_then_at_growing_gaps(lines: Callable[[], list[str]]) -> None:
    log, logged_at = WaitLog(), []
    for now in range(0, 86_400, 10):
        log.failed(READ, OUTAGE, ERROR, float(now))
        logged_at += [now] * len(lines())
    gaps = [later - earlier for earlier, later in itertools.pairwise(logged_at)]
    assert logged_at[:4] == [0, 20, 50, 110]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 900
    assert log.succeeded(READ, 86_400.0, 86_401.0)
    assert lines() == ["Requests succeed again, 86401 s after the first failure (8640 failures)."]


def test_the_first_line_has_the_error_in_one_line_and_a_later_one_the_count(lines: Callable[[], list[str]]) -> None:
    log = WaitLog()
    for now in (0.0, 5.0, 16.0):
        log.failed(READ, OUTAGE, ERROR, now)
    assert lines() == [
        "The wait continues, although a request failed: connection refused",
        "The wait continues, although requests have failed for 16 s (3 failures). The last one: connection refused",
    ]


def test_failures_that_come_and_go_do_not_log_each_time(lines: Callable[[], list[str]]) -> None:
    log = WaitLog()
    for now in range(0, 600, 2):
        log.failed(READ, OUTAGE, ERROR, float(now))
        assert log.succeeded(READ, now + 1.0, now + 1.0)
    said = lines()
    assert [line.split(",")[0] for line in said] == ["The wait continues", "Requests succeed again"] * (len(said) // 2)
    assert len(said) <= 14


def test_after_a_quiet_time_the_gaps_are_short_again(lines: Callable[[], list[str]]) -> None:
    log = WaitLog()
    for now in (0.0, 16.0, 50.0):
        log.failed(READ, OUTAGE, ERROR, now)
    log.succeeded(READ, 51.0, 51.0)
    lines()
    for now in (5000.0, 5016.0):
        log.failed(READ, OUTAGE, ERROR, now)
    assert len(lines()) == 2


def test_a_request_that_was_sent_before_the_failure_does_not_end_the_outage(lines: Callable[[], list[str]]) -> None:
    log = WaitLog()
    log.failed(READ, OUTAGE, ERROR, 10.0)
    assert not log.succeeded(READ, 9.0, 11.0)
    assert len(lines()) == 1


def test_the_failure_of_one_run_ends_with_a_read_of_that_run(lines: Callable[[], list[str]]) -> None:
    log = WaitLog()
    log.failed(READ, ONLY_ONE, ERROR, 10.0)
    assert not log.succeeded(ListRuns(), 11.0, 12.0)
    assert log.succeeded(READ, 13.0, 14.0)
    assert len(lines()) == 2


def test_a_list_that_fails_by_itself_is_not_logged_because_single_polls_replace_it() -> None:
    assert not is_repeated(ListRuns(), ONLY_ONE)
    assert is_repeated(ListRuns(), OUTAGE)
    assert is_repeated(READ, ONLY_ONE)
    assert not is_repeated(READ, dataclasses.replace(ONLY_ONE, retryable=False))


def test_a_wait_that_is_over_logs_nothing_more(lines: Callable[[], list[str]]) -> None:
    logs, over, waiting = WaitLogs(), WaitLog(), WaitLog()
    logs.failed([over, waiting, waiting], READ, OUTAGE, ERROR, 1.0)
    assert len(lines()) == 2
    logs.forget(over)
    logs.succeeded(READ, 2.0, 3.0)
    assert len(lines()) == 1
    logs.succeeded(READ, 4.0, 5.0)
    assert lines() == []


# On a real socket


async def test_each_wait_logs_an_outage_once_in_the_context_of_its_caller(server: LocalControlPlane) -> None:
    # Airflow knows by a context variable to whose log a line belongs; the waiter's requests run in another context.
    whose = contextvars.ContextVar("whose", default="nobody's")
    heard: list[tuple[str, str]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append((whose.get(), record.getMessage()))

    listener, logger = Listener(), logging.getLogger("helmr_provider.client")
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        async with AsyncHelmrClient(url=server.url, api_key=server.api_key) as client:

            async def watch(name: str, session_id: str, run_id: str) -> None:
                whose.set(name)
                await client.runs.wait(run_id)
                await client.sessions.open(session_id).close()

            started = {name: await client.sessions.start("at-a-word", {}) for name in ("a", "b")}
            async with asyncio.TaskGroup() as group:
                for name, each in started.items():
                    group.create_task(watch(name, each.session.id, each.run.id))
                await until_async(lambda: len([entry for entry in server.journal if entry.operation == "getRun"]) >= 2)
                for operation in ("getRun", "listRuns", "countRuns"):
                    server.fail_next(operation, faults.status(503), times=2)
                for each in started.values():
                    await client.sessions.open(each.session.id).input("word").send("done")
    finally:
        logger.removeHandler(listener)
        logger.setLevel(logging.NOTSET)
        server.clear_faults()
    for name in ("a", "b"):
        first, last = [line for who, line in heard if who == name]
        assert first.startswith("The wait continues, although a request failed: ")
        assert last.startswith("Requests succeed again")
    assert {who for who, _ in heard} == {"a", "b"}


def test_a_blocking_wait_logs_the_first_failure_and_the_end(
    server: LocalControlPlane, lines: Callable[[], list[str]]
) -> None:
    with HelmrClient(url=server.url, api_key=server.api_key) as client:
        run_id = client.sessions.start("take-time", {"seconds": 0.0}).run.id
        server.fail_next("getRun", faults.status(503), times=2)
        client.runs.wait(run_id)
    first, last = lines()
    assert "503" in first
    assert last.startswith("Requests succeed again")


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_unknown_status_is_logged_once_while_waiting(variant: str, lines: Callable[[], list[str]]) -> None:
    statuses = iter(["paused", "paused", "succeeded"])

    def answer(request: ReceivedRequest) -> Reply:
        if request.path.endswith("/events"):
            return Reply(404, json={"error": "no events", "code": "not_found"})
        return snapshot("r", next(statuses))

    with ScriptedServer(answer=answer) as wire:
        assert drive(variant, lambda client: client.runs.wait("r"), url=wire.url, max_streams=0).is_success
    [line] = [line for line in lines() if "status" in line]
    assert line.startswith("Run r has the status 'paused'")


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_unknown_status_in_a_list_is_logged_too(variant: str, lines: Callable[[], list[str]]) -> None:
    ids = [f"r{number}" for number in range(12)]
    lists = 0

    def answer(request: ReceivedRequest) -> Reply:
        nonlocal lists
        if request.path.endswith("/counts"):
            return Reply(404, json={"error": "no counts", "code": "not_found"})
        if request.path.endswith("/runs"):
            lists += 1
            return Reply(json={"runs": [run_json(run_id, "paused") for run_id in ids] if lists == 1 else []})
        return snapshot(request.path.rsplit("/", 1)[-1], "succeeded" if lists > 1 else "running")

    with ScriptedServer(answer=answer) as wire:
        runs = drive(variant, lambda client: client.runs.wait_many(ids), url=wire.url, max_streams=0)
    assert sorted(run.id for run in runs) == sorted(ids)
    assert len([line for line in lines() if "has the status 'paused'" in line]) == 1

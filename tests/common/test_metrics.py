"""What Airflow's metrics say of Helmr: each thing once, and without delaying a task."""

from __future__ import annotations

import asyncio
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider._common import metrics
from helmr_provider._common.metrics import (
    OPEN_STREAMS,
    REQUESTS,
    RUNS_ADOPTED,
    RUNS_CANCELLED,
    SESSIONS_CANCELLED,
    SESSIONS_STARTED,
    WAITS,
)
from helmr_provider.triggers import _shared_client as sharing
from tests.support.polling import until_async
from tests.support.session_tasks import LIVE, a_task
from tests.support.task_attempts import deferred, fire
from tests.support.task_states import set_task_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.local import LocalControlPlane


class Backend:
    """What Airflow sends metrics to, as far as it is used here."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, Any]] = []

    def incr(self, stat: str, count: int = 1, rate: float = 1, *, tags: Any = None) -> None:
        self.sent.append((stat, count, tags))

    def gauge(self, stat: str, value: int, rate: float = 1, delta: bool = False, *, tags: Any = None) -> None:
        self.sent.append((stat, value, tags))

    def counts(self) -> dict[str, int]:
        return {name: value for name, value, tags in self.sent if name.startswith("helmr.") and tags}


def install(stats_module: str, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow send its metrics to a backend, with each version's options."""
    stats: Any = import_module(stats_module).Stats
    if "initialize" in {*vars(stats), *vars(type(stats))}:
        takes = inspect.signature(stats.initialize).parameters
        options = {"export_legacy_names": False} if "export_legacy_names" in takes else {}
        stats.initialize(factory=lambda: backend, **options)
    else:
        monkeypatch.setattr(stats, "instance", backend)


def first_of(modules: tuple[str, ...]) -> str:
    return next(name for name in modules if exists(name))


def exists(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


@pytest.fixture
def in_workers(monkeypatch: pytest.MonkeyPatch) -> Backend:
    backend = Backend()
    install(first_of(metrics._IN_WORKERS), backend, monkeypatch)
    return backend


@pytest.fixture
def in_triggerer(monkeypatch: pytest.MonkeyPatch) -> Backend:
    backend = Backend()
    install(first_of(metrics._IN_THE_TRIGGERER), backend, monkeypatch)
    return backend


@pytest.mark.usefixtures("helmr_connection")
def test_starting_adopting_and_giving_up_a_session_are_counted(
    in_workers: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    task = a_task(**LIVE, deferrable=True, retries=3)
    deferred(task.start().execute())
    assert in_workers.sent == [(SESSIONS_STARTED, 1, {"helmr_conn_id": "helmr_default"})]
    retry = task.start()
    deferred(retry.execute())
    retry.operator.on_kill()
    assert [name for name, *_ in in_workers.sent] == [SESSIONS_STARTED, RUNS_ADOPTED, SESSIONS_CANCELLED]


@pytest.mark.usefixtures("helmr_connection")
def test_of_an_author_s_session_the_cancelled_run_is_counted(
    in_workers: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    attempt = a_task(**LIVE, deferrable=True, external_id="mine").start()
    deferred(attempt.execute())
    attempt.operator.on_kill()
    assert [name for name, *_ in in_workers.sent] == [SESSIONS_STARTED, RUNS_CANCELLED]


@pytest.fixture(autouse=True)
def no_backend_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test has installed, the next one's metrics go nowhere."""
    yield
    for module in {first_of(metrics._IN_WORKERS), first_of(metrics._IN_THE_TRIGGERER)}:
        stats = import_module(import_module(module).Stats.__module__)
        install(module, stats.NoStatsLogger(), monkeypatch)


class Broken:
    """A metrics backend that is down."""

    def __getattr__(self, name: str) -> Any:
        raise OSError("no route to host")


@pytest.mark.usefixtures("helmr_connection")
def test_a_broken_backend_fails_neither_task_nor_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in {first_of(metrics._IN_WORKERS), first_of(metrics._IN_THE_TRIGGERER)}:
        install(module, Broken(), monkeypatch)
    attempt = a_task(payload=1, deferrable=True).start()
    deferral = deferred(attempt.execute())
    assert attempt.resume(deferral, fire(deferral)) == 1


@pytest.mark.usefixtures("helmr_connection")
async def test_the_triggerer_reports_waits_streams_and_requests_of_a_connection(
    monkeypatch: pytest.MonkeyPatch, in_triggerer: Backend
) -> None:
    monkeypatch.setattr(sharing, "_METER_SECONDS", 0.05)
    attempt = a_task(**LIVE, deferrable=True).start()
    await asyncio.to_thread(attempt.execute)
    async with sharing.shared_client("helmr_default") as client:
        waiting = asyncio.create_task(client._waiter.run(attempt.xcoms["run_id"]))
        async with asyncio.timeout(30):
            await until_async(lambda: in_triggerer.counts().get(OPEN_STREAMS) == 1)
        assert in_triggerer.counts()[WAITS] == 1
        tags = next(tags for name, _, tags in in_triggerer.sent if name == WAITS and tags)
        assert tags["helmr_conn_id"] == "helmr_default"
        waiting.cancel()
        await asyncio.wait([waiting])
        requests = client._waiter.stats.requests.total()
    assert sum(value for name, value, _ in in_triggerer.sent if name == REQUESTS) == requests
    assert in_triggerer.counts()[WAITS] == in_triggerer.counts()[OPEN_STREAMS] == 0


@pytest.mark.usefixtures("helmr_connection")
async def test_gauges_are_kept_apart_also_where_there_are_no_tags(
    connect: Callable[..., str], control_plane: LocalControlPlane, in_triggerer: Backend
) -> None:
    connect("eu-west.1", host=control_plane.url, password=control_plane.api_key)
    for conn_id in ("helmr_default", "eu-west.1"):
        async with sharing.shared_client(conn_id) as client:
            await client.runs.list()
            await asyncio.sleep(0)
    plain = {name for name, _, tags in in_triggerer.sent if not tags and name.startswith(WAITS)}
    assert {name.rpartition(".")[2] for name in plain} == {"helmr_default", "eu-west_1"}

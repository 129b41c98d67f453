"""Answers are shared, threads are few, and a control plane that hangs delays only the tab."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from helmr_provider.airflow_ui.service import FRESH_SECONDS, MAX_CACHED, QUEUED, THREADS, BusyError, Service
from tests.airflow_ui.conftest import needs_tab
from tests.airflow_ui.gated_reader import GatedReader
from tests.airflow_ui.helpers import KEY, Storage, stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.airflow_ui.reader import Reader
    from helmr_provider.airflow_ui.views import TaskKey
    from tests.airflow_ui.helpers import Clock


@pytest.fixture
def gated() -> Iterator[GatedReader]:
    gated = GatedReader()
    yield gated
    gated.gate.set()


def service_of(reader: Any, clock: Clock) -> Service:
    return Service(cast("Reader", reader), clock=clock)


def keys(count: int) -> list[TaskKey]:
    return [replace(KEY, map_index=number) for number in range(count)]


async def test_simultaneous_viewers_share_one_reading(gated: GatedReader, clock: Clock) -> None:
    service = service_of(gated, clock)
    viewers = [asyncio.create_task(service.task(KEY)) for _ in range(50)]
    await asyncio.sleep(0)
    gated.gate.set()
    views = await asyncio.gather(*viewers)
    assert len(gated.reads) == 1
    assert all(view is views[0] for view in views)
    service.close()


async def test_an_answer_is_good_for_a_moment(gated: GatedReader, clock: Clock) -> None:
    gated.gate.set()
    service = service_of(gated, clock)
    await service.task(KEY)
    clock.seconds += FRESH_SECONDS - 0.1
    await service.task(KEY)
    assert len(gated.reads) == 1
    clock.seconds += 0.2
    await service.task(KEY)
    assert len(gated.reads) == 2
    service.close()


async def test_few_threads_read_and_a_full_queue_is_refused(gated: GatedReader, clock: Clock) -> None:
    service = service_of(gated, clock)
    viewers = [asyncio.create_task(service.task(key)) for key in keys(THREADS + QUEUED)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await service.task(replace(KEY, task_id="one more"))
    joined = asyncio.create_task(service.task(keys(1)[0]))
    gated.gate.set()
    await asyncio.gather(*viewers, joined)
    assert gated.most_inside <= THREADS
    assert service.running == 0
    assert (await service.task(replace(KEY, task_id="one more"))).task.key.task_id == "one more"
    service.close()


async def test_a_viewer_who_leaves_does_not_disturb_the_others(gated: GatedReader, clock: Clock) -> None:
    service = service_of(gated, clock)
    leaves, stays = asyncio.create_task(service.task(KEY)), asyncio.create_task(service.task(KEY))
    await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    gated.gate.set()
    assert (await stays).task.key == KEY
    assert len(gated.reads) == 1
    service.close()


async def test_a_failure_is_not_kept(gated: GatedReader, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    gated.gate.set()
    service = service_of(gated, clock)
    with monkeypatch.context() as broken:
        broken.setattr(gated, "task", lambda key: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await service.task(KEY)
    assert (await service.task(KEY)).task.key == KEY
    service.close()


async def test_what_is_kept_is_bounded(gated: GatedReader, clock: Clock) -> None:
    gated.gate.set()
    service = service_of(gated, clock)
    for key in keys(MAX_CACHED + 50):
        await service.task(key)
    assert len(service._fresh) == MAX_CACHED
    service.close()


@needs_tab
async def test_a_control_plane_that_accepts_and_never_answers_is_found_down(clock: Clock) -> None:
    from datetime import UTC, datetime

    from helmr_provider.airflow_ui import connections as module
    from helmr_provider.airflow_ui.connections import Connections
    from helmr_provider.airflow_ui.reader import Reader

    storage = Storage()
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as quick:
        quick.setattr(module, "SILENCE_SECONDS", 0.2)
        storage.connect(f"http://127.0.0.1:{silent.getsockname()[1]}", "hlmr_sk_some_key_for_nobody")
        connections = Connections(storage.fetch, clock=clock, now=lambda: datetime.now(UTC))
        reader = Reader(connections, read_task=storage.read_task, read_run=storage.read_run, clock=clock)
        service = Service(reader, clock=clock)
        for key in keys(THREADS + QUEUED):
            storage.put(stored(key, pushed={"session_id": "s", "run_id": "r"}))
        views = await asyncio.gather(*(service.task(key) for key in keys(THREADS + QUEUED)))
        assert {view.problem for view in views} == {"down"}
        silent.settimeout(0)
        accepted = 0
        with suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                accepted += 1
        # Only those that were under way before the first had failed.
        assert 1 <= accepted <= THREADS
        service.close()

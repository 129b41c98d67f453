"""What tests of event triggers share: what happens in Helmr, and a triggerer to watch it with."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from helmr_provider.local import task
from helmr_provider.triggers.events import HelmrRunEndedEventTrigger, HelmrSessionOutputEventTrigger
from tests.support.polling import until_async
from tests.support.task_attempts import stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helmr_provider.client import AsyncHelmrClient
    from helmr_provider.local import TaskContext
    from helmr_provider.triggers.events import HelmrEventTrigger

SESSION = "release-42"


@task("steady", outputs=("progress",))
async def steady(context: TaskContext, payload: Any) -> None:
    """Do nothing, in a session whose stream the test writes to."""


def output(**options: Any) -> HelmrSessionOutputEventTrigger:
    return HelmrSessionOutputEventTrigger(**{"external_id": SESSION, "stream": "progress", **options})


def ended(**options: Any) -> HelmrRunEndedEventTrigger:
    return HelmrRunEndedEventTrigger(**{"helmr_task": "echo", **options})


async def publish(client: AsyncHelmrClient, *steps: Any, correlation_id: str | None = None) -> None:
    for step in steps:
        stream = client.sessions.open(external_id=SESSION).output("progress")
        await stream.append({"secret-data": step}, correlation_id=correlation_id)


async def begin_session(client: AsyncHelmrClient) -> None:
    await client.sessions.start("steady", payload=None, external_id=SESSION)


async def run_of(client: AsyncHelmrClient, task_id: str = "echo") -> str:
    """Start a session and wait for its run."""
    started = await client.sessions.start(task_id, payload={"secret-payload": 1})
    await client.runs.wait(started.run.id)
    return started.run.id


class FiredEvents:
    """The events that a trigger has fired."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, payload: dict[str, Any]) -> None:
        self.events.append(json.loads(json.dumps(payload)))

    async def until(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many events, and return them."""
        await until_async(lambda: len(self.events) >= count)
        return self.events

    @property
    def sequences(self) -> list[int]:
        return [event["sequence"] for event in self.events]

    @property
    def run_ids(self) -> list[str]:
        return [event["run_id"] for event in self.events]


@asynccontextmanager
async def running(trigger: HelmrEventTrigger) -> AsyncIterator[FiredEvents]:
    """Run a trigger alone, as Airflow before 3.3 does."""
    fired = FiredEvents()

    async def run() -> None:
        async with aclosing(stored(trigger).run()) as events:
            async for event in events:
                fired.add(event.payload)

    running = asyncio.create_task(run())
    try:
        yield fired
    finally:
        running.cancel()
        await asyncio.wait([running])


class Store:
    """An asset's state store as Airflow gives it to a trigger; what it keeps outlives triggerers."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.is_broken = False
        self._by_name = {"asset": self}
        self._by_uri: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.values.get(key)

    async def aset(self, key: str, value: Any) -> None:
        if self.is_broken:
            raise RuntimeError("the database is gone")
        self.values[key] = json.loads(json.dumps(value))


class Triggerer:
    """Airflow's own shared streams, driven as its triggerer drives them (Airflow 3.3)."""

    def __init__(self, *, stores_events: bool = True) -> None:
        from airflow.triggers.shared_stream import SharedStreamManager

        self._manager = SharedStreamManager()
        self._stores_events = stores_events
        self._unconfirmed: list[int] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self, trigger: HelmrEventTrigger, store: Store | None, *, loses_event: bool = False) -> FiredEvents:
        fired, trigger_id = FiredEvents(), len(self._tasks)
        fresh = stored(trigger)
        fresh.asset_state_store = store
        self._tasks[trigger_id] = asyncio.create_task(self._run(trigger_id, fresh, fired, loses_event=loses_event))
        return fired

    async def _run(self, trigger_id: int, trigger: Any, fired: FiredEvents, *, loses_event: bool) -> None:
        key = trigger.shared_stream_key()
        shared = self._manager.subscribe(trigger_id=trigger_id, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(shared):
                if loses_event:
                    # Airflow logs an event before it queues it; a cancel can come in between.
                    fired.add(event.payload)
                    await asyncio.Event().wait()
                seq = self._manager.bind_pending_event(trigger_id=trigger_id, key=key)
                fired.add(event.payload)
                if seq is not None:
                    self._unconfirmed.append(seq)
                    if self._stores_events:
                        self.store_events()
        finally:
            await self._manager.unsubscribe(trigger_id, key)
            await trigger.cleanup()

    def store_events(self) -> None:
        self._manager.confirm_persisted(self._unconfirmed)
        self._unconfirmed.clear()

    async def stop(self, *trigger_ids: int) -> None:
        ending = [self._tasks[trigger_id] for trigger_id in trigger_ids or self._tasks]
        for each in ending:
            each.cancel()
        await asyncio.wait(ending)

    async def shut_down(self) -> None:
        await self.stop()
        await self._manager.stop_all()


@asynccontextmanager
async def triggerer(**options: Any) -> AsyncIterator[Triggerer]:
    each = Triggerer(**options)
    try:
        yield each
    finally:
        await each.shut_down()


async def until_kept(store: Store, order: float) -> None:
    """Return when the cursor has come so far."""
    await until_async(lambda: max((value["order"] for value in store.values.values()), default=-1) >= order)

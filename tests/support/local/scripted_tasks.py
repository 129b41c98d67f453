"""Tasks whose runs perform the steps that a test orders, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from helmr_provider.local import TaskContext, task
from tests.support.polling import until_async

if TYPE_CHECKING:
    from helmr_provider.local import TaskDefinition

Act = Callable[[TaskContext], Awaitable[Any]]


class Director:
    """Says what the runs of its tasks do. A run without orders does nothing and does not end."""

    def __init__(self) -> None:
        self._orders: dict[str, list[Act]] = {}
        self._results: dict[str, list[Any]] = {}
        self._endings: dict[str, Callable[[], Any]] = {}
        self._held: set[str] = set()

    def tell(self, run_id: str, act: Act) -> None:
        """Let a run do something next."""
        self._orders.setdefault(run_id, []).append(act)

    def end(self, run_id: str, ending: Callable[[], Any]) -> None:
        """Let a run end after its steps, with the result or error of this function."""
        self._endings[run_id] = ending

    def hold(self, run_id: str) -> None:
        """Keep a run's worker from releasing it when it is cancelled."""
        self._held.add(run_id)

    def release(self, run_id: str) -> None:
        """Let the worker release the run."""
        self._held.discard(run_id)

    def results(self, run_id: str) -> list[Any]:
        """Return what the run's acts gave back so far."""
        return self._results.setdefault(run_id, [])

    def define(self, task_id: str, **options: Any) -> TaskDefinition:
        """Make a task that takes its orders here."""

        @task(task_id, **options)
        async def scripted(ctx: TaskContext, payload: Any) -> Any:
            del payload
            try:
                return await self._perform(ctx)
            except asyncio.CancelledError:
                await until_async(lambda: ctx.run_id not in self._held)
                raise

        return scripted

    async def _perform(self, ctx: TaskContext) -> Any:
        orders = self._orders.setdefault(ctx.run_id, [])
        done = 0
        while True:
            while done < len(orders):
                self.results(ctx.run_id).append(await orders[done](ctx))
                done += 1
            ending = self._endings.pop(ctx.run_id, None)
            if ending is not None:
                return ending()
            await asyncio.sleep(0.002)

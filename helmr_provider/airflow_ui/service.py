"""Share answers among all requests for the same page, and bound the threads that read them.

Airflow serves all its synchronous routes from one pool of threads, so nothing that may wait for Helmr runs there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Future

    from helmr_provider.airflow_ui.reader import Reader
    from helmr_provider.airflow_ui.views import DagRunView, Tail, TaskKey, TaskView

T = TypeVar("T")

THREADS: Final = 4
QUEUED: Final = 16
FRESH_SECONDS: Final = 2.0
MAX_CACHED: Final = 200


class BusyError(Exception):
    """All threads are taken and the queue is full."""


class Service:
    """Read pages' contents without blocking the event loop.

    :param reader: reads them.
    :param clock: seconds, never going back.
    """

    def __init__(self, reader: Reader, *, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._clock = clock
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._running: dict[Hashable, Future[Any]] = {}
        self._fresh: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    async def task(self, key: TaskKey) -> TaskView:
        """Return what the page of a task instance shows.

        :param key: names it.
        :raises MissingError: Airflow has no such task instance.
        :raises BusyError: too many pages are being read.
        """
        return await self._shared(("task", key), lambda: self._reader.task(key))

    async def log(self, key: TaskKey) -> tuple[Tail, ...] | None:
        """Return the end of the output; ``None`` if it may not be shown or cannot be read.

        :param key: names the task instance.
        :raises MissingError: Airflow has no such task instance.
        :raises BusyError: too many pages are being read.
        """
        view = await self.task(key)
        return await self._shared(("log", key), lambda: self._reader.log(view))

    async def dag_run(self, dag_id: str, run_id: str) -> DagRunView:
        """Return what the page of a DAG run shows.

        :param dag_id: the DAG.
        :param run_id: the DAG run.
        :raises MissingError: Airflow has no such DAG run.
        :raises BusyError: too many pages are being read.
        """
        return await self._shared(("run", dag_id, run_id), lambda: self._reader.dag_run(dag_id, run_id))

    @property
    def running(self) -> int:
        """Pages that are being read or are queued."""
        return len(self._running)

    async def _shared(self, name: Hashable, read: Callable[[], T]) -> T:
        with self._lock:
            known = self._fresh.get(name)
            if known is not None and self._clock() - known[0] < FRESH_SECONDS:
                self._fresh.move_to_end(name)
                return cast("T", known[1])
            running = self._running.get(name)
            if running is None:
                if len(self._running) >= THREADS + QUEUED:
                    raise BusyError
                if self._pool is None:
                    # At the first use, as the API server may fork its workers before.
                    self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="helmr-tab")
                running = self._running[name] = self._pool.submit(self._read, name, read)
        # Shielded, so that one viewer who leaves does not cancel what others wait for.
        return cast("T", await asyncio.shield(asyncio.wrap_future(running)))

    def _read(self, name: Hashable, read: Callable[[], T]) -> T:
        try:
            answer = read()
            with self._lock:
                self._fresh[name] = (self._clock(), answer)
                self._fresh.move_to_end(name)
                while len(self._fresh) > MAX_CACHED:
                    self._fresh.popitem(last=False)
            return answer
        finally:
            with self._lock:
                del self._running[name]

    def close(self) -> None:
        """Stop the threads when they have finished what they read."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

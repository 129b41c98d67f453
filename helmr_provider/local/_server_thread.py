"""A server on an event loop in a thread of its own, and calls into it from other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from helmr_provider.local._server import Server

NOT_RUNNING = "this control plane is not running; use it in a with block"
_ANSWER_SECONDS = 10.0
_LAST_SECONDS = 1.0
_Result = TypeVar("_Result")


class ServerThread:
    """One server from its start to its stop. It is made, used and closed in the thread, which owns its database.

    :param make: makes the server.
    """

    def __init__(self, make: Callable[[], Server]) -> None:
        self._make = make
        self.server: Server | None = None
        self._is_stopping = self._is_closed = False
        # Held while work is passed to the event loop, so that none follows the stop.
        self._handing = threading.Lock()
        self._calls: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a process that never stops it can end.
        self._thread = threading.Thread(target=self._serve, name="helmr-local", daemon=True)

    def start(self) -> None:
        """Start the thread and the server; return once it answers.

        :raises Exception: what making and starting the server raises; nothing is left then.
        """
        try:
            self._thread.start()
        except RuntimeError:
            # The system allows no more threads.
            self._loop.close()
            raise
        except BaseException:
            # An interrupt, which can come when the thread has begun.
            self._begin_stop()
            raise
        try:
            self.run(self._open())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Fail the calls of other threads, stop the server, end the thread.

        :raises TimeoutError: if that takes more than 10 seconds, because a task blocks the event loop for example. The
            stop is completed when the loop is free.
        """
        closed = self._begin_stop()
        self._thread.join(_ANSWER_SECONDS)
        if self._thread.is_alive() or not closed.done():
            raise TimeoutError(f"the local control plane did not stop within {_ANSWER_SECONDS} s")
        closed.result()

    def run(self, work: Coroutine[Any, Any, _Result], *, limited: bool = True) -> _Result:
        """Run a coroutine in the thread, from another one, and return its result.

        :param limited: wait 10 seconds at most.
        :raises TimeoutError: if it has not returned by then; it is cancelled.
        :raises RuntimeError: if the server is stopped before it returns.
        """
        with self._handing:
            if self._is_stopping:
                work.close()
                raise RuntimeError(NOT_RUNNING)
            future = asyncio.run_coroutine_threadsafe(self._call(work), self._loop)
        finished, _ = concurrent.futures.wait([future], _ANSWER_SECONDS if limited else None)
        if not finished:
            future.cancel()
            raise TimeoutError(f"the local control plane did not answer within {_ANSWER_SECONDS} s")
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError(NOT_RUNNING) from None

    def _serve(self) -> None:
        while not self._is_closed:
            # asyncio raises them out of the loop as well as out of the asyncio task, which can be a part of a run.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()
        self._loop.close()

    def _begin_stop(self) -> concurrent.futures.Future[None]:
        with self._handing:
            self._is_stopping = True
            closed = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        closed.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._end))
        return closed

    def _end(self) -> None:
        self._is_closed = True
        self._loop.stop()

    async def _open(self) -> None:
        self.server = self._make()
        await self.server.start()

    async def _call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await task

    async def _close(self) -> None:
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)
        server, self.server = self.server, None
        try:
            if server is not None:
                await server.stop()
        finally:
            # Parts of runs that their tasks have not awaited.
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            if rest:
                await asyncio.wait(rest, timeout=_LAST_SECONDS)
            await self._loop.shutdown_asyncgens()

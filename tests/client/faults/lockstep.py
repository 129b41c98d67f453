"""Blocking callers on an event loop in virtual time: threads of which one runs at a time, and never beside the loop.

A caller that would block tells the loop for what, and its thread rests until the loop has it. Hence the same seed gives
the same run, and a sleep of a blocking client takes no time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import mock

from helmr_provider.client._waiting import sync_waiter
from tests.client.faults.network import Descriptor, End_

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")

_here = threading.local()


class Abandoned(BaseException):
    """Ends a caller whose test is over."""


class Caller:
    """One blocking function in a thread of its own.

    :param function: what it does.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Any] = self._loop.create_future()
        self._go, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self._wanted: Callable[[], Coroutine[Any, Any, Any]] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._loop.call_soon(self._step)

    def abandon(self) -> None:
        """End the caller where it blocks."""
        if not self.result.done():
            if self._task is not None:
                self._task.cancel()
            self._error = Abandoned()
            self._step()
            self._thread.join()

    def block(self, wanted: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Rest until the loop has run a coroutine, and return its result. Called in the caller's thread."""
        self._wanted = wanted
        self._rests.release()
        self._go.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        value: T = self._value
        return value

    def _run(self) -> None:
        _here.caller = self
        self._go.acquire()
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - raised by the result
            self._error = error
        self._wanted = None
        self._rests.release()

    def _step(self) -> None:
        """Let the thread run until it blocks or ends."""
        self._go.release()
        self._rests.acquire()
        if self._wanted is not None:
            self._task = self._loop.create_task(self._wanted())
            self._task.add_done_callback(self._served)
        elif self._error is None:
            self.result.set_result(self._value)
        elif isinstance(self._error, Abandoned):
            self.result.cancel()
        else:
            self.result.set_exception(self._error)

    def _served(self, task: asyncio.Task[Any]) -> None:
        if self.result.done():
            return
        if task.cancelled():
            return
        self._error = task.exception()
        self._value = None if self._error is not None else task.result()
        self._step()


def _caller() -> Caller | None:
    return getattr(_here, "caller", None)


class BlockingSocket(asyncio.Protocol):
    """A connected socket with a time-out, as a blocking client uses one."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._changed = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        self._timeout: float | None = None
        self._end: End_ | None = None

    # The protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, End_)
        self._end = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._changed.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, exc
        self._changed.set()

    # The socket

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def recv(self, size: int) -> bytes:
        if not self._buffer and not self._ended:
            # Not the caller that connected: connections are used again.
            caller = _caller()
            assert caller is not None
            caller.block(self._wait)
        if not self._buffer and self._error is not None:
            raise self._error
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _wait(self) -> None:
        self._changed.clear()
        async with asyncio.timeout(self._timeout):
            await self._changed.wait()

    def send(self, data: bytes) -> int:
        if self._error is not None or self._end is None or self._end.is_closing():
            raise self._error or BrokenPipeError(errno.EPIPE, "closed")
        self._end.write(data)
        return len(data)

    def shutdown(self, how: int) -> None:
        self._ended = True
        self._changed.set()

    def close(self) -> None:
        if self._end is not None:
            self._end.abort()

    def setsockopt(self, *_: Any) -> None:
        pass

    def fileno(self) -> int:
        if self._end is None or self._buffer or self._ended:
            return -1
        return Descriptor(self._end).fileno()


def _connect(address: tuple[str, int], timeout: float | None = None, **_: Any) -> BlockingSocket:
    caller = _caller()
    assert caller is not None, "only blocking callers connect"

    async def connect() -> BlockingSocket:
        made = BlockingSocket()
        loop: Any = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            await loop.network.connect(made, address[1])
        return made

    return caller.block(connect)


@contextlib.contextmanager
def blocking_callers() -> Generator[None]:
    """Let the blocking client of callers sleep and connect in the virtual time of their loop."""
    really_sleep, really_pause = time.sleep, sync_waiter._Shutdown.sleep

    def sleep(seconds: float) -> None:
        caller = _caller()
        if caller is None:
            really_sleep(seconds)
        else:
            caller.block(lambda: asyncio.sleep(seconds))

    def pause(shutdown: Any, seconds: float | None) -> None:
        caller = _caller()
        if caller is None or seconds is None or shutdown.is_closed():
            really_pause(shutdown, seconds)
        else:
            caller.block(lambda: asyncio.sleep(seconds))

    with (
        mock.patch.object(time, "sleep", sleep),
        mock.patch.object(sync_waiter._Shutdown, "sleep", pause),
        mock.patch.object(socket, "create_connection", _connect),
    ):
        yield

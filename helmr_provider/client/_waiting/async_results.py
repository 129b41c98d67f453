"""How an asynchronous wait receives its result, and its deadline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.client._waiting.failures import timeout_error
from helmr_provider.client._waiting.wait_log import WaitLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from helmr_provider.client._waiting.actions import WaitKey
    from helmr_provider.client.errors import HelmrTimeoutError

# Closing a cancelled stream takes a turn of the loop; a wait's result is not held up by one that does not close.
_CLOSING = 5.0


class Result(NamedTuple):
    key: WaitKey
    value: Any
    error: BaseException | None
    closing: tuple[asyncio.Task[Any], ...]


class Inbox(asyncio.Queue[Result]):
    """Where the results of one wait are put, and the log of its caller."""

    def __init__(self) -> None:
        super().__init__()
        self.log = WaitLog()


class Kind(NamedTuple):
    read: Callable[[str], Awaitable[Any]]
    ended: Callable[[Any], bool]


@dataclass(slots=True)
class Registration:
    """All waits for the same thing.

    :param kind: how it is read.
    :param interval: seconds between two polls, if not the scheduler's own.
    :param inboxes: where its result is put.
    """

    kind: Kind
    interval: float | None
    inboxes: list[Inbox] = field(default_factory=list[Inbox])


class Limit:
    """The deadline of one wait, and the error that names what it waited for."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._at = None if seconds is None else asyncio.get_running_loop().time() + seconds

    async def next(self, inbox: Inbox) -> Result:
        if not inbox.empty():
            return inbox.get_nowait()
        try:
            async with asyncio.timeout_at(self._at):
                return await inbox.get()
        except TimeoutError:
            # What came in the same moment is a result all the same.
            if inbox.empty():
                raise
            return inbox.get_nowait()

    def error(self, pending: Iterable[WaitKey]) -> HelmrTimeoutError:
        return timeout_error(self._seconds, pending)


async def close_tasks(tasks: tuple[asyncio.Task[Any], ...]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=_CLOSING)

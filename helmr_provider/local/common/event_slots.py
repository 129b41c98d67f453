"""The limited event streams of a real control plane: silent followers hold connections that publishing needs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helmr_provider.local.common.notifier import Notifier


class EventSlots:
    """A pool that followers of events draw on, each as long as it waits for the next record.

    While it is full nothing new is published: records come only once some follower has been silent for so long that
    its wait ends. That is a cliff, not a slope: with one slot left all is well.

    :param number: how many there are.
    :raises ValueError: if there is none.
    """

    def __init__(self, number: int) -> None:
        if number < 1:
            raise ValueError("event slots: there must be at least 1")
        self._free = asyncio.Semaphore(number)
        self._released = asyncio.Event()

    async def wait(self, notifier: Notifier, topic: str, timeout: float) -> bool:  # noqa: ASYNC109 - as :meth:`Notifier.wait`
        """Wait for a topic in a slot of the pool, as soon as there is one; tell whether it was notified."""
        async with self._free:
            until = asyncio.get_running_loop().time() + timeout
            noticed = await notifier.wait(topic, timeout)
            if noticed and self._free.locked():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await self._released.wait()
        self._released.set()
        self._released = asyncio.Event()
        return noticed

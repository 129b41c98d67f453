"""Publish/subscribe notifications between coroutines of one event loop."""

from __future__ import annotations

import asyncio


class Notifier:
    """Topics and the futures that wait for them. All of it belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def notify(self, topic: str) -> None:
        """Wake all waiters of the topic."""
        for future in self._waiting.pop(topic, ()):
            if not future.done():
                future.set_result(None)

    async def wait(self, topic: str, timeout: float) -> bool:  # noqa: ASYNC109 - silence is an answer here, not an error
        """Wait until the topic is notified or a time has passed; return whether it was notified.

        What a caller read before calling cannot be outdated: nothing runs between the read and the wait.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(topic, set())
        waiting.add(future)
        try:
            done, _ = await asyncio.wait({future}, timeout=max(timeout, 0))
            return bool(done)
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(topic) is waiting:
                del self._waiting[topic]

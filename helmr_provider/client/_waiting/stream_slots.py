"""How many event streams one client holds: followers that were asked for count, and waits use what they leave.

Every followed stream holds one of the control plane's Redis connections, ten per core by default, which the publisher
of events and the dispatch queue need as well: once followers fill the pool, events stop for everybody
(contract/capacity.md). Hence a small budget per client.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class StreamSlots:
    """Count the streams of one client, over all threads.

    :param budget: how many streams waits and explicit followers together should hold.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        # Reentrant, because the collection of an abandoned stream may interrupt its holder.
        self._lock = threading.RLock()
        self._explicit = 0
        self._taken = 0
        self.watchers: set[Callable[[], None]] = set()
        """Called, in the thread that made the change, after an explicit follower came or left."""

    @property
    def held(self) -> int:
        """How many streams are open at this moment, by whomever."""
        return self._explicit + self._taken

    def for_waits(self, mine: int = 0) -> int:
        """Give how many streams a waiter may hold beside all others.

        :param mine: how many it has taken.
        """
        return max(0, self.budget - self._explicit - (self._taken - mine))

    @contextmanager
    def explicit(self) -> Generator[None]:
        """Count a stream that the caller asked for. It is never refused, and waits give way to it."""
        self._change(+1)
        try:
            yield
        finally:
            self._change(-1)

    def try_take(self) -> bool:
        """Take a slot for a wait if one is free; who took one gives it back."""
        with self._lock:
            if self.for_waits() == 0:
                return False
            self._taken += 1
            return True

    def take(self) -> None:
        """Take a slot that ``for_waits`` has just shown to be free."""
        with self._lock:
            self._taken += 1

    def give_back(self) -> None:
        """Give back a slot that was taken."""
        with self._lock:
            self._taken -= 1

    def _change(self, by: int) -> None:
        with self._lock:
            self._explicit += by
        for watcher in tuple(self.watchers):
            watcher()

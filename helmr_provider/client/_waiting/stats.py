"""What waiting costs, in numbers that a program can look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import CountRuns, Follow, ListPendingTokens, ListRuns, Retrieve

if TYPE_CHECKING:
    from helmr_provider.client._waiting.actions import PollRequest

_NAMES: dict[type, str] = {
    ListRuns: "list runs",
    CountRuns: "count runs",
    ListPendingTokens: "list tokens",
    Follow: "follow run",
}


@dataclass(slots=True)
class WaitStats:
    """What a waiter does and did, in however many threads.

    :param waits: things waited for at this moment.
    :param open_streams: event streams held at this moment.
    :param most_streams: most event streams ever held at the same time.
    :param requests: requests sent, by what they were for.
    """

    waits: int = 0
    open_streams: int = 0
    most_streams: int = 0
    requests: Counter[str] = field(default_factory=Counter[str])

    _lock: Lock = field(default_factory=Lock, repr=False)

    def count(self, action: PollRequest | Follow) -> None:
        """Count a request."""
        name = f"retrieve {action.key.kind}" if isinstance(action, Retrieve) else _NAMES[type(action)]
        with self._lock:
            self.requests[name] += 1

    def wait_began(self, count: int = 1) -> None:
        """Count things that are waited for."""
        with self._lock:
            self.waits += count

    def wait_ended(self, count: int = 1) -> None:
        """Count things out that are not waited for any more."""
        with self._lock:
            self.waits -= count

    def stream_opened(self) -> None:
        """Count a stream."""
        with self._lock:
            self.open_streams += 1
            self.most_streams = max(self.most_streams, self.open_streams)

    def stream_closed(self) -> None:
        """Count a stream out."""
        with self._lock:
            self.open_streams -= 1

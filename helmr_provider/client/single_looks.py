"""When each thing waited for is looked at by itself. Values and clock in, decisions out; no I/O.

A look has a time of its own (the first one, the next one, one that an event asks for), or stands in the queue of those
that lists did not answer for, which moves at a bounded rate and begins with what was tried longest ago.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from helmr_provider.client.pacing import Rate
from helmr_provider.client.wait_actions import RUN, Retrieve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from helmr_provider.client.pacing import Backoff, Pace
    from helmr_provider.client.wait_actions import Key, Request

NEVER = float("-inf")
IDLE = float("inf")


@dataclass(slots=True, eq=False)
class Wait:
    """One thing waited for.

    :param pace: interval of its looks while it has neither a stream nor company.
    :param backoff: delay of the next look after a failure that concerned only this one.
    :param status: as last seen.
    :param seen_at: when the last request started that showed it alive.
    :param tried_at: when it was last looked at singly.
    :param due: when it is to be looked at next.
    :param hasty: how many quick looks are left after a hint.
    :param queued: whether it stands in the queue.
    """

    key: Key
    pace: Pace
    backoff: Backoff
    status: str = ""
    seen_at: float = NEVER
    tried_at: float = NEVER
    due: float = IDLE
    hasty: int = 0
    queued: bool = False


class SingleLooks:
    """Order the single looks.

    :param waits: everything that is waited for.
    :param rate: how many a second leave the queue.
    :param burst: how many at once after a rest.
    """

    def __init__(self, waits: Mapping[Key, Wait], *, rate: float, burst: int) -> None:
        self._waits = waits
        self._timers: list[tuple[float, int, Wait]] = []
        self._order = count()
        self._queue: deque[Wait] = deque()
        self._suspects: set[Key] = set()
        self._rate = Rate(rate, burst)

    @property
    def pending(self) -> bool:
        """Whether anything is queued or suspected."""
        return bool(self._queue or self._suspects)

    def at(self, wait: Wait, at: float, now: float) -> None:
        """Have a thing looked at by then at the latest, and not before now."""
        wait.due = max(now, min(wait.due, at))
        if wait.due < IDLE:
            heapq.heappush(self._timers, (wait.due, next(self._order), wait))

    def suspect(self, wait: Wait, now: float) -> None:
        """Have a thing looked at now that seems to have ended."""
        self._suspects.add(wait.key)
        self.at(wait, now, now)

    def settle(self, key: Key) -> None:
        """Note that a thing was looked at, or is not waited for any more."""
        self._suspects.discard(key)

    def enqueue(self, waits: Iterable[Wait]) -> None:
        """Queue things for a look within the rate, what was looked at longest ago first."""
        self._queue.extend(waits)
        for wait in self._queue:
            wait.queued = True
        self._queue = deque(sorted(dict.fromkeys(self._queue), key=lambda wait: wait.tried_at))

    def pop(self, now: float, under_way: Collection[Request], *, searching: bool) -> Wait | None:
        """Take what is to be looked at now, if anything.

        :param under_way: requests that must not be doubled.
        :param searching: whether queued runs that were seen alive before are still worth a look.
        """
        wait = self._pop_timer(now, under_way) or self._pop_queue(now, under_way, searching=searching)
        if wait is not None:
            wait.tried_at, wait.due, wait.queued = now, IDLE, False
        return wait

    def wake_at(self, now: float) -> float:
        """Give the time of the next look."""
        queue = self._rate.free_at(now) if self._queue and not self._suspects else IDLE
        return min(self._next_timer(), queue)

    def _pop_timer(self, now: float, under_way: Collection[Request]) -> Wait | None:
        while self._next_timer() <= now:
            wait = heapq.heappop(self._timers)[2]
            # One under way may be older than the reason for this look, which is then taken up after its answer.
            if Retrieve(wait.key) not in under_way:
                return wait
        return None

    def _pop_queue(self, now: float, under_way: Collection[Request], *, searching: bool) -> Wait | None:
        # What is suspected of having ended comes first: it may settle what is being looked for.
        while self._queue and not self._suspects:
            wait = self._queue[0]
            sought = wait.seen_at == NEVER or wait.key.kind != RUN or searching
            if wait.queued and sought and self._is_current(wait) and Retrieve(wait.key) not in under_way:
                return self._queue.popleft() if self._rate.take(now) else None
            wait.queued = False
            self._queue.popleft()
        return None

    def _next_timer(self) -> float:
        while self._timers:
            due, _, wait = self._timers[0]
            if self._is_current(wait) and wait.due == due:
                return due
            heapq.heappop(self._timers)
        return IDLE

    def _is_current(self, wait: Wait) -> bool:
        return self._waits.get(wait.key) is wait

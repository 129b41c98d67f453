"""When each thing waited for is looked at by itself. Values and clock in, decisions out; no I/O.

A look has a time of its own (the first one, the next one, one that an event asks for), or it waits for its turn at a
bounded rate, what was tried longest ago first: that of a run or token because lists did not answer for it, that of any
other thing always, because there can be any number of them and no list that knows them.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import LISTED, RUN, Retrieve
from helmr_provider.client._waiting.pacing import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from helmr_provider.client._waiting.actions import Request, WaitKey
    from helmr_provider.client._waiting.pacing import Backoff, PollInterval

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
    :param queued: whether it waits for its turn.
    """

    key: WaitKey
    pace: PollInterval
    backoff: Backoff
    status: str = ""
    seen_at: float = NEVER
    tried_at: float = NEVER
    due: float = IDLE
    hasty: int = 0
    queued: bool = False


class _Turns:
    """Waits in the order in which they were tried last."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Wait]] = []
        self._order = count()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def add(self, wait: Wait) -> None:
        if not wait.queued:
            wait.queued = True
            heapq.heappush(self._heap, (wait.tried_at, next(self._order), wait))

    def first(self, wanted: Callable[[Wait], bool]) -> Wait | None:
        """Give the first that is still wanted, and forget those before it."""
        while self._heap:
            tried_at, _, wait = self._heap[0]
            if wait.queued and wait.tried_at == tried_at:
                if wanted(wait):
                    return wait
                wait.queued = False
            heapq.heappop(self._heap)
        return None


class PollQueue:
    """Order the single looks.

    :param waits: everything that is waited for.
    :param rate: how many a second get their turn.
    :param burst: how many at once after a rest.
    """

    def __init__(self, waits: Mapping[WaitKey, Wait], *, rate: float, burst: int) -> None:
        self._waits = waits
        self._timers: list[tuple[float, int, Wait]] = []
        self._order = count()
        self._unlisted = _Turns()
        self._others = _Turns()
        self._suspects: set[WaitKey] = set()
        self._rate = RateLimiter(rate, burst)

    @property
    def pending(self) -> bool:
        """Whether any run or token waits for its turn or is suspected."""
        return bool(self._unlisted or self._suspects)

    def at(self, wait: Wait, at: float, now: float) -> None:
        """Have a thing looked at by then at the latest, and not before now."""
        wait.due = max(now, min(wait.due, at))
        if wait.due < IDLE:
            heapq.heappush(self._timers, (wait.due, next(self._order), wait))

    def suspect(self, wait: Wait, now: float) -> None:
        """Have a thing looked at now that seems to have ended."""
        self._suspects.add(wait.key)
        self.at(wait, now, now)

    def settle(self, key: WaitKey) -> None:
        """Note that a thing was looked at, or is not waited for any more."""
        self._suspects.discard(key)

    def enqueue(self, waits: Iterable[Wait]) -> None:
        """Have runs or tokens looked at within the rate."""
        for wait in waits:
            self._unlisted.add(wait)

    def pop(self, now: float, under_way: Collection[Request], *, searching: bool) -> Wait | None:
        """Take what is to be looked at now, if anything.

        :param under_way: requests that must not be doubled.
        :param searching: whether runs that were seen alive before are still worth their turn.
        """
        wait = self._pop_timer(now, under_way) or self._take_turn(now, under_way, searching=searching)
        if wait is not None:
            wait.tried_at, wait.due, wait.queued = now, IDLE, False
        return wait

    def wake_at(self, now: float) -> float:
        """Give the time of the next look."""
        turns = self._others or (self._unlisted and not self._suspects)
        return min(self._next_timer(), self._rate.free_at(now) if turns else IDLE)

    def _pop_timer(self, now: float, under_way: Collection[Request]) -> Wait | None:
        while self._next_timer() <= now:
            wait = heapq.heappop(self._timers)[2]
            if wait.key.kind not in LISTED:
                self._others.add(wait)
            # One under way may be older than the reason for this look, which is then taken up after its answer.
            elif Retrieve(wait.key) not in under_way:
                return wait
        return None

    def _take_turn(self, now: float, under_way: Collection[Request], *, searching: bool) -> Wait | None:
        def wanted(wait: Wait) -> bool:
            sought = wait.seen_at == NEVER or wait.key.kind != RUN or searching
            return sought and self._is_current(wait) and Retrieve(wait.key) not in under_way

        # What is suspected of having ended comes first: it may settle what is being looked for.
        unlisted = None if self._suspects else self._unlisted.first(wanted)
        first = min(filter(None, (unlisted, self._others.first(wanted))), key=lambda wait: wait.tried_at, default=None)
        return first if first is not None and self._rate.take(now) else None

    def _next_timer(self) -> float:
        while self._timers:
            due, _, wait = self._timers[0]
            if self._is_current(wait) and wait.due == due:
                return due
            heapq.heappop(self._timers)
        return IDLE

    def _is_current(self, wait: Wait) -> bool:
        return self._waits.get(wait.key) is wait

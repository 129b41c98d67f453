"""The order of single polls: which thing is retrieved next. No I/O.

A poll belongs to one of five classes, and within a class the first to come is the first served. The classes share the
requests by weight, so that none of them starves however long the others are:

* *confirm*: a run or token that seems to have ended;
* *first*: something that has not been read yet;
* *due*: the next poll of a run or token that is polled by itself;
* *other*: the next poll of anything else, because there can be any number of them and no list that knows them;
* *search*: a run that no list reaches, the one that was seen longest ago first.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import LISTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from helmr_provider.client._waiting.actions import WaitKey
    from helmr_provider.client._waiting.pacing import FailureDelay, PollBudget, PollInterval

NEVER = float("-inf")
IDLE = float("inf")

CONFIRM, FIRST, DUE, OTHER, SEARCH = range(5)
_LINES = (CONFIRM, FIRST, DUE, OTHER)


@dataclass(slots=True, eq=False)
class Wait:
    """One thing waited for.

    :param interval: interval of its polls while it has neither a stream nor company.
    :param backoff: delay of the next poll after a failure that concerned only this one.
    :param since: when it was registered, or when the last request started that showed it alive.
    :param shown: when the last request started whose answer held it alive, instead of ruling out its end.
    :param created: when a run was created, in seconds since the epoch by the server's clock; None if unknown.
    :param status: as last seen.
    :param seen: whether any request has shown it alive.
    :param due: when it is to be polled next.
    :param suspected: when it first seemed to have ended, since it was last seen alive.
    :param quick_polls: how many quick polls are left after a hint.
    :param unreached: no list of live runs reaches it.
    :param missed_by: lists of ended runs that did not hold it although it seems to have ended.
    :param poll_class: class of its queued poll; None if none is queued.
    :param ticket: identifies its queued poll.
    :param place: identifies its place in the search.
    :param again: it must be polled once more when the request in flight is answered.
    """

    key: WaitKey
    interval: PollInterval
    backoff: FailureDelay
    since: float
    shown: float = NEVER
    created: float | None = None
    status: str = ""
    seen: bool = False
    due: float = IDLE
    suspected: float = NEVER
    quick_polls: int = 0
    unreached: bool = False
    missed_by: frozenset[str] = field(default_factory=frozenset[str])
    poll_class: int | None = None
    ticket: int = -1
    place: int = -1
    again: bool = False


class PollQueue:
    """Order the single polls.

    :param waits: everything that is waited for.
    :param budget: how many polls are allowed.
    """

    SHARES = (4, 2, 2, 2, 1)
    """Weights of the classes where all of them have polls queued."""
    SAFETY = 75.0
    """Seconds within which a run that no list reaches is polled although nothing seems to have ended."""
    TRICKLE = 40.0
    """Most polls a second for that: the period grows where more would be needed."""

    def __init__(self, waits: Mapping[WaitKey, Wait], budget: PollBudget) -> None:
        self._waits = waits
        self._budget = budget
        self._lines: list[list[tuple[float, int, Wait]]] = [[] for _ in _LINES]
        self._lengths = [0 for _ in _LINES]
        self._search: list[tuple[float, int, Wait]] = []
        self._unreached = 0
        self._timers: list[tuple[float, int, Wait]] = []
        self._order = count()
        self._used = [0.0 for _ in self.SHARES]
        self._trickle_at = NEVER
        self.in_flight: set[WaitKey] = set()
        """Things whose retrieval is in flight."""
        self.confirmations = 0
        """Grows with each poll that was queued to confirm an end."""

    def __len__(self) -> int:
        return sum(self._lengths)

    @property
    def unreached(self) -> int:
        """How many runs no list of live runs reaches."""
        return self._unreached

    def length(self, poll_class: int) -> int:
        """Return how many polls of a class other than search are queued."""
        return self._lengths[poll_class]

    def confirming_since(self, now: float) -> float:
        """Return when the confirmation that has waited longest seemed due; now if none is queued."""
        line = self._lines[CONFIRM]
        while line and line[0][2].ticket != line[0][1]:
            heapq.heappop(line)
        return line[0][0] if line else now

    # Queueing

    def confirm(self, wait: Wait, now: float) -> None:
        """Poll something soon that seems to have ended."""
        if wait.key in self.in_flight:
            # The answer may be older than the reason for this poll.
            wait.again = True
        elif wait.poll_class != CONFIRM:
            wait.suspected = wait.suspected if wait.suspected > NEVER else now
            self.confirmations += 1
            self._enqueue(CONFIRM, wait, wait.suspected)

    def first(self, wait: Wait, now: float) -> None:
        """Poll something that has not been read yet."""
        if wait.key in self.in_flight:
            wait.again = True
        elif wait.poll_class is None:
            self._enqueue(FIRST, wait, now)

    def at(self, wait: Wait, at: float, now: float) -> None:
        """Poll something at this time, or earlier if that was asked for before."""
        wait.due = max(now, min(wait.due, at))
        if wait.due < IDLE:
            heapq.heappush(self._timers, (wait.due, next(self._order), wait))

    def cancel(self, wait: Wait) -> None:
        """Take a queued poll back."""
        if wait.poll_class is not None:
            self._lengths[wait.poll_class] -= 1
            wait.poll_class = None
            wait.ticket = -1
            self._restore(wait)

    def reach(self, wait: Wait, *, reached: bool) -> None:
        """Record whether lists of live runs reach a run; one that they do not reach is searched."""
        if wait.unreached == (not reached):
            return
        wait.unreached = not reached
        self._unreached += 1 if wait.unreached else -1
        if reached:
            wait.place = -1
        else:
            at = wait.since + self.SAFETY / self._unreached
            self._trickle_at = at if self._unreached == 1 else min(self._trickle_at, at)
            self._restore(wait)

    def settled(self, key: WaitKey, now: float) -> None:
        """Record that a retrieval has succeeded or failed."""
        self.in_flight.discard(key)
        if (wait := self._waits.get(key)) is None:
            return
        if wait.again:
            wait.again = False
            self.confirm(wait, now)
        self._restore(wait)

    def forget(self, wait: Wait) -> None:
        """Remove something that is not waited for any more."""
        self.reach(wait, reached=True)
        self.cancel(wait)
        wait.due = IDLE

    def queued(self, poll_class: int) -> Iterator[Wait]:
        """Iterate over the waits with a poll of this class, in no particular order."""
        return (wait for _, ticket, wait in self._lines[poll_class] if wait.ticket == ticket)

    # Taking

    def pop(self, now: float, stale_before: float) -> Wait | None:
        """Take what is to be polled now, if anything.

        :param stale_before: an unreached run that was seen last before this time is worth a poll.
        """
        self._move_due(now)
        ready = [poll_class for poll_class in _LINES if self._lengths[poll_class]]
        if self._search_at(now, stale_before) <= now:
            ready.append(SEARCH)
        while ready:
            chosen = min(ready, key=lambda poll_class: self._used[poll_class] / self.SHARES[poll_class])
            if not self._budget.take(now, urgent=chosen in {CONFIRM, SEARCH}):
                ready.remove(chosen)
                continue
            self._charge(chosen, ready)
            wait = self._pop_search(now) if chosen == SEARCH else self._pop_line(chosen)
            wait.due = IDLE
            self.in_flight.add(wait.key)
            return wait
        return None

    def wake_at(self, now: float, stale_before: float) -> float:
        """Return the time at which ``pop`` has something."""
        at = self._next_timer()
        if any(self._lengths[FIRST:]):
            at = min(at, self._budget.free_at(now))
        if self._lengths[CONFIRM]:
            at = min(at, self._budget.free_at(now, urgent=True))
        search_at = self._search_at(now, stale_before)
        if search_at < IDLE:
            at = min(at, max(search_at, self._budget.free_at(now, urgent=True)))
        return at

    def searched_until(self) -> float:
        """Return the time since which every unreached run has been seen, those being polled left out."""
        head = self._search_head()
        return IDLE if head is None else head.since

    # How

    def _enqueue(self, poll_class: int, wait: Wait, at: float) -> None:
        self.cancel(wait)
        wait.poll_class, wait.ticket = poll_class, next(self._order)
        self._lengths[poll_class] += 1
        heapq.heappush(self._lines[poll_class], (at, wait.ticket, wait))

    def _pop_line(self, poll_class: int) -> Wait:
        while True:
            _, ticket, wait = heapq.heappop(self._lines[poll_class])
            if wait.ticket == ticket:
                self.cancel(wait)
                return wait

    def _charge(self, chosen: int, ready: list[int]) -> None:
        # A class that was empty for a while has no claim to what it left unused.
        least = min(self._used[poll_class] / self.SHARES[poll_class] for poll_class in ready)
        for poll_class, share in enumerate(self.SHARES):
            self._used[poll_class] = max(self._used[poll_class], least * share)
        self._used[chosen] += 1

    def _move_due(self, now: float) -> None:
        while self._next_timer() <= now:
            due, _, wait = heapq.heappop(self._timers)
            wait.due = IDLE
            if wait.key in self.in_flight:
                wait.again = True
            elif wait.poll_class is None:
                listed = wait.key.kind in LISTED
                self._enqueue((DUE if wait.seen else FIRST) if listed else OTHER, wait, due)

    def _next_timer(self) -> float:
        while self._timers:
            due, _, wait = self._timers[0]
            if wait.due == due and self._is_current(wait):
                return due
            heapq.heappop(self._timers)
        return IDLE

    def _search_head(self) -> Wait | None:
        while self._search:
            since, place, wait = self._search[0]
            if wait.place != place:
                heapq.heappop(self._search)
            elif self._is_busy(wait):
                heapq.heappop(self._search)
                wait.place = -1
            elif wait.since != since:
                # A list has shown it alive, so that its place is further back.
                wait.place = next(self._order)
                heapq.heapreplace(self._search, (wait.since, wait.place, wait))
            else:
                return wait
        return None

    def _search_at(self, now: float, stale_before: float) -> float:
        head = self._search_head()
        if head is None:
            return IDLE
        # Without a reason to search, the polls are spread evenly over the period: one every so often, the oldest first.
        return now if head.since < stale_before else min(self._trickle_at, head.since + self._period)

    def _pop_search(self, now: float) -> Wait:
        wait = heapq.heappop(self._search)[2]
        wait.place = -1
        self._trickle_at = now + self._period / max(1, self._unreached)
        return wait

    @property
    def _period(self) -> float:
        return max(self.SAFETY, self._unreached / self.TRICKLE)

    def _restore(self, wait: Wait) -> None:
        if wait.unreached and wait.place == -1 and not self._is_busy(wait):
            wait.place = next(self._order)
            heapq.heappush(self._search, (wait.since, wait.place, wait))

    def _is_busy(self, wait: Wait) -> bool:
        # What has a time of its own, because it is followed or has just failed, is not searched.
        return wait.poll_class is not None or wait.due < IDLE or wait.key in self.in_flight

    def _is_current(self, wait: Wait) -> bool:
        return self._waits.get(wait.key) is wait

"""Which runs have an event stream of their own. No I/O.

Streams are few (``stream_slots``), so they go where they gain most: a running run is the next to end, a waiting one may
wait for a human for days. A record is never more than a hint to read the snapshot (contract/behaviour.md section 7.3).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import Follow, StopFollow
from helmr_provider.client._waiting.pacing import FailureDelay, RateLimiter
from helmr_provider.client._wire.resume import is_behind
from helmr_provider.client.models.events import TERMINAL_KINDS

if TYPE_CHECKING:
    from helmr_provider.client._waiting.actions import Failure
    from helmr_provider.client._waiting.pacing import Random

_NEVER = float("-inf")
_FOREVER = float("inf")
_RANKS = {"running": 0, "waiting": 2}

_HINTS = TERMINAL_KINDS | {"run.cancel_requested", "run.dead_lettered"}


def is_hint(kind: str, message: str) -> bool:
    """Whether a record is a reason to read the snapshot: it reads as the end, or its stream may stay open after it."""
    return kind in _HINTS or message in _HINTS


class StreamHealth:
    """How many streams the control plane seems to bear: half as many when they fail or lag, slowly more again."""

    LATE = 5.0
    """Seconds between an event and its arrival that only a control plane short of connections needs."""
    STRIKES = 3
    """Consecutive failures that halve the number of streams."""
    RECOVERY = 60.0
    """Seconds without trouble for one more stream."""

    def __init__(self) -> None:
        self._missing = 0
        self._strikes = 0
        self._struck_at = _NEVER
        self._changed_at = _NEVER

    def allowed(self, limit: int, now: float) -> int:
        """Return how many streams of the limit may be open."""
        while self._missing and now >= self._changed_at + self.RECOVERY:
            self._missing -= 1
            self._changed_at += self.RECOVERY
        return max(0, limit - self._missing)

    def recovers_at(self) -> float | None:
        """Return the time at which one more stream is allowed, if any is held back."""
        return self._changed_at + self.RECOVERY if self._missing else None

    def delivered(self) -> None:
        """Record that a stream did what it is for."""
        self._strikes = 0

    def strike(self, limit: int, now: float) -> None:
        """Record a failure. Streams that break together (a restart, a proxy) count once."""
        if now < self._struck_at + 1.0:
            return
        self._struck_at = now
        self._strikes += 1
        if self._strikes >= self.STRIKES:
            self.halve(limit, now)

    def halve(self, limit: int, now: float) -> None:
        """Use half as many streams from now on."""
        self._strikes = 0
        self._missing = limit - self.allowed(limit, now) // 2
        self._changed_at = now


class ClockSkew:
    """How late events arrive, although the clocks of client and server differ.

    The least lag of the last minutes is taken for the difference of the clocks. It is not the least lag ever: a clock
    that is set forward would make all later events look late.
    """

    WINDOW = 60.0
    """Seconds after which the older half of what is remembered is forgotten."""

    def __init__(self) -> None:
        self._least = self._least_before = _FOREVER
        self._window_ends = _NEVER
        self._arrived = _NEVER

    def lag(self, at: float, arrived: float, opened: float) -> float | None:
        """Return the seconds that an event took; None for one that was there before its stream.

        :param at: when it happened, by the server's clock, as seconds since the epoch.
        :param arrived: when it arrived, by the client's clock.
        :param opened: when its stream was opened, by the client's clock.
        """
        if arrived < self._arrived or arrived >= self._window_ends:
            self._window_ends = arrived + self.WINDOW
            self._least_before, self._least = self._least, _FOREVER
        self._arrived = arrived
        self._least = min(self._least, arrived - at)
        skew = min(self._least, self._least_before)
        return None if at + skew < opened else arrived - at - skew


@dataclass(slots=True, eq=False)
class _Run:
    id: str
    since: float
    backoff: FailureDelay
    status: str = ""
    seen_at: float = _NEVER
    cursor: str | None = None
    opened_at: float = _NEVER
    ended_at: float = _NEVER
    not_before: float = _NEVER
    progressed: bool = False
    hinted: bool = False
    refused: bool = False
    place: int = -1

    @property
    def rank(self) -> int:
        return _RANKS.get(self.status, 1)

    def advance(self, cursor: str | None) -> bool:
        """Move the cursor, forward only (contract/behaviour.md section 7.4)."""
        if cursor is None or not is_behind(cursor, self.cursor):
            return False
        self.cursor = cursor
        return True


class StreamAllocator:
    """Choose the runs that are followed.

    Candidates stand in one heap for each rank, so that a review costs the same with five thousand of them as with five.

    :param random: source of jitter.
    """

    HOLD = 10.0
    """Seconds that a stream stays where it is before a run that gains more may have it."""
    YOUNG = 5.0
    """Seconds before which a stream that ended without a record counts as failed."""
    OPENINGS = 2.0
    """Streams opened a second, after the first few: each costs the server more than a poll."""
    BURST = 4
    """Streams opened together."""

    def __init__(self, random: Random) -> None:
        self._limit = 0
        self._random = random
        self._runs: dict[str, _Run] = {}
        self._open: dict[str, _Run] = {}
        self._closing: set[str] = set()
        self._health = StreamHealth()
        self._openings = RateLimiter(self.OPENINGS, self.BURST)
        self._order = count()
        self._ranked: tuple[list[tuple[float, int, _Run]], ...] = ([], [], [])
        self._delayed: list[tuple[float, int, _Run]] = []
        self._review_at = _NEVER

    def __len__(self) -> int:
        return len(self._open) + len(self._closing)

    def budget(self, limit: int) -> None:
        """Set how many streams may be open at the same time."""
        if limit == self._limit:
            return
        unused, self._limit = not self._limit, limit
        self._review_at = _NEVER
        if unused:
            for run in self._runs.values():
                self._place(run)

    def allowed(self, now: float) -> int:
        """Return how many streams may be open now."""
        return self._health.allowed(self._limit, now)

    def follows(self, run_id: str) -> bool:
        """Whether a stream of this run is open."""
        return run_id in self._open

    def add(self, run_id: str, now: float) -> None:
        """Make a run a candidate once a snapshot has shown it alive."""
        self._runs[run_id] = _Run(run_id, now, FailureDelay(1.0, 60.0, self._random))

    def remove(self, run_id: str) -> None:
        """Forget a run. Its stream, if it has one, counts until it is reported as ended."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        run.place = -1
        if self._open.pop(run_id, None) is not None:
            self._closing.add(run_id)
            self._review_at = _NEVER

    def alive(self, run_id: str, status: str, started: float) -> None:
        """Record that a request that started at this time showed the run alive."""
        run = self._runs[run_id]
        rank = run.rank
        run.status = status
        run.seen_at = max(run.seen_at, started)
        if run_id in self._open:
            if run.rank != rank:
                self._review_at = _NEVER
        elif run.place == -1 or run.rank != rank:
            self._place(run)

    def record(self, run_id: str, now: float, cursor: str | None, lag: float | None, *, hint: bool) -> bool:
        """Record an event that a stream delivered.

        :returns: whether it means that the snapshot should be read now.
        """
        run = self._open.get(run_id)
        if run is None:
            return False
        if not run.progressed:
            run.progressed = True
            run.backoff.reset()
        run.advance(cursor)
        run.hinted = run.hinted or hint
        if lag is not None and lag > StreamHealth.LATE:
            self._health.halve(self._limit, now)
            self._review_at = _NEVER
        elif lag is not None:
            self._health.delivered()
        return hint

    def beaten(self, run_id: str, now: float) -> None:
        """Record that polling saw the end of a followed run; a strike if its stream has not shown it by now."""
        run = self._open.get(run_id)
        if run is not None and not run.hinted and now > run.opened_at + self.YOUNG:
            self._health.strike(self._limit, now)

    def ended(
        self, run_id: str, now: float, failure: Failure | None, cursor: str | None, *, paused: bool = False
    ) -> bool:
        """Record that a stream is closed.

        :param failure: why, unless the server or the driver closed it.
        :param cursor: where the run can be followed on, if a frame was to blame.
        :param paused: the driver closed it to open it again.
        :returns: whether the run was being followed.
        """
        self._review_at = _NEVER
        self._closing.discard(run_id)
        run = self._open.pop(run_id, None)
        if run is None:
            return False
        run.ended_at = now
        if paused:
            return True
        advanced = run.advance(cursor)
        silent = failure is None and not run.progressed and now < run.opened_at + self.YOUNG
        if (silent or failure is not None) and not advanced:
            self._health.strike(self._limit, now)
        if failure is not None and not failure.retryable:
            run.refused = True
        # After a terminal record the reason to follow on is a retry, whose events are already there.
        run.not_before = now if run.hinted else now + run.backoff.next()
        return True

    def actions(self, now: float) -> list[Follow | StopFollow]:
        """Return the streams to open and to close now."""
        if now < self._review_at:
            return []
        out: list[Follow | StopFollow] = []
        allowed = self.allowed(now)
        while len(self._open) > allowed:
            out.append(self._stop(max(self._open.values(), key=lambda run: (run.rank, run.since)), now))
        self._admit(now)
        while len(self) < allowed and (run := self._best()) is not None and self._openings.take(now):
            out.append(self._follow(run, now))
        out += self._give_way(now)
        self._review_at = self._next_review(now, allowed)
        return out

    def wake_at(self) -> float:
        """Return the time at which there may be something to do."""
        return self._review_at

    def _ready(self, run: _Run) -> bool:
        # A finished run followed from its end never ends by itself, so a snapshot comes first
        # (contract/behaviour.md section 7.4).
        seen = run.seen_at > _NEVER and run.seen_at >= run.ended_at
        return seen and not run.refused and run.id not in self._open and run.id not in self._closing

    def _place(self, run: _Run) -> None:
        if not self._limit or not self._ready(run):
            return
        run.place = next(self._order)
        heapq.heappush(self._delayed, (run.not_before, run.place, run))
        self._review_at = min(self._review_at, run.not_before)

    def _admit(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            _, place, run = heapq.heappop(self._delayed)
            if run.place == place:
                heap = self._ranked[run.rank]
                heapq.heappush(heap, (run.since, place, run))
                if len(heap) > 2 * len(self._runs):
                    # Behind one that waits for its stream, those that are not candidates any more would pile up.
                    heap[:] = [entry for entry in heap if entry[2].place == entry[1]]
                    heapq.heapify(heap)

    def _best(self) -> _Run | None:
        for heap in self._ranked:
            while heap:
                _, place, run = heap[0]
                if run.place == place and self._ready(run):
                    return run
                if run.place == place:
                    run.place = -1
                heapq.heappop(heap)
        return None

    def _follow(self, run: _Run, now: float) -> Follow:
        run.place = -1
        self._open[run.id] = run
        run.opened_at = now
        run.hinted = run.progressed = False
        return Follow(run.id, run.cursor)

    def _stop(self, run: _Run, now: float) -> StopFollow:
        del self._open[run.id]
        self._closing.add(run.id)
        run.ended_at = now
        return StopFollow(run.id)

    def _give_way(self, now: float) -> list[StopFollow]:
        held = [run for run in self._open.values() if now >= run.opened_at + self.HOLD]
        candidate = self._best() if held and not self._closing and len(self) >= self.allowed(now) else None
        if candidate is None:
            return []
        worst = max(held, key=lambda run: (run.rank, run.since))
        return [self._stop(worst, now)] if candidate.rank < worst.rank else []

    def _next_review(self, now: float, allowed: int) -> float:
        times: list[float] = []
        best = self._best()
        if self._delayed:
            times.append(self._delayed[0][0])
        if self._runs and (recovery := self._health.recovers_at()) is not None:
            times.append(recovery)
        if best is not None and len(self) < allowed:
            times.append(self._openings.free_at(now))
        if best is not None:
            held = [run.opened_at + self.HOLD for run in self._open.values() if run.rank > best.rank]
            times += [at for at in held if at > now]
        return min(times, default=_FOREVER)

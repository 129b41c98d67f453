"""Deciding when runs are counted and listed, and what a list says about the runs waited for. No I/O.

One count tells whether anything ended in the environment; while ends are found, runs are listed without one. One list
of live runs answers for up to 200 of them (contract/capacity.md), and for every run that is newer than its oldest row:
lists are ordered by creation. One list of ended runs settles all that have left the live list since.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import CountRuns, ListRuns
from helmr_provider.client._waiting.ended_lists import ENDED, EndedLists
from helmr_provider.client._waiting.pacing import FailureDelay

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from helmr_provider.client._waiting.actions import Failure, ListedRun
    from helmr_provider.client._waiting.pacing import Random
    from helmr_provider.client._waiting.poll_queue import Wait

_NEVER = float("-inf")
_FOREVER = float("inf")

LIVE = ListRuns()
# Runs end while they run or wait; a queued one seldom does.
PARTS = (ListRuns("running"), ListRuns("waiting"))
ALL, SUCCEEDED = ListRuns("all"), ListRuns("succeeded")


@dataclass(slots=True)
class _Settler:
    """A list that shows ended runs.

    :param request: the list.
    :param least: how many runs must wait for confirmation before it is worth its price.
    :param horizon: creation of its oldest row when it was full: it does not reach older runs.
    """

    request: ListRuns
    least: int
    horizon: float = _NEVER


@dataclass(slots=True)
class Reach:
    """What a list said.

    :param alive: waits whose run is in it and alive.
    :param ended: waits whose run is in it and has ended.
    :param gone: waits whose run should be in it, and is not.
    :param unreached: waits that it says nothing about.
    """

    alive: list[Wait] = field(default_factory=list["Wait"])
    ended: list[Wait] = field(default_factory=list["Wait"])
    gone: list[Wait] = field(default_factory=list["Wait"])
    unreached: list[Wait] = field(default_factory=list["Wait"])


class RunPoller:
    """Decide when runs are counted and listed.

    When a count grew by more than the ends that were found, a run waited for may have ended. Then a list is due, and
    each run is *stale* until a request that started later shows it alive. Once no run is stale for a count, the ends
    that it counted and that are still unexplained were those of other runs. For a short while after an end was found,
    lists are due without a count.

    :param random: source of jitter.
    """

    INTERVAL = 0.8
    """Seconds between two counts, unless answers take longer than half of it."""
    WITHOUT_COUNTS = 5.0
    """Seconds between two counts, and so between two searches, while counts fail."""
    SAFETY = 75.0
    """Seconds after which runs are listed although nothing was counted: a deletion can hide an end from counts."""
    SPACING = (0.25, 0.5)
    """Bounds of the least seconds between two lists of live runs: ten times the answer time, within these."""
    BUSY = 2.0
    """Seconds after an end that was found in which runs are listed without a count: more ends are likely."""
    LATELY = 30.0
    """Seconds after an end that was found in which counts and lists continue for the last of many runs."""
    PAUSE = 10
    """A list without a count follows the last one after this many times the time that one took, or is left out."""
    PATIENCE = 6.0
    """A list waits for the time that the oldest confirmation has waited, divided by this, within the limit below."""
    LONGEST_SPACING = 4.0
    """Answer times between two lists at most: while single polls fall behind, lists leave them more of the room."""
    POOR = 3
    """A full list costs as much as this many single polls; one that is worth fewer is left out for a while."""
    POOR_FOR = 60.0
    """Seconds for which a list that was not worth its price is left out."""
    POOR_FOR_FEW = 5.0
    """Seconds for which the list of live runs is left out if more runs have joined since it was judged."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._settlers = (_Settler(ALL, 5), _Settler(SUCCEEDED, 20))
        self._in_flight: set[CountRuns | ListRuns] = set()
        self._poor_until: dict[ListRuns, float] = {}
        # When the list of live runs was found poor; None if it was refused.
        self._judged_at: float | None = None
        # While the list of live runs fails, runs are read one by one, so it is soon tried again. Other lists can wait.
        self._backoffs = {
            request: FailureDelay(1.0, 4.0 if request == LIVE else self.POOR_FOR, random)
            for request in (LIVE, *PARTS, ALL, *ENDED)
        }
        self._not_before = dict.fromkeys(self._backoffs, _NEVER)
        self._took = 0.0
        self._ended = EndedLists()
        self.rest()

    def rest(self) -> None:
        """Forget what was counted, because nothing is polled together from now on."""
        self._finished: int | None = None
        # Ends that were counted and not found so far, with the time of their count.
        self._unexplained: deque[tuple[float, int]] = deque()
        # Ends that were found and not counted so far.
        self._uncounted = 0
        self._found_since_count = 0
        self._found_at = _NEVER
        self._blind_since: float | None = None
        self._count_at = _NEVER
        self._listed_at = _NEVER
        self._behind = 0.0
        self.answered_for = _NEVER
        """When the last list of live runs that was answered was requested, or when one was left out."""
        self._wanted = False
        # More runs have joined since the list of live runs was found poor.
        self._joined = False
        self._parts: list[ListRuns] = []
        self._ended.rest()

    # What to request

    @property
    def stale_before(self) -> float:
        """A run that was seen last before this time may have ended; minus infinity if there is nothing to look for."""
        counted = self._unexplained[-1][0] if self._unexplained else _NEVER
        return counted if self._blind_since is None else max(counted, self._blind_since)

    def found_lately(self, now: float) -> bool:
        """Whether a run waited for has been found ended a short while ago, so that more ends are likely."""
        return now < self._found_at + self.LATELY

    def want_list(self) -> None:
        """Ask for a list of live runs, for runs that have not been read yet."""
        self._wanted = True

    def joined(self, now: float) -> None:
        """Record that more runs are waited for: a list of live runs that reached hardly any is soon tried again."""
        if self._judged_at is not None and self.is_poor(LIVE, now):
            self._poor_until[LIVE] = min(self._poor_until[LIVE], self._judged_at + self.POOR_FOR_FEW)
            self._joined = True

    def due(self, now: float, answer_time: float, searched: int = 0) -> list[CountRuns | ListRuns]:
        """Return the requests to send now, the one that was due first in front. Each stays due until it is started.

        :param searched: how many runs no list of live runs reaches.
        """
        self._wanted = self._wanted or self._uncounted_at(answer_time) <= now
        self._skip_poor(now)
        due: list[tuple[float, CountRuns | ListRuns]] = [(self._listed_at, part) for part in self._parts]
        if self._wanted and (at := self._list_at(answer_time)) <= now:
            due.append((at, LIVE))
        if self._count_at <= now and CountRuns() not in self._in_flight:
            due.append((self._count_at, CountRuns()))
        due += [(at, request) for at, request in self._ended_at(answer_time, searched) if at <= now]
        return [request for _, request in sorted(due, key=lambda one: one[0])]

    def wake_at(self, answer_time: float, searched: int = 0) -> float:
        """Return the time at which something is due."""
        at = _FOREVER if CountRuns() in self._in_flight else self._count_at
        if self._parts:
            return _NEVER
        ended_at = (at for at, _ in self._ended_at(answer_time, searched))
        list_at = self._list_at(answer_time) if self._wanted else self._uncounted_at(answer_time)
        return min(at, list_at, *ended_at)

    def started(self, request: CountRuns | ListRuns, now: float, behind: float = 0.0) -> None:
        """Record that a request is in flight.

        :param behind: seconds that the oldest confirmation has waited for its poll.
        """
        self._in_flight.add(request)
        if request == CountRuns():
            self._found_since_count = 0
        elif request == LIVE:
            self._wanted, self._listed_at, self._behind = False, now, behind
            self._joined = False
        elif request in self._parts:
            self._parts.remove(request)
        elif isinstance(request, ListRuns) and request in ENDED:
            self._ended.started(request, now)

    def is_poor(self, request: ListRuns, now: float) -> bool:
        """Whether a list was not worth its price a short while ago."""
        return now < self._poor_until.get(request, _NEVER)

    # What came of it

    def counted(self, now: float, finished: int, answer_time: float) -> None:
        """Record how many runs of the environment have ended, ever."""
        self._in_flight.discard(CountRuns())
        last, self._finished = self._finished, finished
        if last is None or finished < last:
            self._go_blind(now)
        else:
            explained = min(self._uncounted, finished - last)
            self._uncounted -= explained
            if finished - last > explained:
                self._unexplained.append((now, finished - last - explained))
                self._want(now)
        # An end that was found before this count was requested must be in it.
        self._uncounted = min(self._uncounted, self._found_since_count)
        self._schedule_count(now, answer_time)

    def failed(self, request: CountRuns | ListRuns, now: float, answer_time: float, failure: Failure) -> None:
        """Record that a request failed: what it would have said is looked for without it."""
        self._in_flight.discard(request)
        if isinstance(request, CountRuns):
            self._finished = None
            self._go_blind(now)
            self._schedule_count(now + failure.pause, max(answer_time, self.WITHOUT_COUNTS / 2))
            return
        if request == LIVE:
            # All runs are searched from now on, so that none of them relies on this list.
            self.answered_for = max(self.answered_for, now)
            self._wanted = self._wanted or failure.retryable
        if failure.retryable:
            self._postpone(request, now, failure)
            return
        self._poor_until[request] = now + self.POOR_FOR
        if request == LIVE:
            self._judged_at = None
        if request in ENDED:
            self._ended.failed(now)

    def dropped(self, request: CountRuns | ListRuns) -> None:
        """Record that a request was given up."""
        self._in_flight.discard(request)
        self._wanted = self._wanted or request == LIVE

    def ended(self, wait: Wait, status: str, now: float) -> None:
        """Record that a run waited for has ended.

        :param status: its final status.
        """
        self._ended.found(wait, status, now)
        self._found_at = now
        if wait.seen:
            self.found()

    def found(self) -> None:
        """Record that a run that was seen alive has been found ended."""
        self._found_since_count += 1
        if not self._unexplained:
            self._uncounted += 1
            return
        # The oldest first: this errs on the side of searching too long.
        at, ends = self._unexplained.popleft()
        if ends > 1:
            self._unexplained.appendleft((at, ends - 1))

    def listed(
        self,
        request: ListRuns,
        started: float,
        now: float,
        rows: Mapping[str, ListedRun],
        ours: Collection[Wait],
        *,
        full: bool,
    ) -> Reach:
        """Sort the runs waited for by what a list says about them.

        :param started: when it was requested.
        :param rows: its rows by run id.
        :param ours: all runs waited for.
        :param full: whether it is as long as lists get, so that it does not reach all runs.
        """
        self._in_flight.discard(request)
        horizon = _horizon(rows) if full else _NEVER
        reach = Reach()
        newly_reached = 0
        for wait in ours:
            row = rows.get(wait.key.id)
            if row is not None:
                newly_reached += wait.unreached or request == LIVE
                (reach.ended if row.ended else reach.alive).append(wait)
            elif wait.since > started:
                continue
            elif not full or (wait.created is not None and wait.created > horizon):
                if request == LIVE or request.status == wait.status:
                    reach.gone.append(wait)
            elif request == LIVE:
                reach.unreached.append(wait)
        settler = next((one for one in self._settlers if one.request == request), None)
        if settler is not None:
            settler.horizon = horizon
            worth = len(reach.ended)
        else:
            worth = newly_reached + len(reach.gone)
        if request in ENDED:
            self._ended.listed(request, started, now, rows, horizon=horizon, ours=ours)
        if worth < self.POOR and (full or request != LIVE):
            self._poor_until[request] = now + self.POOR_FOR
        self._backoffs[request].reset()
        if request == LIVE:
            self._judged_at = now
            self._took = now - started
            self.answered_for = max(self.answered_for, started)
            if len(reach.unreached) > self.POOR and self.stale_before > _NEVER:
                self._parts = [part for part in PARTS if self._is_free(part, now) and not self.is_poor(part, now)]
        return reach

    def settler_for(self, waiting: Iterable[Wait], now: float) -> tuple[ListRuns, list[Wait]] | None:
        """Choose the list of ended runs that may settle most of those that seem to have ended.

        :param waiting: the waits to be confirmed.
        :returns: the list and the waits that it may settle; None if single polls are cheaper.
        """
        waits = list(waiting)
        choices: list[tuple[ListRuns, list[Wait]]] = []
        for settler in self._settlers:
            if not self._is_free(settler.request, now) or self.is_poor(settler.request, now):
                continue
            status = settler.request.status or ""
            candidates = [
                wait
                for wait in waits
                if status not in wait.missed_by and (wait.created is None or wait.created > settler.horizon)
            ]
            if len(candidates) >= settler.least:
                choices.append((settler.request, candidates))
        return max(choices, key=lambda choice: len(choice[1]), default=None)

    def examined(self, until: float) -> None:
        """Forget the ends counted by then: every run waited for has been seen alive since, so they were of others."""
        while self._unexplained and self._unexplained[0][0] <= until:
            self._unexplained.popleft()
        if self._blind_since is not None and self._blind_since <= until:
            self._blind_since = None

    # How

    def _postpone(self, request: ListRuns, now: float, failure: Failure) -> None:
        """Have a list wait for longer each time that it fails in a row, and all lists after an outage."""
        now += failure.pause
        self._not_before[request] = now + self._backoffs[request].next()
        if failure.outage:
            at = self._not_before[LIVE] if request == LIVE else now + self._backoffs[LIVE].next()
            self._not_before = {one: max(before, at) for one, before in self._not_before.items()}
            self._parts = []

    def _is_free(self, request: ListRuns, now: float) -> bool:
        return request not in self._in_flight and now >= self._not_before[request]

    def _go_blind(self, now: float) -> None:
        """Have every run polled once, because it is unknown how many ends to look for."""
        self._blind_since = now
        self._uncounted = 0
        self._want(now)

    def _want(self, now: float) -> None:
        self._wanted = True
        self._skip_poor(now)

    def _skip_poor(self, now: float) -> None:
        if self._wanted and self.is_poor(LIVE, now):
            self._wanted, self._listed_at, self.answered_for = False, now, now

    def _list_at(self, answer_time: float) -> float:
        behind = min(self._behind / self.PATIENCE, self.LONGEST_SPACING * answer_time)
        shortest, longest = self.SPACING
        spacing = max(min(max(shortest, 10 * answer_time), longest), 2 * answer_time, behind)
        return _FOREVER if LIVE in self._in_flight else max(self._listed_at + spacing, self._not_before[LIVE])

    def _ended_at(self, answer_time: float, searched: int) -> list[tuple[float, ListRuns]]:
        """Return the lists of ended runs that help the search, and when each is due."""
        if self.stale_before == _NEVER:
            return []
        free = (request for request in ENDED if request not in self._in_flight)
        return [
            (max(self._ended.due_at(request, searched, answer_time), self._not_before[request]), request)
            for request in free
        ]

    def _uncounted_at(self, answer_time: float) -> float:
        """Return when runs are listed although no count grew."""
        worth_it_at = max(self._list_at(answer_time), self._poor_until.get(LIVE, _NEVER))
        if self._joined:
            return worth_it_at
        busy_at = max(worth_it_at, self._listed_at + self.PAUSE * self._took)
        return busy_at if busy_at <= self._found_at + self.BUSY else max(worth_it_at, self._listed_at + self.SAFETY)

    def _schedule_count(self, now: float, answer_time: float) -> None:
        self._count_at = now + max(self.INTERVAL, 2 * answer_time) * (0.8 + 0.4 * self._random())


def _horizon(rows: Mapping[str, ListedRun]) -> float:
    """Return the creation of the oldest row; infinity if unknown, so that the list answers for its rows only."""
    created = [row.created for row in rows.values()]
    known = [moment for moment in created if moment is not None]
    return min(known) if known and len(known) == len(created) else _FOREVER

"""The scheduler of many waits: which request or stream is next, and whose wait is over.

Values and a clock go in, actions come out. There is no I/O and no ``async``, so that the asynchronous and the blocking
driver share every decision and property tests can check all of them. The rules are those of contract/behaviour.md
sections 7.3, 7.4 and 8 and of contract/capacity.md: a wait is *snapshot, stream, snapshot*, only a snapshot ends it,
and waits without a stream are polled together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import (
    RUN,
    TOKEN,
    CountRuns,
    ListPendingTokens,
    ListRuns,
    Retrieve,
    StopFollow,
    WaitKey,
    kind_of,
)
from helmr_provider.client._waiting.pacing import FailureDelay, PollInterval
from helmr_provider.client._waiting.poll_queue import CONFIRM, FIRST, IDLE, NEVER, Wait
from helmr_provider.client._waiting.run_poller import LIVE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from helmr_provider.client._waiting.actions import Action, Failure, Follow, ListedRun, PollRequest
    from helmr_provider.client._waiting.pacing import CircuitBreaker, ConcurrencyLimit, Random, RateLimiter
    from helmr_provider.client._waiting.poll_queue import PollQueue
    from helmr_provider.client._waiting.run_poller import RunPoller
    from helmr_provider.client._waiting.stream_allocator import StreamAllocator
    from helmr_provider.client._waiting.token_poller import TokenPoller


class Scheduler:
    """Decide for all waits of one client.

    :param waits: everything that is waited for; the queue reads it too.
    :param queue: order of the single polls.
    :param runs: when runs are counted and listed.
    :param tokens: when pending tokens are listed.
    :param streams: which runs are followed.
    :param breaker: stops requests after an outage.
    :param limit: how many requests may be in flight, streams not counted.
    :param newcomers: how many new waits a second are polled singly while lists could answer for them.
    :param random: source of jitter, a float in [0, 1).
    """

    TOGETHER = 3
    """From this many things of a kind without a stream on, lists are cheaper than single polls."""
    NEWCOMERS = 4
    """Up to this many new waits a second are polled singly; more are worth a list."""
    CHECK = 15.0
    """Seconds between snapshots of a followed run: its stream can miss the end (contract/behaviour.md section 21)."""
    SLOW = 0.1
    """Seconds of answer time from which on new waits are not polled singly while lists could answer for them."""
    QUICK = (0.1, 0.2, 0.4, 0.8)
    """Seconds between polls after a terminal record whose snapshot does not show the end yet."""

    def __init__(
        self,
        *,
        waits: dict[WaitKey, Wait],
        queue: PollQueue,
        runs: RunPoller,
        tokens: TokenPoller,
        streams: StreamAllocator,
        breaker: CircuitBreaker,
        limit: ConcurrencyLimit,
        newcomers: RateLimiter,
        random: Random,
    ) -> None:
        self._waits = waits
        self._queue = queue
        self._runs = runs
        self._tokens = tokens
        self._streams = streams
        self._breaker = breaker
        self._limit = limit
        self._newcomers = newcomers
        self._random = random
        self._of_kind: dict[str, dict[str, Wait]] = {RUN: {}, TOKEN: {}}
        self._new: dict[str, dict[str, Wait]] = {RUN: {}, TOKEN: {}}
        self._in_flight: dict[PollRequest, float] = {}
        self._settling: dict[ListRuns, list[Wait]] = {}
        self._confirmations = 0
        self._singles_first = False
        self._together = {RUN: False, TOKEN: False}

    # Registrations

    def add(self, key: WaitKey, now: float, interval: float | None = None) -> None:
        """Begin to wait for something; it is polled as soon as the budget allows.

        :param interval: seconds between two single polls if the rate allows; None for one second growing to five.
        """
        pace = PollInterval(interval or 1.0, interval or 5.0, 1.5, self._random)
        wait = Wait(key, pace, FailureDelay(1.0, 10.0, self._random), since=now)
        self._waits[key] = wait
        if key.kind in self._of_kind:
            self._of_kind[key.kind][key.id] = wait
            self._new[key.kind][key.id] = wait
        else:
            self._queue.at(wait, now, now)
        if key.kind == RUN:
            self._streams.add(key.id, now)

    def remove(self, key: WaitKey) -> None:
        """Stop waiting for something. Requests in flight for it must still be reported, as dropped if nothing else."""
        wait = self._waits.get(key)
        if wait is None:
            return
        self._queue.forget(wait)
        del self._waits[key]
        if key.kind in self._of_kind:
            self._of_kind[key.kind].pop(key.id, None)
            self._new[key.kind].pop(key.id, None)
        if key.kind == RUN:
            self._streams.remove(key.id)
        elif key.kind == TOKEN:
            self._tokens.forget(key.id)

    def streams(self, limit: int) -> None:
        """Set how many streams waits may hold; those above it are closed."""
        self._streams.budget(limit)

    # What to do

    def actions(self, now: float) -> list[Action]:
        """Return what is to be started now. Each request is in flight until it is answered, failed or dropped."""
        self._change_modes(now)
        self._welcome(now)
        # While there is room for one request at a time, singles and lists take turns: either would always be due.
        singles = self._poll_singly(now, most=int(self._singles_first))
        together = self._poll_together(now)
        singles += self._poll_singly(now, most=self._limit.value)
        if singles or together:
            self._singles_first = not singles
        started = singles + together
        if not self._breaker.probing:
            for action in self._streams.actions(now):
                self._change_interval(self._waits[WaitKey(RUN, action.run_id)], now, action)
                started.append(action)
        return started

    def wake_at(self, now: float) -> float | None:
        """Return the time at which ``actions`` may have something new although nothing is reported; None for never."""
        earliest = IDLE
        if len(self._in_flight) < self._most():
            wanted = [self._queue.wake_at(now, self._runs.stale_before)]
            if self._may_list():
                if self._together[RUN]:
                    wanted.append(self._runs.wake_at(self._limit.answer_time, self._queue.unreached))
                if self._tokens.page is not None:
                    wanted.append(IDLE if self._tokens.page in self._in_flight else NEVER)
                elif self._together[TOKEN]:
                    wanted.append(self._tokens.due_at)
            earliest = max(min(wanted), self._breaker.opens_at)
        if not self._breaker.probing:
            earliest = min(earliest, self._streams.wake_at())
        return None if earliest == IDLE else earliest

    # What came of it

    def retrieved(
        self, action: Retrieve, now: float, *, ended: bool, status: str = "", created: float | None = None
    ) -> bool:
        """Record a snapshot.

        :param created: when a run was created, in seconds since the epoch.
        :returns: whether it ends a wait, which is then forgotten.
        """
        started = self._answered(action, now)
        wait = self._waits.get(action.key)
        if started is None or wait is None:
            return False
        if ended:
            self._end(wait, now, status)
            return True
        wait.backoff.reset()
        self._alive(wait, status, started, created)
        self._queue.at(wait, self._next_poll(wait, now), now)
        self._queue.settled(action.key, now)
        return False

    def listed(self, action: ListRuns, now: float, rows: Mapping[str, ListedRun], *, full: bool) -> list[WaitKey]:
        """Record a list of runs.

        :param rows: its rows by run id.
        :param full: whether it is as long as lists get.
        :returns: the waits that its rows end, which are then forgotten.
        """
        settling = self._give_back(action)
        started = self._answered(action, now)
        if started is None:
            return []
        reach = self._runs.listed(action, started, now, rows, self._of_kind[RUN].values(), full=full)
        for wait in reach.alive:
            row = rows[wait.key.id]
            self._shown_alive(wait, row.status, started, now, row.created)
            if action == LIVE:
                self._queue.reach(wait, reached=True)
        for wait in reach.unreached:
            self._queue.reach(wait, reached=False)
            if not wait.seen:
                self._queue.first(wait, now)
        if action == LIVE and self._runs.is_poor(LIVE, now):
            # It is left out for a while, so that it reaches nothing.
            self._search_all(now)
        for wait in reach.gone:
            self._queue.confirm(wait, now)
        for wait in reach.ended:
            self._end(wait, now, rows[wait.key.id].status)
        for wait in settling:
            if self._is_current(wait) and wait.since < started:
                wait.missed_by |= {action.status or ""}
                self._queue.confirm(wait, now)
        return [wait.key for wait in reach.ended]

    def counted(self, action: CountRuns, now: float, finished: int) -> None:
        """Record the number of runs of the environment that have ended, ever."""
        if self._answered(action, now) is not None:
            self._runs.counted(now, finished, self._limit.answer_time)
            if self._runs.stale_before > NEVER:
                self._runs.examined(self._examined_until())

    def paged(self, action: ListPendingTokens, now: float, pending: Collection[str], cursor: str | None) -> None:
        """Record a page of pending tokens and the cursor of the next one."""
        started = self._answered(action, now)
        if started is None:
            return
        for token_id in pending:
            if (wait := self._of_kind[TOKEN].get(token_id)) is not None:
                self._shown_alive(wait, "pending", started, now)
        missing = self._tokens.paged(action, now, pending, cursor, self._limit.answer_time)
        self._confirm_tokens(missing or (), now)

    def failed(self, action: PollRequest, now: float, failure: Failure) -> list[WaitKey]:
        """Record a failure.

        :returns: the waits that it ends, which are then forgotten.
        """
        settling = self._give_back(action)
        started = self._answered(action, now, failure)
        if started is None:
            return []
        concerned = self._concerned(action, failure)
        for key in concerned:
            self.remove(key)
        for candidate in settling:
            if self._is_current(candidate):
                self._queue.confirm(candidate, now)
        if isinstance(action, CountRuns | ListRuns):
            self._runs.failed(action, now, self._limit.answer_time, failure)
            if action == LIVE:
                self._search_all(now)
        elif isinstance(action, ListPendingTokens):
            self._confirm_tokens(self._tokens.give_up(now + failure.pause, self._limit.answer_time), now)
        elif (wait := self._waits.get(action.key)) is not None:
            self._queue.at(wait, now + failure.pause + wait.backoff.next(), now)
            self._queue.settled(action.key, now)
        return concerned

    def dropped(self, action: PollRequest, now: float) -> None:
        """Record that a request was given up without an answer."""
        if self._in_flight.pop(action, None) is None:
            return
        for candidate in self._give_back(action):
            self._queue.confirm(candidate, now)
        if isinstance(action, CountRuns | ListRuns):
            self._runs.dropped(action)
        elif isinstance(action, Retrieve):
            self._queue.settled(action.key, now)
            if (wait := self._waits.get(action.key)) is not None:
                self._queue.at(wait, now, now)

    def stream_record(self, run_id: str, now: float, cursor: str | None, lag: float | None, *, hint: bool) -> None:
        """Record an event of a followed run.

        :param lag: seconds between the event and its arrival; None if it is older than the stream.
        :param hint: it reads as the end of the run, which means no more than that the snapshot is read now.
        """
        if self._streams.record(run_id, now, cursor, lag, hint=hint):
            wait = self._waits[WaitKey(RUN, run_id)]
            wait.quick_polls = len(self.QUICK)
            self._queue.confirm(wait, now)

    def stream_ended(
        self,
        run_id: str,
        now: float,
        failure: Failure | None = None,
        cursor: str | None = None,
        *,
        paused: bool = False,
    ) -> None:
        """Record that a stream is closed, by either side.

        :param failure: why, if neither the server nor the driver meant to.
        :param cursor: where to continue behind a frame that could not be read.
        :param paused: the driver closed it to do something else in between.
        """
        if self._streams.ended(run_id, now, failure, cursor, paused=paused):
            wait = self._waits[WaitKey(RUN, run_id)]
            wait.interval.reset()
            self._queue.at(wait, now, now)

    # How it is decided

    def _most(self) -> int:
        return 1 if self._breaker.probing else self._limit.value

    def _room(self, now: float) -> bool:
        return now >= self._breaker.opens_at and len(self._in_flight) < self._most()

    def _may_list(self) -> bool:
        # Lists leave half of the room to single polls that are queued.
        listing = sum(not isinstance(request, Retrieve) for request in self._in_flight)
        return not len(self._queue) or listing < max(1, self._most() // 2)

    def _room_for_list(self, now: float) -> bool:
        return self._room(now) and self._may_list()

    def _start(self, request: PollRequest, now: float) -> PollRequest:
        self._in_flight[request] = now
        return request

    def _answered(self, request: PollRequest, now: float, failure: Failure | None = None) -> float | None:
        started = self._in_flight.pop(request, None)
        if started is None:
            return None
        if failure is not None and failure.outage:
            self._breaker.failed(started, now, failure.retry_after)
        else:
            self._breaker.succeeded(started)
            if isinstance(request, Retrieve | CountRuns):
                self._limit.answered(started, now)
        if isinstance(request, Retrieve):
            self._queue.in_flight.discard(request.key)
        return started

    def _change_modes(self, now: float) -> None:
        alone = {RUN: self._streams.allowed(now), TOKEN: 0}
        for kind, waits in self._of_kind.items():
            # The last of many runs often end soon after the others, so counts continue for them for a while.
            least = 1 if kind == RUN and self._together[kind] and self._runs.found_lately(now) else self.TOGETHER
            together = len(waits) - alone[kind] >= least
            if self._together[kind] and not together:
                if kind == RUN:
                    self._runs.rest()
                for wait in waits.values():
                    self._queue.reach(wait, reached=True)
                    if wait.due == IDLE and wait.poll_class is None and wait.key not in self._queue.in_flight:
                        self._queue.at(wait, now + wait.interval.next(), now)
            self._together[kind] = together

    def _welcome(self, now: float) -> None:
        """Get what is new its first poll: a few singly, many by lists."""
        for kind, new in self._new.items():
            if not new:
                continue
            if kind == RUN:
                self._runs.joined(now)
            listable = self._together[kind] and not (kind == RUN and self._runs.is_poor(LIVE, now))
            many = len(new) > self.NEWCOMERS or self._limit.answer_time > self.SLOW
            for wait in new.values():
                if listable and (many or not self._newcomers.take(now)):
                    if kind == RUN:
                        self._runs.want_list()
                    else:
                        self._tokens.hurry(now)
                else:
                    self._queue.first(wait, now)
            new.clear()

    def _poll_together(self, now: float) -> list[Action]:
        started: list[Action] = []
        if self._together[RUN]:
            started += self._settle_together(now)
            for request in self._runs.due(now, self._limit.answer_time, self._queue.unreached):
                if self._room_for_list(now):
                    self._runs.started(request, now, now - self._queue.confirming_since(now))
                    started.append(self._start(request, now))
        if self._together[TOKEN] and self._tokens.page is None and now >= self._tokens.due_at:
            self._tokens.begin(self._of_kind[TOKEN], now)
        page = self._tokens.page
        if page is not None and page not in self._in_flight and self._room_for_list(now):
            started.append(self._start(page, now))
        return started

    def _settle_together(self, now: float) -> list[Action]:
        """List ended runs where that is cheaper than to retrieve each of those that seem to have ended."""
        if self._confirmations == self._queue.confirmations or not self._room_for_list(now):
            return []
        self._confirmations = self._queue.confirmations
        chosen = self._runs.settler_for((w for w in self._queue.queued(CONFIRM) if w.key.kind == RUN), now)
        if chosen is None:
            return []
        request, candidates = chosen
        for wait in candidates:
            self._queue.cancel(wait)
        self._settling[request] = candidates
        self._runs.started(request, now)
        return [self._start(request, now)]

    def _give_back(self, request: PollRequest) -> list[Wait]:
        """Return the waits that a list of ended runs was to settle."""
        if not isinstance(request, ListRuns) or request not in self._settling:
            return []
        self._confirmations = -1
        return [wait for wait in self._settling.pop(request) if self._is_current(wait)]

    def _poll_singly(self, now: float, *, most: int) -> list[Action]:
        started: list[Action] = []
        while len(started) < most and self._room(now):
            wait = self._queue.pop(now, self._runs.stale_before if self._together[RUN] else NEVER)
            if wait is None:
                break
            started.append(self._start(Retrieve(wait.key), now))
        return started

    def _examined_until(self) -> float:
        """Return the time since which every run has been seen, except those with a time of their own."""
        polled = [self._waits[key].since for key in self._queue.in_flight if key.kind == RUN and key in self._waits]
        queued = (wait.since for line in (CONFIRM, FIRST) for wait in self._queue.queued(line) if wait.key.kind == RUN)
        settling = (wait.since for waits in self._settling.values() for wait in waits if self._is_current(wait))
        known = min(self._runs.answered_for, self._queue.searched_until())
        return min([known, *polled, *queued, *settling])

    def _search_all(self, now: float) -> None:
        for wait in self._of_kind[RUN].values():
            self._queue.reach(wait, reached=False)
            if not wait.seen:
                self._queue.first(wait, now)

    def _change_interval(self, wait: Wait, now: float, action: Follow | StopFollow) -> None:
        """Poll a run when its stream is taken away, and seldom while it has one."""
        if isinstance(action, StopFollow):
            self._queue.at(wait, now, now)
        elif not wait.quick_polls:
            wait.due = IDLE
            self._queue.at(wait, self._next_poll(wait, now), now)

    def _next_poll(self, wait: Wait, now: float) -> float:
        if wait.quick_polls:
            wait.quick_polls -= 1
            return now + self.QUICK[-1 - wait.quick_polls]
        if wait.key.kind == RUN and self._streams.follows(wait.key.id):
            return now + self.CHECK * (0.8 + 0.4 * self._random())
        return IDLE if self._together.get(wait.key.kind) else now + wait.interval.next()

    def _confirm_tokens(self, tokens: Iterable[str], now: float) -> None:
        for token_id in tokens:
            if (wait := self._of_kind[TOKEN].get(token_id)) is not None:
                self._queue.confirm(wait, now)

    def _shown_alive(self, wait: Wait, status: str, started: float, now: float, created: float | None = None) -> None:
        """Record that a list shows something alive, which makes a queued poll that is older superfluous."""
        if wait.poll_class == FIRST or (wait.poll_class == CONFIRM and wait.suspected <= started):
            self._queue.cancel(wait)
            self._queue.at(wait, self._next_poll(wait, now), now)
        self._alive(wait, status, started, created)

    def _alive(self, wait: Wait, status: str, started: float, created: float | None) -> None:
        wait.seen = True
        wait.status = status
        wait.since = max(wait.since, started)
        wait.shown = max(wait.shown, started)
        if wait.suspected <= started:
            wait.suspected = NEVER
        wait.created = created if created is not None else wait.created
        wait.missed_by = frozenset()
        if wait.key.kind == RUN:
            self._streams.alive(wait.key.id, status, started)
            if self._together[RUN] and self._runs.is_poor(LIVE, started):
                self._queue.reach(wait, reached=False)

    def _end(self, wait: Wait, now: float, status: str) -> None:
        if wait.key.kind == RUN:
            self._runs.ended(wait, status, now)
            if status != "cancelled":  # A cancelled run writes its last event when its worker stops, which may be late.
                self._streams.beaten(wait.key.id, now)
        self.remove(wait.key)

    def _is_current(self, wait: Wait) -> bool:
        return self._waits.get(wait.key) is wait

    def _concerned(self, action: PollRequest, failure: Failure) -> list[WaitKey]:
        if failure.credential == "all":
            return list(self._waits)
        if failure.credential == "kind":
            return [key for key in self._waits if key.kind == kind_of(action)]
        if isinstance(action, Retrieve) and not failure.retryable:
            return [action.key] if action.key in self._waits else []
        return []

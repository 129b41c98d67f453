"""The scheduler of many waits: which request or stream is next, and whose wait is over.

Values and a clock go in, actions come out; there is no I/O here and no ``async``, so that the asynchronous and the
blocking driver share every decision and property tests can ask for all of them. The rules are those of
contract/behaviour.md sections 7.3, 7.4 and 8 and of contract/capacity.md: a wait is *snapshot, stream, snapshot*, only
a snapshot decides, and what has no stream is looked at together.
"""

from __future__ import annotations

import random as _random
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
from helmr_provider.client._waiting.pacing import Backoff, CircuitBreaker, PollInterval
from helmr_provider.client._waiting.poll_queue import IDLE, NEVER, PollQueue, Wait
from helmr_provider.client._waiting.run_poller import RunPoller
from helmr_provider.client._waiting.stream_allocator import StreamAllocator
from helmr_provider.client._waiting.token_poller import TokenPoller

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from helmr_provider.client._waiting.actions import Action, Failure, Request
    from helmr_provider.client._waiting.pacing import Random


class Scheduler:
    """Decide for all waits of one client.

    :param requests: how many requests may be under way at once, streams not counted.
    :param rate: how many things a second are looked at singly because no list reaches them.
    :param random: source of jitter, a float in [0, 1).
    """

    TOGETHER = 3
    """From this many things of a kind without a stream on, lists are cheaper than single looks."""
    NEWCOMERS = 4
    """Up to this many new waits are looked at singly; more are worth a list."""
    CHECK = 15.0
    """Seconds between snapshots of a followed run: its stream can miss the end (contract/behaviour.md section 21)."""
    HASTE = (0.1, 0.2, 0.4, 0.8)
    """Seconds between looks after a terminal record whose snapshot does not show the end yet."""

    def __init__(self, *, requests: int = 8, rate: float = 100.0, random: Random = _random.random) -> None:
        self._requests = requests
        self._random = random
        self._waits: dict[WaitKey, Wait] = {}
        self._ids: dict[str, set[str]] = {RUN: set(), TOKEN: set()}
        self._new: dict[str, dict[str, None]] = {RUN: {}, TOKEN: {}}
        self._flying: dict[Request, float] = {}
        self._queue = PollQueue(self._waits, rate=rate, burst=requests)
        self._breaker = CircuitBreaker(random)
        self._allocator = StreamAllocator(random)
        self._run_poller = RunPoller(random)
        self._token_poller = TokenPoller()
        self._token_interval = PollInterval(1.0, 5.0, 1.5, random)
        self._tokens_at = NEVER
        self._singles_first = False
        self._together = {RUN: False, TOKEN: False}

    # Registrations

    def add(self, key: WaitKey, now: float, interval: float | None = None) -> None:
        """Begin to wait for something; it is looked at as soon as the budget allows.

        :param interval: seconds between two single looks if the rate allows; None for one second growing to five.
        """
        pace = PollInterval(interval or 1.0, interval or 5.0, 1.5, self._random)
        wait = Wait(key, pace, Backoff(1.0, 10.0, self._random))
        self._waits[key] = wait
        if key.kind in self._ids:
            self._ids[key.kind].add(key.id)
            self._new[key.kind][key.id] = None
        else:
            self._queue.at(wait, now, now)
        if key.kind == RUN:
            self._allocator.add(key.id, now)

    def remove(self, key: WaitKey) -> None:
        """Stop waiting for something. Requests under way for it must still be reported, as dropped if nothing else."""
        if self._waits.pop(key, None) is None:
            return
        self._queue.settle(key)
        if key.kind in self._ids:
            self._ids[key.kind].discard(key.id)
            self._new[key.kind].pop(key.id, None)
        if key.kind == RUN:
            self._allocator.remove(key.id)
        elif key.kind == TOKEN:
            self._token_poller.forget(key.id)

    def streams(self, limit: int) -> None:
        """Set how many streams waits may hold; those above it are closed."""
        self._allocator.budget(limit)

    # What to do

    def actions(self, now: float) -> list[Action]:
        """Give what is to be started now. Each request is under way until it is answered, failed or dropped."""
        self._change_modes(now)
        self._welcome(now)
        # While there is room for one request at a time, single looks and lists take turns: either would always be due.
        singles = self._look_singly(now, most=int(self._singles_first))
        together = self._look_together(now)
        singles += self._look_singly(now, most=self._requests)
        if singles or together:
            self._singles_first = not singles
        started = singles + together
        self._end_pass(now)
        if not self._breaker.probing:
            for action in self._allocator.actions(now):
                self._change_pace(self._waits[WaitKey(RUN, action.run_id)], now, stopped=isinstance(action, StopFollow))
                started.append(action)
        return started

    def wake_at(self, now: float) -> float | None:
        """Give the time at which ``actions`` may have something new although nothing is reported; None for never."""
        earliest = IDLE
        if len(self._flying) < self._most():
            wanted = [self._queue.wake_at(now)]
            if self._together[RUN]:
                wanted.append(self._run_poller.wake_at())
                if self._new[RUN] and not self._run_poller.listing:
                    wanted.append(self._run_poller.newcomers_at())
            if self._token_poller.page is not None:
                wanted.append(IDLE if self._token_poller.page in self._flying else NEVER)
            elif self._together[TOKEN]:
                wanted.append(self._tokens_at)
            earliest = max(min(wanted), self._breaker.opens_at)
        if not self._breaker.probing:
            earliest = min(earliest, self._allocator.wake_at())
        return None if earliest == IDLE else earliest

    # What came of it

    def retrieved(self, action: Retrieve, now: float, *, ended: bool, status: str = "") -> bool:
        """Take a snapshot.

        :returns: whether it ends a wait, which is then forgotten.
        """
        started = self._answered(action)
        wait = self._waits.get(action.key)
        if started is None or wait is None:
            return False
        self._queue.settle(action.key)
        if ended:
            if action.key.kind == RUN:
                if wait.seen_at > NEVER:
                    self._run_poller.found(wait.seen_at)
                if status != "cancelled":  # A cancelled run's last event comes when its worker lets go, not before.
                    self._allocator.beaten(action.key.id, now)
            elif action.key.kind == TOKEN:
                self._token_interval.reset()
            self.remove(action.key)
            return True
        wait.backoff.reset()
        self._alive(wait, status, started)
        self._queue.at(wait, self._next_look(wait, now), now)
        return False

    def listed(self, action: ListRuns, now: float, statuses: Mapping[str, str], *, full: bool) -> None:
        """Take a list of runs.

        :param statuses: status by run id.
        :param full: whether it is as long as lists get.
        """
        started = self._answered(action)
        if started is None:
            return
        ours = self._ids[RUN]
        for run_id, status in statuses.items():
            if run_id in ours:
                self._alive(self._waits[WaitKey(RUN, run_id)], status, started)
        known = {run_id: self._waits[WaitKey(RUN, run_id)].status for run_id in ours}
        self._suspect(
            (WaitKey(RUN, run_id) for run_id in self._run_poller.listed(action, now, statuses, known, full=full)), now
        )

    def counted(self, action: CountRuns, now: float, finished: int) -> None:
        """Take the number of runs of the environment that have ended, ever."""
        if self._answered(action) is not None:
            self._run_poller.counted(now, finished)

    def paged(self, action: ListPendingTokens, now: float, pending: Collection[str], cursor: str | None) -> None:
        """Take a page of pending tokens and the cursor of the next one."""
        started = self._answered(action)
        if started is None:
            return
        for token_id in self._ids[TOKEN].intersection(pending):
            self._alive(self._waits[WaitKey(TOKEN, token_id)], "pending", started)
        missing = self._token_poller.paged(action, pending, cursor)
        if missing is not None:
            self._tokens_at = now + self._token_interval.next()
            self._suspect((WaitKey(TOKEN, token_id) for token_id in missing), now)

    def failed(self, action: Request, now: float, failure: Failure) -> list[WaitKey]:
        """Take a failure.

        :returns: the waits that it ends, which are then forgotten.
        """
        started = self._answered(action, failure if failure.outage else None, now)
        if started is None:
            return []
        if isinstance(action, Retrieve):
            self._queue.settle(action.key)
        concerned = self._concerned(action, failure)
        for key in concerned:
            self.remove(key)
        if isinstance(action, CountRuns | ListRuns):
            self._run_poller.failed(action, now, retryable=failure.retryable)
        elif isinstance(action, ListPendingTokens):
            self._tokens_at = now + self._token_interval.next()
            self._queue.enqueue(
                wait for token in self._token_poller.give_up() if (wait := self._waits.get(WaitKey(TOKEN, token)))
            )
        elif (wait := self._waits.get(action.key)) is not None:
            self._queue.at(wait, now + max(wait.backoff.next(), failure.retry_after or 0.0), now)
        return concerned

    def dropped(self, action: Request, now: float) -> None:
        """Note that a request was given up without an answer."""
        if self._flying.pop(action, None) is None:
            return
        if isinstance(action, CountRuns | ListRuns):
            self._run_poller.dropped(action)
        elif isinstance(action, Retrieve) and (wait := self._waits.get(action.key)) is not None:
            self._queue.settle(action.key)
            self._queue.at(wait, now, now)

    def stream_record(self, run_id: str, now: float, cursor: str | None, lag: float | None, *, hint: bool) -> None:
        """Take a record of a followed run.

        :param lag: seconds between the event and its arrival; None if it is older than the stream.
        :param hint: it reads as the end of the run, which means no more than that the snapshot is read now.
        """
        if self._allocator.record(run_id, now, cursor, lag, hint=hint):
            self._waits[WaitKey(RUN, run_id)].hasty = len(self.HASTE)
            self._suspect([WaitKey(RUN, run_id)], now)

    def stream_ended(
        self,
        run_id: str,
        now: float,
        failure: Failure | None = None,
        cursor: str | None = None,
        *,
        paused: bool = False,
    ) -> None:
        """Note that a stream is closed, whoever closed it.

        :param failure: why, if neither the server nor the driver meant to.
        :param cursor: where to go on behind a frame that could not be read.
        :param paused: the driver closed it to do something else in between.
        """
        if self._allocator.ended(run_id, now, failure, cursor, paused=paused):
            wait = self._waits[WaitKey(RUN, run_id)]
            wait.pace.reset()
            self._queue.at(wait, now, now)

    # How it is decided

    def _most(self) -> int:
        return 1 if self._breaker.probing else self._requests

    def _room(self, now: float) -> bool:
        return now >= self._breaker.opens_at and len(self._flying) < self._most()

    def _start(self, request: Request, now: float) -> Request:
        self._flying[request] = now
        return request

    def _answered(self, request: Request, outage: Failure | None = None, now: float = 0.0) -> float | None:
        started = self._flying.pop(request, None)
        if started is not None:
            if outage is not None:
                self._breaker.failed(started, now, outage.retry_after)
            else:
                self._breaker.succeeded(started)
        return started

    def _change_modes(self, now: float) -> None:
        alone = {RUN: self._allocator.allowed(now), TOKEN: 0}
        for kind, ids in self._ids.items():
            together = len(ids) - alone[kind] >= self.TOGETHER
            if self._together[kind] and not together:
                if kind == RUN:
                    self._run_poller.rest()
                for wait in (self._waits[WaitKey(kind, id_)] for id_ in ids):
                    if wait.due == IDLE and Retrieve(wait.key) not in self._flying:
                        self._queue.at(wait, now + wait.pace.next(), now)
            self._together[kind] = together

    def _welcome(self, now: float) -> None:
        """See to it that what is new gets its first look: few singly, many by lists."""
        for kind, new in self._new.items():
            if len(new) > self.NEWCOMERS and self._together[kind]:
                if kind == TOKEN:
                    self._tokens_at = now
                    continue
                if self._run_poller.newcomers(now):
                    continue
                self._queue.enqueue(self._waits[WaitKey(kind, id_)] for id_ in new)
            else:
                for id_ in new:
                    self._queue.at(self._waits[WaitKey(kind, id_)], now, now)
            new.clear()

    def _look_together(self, now: float) -> list[Action]:
        started: list[Action] = []
        if self._together[RUN]:
            for request in self._run_poller.due(now):
                if self._room(now):
                    self._run_poller.started(request)
                    started.append(self._start(request, now))
            if self._run_poller.listing_ended():
                self._queue_unseen()
        if self._together[TOKEN] and self._token_poller.page is None and now >= self._tokens_at:
            self._token_poller.begin(self._ids[TOKEN])
            self._tokens_at = now + self._token_interval.next()
            self._new[TOKEN].clear()
        page = self._token_poller.page
        if page is not None and page not in self._flying and self._room(now):
            started.append(self._start(page, now))
        return started

    def _look_singly(self, now: float, *, most: int) -> list[Action]:
        started: list[Action] = []
        while len(started) < most and self._room(now):
            wait = self._queue.pop(now, self._flying, searching=self._run_poller.searching)
            if wait is None:
                break
            started.append(self._start(Retrieve(wait.key), now))
        return started

    def _queue_unseen(self) -> None:
        began = self._run_poller.began
        runs = (self._waits[WaitKey(RUN, run_id)] for run_id in self._ids[RUN])
        self._queue.enqueue(wait for wait in runs if wait.seen_at < began)
        self._new[RUN].clear()

    def _end_pass(self, now: float) -> None:
        looking = self._run_poller.listing or self._queue.pending
        under_way = any(isinstance(one, Retrieve) and one.key.kind == RUN for one in self._flying)
        if self._run_poller.searching and not looking and not under_way:
            self._run_poller.ended(now)

    def _change_pace(self, wait: Wait, now: float, *, stopped: bool) -> None:
        """Look at a run at once when its stream is taken away, and seldom while it has one."""
        if stopped:
            self._queue.at(wait, now, now)
        elif not wait.hasty:
            wait.due = IDLE
            self._queue.at(wait, self._next_look(wait, now), now)

    def _next_look(self, wait: Wait, now: float) -> float:
        if wait.hasty:
            wait.hasty -= 1
            return now + self.HASTE[-1 - wait.hasty]
        if wait.key.kind == RUN and self._allocator.follows(wait.key.id):
            return now + self.CHECK * (0.8 + 0.4 * self._random())
        return IDLE if self._together.get(wait.key.kind) else now + wait.pace.next()

    def _suspect(self, keys: Iterable[WaitKey], now: float) -> None:
        for key in keys:
            if (wait := self._waits.get(key)) is not None:
                self._queue.suspect(wait, now)

    def _alive(self, wait: Wait, status: str, started: float) -> None:
        wait.status = status
        wait.seen_at = max(wait.seen_at, started)
        if wait.key.kind in self._new:
            self._new[wait.key.kind].pop(wait.key.id, None)
        if wait.key.kind == RUN:
            self._allocator.alive(wait.key.id, status, started)
            wait.queued = wait.queued and wait.seen_at < self._run_poller.began
        else:
            wait.queued = False

    def _concerned(self, action: Request, failure: Failure) -> list[WaitKey]:
        if failure.credential == "all":
            return list(self._waits)
        if failure.credential == "kind":
            return [key for key in self._waits if key.kind == kind_of(action)]
        if isinstance(action, Retrieve) and not failure.retryable:
            return [action.key] if action.key in self._waits else []
        return []

"""A model of the control plane and of the network in between, in virtual time: what the scheduler of waits meets.

Runs and tokens end at times laid down beforehand. A request is evaluated at some moment between its start and its
answer; answers come late, out of order, twice, or not at all, which their sender then reports as a failure.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from helmr_provider.client._waiting.actions import (
    RUN,
    TOKEN,
    CountRuns,
    Failure,
    Follow,
    ListedRun,
    ListPendingTokens,
    ListRuns,
    Retrieve,
    StopFollow,
    WaitKey,
)
from helmr_provider.client._waiting.assembly import build_scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

FOREVER = float("inf")
OTHER = "exec"


@dataclass
class Awaited:
    """A run, a token, or anything else.

    :param born: when it is created.
    :param starts: when a run goes from queued to running.
    :param ends: when it ends; never if infinite.
    :param hints: when a record that reads as the end is written although the run continues (a retried attempt).
    :param joined: when it is waited for; never if infinite.
    :param leaves: when its waiter gives up.
    """

    created: float = 0.0
    starts: float = 0.0
    ends: float = FOREVER
    hints: tuple[float, ...] = ()
    joined: float = 0.0
    leaves: float = FOREVER

    def status(self, now: float) -> str:
        if now >= self.ends:
            return "succeeded"
        return "running" if now >= self.starts else "queued"


@dataclass
class NetworkFaults:
    """How bad the network is, as probabilities and seconds."""

    latency: float = 0.05
    lost: float = 0.0
    refused: float = 0.0
    duplicated: float = 0.0
    stream_cut: float = 0.0
    stream_silent: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    no_counts: bool = False
    no_lists: bool = False

    def down(self, now: float) -> bool:
        return any(begin <= now < end for begin, end in self.outages)


@dataclass
class Observations:
    """What happened, for assertions."""

    ended: dict[WaitKey, list[float]] = field(default_factory=dict[WaitKey, list[float]])
    polled: dict[WaitKey, list[float]] = field(default_factory=dict[WaitKey, list[float]])
    sent: list[tuple[float, Any]] = field(default_factory=list[tuple[float, Any]])
    most_requests: int = 0
    most_streams: int = 0

    def count(self, kind: type) -> int:
        return sum(isinstance(action, kind) for _, action in self.sent)


class Simulation:
    """Drive a scheduler against the model.

    :param runs: all runs of the environment by id, also those without a wait.
    :param tokens: all tokens.
    :param others: things that no list knows, polled every ``interval`` seconds.
    :param list_size: how many runs a list holds at most.
    """

    def __init__(
        self,
        *,
        runs: dict[str, Awaited],
        tokens: dict[str, Awaited] | None = None,
        others: dict[str, Awaited] | None = None,
        interval: float = 0.25,
        streams: int = 4,
        requests: int = 8,
        rate: float = 100.0,
        faults: NetworkFaults | None = None,
        list_size: int = 200,
        page_size: int = 500,
        seed: int = 0,
    ) -> None:
        self.random = Random(seed)
        self.scheduler = build_scheduler(requests=requests, rate=rate, random=self.random.random)
        self.scheduler.streams(streams)
        self.streams, self.requests = streams, requests
        self.things = {WaitKey(RUN, id_): thing for id_, thing in runs.items()}
        self.things |= {WaitKey(TOKEN, id_): thing for id_, thing in (tokens or {}).items()}
        self.things |= {WaitKey(OTHER, id_): thing for id_, thing in (others or {}).items()}
        self.rate, self.interval = rate, interval
        self.faults = faults or NetworkFaults()
        self.list_size, self.page_size = list_size, page_size
        self.seen = Observations()
        self.waiting: set[WaitKey] = set()
        self.flying: set[Any] = set()
        self.open: dict[str, int] = {}
        self._opened = count(1)
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        for key, thing in self.things.items():
            if thing.joined < FOREVER:
                self.at(thing.joined, partial(self._join, key))
                self.at(thing.leaves, partial(self._leave, key))

    def __repr__(self) -> str:
        limits = f"streams={self.streams}, requests={self.requests}, list_size={self.list_size}"
        return f"Simulation({self.things}, {self.faults}, {limits}, page_size={self.page_size})"

    def at(self, when: float, what: Callable[[], None]) -> None:
        if when < FOREVER:
            heapq.heappush(self._agenda, (max(when, self.now), next(self._order), what))

    def run(self, until: float) -> Observations:
        """Let the time pass."""
        idle = 0
        while True:
            self._act()
            wake_at = self.scheduler.wake_at(self.now)
            next_event = self._agenda[0][0] if self._agenda else FOREVER
            if min(wake_at if wake_at is not None else FOREVER, next_event) > until:
                self.now = until
                return self.seen
            if next_event <= (wake_at if wake_at is not None else FOREVER):
                self.now = next_event
                while self._agenda and self._agenda[0][0] <= self.now:
                    heapq.heappop(self._agenda)[2]()
                idle = 0
            else:
                assert wake_at is not None
                # A scheduler that asks to be woken now, and then has nothing to do, would spin.
                idle = idle + 1 if wake_at <= self.now else 0
                assert idle < 3, f"spins at {self.now}"
                self.now = max(self.now, wake_at)

    def _act(self) -> None:
        for action in self.scheduler.actions(self.now):
            self.seen.sent.append((self.now, action))
            match action:
                case Follow(run_id, cursor):
                    assert WaitKey(RUN, run_id) in self.waiting, f"followed {run_id} without a wait"
                    assert run_id not in self.open, f"followed {run_id} twice"
                    self._open(run_id, int(cursor or 0))
                case StopFollow(run_id):
                    self.at(self.now + self._latency(), partial(self._close, run_id))
                case _:
                    if isinstance(action, Retrieve):
                        assert action.key in self.waiting, f"polled {action.key} without a wait"
                    assert action not in self.flying, f"sent {action} twice"
                    self.flying.add(action)
                    self._send(action)
        self.seen.most_requests = max(self.seen.most_requests, len(self.flying))
        self.seen.most_streams = max(self.seen.most_streams, len(self.open))
        assert len(self.flying) <= self.requests
        assert len(self.open) <= self.streams

    def _join(self, key: WaitKey) -> None:
        self.waiting.add(key)
        self.scheduler.add(key, self.now, self.interval if key.kind == OTHER else None)

    def _leave(self, key: WaitKey) -> None:
        if key in self.waiting:
            self.waiting.discard(key)
            self.scheduler.remove(key)
            self._stop_wait(key)

    def _stop_wait(self, key: WaitKey) -> None:
        # A driver cancels what is under way for a wait that is over.
        if key.kind == RUN and key.id in self.open:
            self.at(self.now + self._latency(), lambda: self._close(key.id))
        if Retrieve(key) in self.flying:
            self.at(self.now + self._latency() / 2, lambda: self._drop(Retrieve(key)))

    def _drop(self, action: Any) -> None:
        if action in self.flying:
            self.flying.discard(action)
            self.scheduler.dropped(action, self.now)

    # Requests

    def _latency(self) -> float:
        return self.faults.latency * (0.1 + self.random.random() ** 3 * 5)

    def _send(self, action: Any) -> None:
        latency = self._latency()
        evaluated = self.now + latency * self.random.random()
        self.at(evaluated, lambda: self._evaluate(action, evaluated, self.now + latency))

    def _evaluate(self, action: Any, now: float, answered: float) -> None:
        dice = self.random.random()
        broken = (isinstance(action, CountRuns) and self.faults.no_counts) or (
            isinstance(action, ListRuns | ListPendingTokens) and self.faults.no_lists
        )
        if self.faults.down(now):
            failure = Failure(retryable=True, outage=True)
        elif broken:
            failure = Failure(retryable=self.random.random() < 0.5)
        elif dice < self.faults.lost:
            failure = Failure(retryable=True, outage=True)
            answered += 5.0
        elif dice < self.faults.lost + self.faults.refused:
            failure = Failure(retryable=True, retry_after=self.random.choice([None, 0.5]))
        else:
            self._answer(action, now, answered)
            return
        self.at(answered, lambda: self._fail(action, failure))

    def _fail(self, action: Any, failure: Failure) -> None:
        if action in self.flying:
            self.flying.discard(action)
            assert self.scheduler.failed(action, self.now, failure) == []

    def _answer(self, action: Any, now: float, answered: float) -> None:
        report = self._report(action, now)

        def arrive() -> None:
            if action in self.flying:
                self.flying.discard(action)
                report()

        self.at(answered, arrive)
        if self.random.random() < self.faults.duplicated:
            # An answer to a request that is not under way any more is dropped.
            self.at(answered + self._latency(), lambda: None if action in self.flying else report())

    def _report(self, action: Any, now: float) -> Callable[[], None]:
        """Evaluate a request at this moment; what is returned tells the scheduler later."""
        match action:
            case Retrieve(key):
                thing = self.things[key]
                return lambda: self._retrieved(action, ended=now >= thing.ends, status=thing.status(now))
            case ListRuns(status):
                rows = self._rows(status, now)
                full = len(rows) >= self.list_size
                return lambda: self._listed(action, rows, full=full)
            case CountRuns():
                finished = sum(key.kind == RUN and now >= thing.ends for key, thing in self.things.items())
                return lambda: self.scheduler.counted(action, self.now, finished)
            case _:
                assert isinstance(action, ListPendingTokens)
                pending = sorted(key.id for key in self._live(TOKEN, now))
                rest = [id_ for id_ in pending if action.cursor is None or id_ > action.cursor]
                page = rest[: self.page_size]
                cursor = page[-1] if len(rest) > self.page_size else None
                return lambda: self._paged(action, page, cursor)

    def _live(self, kind: str, now: float) -> list[WaitKey]:
        """What is alive, newest first."""
        live = [k for k, thing in self.things.items() if k.kind == kind and thing.created <= now < thing.ends]
        return sorted(live, key=lambda key: (-self.things[key].created, key.id))

    def _retrieved(self, action: Retrieve, *, ended: bool, status: str) -> None:
        key = action.key
        self.seen.polled.setdefault(key, []).append(self.now)
        created = self.things[key].created
        if self.scheduler.retrieved(action, self.now, ended=ended, status=status, created=created):
            assert ended
            self._over(key)

    def _rows(self, status: str | None, now: float) -> dict[str, ListedRun]:
        """List runs, newest first."""
        rows: dict[str, ListedRun] = {}
        for key in self._existing(RUN, now):
            thing = self.things[key]
            has, ended = thing.status(now), now >= thing.ends
            if status == "all" or (not ended if status is None else has == status):
                rows[key.id] = ListedRun(has, thing.created, ended)
            if len(rows) == self.list_size:
                break
        return rows

    def _existing(self, kind: str, now: float) -> list[WaitKey]:
        keys = [key for key, thing in self.things.items() if key.kind == kind and thing.created <= now]
        return sorted(keys, key=lambda key: (-self.things[key].created, key.id))

    def _listed(self, action: ListRuns, rows: dict[str, ListedRun], *, full: bool) -> None:
        for id_ in rows:
            self.seen.polled.setdefault(WaitKey(RUN, id_), []).append(self.now)
        for key in self.scheduler.listed(action, self.now, rows, full=full):
            assert rows[key.id].ended
            self._over(key)

    def _over(self, key: WaitKey) -> None:
        self.seen.ended.setdefault(key, []).append(self.now)
        self.waiting.discard(key)
        self._stop_wait(key)

    def _paged(self, action: ListPendingTokens, page: list[str], cursor: str | None) -> None:
        for id_ in page:
            self.seen.polled.setdefault(WaitKey(TOKEN, id_), []).append(self.now)
        self.scheduler.paged(action, self.now, page, cursor)

    # Streams: the events of a run are its hints and its end, numbered from 1.

    def _open(self, run_id: str, cursor: int) -> None:
        stream = self.open[run_id] = next(self._opened)
        thing = self.things[WaitKey(RUN, run_id)]
        if self.faults.down(self.now):
            self.at(self.now + self._latency(), lambda: self._break(run_id, stream))
            return
        if self.random.random() < self.faults.stream_cut:
            self.at(self.now + 20 * self.random.random(), lambda: self._break(run_id, stream))
        for begin, _ in self.faults.outages:
            if begin > self.now:
                self.at(begin, lambda: self._break(run_id, stream))
        if self.random.random() < self.faults.stream_silent:
            return
        events = [*(hint for hint in thing.hints if hint < thing.ends), thing.ends]
        for number, at in enumerate(events, 1):
            if number > cursor and at < FOREVER:
                arrives = max(at, self.now) + self._latency()
                old = at < self.now
                self.at(arrives, partial(self._record, run_id, stream, number, None if old else at))

    def _record(self, run_id: str, stream: int, number: int, at: float | None) -> None:
        if self.open.get(run_id) == stream and WaitKey(RUN, run_id) in self.waiting:
            lag = None if at is None else self.now - at
            self.scheduler.stream_record(run_id, self.now, str(number), lag, hint=True)
            # The server closes a live stream behind a record that reads as the end (contract/behaviour.md section 7.3).
            self.at(
                self.now + self._latency(), lambda: self._close(run_id) if self.open.get(run_id) == stream else None
            )

    def _break(self, run_id: str, stream: int) -> None:
        if self.open.get(run_id) == stream:
            self._close(run_id, Failure(retryable=True))

    def _close(self, run_id: str, failure: Failure | None = None) -> None:
        if self.open.pop(run_id, None) is not None:
            self.scheduler.stream_ended(run_id, self.now, failure)

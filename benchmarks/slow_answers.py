"""How late waits learn of an end while the control plane answers slowly, in virtual time and without any I/O.

``make bench-slow-answers`` prints a row for each load: how many runs end a second, how late their waits learn of it,
and how many requests that takes. Each answer takes the same time however many are in flight.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from helmr_provider.client._waiting.actions import (
    FULL_LIST,
    RUN,
    CountRuns,
    Follow,
    ListedRun,
    ListRuns,
    Retrieve,
    StopFollow,
    WaitKey,
)
from helmr_provider.client._waiting.assembly import build_scheduler

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Load:
    """What the simulated client and control plane do.

    :param latency: seconds from a request to its answer; a function of time for one that changes.
    :param waits: how many runs are waited for at any time.
    :param mean: mean duration of a run in seconds.
    :param abandoned: share of the waits that are given up before the end of their run.
    :param seconds: how long the simulation lasts.
    :param requests: most requests in flight.
    :param streams: how many streams waits may hold.
    :param lists_of_ended: whether lists of ended runs show any.
    :param failing: one in this many runs fails; 0 for none.
    """

    latency: float | Callable[[float], float]
    waits: int
    mean: float
    abandoned: float = 0.2
    seconds: float = 300.0
    requests: int = 8
    streams: int = 0
    lists_of_ended: bool = True
    failing: int = 0
    refill: bool = True
    seed: int = 1


@dataclass
class Outcome:
    """What came of a load.

    :param delays: seconds from the end of each run to the end of its wait, in order; at least the seconds so far for
        one whose wait had not ended.
    :param sent: requests by kind.
    :param sent_at: when each was sent.
    """

    delays: list[float] = field(default_factory=list[float])
    sent: dict[str, int] = field(default_factory=dict[str, int])
    sent_at: list[float] = field(default_factory=list[float])
    seconds: float = 0.0

    def delay(self, share: float) -> float:
        return self.delays[min(len(self.delays) - 1, int(len(self.delays) * share))]

    @property
    def ends_a_second(self) -> float:
        return len(self.delays) / self.seconds


class Simulation:
    """Drive the scheduler of waits against a control plane that is slow."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.random = Random(load.seed)
        self.scheduler = build_scheduler(requests=load.requests, random=self.random.random)
        self.scheduler.streams(load.streams)
        self.now = 0.0
        self.ends: dict[str, float] = {}
        self.born: dict[str, float] = {}
        self.ended = 0
        self.waiting: set[WaitKey] = set()
        self.outcome = Outcome(seconds=load.seconds)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def run(self) -> Outcome:
        for _ in range(self.load.waits):
            self.at(self.random.random() * 10, self.start)
        woken = float("inf")
        while self._agenda or woken < float("inf"):
            next_event = self._agenda[0][0] if self._agenda else float("inf")
            self.now = min(next_event, max(woken, self.now + 1e-4))
            if self.now >= self.load.seconds:
                break
            if next_event <= self.now:
                heapq.heappop(self._agenda)[2]()
            for action in self.scheduler.actions(self.now):
                self.send(action)
            wake_at = self.scheduler.wake_at(self.now)
            woken = float("inf") if wake_at is None else wake_at
        late = [self.load.seconds - self.ends[key.id] for key in self.waiting if self.ends[key.id] < self.load.seconds]
        self.outcome.delays = sorted(self.outcome.delays + late)
        return self.outcome

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), what))

    def start(self) -> None:
        run_id = f"r{len(self.ends):06d}"
        self.born[run_id] = self.now
        self.ends[run_id] = self.now + self.random.uniform(0.5, 2 * self.load.mean)
        self.at(self.ends[run_id], self.end)
        key = WaitKey(RUN, run_id)
        self.waiting.add(key)
        self.scheduler.add(key, self.now)
        if self.random.random() < self.load.abandoned:
            self.at(self.now + self.random.uniform(0.3, self.load.mean), lambda: self.abandon(key))

    def end(self) -> None:
        self.ended += 1

    def abandon(self, key: WaitKey) -> None:
        if key in self.waiting:
            self.waiting.discard(key)
            self.scheduler.remove(key)
            self.start()

    def over(self, key: WaitKey) -> None:
        if key not in self.waiting:
            return
        self.outcome.delays.append(self.now - self.ends[key.id])
        self.waiting.discard(key)
        if self.load.refill:
            self.at(self.now, self.start)

    def send(self, action: Any) -> None:
        if isinstance(action, StopFollow):
            self.at(self.now, lambda: self.scheduler.stream_ended(action.run_id, self.now))
            return
        name = type(action).__name__ + (f" {action.status or 'live'}" if isinstance(action, ListRuns) else "")
        self.outcome.sent[name] = self.outcome.sent.get(name, 0) + 1
        self.outcome.sent_at.append(self.now)
        latency = self.load.latency(self.now) if callable(self.load.latency) else self.load.latency
        if isinstance(action, Follow):
            self.follow(action, latency)
            return
        answered = self.now + latency
        self.at(self.now + latency / 2, lambda: self.serve(action, answered))

    def follow(self, action: Follow, latency: float) -> None:
        def record() -> None:
            self.scheduler.stream_record(action.run_id, self.now, "1", None, hint=True)

        def close() -> None:
            self.scheduler.stream_ended(action.run_id, self.now)

        learned = max(self.now, self.ends[action.run_id]) + latency
        self.at(learned, record)
        self.at(learned, close)

    def serve(self, action: Any, answered: float) -> None:
        """Evaluate a request at this moment."""
        match action:
            case CountRuns():
                ended = self.ended
                self.at(answered, lambda: self.scheduler.counted(action, self.now, ended))
            case ListRuns(status):
                rows = self.rows(status)
                self.at(answered, lambda: self.listed(action, rows))
            case Retrieve(key):
                status = self.status(key.id)
                self.at(answered, lambda: self.retrieved(action, status))

    def status(self, run_id: str) -> str:
        if self.ends[run_id] > self.now:
            return "running"
        return "failed" if self.load.failing and int(run_id[1:]) % self.load.failing == 0 else "succeeded"

    def rows(self, status: str | None) -> dict[str, ListedRun]:
        rows: dict[str, ListedRun] = {}
        if status in {"all", "succeeded", "failed"} and not self.load.lists_of_ended:
            return rows
        for run_id in reversed(self.born):
            ended, has = self.ends[run_id] <= self.now, self.status(run_id)
            if status == "all" or (not ended if status is None else has == status):
                rows[run_id] = ListedRun(has, self.born[run_id], ended)
            if len(rows) == FULL_LIST or self.born[run_id] < self.now - 2 * self.load.mean - 60:
                break
        return rows

    def listed(self, action: ListRuns, rows: dict[str, ListedRun]) -> None:
        for key in self.scheduler.listed(action, self.now, rows, full=len(rows) >= FULL_LIST):
            self.over(key)

    def retrieved(self, action: Retrieve, status: str) -> None:
        created, ended = self.born[action.key.id], status != "running"
        if self.scheduler.retrieved(action, self.now, ended=ended, status=status, created=created):
            self.over(action.key)


LOADS = [
    Load(latency, waits, mean)
    for latency, waits, mean in (
        (0.02, 200, 8),
        (0.2, 200, 8),
        (0.5, 200, 8),
        (1.0, 200, 8),
        (0.5, 200, 30),
        (1.0, 200, 30),
        (2.0, 200, 30),
        (0.5, 100, 8),
        (1.0, 100, 8),
        (2.0, 100, 30),
        (0.5, 400, 60),
        (1.0, 400, 60),
        (0.2, 1000, 60),
        (2.0, 400, 8),
    )
]


def describe(load: Load, outcome: Outcome) -> str:
    p50, p99 = outcome.delay(0.5), outcome.delay(0.99)
    over = sum(delay > 60 for delay in outcome.delays)
    requests = len(outcome.sent_at) / load.seconds
    latency = "varies" if callable(load.latency) else f"{load.latency:6.2f}"
    return (
        f"| {latency} | {load.waits:5} | {load.mean:4.0f} | {outcome.ends_a_second:5.1f} | {p50:6.1f} | {p99:6.1f} "
        f"| {outcome.delays[-1]:6.1f} | {over:5} | {requests:6.1f} | {outcome.sent}"
    )


def main() -> None:
    print("| answer s | waits | run s | ends/s | p50 s | p99 s | max s | >60 s | requests/s |")
    for load in LOADS:
        print(describe(load, Simulation(load).run()), flush=True)


if __name__ == "__main__":
    main()

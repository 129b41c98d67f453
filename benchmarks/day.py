"""A day of one triggerer, in virtual time: what waiting for a thousand sessions costs, and how late ends are seen.

The waits are those of the client's scheduler, and the control plane is simulated: no I/O, so that a day takes seconds.
The clock of the local control plane would not do: the client waits in real seconds.

- 400 sessions start within ten minutes of the night, 600 spread over working hours; each run works for some minutes
- every third session waits for an approval first, which a person gives after minutes or hours
- one run in twenty fails, and its retry starts another
- the control plane restarts several times; requests fail and streams break until it is back
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from benchmarks.slow_answers import Load, Simulation
from helmr_provider.client._waiting.actions import (
    FULL_LIST,
    RUN,
    TOKEN,
    TOKEN_PAGE,
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

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = 3600.0
DAY = 24 * HOUR
REFUSED = Failure(retryable=True, outage=True)
NIGHTLY = 0.4
APPROVED_FIRST = 1 / 3
FAILED = 1 / 20
RETRY_DELAY = 300.0


@dataclass
class Ledger:
    """What happened to waits on one kind of thing.

    :param delays: seconds from each end to the end of its wait.
    :param lost: waits that an error ended.
    """

    delays: list[float] = field(default_factory=list[float])
    lost: int = 0

    def delay(self, share: float) -> float:
        return sorted(self.delays)[min(len(self.delays) - 1, int(len(self.delays) * share))]


class Day(Simulation):
    """The waits of a day.

    :param sessions: how many sessions there are.
    :param restarts: how many times the control plane restarts.
    """

    def __init__(self, sessions: int = 1000, restarts: int = 8, seed: int = 1) -> None:
        # Half a day more, for what begins late.
        super().__init__(Load(0.01, sessions, 0, streams=4, seconds=1.5 * DAY, refill=False, seed=seed))
        self.kept: dict[str, Ledger] = {RUN: Ledger(), TOKEN: Ledger()}
        self.most_waits = 0
        self.outages = self._choose_outages(restarts)
        self._pending: dict[str, None] = {}
        self._live: dict[str, None] = {}
        self._then: dict[str, Callable[[], None]] = {}
        self._failing: set[str] = set()
        self._followed: Counter[str] = Counter()
        self._streams: dict[str, int] = {}

    @property
    def reconnects(self) -> int:
        """How many streams were opened for a run that had one before."""
        return sum(self._followed.values()) - len(self._followed)

    def _choose_outages(self, restarts: int) -> list[tuple[float, float]]:
        chosen = []
        for number in range(restarts):
            begins = DAY * (number + self.random.random()) / restarts
            chosen.append((begins, begins + self.random.uniform(5, 180)))
            self.at(begins, self._cut_streams)
        return chosen

    def _outage_until(self, now: float) -> float | None:
        return next((ends for begins, ends in self.outages if begins <= now < ends), None)

    # What happens

    def run(self) -> Any:
        """Simulate the day."""
        nightly = int(self.load.waits * NIGHTLY)
        for number in range(self.load.waits):
            if number < nightly:
                start = 2 * HOUR + self.random.uniform(0, 600)
            else:
                start = self.random.uniform(8 * HOUR, 20 * HOUR)
            self.at(start, self._ask if self.random.random() < APPROVED_FIRST else self.start)
        self.load = replace(self.load, waits=0)
        return super().run()

    def _ends_at(self, when: float) -> float:
        """A control plane that is down records nothing."""
        return self._outage_until(when) or when

    def _ask(self) -> None:
        """Ask for an approval, and start the session when it was given."""
        token = f"t{len(self.ends):06d}"
        minutes = math.exp(self.random.uniform(math.log(2), math.log(8 * 60)))
        self.ends[token] = self._ends_at(self.now + minutes * 60)
        self._pending[token] = None
        self.at(self.ends[token], lambda: self._pending.pop(token))
        self._then[token] = self.start
        self._wait(WaitKey(TOKEN, token))

    def start(self) -> None:
        """Start a session and wait for its run."""
        run_id = f"r{len(self.ends):06d}"
        self.born[run_id] = self.now
        self.ends[run_id] = self._ends_at(self.now + self.random.uniform(120, 2400))
        self._live[run_id] = None
        self.at(self.ends[run_id], lambda: self._end(run_id))
        if self.random.random() < FAILED:
            self._failing.add(run_id)
            self._then[run_id] = lambda: self.at(self.now + RETRY_DELAY, self.start)
        self._wait(WaitKey(RUN, run_id))

    def _end(self, run_id: str) -> None:
        del self._live[run_id]
        self.ended += 1

    def _wait(self, key: WaitKey) -> None:
        self.waiting.add(key)
        self.most_waits = max(self.most_waits, len(self.waiting))
        self.scheduler.add(key, self.now)

    def over(self, key: WaitKey) -> None:
        """Record the end of a wait."""
        if key not in self.waiting:
            return
        super().over(key)
        self.kept[key.kind].delays.append(self.now - self.ends[key.id])
        self._then.pop(key.id, lambda: None)()

    # The control plane

    def send(self, action: Any) -> None:
        """Send a request, which fails while the control plane is down when it arrives or answers."""
        if isinstance(action, Follow | StopFollow):
            super().send(action)
            return
        name = type(action).__name__
        self.outcome.sent[name] = self.outcome.sent.get(name, 0) + 1
        self.outcome.sent_at.append(self.now)
        latency = 0.01
        if self._outage_until(self.now) or self._outage_until(self.now + latency):
            self.at(self.now + latency, lambda: self._refuse(action))
        else:
            self.at(self.now + latency / 2, lambda: self.serve(action, self.now + latency / 2))

    def _refuse(self, action: Any) -> None:
        for key in self.scheduler.failed(action, self.now, REFUSED):
            self.waiting.discard(key)
            self.kept[key.kind].lost += 1

    def follow(self, action: Follow, latency: float) -> None:
        """Open a stream; it ends with its run, or breaks with the control plane."""
        self._followed[action.run_id] += 1
        stream = self._followed[action.run_id]
        if self._outage_until(self.now):
            self.at(self.now + latency, lambda: self.scheduler.stream_ended(action.run_id, self.now, REFUSED))
            return
        self._streams[action.run_id] = stream

        def say(*, end: bool) -> None:
            if self._streams.get(action.run_id) != stream:
                return
            if end:
                self.scheduler.stream_record(action.run_id, self.now, "2", latency, hint=True)
                del self._streams[action.run_id]
                self.scheduler.stream_ended(action.run_id, self.now)
            else:
                self.scheduler.stream_record(action.run_id, self.now, "1", None, hint=False)

        self.at(self.now + latency, lambda: say(end=False))
        self.at(max(self.now, self.ends[action.run_id]) + latency, lambda: say(end=True))

    def _cut_streams(self) -> None:
        streams, self._streams = list(self._streams), {}
        for run_id in streams:
            self.scheduler.stream_ended(run_id, self.now, REFUSED)

    def serve(self, action: Any, answered: float) -> None:
        """Evaluate a request at this moment."""
        match action:
            case ListPendingTokens(cursor):
                tokens = list(self._pending)
                page = tokens[int(cursor or 0) :][:TOKEN_PAGE]
                following = int(cursor or 0) + TOKEN_PAGE
                more = str(following) if following < len(tokens) else None
                self.at(answered, lambda: self.scheduler.paged(action, self.now, page, more))
            case CountRuns() | ListRuns() | Retrieve():
                super().serve(action, answered)

    def status(self, run_id: str) -> str:
        """Return the status that a snapshot of a run or token shows now."""
        if self.ends[run_id] > self.now:
            return "running"
        return "failed" if run_id in self._failing else "succeeded"

    def retrieved(self, action: Retrieve, status: str) -> None:
        """Report a snapshot."""
        if action.key.kind == RUN:
            super().retrieved(action, status)
        elif self.scheduler.retrieved(action, self.now, ended=status != "running", status=status):
            self.over(action.key)

    def rows(self, status: str | None) -> dict[str, ListedRun]:
        """Return the newest runs of a list."""
        chosen = (run for run in reversed(self.born) if status in {"all", self.status(run)})
        listed = islice(reversed(self._live) if status is None else chosen, FULL_LIST)
        return {run: ListedRun(self.status(run), self.born[run], run not in self._live) for run in listed}


def report(day: Day, outcome: Any) -> str:
    requests = sum(outcome.sent.values())
    busiest_second = Counter(int(at) for at in outcome.sent_at).most_common(1)[0][1]
    busiest_hour = Counter(int(at // HOUR) for at in outcome.sent_at).most_common(1)[0][1]
    runs, tokens = day.kept[RUN], day.kept[TOKEN]
    down = sum(ends - begins for begins, ends in day.outages)
    hours = max(at for at in outcome.sent_at) / HOUR
    lines = [
        ("waits for runs, for approvals", f"{len(runs.delays):,}, {len(tokens.delays):,}"),
        ("most waits at a time", f"{day.most_waits:,}"),
        ("restarts of the control plane, time that it was down", f"{len(day.outages)}, {down:.0f} s"),
        ("requests", f"{requests:,} in {hours:.1f} h"),
        *(("… " + kind, f"{count:,}") for kind, count in sorted(outcome.sent.items())),
        ("requests in the busiest hour, in the busiest second", f"{busiest_hour:,}, {busiest_second:,}"),
        ("streams opened again for a run", f"{day.reconnects:,}"),
        ("from a run's end to its wait's end: p50, p99", f"{runs.delay(0.5):.2f} s, {runs.delay(0.99):.2f} s"),
        ("… longest", f"{max(runs.delays):.2f} s"),
        ("from an answer to its wait's end: p50, p99", f"{tokens.delay(0.5):.2f} s, {tokens.delay(0.99):.2f} s"),
        ("… longest", f"{max(tokens.delays):.2f} s"),
        ("waits that an outage ended, waits that never ended", f"{runs.lost + tokens.lost}, {len(day.waiting)}"),
    ]
    return "\n".join(f"{what:<56}{value:>24}" for what, value in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000, help="sessions of the day (default: %(default)s)")
    parser.add_argument("--restarts", type=int, default=8, help="restarts of the control plane (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is random (default: %(default)s)")
    options = parser.parse_args()
    began = time.perf_counter()
    day = Day(options.sessions, options.restarts, options.seed)
    outcome = day.run()
    print(f"{report(day, outcome)}\n\nsimulated in {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

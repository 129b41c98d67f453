"""Fault schedules: what happens in a control plane, who waits for it, and what goes wrong; all made from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from helmr_provider.local import faults
from tests.client.faults.network import Cut

if TYPE_CHECKING:
    from helmr_provider.local import Fault
    from tests.client.faults.network import End

Flavour = Literal["async", "sync"]

LIST_OPERATIONS = ("listRuns", "countRuns", "listTokens")
SILENCE = 65.0
"""Seconds after which the client takes a silent stream for dead."""
LONG_DELAY = 25.0
"""Seconds of a delay that may pass a limit of the client."""


@dataclass(frozen=True)
class RunPlan:
    """A run.

    :param starts: when its session is started, in seconds, as all times of a schedule.
    :param attempts: the steps of each attempt: what is done, and with what.
    :param end: whether the last attempt succeeds; earlier ones fail.
    :param cancelled: when it is cancelled, if it has not ended by then.
    :param ttl: seconds after which it expires if it has not begun; it is not begun then.
    """

    starts: float
    attempts: tuple[tuple[tuple[str, float], ...], ...]
    end: Literal["return", "fail"]
    cancelled: float | None = None
    ttl: int | None = None


@dataclass(frozen=True)
class TokenPlan:
    """A token: when it is completed or cancelled, or after how long it expires."""

    end: Literal["complete", "cancel", "expire"]
    at: float


@dataclass(frozen=True)
class ExecPlan:
    """A command: when it writes how many bytes, and when it exits."""

    writes: tuple[tuple[float, int], ...]
    ends: float


Kind = Literal["wait", "wait_many", "token", "exec", "events", "logs", "stdout", "abandon"]


@dataclass(frozen=True)
class Watch:
    """A caller of the client.

    :param kind: what it calls; ``abandon`` is a wait that is given up.
    :param target: index of the run, token or command.
    :param at: when it calls.
    :param cursor: where a subscription begins.
    """

    kind: Kind
    target: int
    at: float
    cursor: int | None = None


@dataclass(frozen=True)
class Planted:
    """A fault of the local control plane."""

    at: float
    operation: str
    fault: Fault
    times: int = 1

    @property
    def lasts(self) -> float:
        return self.at + self.fault.seconds + (SILENCE if self.fault.kind == "silent_stream" else 0.0)


@dataclass(frozen=True)
class Outage:
    """All connections end or hang.

    :param kind: ``cut`` once; ``refuse`` also new ones for a while; ``stall`` nothing arrives for a while;
        ``unplug`` the control plane stops listening for a while; ``restart`` it is stopped, and started on its file.
    """

    at: float
    kind: Literal["cut", "refuse", "stall", "unplug", "restart"]
    seconds: float = 0.0
    how: End = "reset"

    @property
    def lasts(self) -> float:
        return self.at + self.seconds


@dataclass(frozen=True)
class ClockStep:
    """A clock is set."""

    at: float
    whose: Literal["server", "client"]
    seconds: float

    @property
    def lasts(self) -> float:
        return self.at


@dataclass(frozen=True)
class Schedule:
    """Everything that a seed decides.

    :param latency: least and most seconds that bytes take.
    :param segment: most bytes of the server that arrive together; 0 for as they were sent.
    """

    seed: int
    flavour: Flavour
    latency: tuple[float, float]
    segment: int
    streams: int
    runs: tuple[RunPlan, ...]
    tokens: tuple[TokenPlan, ...]
    execs: tuple[ExecPlan, ...]
    watches: tuple[Watch, ...]
    faults: tuple[Planted | Outage | ClockStep, ...]
    cuts: tuple[Cut, ...] = field(default=())

    @property
    def quiet_at(self) -> float:
        """When the last fault is over; what has not fired by then does not fire any more."""
        return max((fault.lasts for fault in self.faults), default=0.0)

    @property
    def restarts(self) -> bool:
        return any(isinstance(fault, Outage) and fault.kind == "restart" for fault in self.faults)

    @property
    def silent(self) -> bool:
        """Whether only a time limit of the client ends one of its streams or calls."""
        planted = [fault.fault for fault in self.faults if isinstance(fault, Planted)]
        return any(fault.kind == "silent_stream" or fault.seconds > LONG_DELAY for fault in planted)

    def over_sockets(self, scale: float) -> Schedule:
        """Return the same with all times scaled, and without what only a network in memory can do."""
        kept = tuple(fault for fault in self.faults if not isinstance(fault, ClockStep) or fault.whose == "server")
        return replace(self, faults=tuple(_scaled(fault, scale) for fault in kept), cuts=())

    def watched(self, *kinds: Kind) -> bool:
        return any(watch.kind in kinds for watch in self.watches)

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.flavour} client, {self.streams} streams, latency {self.latency[0]:g} to "
        lines = [f"{head}{self.latency[1]:g} s" + (f", pieces of {self.segment} bytes" if self.segment else "")]
        for name in ("runs", "tokens", "execs", "watches"):
            lines += [f"  {_ONE[name]} {index}: {plan}" for index, plan in enumerate(getattr(self, name))]
        lines += [f"  fault: {fault}" for fault in self.faults]
        lines += [f"  fault: {cut}" for cut in self.cuts]
        return "\n".join(lines)


_ONE = {"runs": "run", "tokens": "token", "execs": "command", "watches": "caller"}


def _scaled(fault: Planted | Outage | ClockStep, scale: float) -> Planted | Outage | ClockStep:
    """Scale what the world does not: the seconds of a planted fault."""
    if not isinstance(fault, Planted):
        return fault
    asked = fault.fault.retry_after
    brief = None if asked is None else str(min(1, int(asked)))
    return replace(fault, fault=replace(fault.fault, seconds=fault.fault.seconds * scale, retry_after=brief))


def make_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed. Half of the seeds are for the blocking client."""
    chance = Random(seed)
    flavour: Flavour = "sync" if seed % 2 else "async"
    runs = tuple(_run(chance) for _ in range(chance.choice((1, 1, 2, 2, 3, 5))))
    tokens = tuple(_token(chance) for _ in range(chance.choice((0, 0, 0, 1, 2, 4))))
    execs = (_exec(chance),) if chance.random() < 0.25 else ()
    watches = _watches(chance, runs, tokens, execs)
    schedule = Schedule(
        seed=seed,
        flavour=flavour,
        latency=chance.choice(((0.001, 0.02), (0.001, 0.02), (0.05, 0.4))),
        segment=chance.choice((0, 0, 700, 100)),
        streams=chance.choice((4, 4, 1, 0)),
        runs=runs,
        tokens=tokens,
        execs=execs,
        watches=watches,
        faults=(),
    )
    horizon = chance.choice((2.0, 10.0, 40.0))
    found = [_fault(chance, horizon, schedule) for _ in range(chance.choice((1, 2, 3, 5, 8, 12)))]
    found = _only_once(found)
    cuts = [
        Cut(chance.randrange(8), chance.choice((0, 1, 30, 150, 400, 900, 2000)), chance.choice(("eof", "reset")))
        for _ in range(chance.choice((0, 0, 1, 3)))
    ]
    members = {name: getattr(schedule, name) for name in schedule.__dataclass_fields__}
    return Schedule(**members | {"faults": tuple(sorted(found, key=lambda fault: fault.at)), "cuts": tuple(cuts)})


def _seconds(chance: Random) -> float:
    return round(chance.choice((0.0, 0.01, 0.2, 1.0, 3.0, 12.0, 30.0)) * chance.uniform(0.5, 1.5), 3)


def _run(chance: Random) -> RunPlan:
    attempts = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        steps: list[tuple[str, float]] = []
        for _ in range(chance.randrange(6)):
            what = chance.choice(("sleep", "sleep", "out", "out", "err", "entry", "wait"))
            steps.append((what, _seconds(chance) if what in ("sleep", "wait") else float(chance.choice((1, 20, 3000)))))
        attempts.append(tuple(steps))
    return RunPlan(
        starts=chance.choice((0.0, 0.0, _seconds(chance))),
        attempts=tuple(attempts),
        end=chance.choice(("return", "return", "fail")),
        cancelled=_seconds(chance) if chance.random() < 0.15 else None,
        ttl=chance.choice((1, 5, 20)) if chance.random() < 0.08 else None,
    )


def _token(chance: Random) -> TokenPlan:
    return TokenPlan(chance.choice(("complete", "complete", "cancel", "expire")), 0.5 + _seconds(chance))


def _exec(chance: Random) -> ExecPlan:
    at, writes = 0.0, []
    for _ in range(chance.randrange(6)):
        at += _seconds(chance)
        writes.append((round(at, 3), chance.choice((1, 100, 5000))))
    return ExecPlan(tuple(writes), round(at + _seconds(chance), 3))


def _watches(
    chance: Random, runs: tuple[RunPlan, ...], tokens: tuple[TokenPlan, ...], execs: tuple[ExecPlan, ...]
) -> tuple[Watch, ...]:
    watches: list[Watch] = []

    def watch(kind: Kind, target: int, starts: float = 0.0, cursors: tuple[int | None, ...] = (None,)) -> None:
        at = round(starts + chance.choice((0.0, 0.0, _seconds(chance))), 3)
        watches.append(Watch(kind, target, at, chance.choice(cursors)))

    for index, run in enumerate(runs):
        kinds: tuple[Kind, ...] = chance.choice(
            (("wait",), ("wait",), ("events",), ("logs",), ("wait", "events"), ("wait", "logs"))
        )
        for kind in kinds:
            watch(kind, index, run.starts, (None, None, None, 0, 1) if kind != "wait" else (None,))
    if chance.random() < 0.3:
        watch("abandon", chance.randrange(len(runs)), max(run.starts for run in runs))
    if len(runs) > 1 and chance.random() < 0.4:
        watch("wait_many", 0, max(run.starts for run in runs))
    for index in range(len(tokens)):
        watch("token", index)
    for index in range(len(execs)):
        watch(chance.choice(("exec", "stdout")), index)
        watch("stdout", index, 0.0, (None, 0, 1, 50))
    return tuple(watches)


_STATUSES = (408, 429, 429, 500, 502, 503, 504)
_STREAM_OF: dict[Kind, str] = {"events": "getRunEvents", "logs": "getRunLogs", "stdout": "listWorkspaceExecStdout"}


def _fault(chance: Random, horizon: float, schedule: Schedule) -> Planted | Outage | ClockStep:
    at = round(chance.choice((0.0, chance.uniform(0, horizon), chance.uniform(0, horizon))), 3)
    what = chance.random()
    if what < 0.15:
        seconds = round(chance.choice((0.0, 0.5, 4.0, 20.0, 50.0)) * chance.uniform(0.5, 1.2), 3)
        kind: Any = chance.choice(("cut", "refuse", "stall", "unplug", "restart"))
        return Outage(at, kind, 0.0 if kind == "cut" else seconds, chance.choice(("eof", "reset")))
    if what < 0.22:
        if chance.random() < 0.5:
            return ClockStep(at, "client", chance.choice((-3600.0, -60.0, -5.0, 2.0, 60.0, 3600.0)))
        # Runs that wait for a time wait for as long as the clock was set back.
        return ClockStep(at, "server", chance.choice((-60.0, -5.0, 2.0, 10.0, 60.0, 3600.0)))
    if what < 0.55:
        return _call_fault(chance, at)
    return _stream_fault(chance, at, schedule)


def _call_fault(chance: Random, at: float) -> Planted:
    operation = chance.choice(
        ("getRun", "getRun", "getRunEvents", "getToken", "getWorkspaceExec", "*", *LIST_OPERATIONS)
    )
    seconds = round(chance.choice((0.1, 2.0, 12.0, 45.0)) * chance.uniform(0.5, 1.2), 3)
    fault = chance.choice(
        (
            faults.status(chance.choice(_STATUSES), retry_after=chance.choice((None, None, 0, 1, 7, 40))),
            faults.status(chance.choice(_STATUSES)),
            faults.reset(),
            faults.hang_up(),
            faults.refuse(min(seconds, 20.0)),
            faults.lose_answer(),
            faults.delay(seconds),
            faults.late_headers(seconds),
        )
    )
    return Planted(at, operation, fault, chance.choice((1, 1, 1, 2, 6)))


def _stream_fault(chance: Random, at: float, schedule: Schedule) -> Planted:
    streams = [_STREAM_OF[watch.kind] for watch in schedule.watches if watch.kind in _STREAM_OF]
    operation = chance.choice(["getRunEvents", *streams])
    after = chance.choice((0, 0, 1, 1, 2, 3, 5))
    follows = schedule.watched("events") if operation == "getRunEvents" else operation == "getRunLogs"
    found = [
        faults.close_stream(after),
        faults.reset_stream(after),
        faults.half_frame(after),
        faults.silent_stream(after),
        faults.drip(chance.choice((0.0, 0.001, 0.004)), after),
        faults.duplicate(after),
        faults.late_headers(round(chance.uniform(1, 80), 3)),
    ]
    if operation != "getRunLogs":
        # A server reads logs from its database, so that their streams have no gaps.
        found.append(faults.gap(after))
    if operation != "listWorkspaceExecStdout":
        # A frame that comes broken twice is skipped, so that one of these is enough (see _only_once).
        found += [faults.malformed_frame(after), faults.expired_cursor(max(1, after))]
        if not follows:
            # Followers end with an error at these, as they must.
            found += [faults.oversize_frame(after), faults.expired_cursor(0)]
    else:
        found += [faults.expired_cursor(after)] * 3
    return Planted(at, operation, chance.choice(found), chance.choice((1, 1, 2)))


# A record that a stream brings broken, or leaves out, twice in a row is skipped.
_ONCE = frozenset({"malformed_frame", "gap", "expired_cursor", "oversize_frame"})


def _only_once(found: list[Planted | Outage | ClockStep]) -> list[Planted | Outage | ClockStep]:
    kept: list[Planted | Outage | ClockStep] = []
    spoiled: set[str] = set()
    for fault in found:
        if isinstance(fault, Planted) and fault.fault.kind in _ONCE:
            if fault.operation in spoiled:
                continue
            spoiled.add(fault.operation)
            kept.append(Planted(fault.at, fault.operation, fault.fault, 1))
        else:
            kept.append(fault)
    return kept

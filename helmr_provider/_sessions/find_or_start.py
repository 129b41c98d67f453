"""Decide whether a try uses an earlier session of its task instance, or replaces it, or starts the next one.

Everything here is pure. ``find_or_start`` is a generator that yields the next step and is sent its result, so that
every interleaving of tries, cancels and crashes can be tested without a server. The control plane is the only store.
``starter`` carries the steps out.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from helmr_provider._common.errors import IdentityError
from helmr_provider._sessions.epoch import given_up, was_given_up

if TYPE_CHECKING:
    from collections.abc import Collection

TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})

OnRetry: TypeAlias = Literal["reattach", "new"]
OnMismatch: TypeAlias = Literal["fail", "adopt"]

# A server that says "exists already" to a start and "unknown" to the lookup must not cause an endless loop.
_MAX_ROUNDS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSession:
    """A session and its first run, as they were read last.

    :param generation: which of the identity's sessions this is.
    :param run_status: status of the run with turn index 0; a later turn answers another input.
    :param owner: the stamp's owner; ``None`` without a stamp.
    :param epoch: the stamp's epoch; ``None`` without a stamp.
    :param instance: the stamp's task instance between two clears, the same in every try; ``None`` without a stamp.
    :param clears: the stamp's number of clears; ``None`` if it has none.
    :param try_number: the stamp's try; ``None`` without a stamp.
    """

    generation: int
    session_id: str
    run_id: str
    run_status: str
    owner: str | None
    epoch: str | None
    instance: str | None = None
    workspace_id: str | None = None
    clears: int | None = None
    try_number: int | None = None

    @property
    def live(self) -> bool:
        """Whether the run can still end; an unknown status counts as live."""
        return self.run_status not in TERMINAL


@dataclass(frozen=True, slots=True)
class LookUp:
    """Read the session of this generation; the answer is the session found, or ``None`` if it does not exist."""

    generation: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start this generation; the answer is the session, ``None`` if it exists (contract/behaviour.md §3.1)."""

    generation: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """Put the stamp onto this live session, then read its run again; the answer is the session."""

    seen: FoundSession


@dataclass(frozen=True, slots=True)
class Replace:
    """Cancel this live session and wait until its run has ended; the answer is ignored."""

    seen: FoundSession


@dataclass(frozen=True, slots=True)
class Compare:
    """Refuse this session if it was started with other input than this try would send; answer ``None``."""

    seen: FoundSession


Step: TypeAlias = LookUp | Start | Adopt | Replace | Compare


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The session that the try uses.

    :param started: whether it was started just now, rather than found.
    """

    seen: FoundSession
    started: bool


StartSteps: TypeAlias = Generator[Step, FoundSession | None, Outcome]


def find_or_start(
    *,
    owner: str,
    epoch: str,
    on_retry: OnRetry = "reattach",
    results: Collection[str] = frozenset({"succeeded"}),
    clears: int | None = None,
    try_number: int | None = None,
) -> StartSteps:
    """Find or start the one session of a task instance that this try uses.

    A generation is started only after the one before was seen ended, and an ended run stays ended, so no two live runs
    ever belong to one identity.

    :param owner: this try.
    :param epoch: this epoch.
    :param on_retry: ``new`` replaces what another try left running, instead of adopting it.
    :param results: statuses of runs whose result counts. A cancelled run makes way for the next all the same, because
        it may have been cancelled only because its task was.
    :param clears: how often tasks of the DAG run were cleared. A result of the same epoch is not taken if that number
        has grown since its session was stamped: the task may have been cleared while it was running.
    :param try_number: of this try.
    :raises IdentityError: others start and end sessions of this identity faster than they can be looked at, or a later
        try has started or adopted one.
    """
    for _ in range(_MAX_ROUNDS):
        seen = yield from highest_generation()
        if seen is not None:
            _refuse_given_up(seen, epoch, try_number)
        if seen is not None and (on_retry == "reattach" or seen.owner == owner):
            if seen.live:
                seen = (yield Adopt(seen)) or seen
                if seen.run_status != "cancelled":
                    return Outcome(seen=seen, started=False)
            elif seen.run_status in results and seen.run_status != "cancelled" and _is_current(seen, epoch, clears):
                return Outcome(seen=seen, started=False)
        elif seen is not None and seen.live:
            yield Replace(seen)
        started = yield Start(1 if seen is None else seen.generation + 1)
        if started is not None:
            return Outcome(seen=started, started=True)
    raise IdentityError("The sessions of this task instance keep changing; try again later.", permanent=False)


def _refuse_given_up(seen: FoundSession, epoch: str, try_number: int | None) -> None:
    if try_number is not None and was_given_up(
        epoch=epoch, try_number=try_number, stamped_epoch=seen.epoch, stamped_try=seen.try_number
    ):
        raise given_up(f"session {seen.session_id}", seen.try_number, try_number)


def _is_current(seen: FoundSession, epoch: str, clears: int | None) -> bool:
    return seen.epoch == epoch and (None in {seen.clears, clears} or seen.clears == clears)


def find_or_start_named(
    *,
    results: Collection[str] = frozenset({"succeeded"}),
    instance: str | None = None,
    epoch: str = "",
    on_mismatch: OnMismatch = "fail",
    try_number: int | None = None,
) -> StartSteps:
    """Find or start the one session with an external id of the author's own; any starter's session is used.

    Its generation is always 1. A session that another task instance started, or this one before a clear, must have been
    started with the same input. A retry adopts its own session in any case, because its run must not be paid for twice.

    :param results: statuses of runs whose result counts.
    :param instance: the stamp's task instance between two clears.
    :param epoch: this epoch.
    :param on_mismatch: ``adopt`` uses a session that was started with other input.
    :param try_number: of this try.
    :raises IdentityError: the session was started with other input, or its run ended without success; there will never
        be another first run. Or a later try of this task instance has started or adopted it.
    """
    for _ in range(_MAX_ROUNDS):
        seen = yield LookUp(1)
        if seen is None:
            seen = yield Start(1)
            if seen is not None:
                return Outcome(seen=seen, started=True)
            continue
        if _is_of_same_task(seen, instance, epoch):
            _refuse_given_up(seen, epoch, try_number)
        if on_mismatch == "fail" and (instance is None or seen.instance != instance):
            yield Compare(seen)
        if seen.live:
            seen = (yield Adopt(seen)) or seen
        if seen.live or seen.run_status in results:
            return Outcome(seen=seen, started=False)
        raise IdentityError(
            f"the session with this external_id exists already and its run {seen.run_id} is {seen.run_status}. "
            "An external id names one session for ever: template it (with {{ run_id }}, for example), "
            "or continue the session with HelmrSendInputOperator.",
            permanent=True,
        )
    raise IdentityError("The session with this external_id is neither there nor can it be started.", permanent=False)


def _is_of_same_task(seen: FoundSession, instance: str | None, epoch: str) -> bool:
    if seen.instance is None or seen.epoch is None or instance is None:
        return False
    return seen.instance.removesuffix(seen.epoch) == instance.removesuffix(epoch)


def highest_generation() -> Generator[LookUp, FoundSession | None, FoundSession | None]:
    """Find the highest generation that exists, by doubling and then halving: they have no gaps, and never go away."""
    found: FoundSession | None = None
    exists, missing = 0, None
    while missing is None or missing - exists > 1:
        generation = max(1, exists * 2) if missing is None else (exists + missing) // 2
        seen = yield LookUp(generation)
        if seen is None:
            missing = generation
        else:
            exists, found = generation, seen
    return found

"""Which Helmr session belongs to which Airflow task instance: names, ownership, and a start that happens at most once.

Everything here is pure. ``find_or_start`` is a generator that yields the next step and is sent its result, so that
every interleaving of tries, cancels and crashes can be tested without a server. The control plane is the only store.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from helmr_provider._common.errors import IdentityError
from helmr_provider._sessions.epoch import epoch_of, given_up, was_given_up

if TYPE_CHECKING:
    from collections.abc import Collection

OWNERSHIP: Final = "airflow"
"""Member of a session's metadata that holds the stamp; authors may not use it."""

MAX_NAME_BYTES: Final = 512
TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})

OnRetry: TypeAlias = Literal["reattach", "new"]
OnMismatch: TypeAlias = Literal["fail", "adopt"]

_TRY: Final = re.compile(r"[?&]try_number=\d+")
_KEPT_BYTES: Final = 440
_DIGEST_DIGITS: Final = 32
# A server that says "exists already" to a start and "unknown" to the lookup must not cause an endless loop.
_MAX_ROUNDS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """A task instance of one Airflow installation, the same in every try.

    :param prefix: the connection's ``session_prefix``; differs between installations that share a Helmr environment.
    :param map_index: -1 when the task is not mapped.
    """

    prefix: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def external_id(self, generation: int) -> str:
        """Name the session of a generation. A public format: it never changes.

        :param generation: counts from 1; a new one begins when the last one cannot be adopted.
        """
        return self._name(str(generation))

    def input_key(self, epoch: str) -> str:
        """Name the one input record that the task instance sends between two clears. A public format, too.

        :param epoch: of the stamp.
        """
        return self._name(epoch)

    def once_key(self, epoch: str, *more: str) -> str:
        """Return an idempotency key: the same in every try, another one after a clear. A public format, too.

        :param epoch: of the ownership metadata.
        :param more: distinguishes several things that one task instance does.
        """
        name = [self.external_id(1), epoch, *more]
        return f"airflow:{hashlib.sha256(json.dumps(name).encode()).hexdigest()}"

    def _name(self, last: str) -> str:
        base = f"{self.prefix}:{self.dag_id}:{self.run_id}:{self.task_id}:{self.map_index}"
        name = f"{base}:{last}"
        if len(name.encode()) <= MAX_NAME_BYTES:
            return name
        digest = hashlib.sha256(base.encode()).hexdigest()[:_DIGEST_DIGITS]
        kept = name.encode()[:_KEPT_BYTES].decode(errors="ignore")
        return f"{kept}~{digest}:{last}"


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnershipMetadata:
    """The metadata that a try of a task instance writes into the session that it owns.

    :param owner: the try. Only the owner of a session may cancel it.
    :param epoch: unchanged by retries, new after a clear: a result is taken over within one epoch only.
    :param url: page of the task instance, for people who read the session.
    :param clears: how often tasks of the DAG run were cleared; ``None`` where Airflow does not say. A task that is
        cleared while it runs keeps its epoch; this number tells such a clear from a retry.
    :param ends_with_task: whether the run is of no use when the task instance is over.
    """

    owner: str
    epoch: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    url: str | None = None
    clears: int | None = None
    ends_with_task: bool = False

    @classmethod
    def of(cls, ti: Any, dag_run: Any) -> OwnershipMetadata:
        """Make the stamp of a running try.

        :param ti: the task instance, of Airflow 2 or 3.
        :param dag_run: its DAG run.
        """
        map_index = -1 if ti.map_index is None else int(ti.map_index)
        return cls(
            owner=owner_of(ti),
            epoch=epoch_of(getattr(dag_run, "start_date", None), getattr(ti, "max_tries", 0)),
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=map_index,
            try_number=ti.try_number,
            url=getattr(ti, "log_url", None),
            clears=getattr(dag_run, "clear_number", None),
        )

    def identity(self, prefix: str) -> Identity:
        """Return whom the stamp belongs to, without the try.

        :param prefix: the connection's ``session_prefix``.
        """
        return Identity(
            prefix=prefix, dag_id=self.dag_id, run_id=self.run_id, task_id=self.task_id, map_index=self.map_index
        )

    def onto(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the metadata with this stamp in it, everything else untouched.

        :param metadata: metadata of the session, or the author's.
        """
        stamp = {
            "v": 1,
            "owner": self.owner,
            "epoch": self.epoch,
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "try_number": self.try_number,
            "url": self.url,
        }
        if self.clears is not None:
            stamp["clears"] = self.clears
        if self.ends_with_task:
            stamp["ends_with_task"] = True
        return {**(metadata or {}), OWNERSHIP: stamp}

    @property
    def instance(self) -> str:
        """Name the task instance between two clears, the same in every try."""
        return f"{self.dag_id}/{self.run_id}/{self.task_id}/{self.map_index}/{self.epoch}"

    def of_all_tries(self, prefix: str) -> dict[str, Any]:
        """Return metadata with a stamp that is the same in every try, for what a retry finds only by asking the same.

        Its owner is the task instance between two clears.

        :param prefix: the connection's ``session_prefix``.
        """
        url = None if self.url is None else _TRY.sub("", self.url)
        stamp = self.onto(None)[OWNERSHIP] | {"owner": self.instance, "url": url, "prefix": prefix}
        for name in ("try_number", "clears"):
            stamp.pop(name, None)
        return {OWNERSHIP: stamp}


def owner_of(ti: Any) -> str:
    """Name one try of a task instance: its id on Airflow 3, where every try has its own; its full key on Airflow 2.

    :param ti: the task instance.
    """
    if (ti_id := getattr(ti, "id", None)) is not None:
        return str(ti_id)
    map_index = -1 if ti.map_index is None else ti.map_index
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{map_index}/{ti.try_number}"


def ownership_member(metadata: Mapping[str, Any] | None, member: Literal["owner", "epoch"]) -> str | None:
    """Read a member of the stamp; ``None`` if there is none, or not one of ours.

    :param metadata: metadata of a session.
    """
    stamp = (metadata or {}).get(OWNERSHIP)
    if not isinstance(stamp, Mapping):
        return None
    value = cast("Mapping[str, object]", stamp).get(member)
    return value if isinstance(value, str) else None


def instance_in(metadata: Mapping[str, Any] | None) -> str | None:
    """Read which task instance a stamp names, as :attr:`OwnershipMetadata.instance`; ``None`` if there is no stamp.

    :param metadata: metadata of a session.
    """
    stamp = (metadata or {}).get(OWNERSHIP)
    if not isinstance(stamp, Mapping):
        return None
    members = cast("Mapping[str, object]", stamp)
    return "/".join(str(members.get(name)) for name in ("dag_id", "run_id", "task_id", "map_index", "epoch"))


def clears_in(metadata: Mapping[str, Any] | None) -> int | None:
    """Read how often tasks of the DAG run had been cleared when the stamp was written; ``None`` if it does not say.

    :param metadata: metadata of a session.
    """
    stamp = (metadata or {}).get(OWNERSHIP)
    value = cast("Mapping[str, object]", stamp).get("clears") if isinstance(stamp, Mapping) else None
    return value if isinstance(value, int) else None


def try_number_in(metadata: Mapping[str, Any] | None) -> int | None:
    """Read the number of the try that wrote a stamp; ``None`` if there is none.

    :param metadata: metadata of a session.
    """
    stamp = (metadata or {}).get(OWNERSHIP)
    value = cast("Mapping[str, object]", stamp).get("try_number") if isinstance(stamp, Mapping) else None
    return value if isinstance(value, int) else None


def refuse_reserved(metadata: Mapping[str, Any] | None) -> None:
    """Refuse metadata of an author that would be taken for a stamp.

    :param metadata: what the author gave.
    :raises IdentityError: it has the reserved member.
    """
    if metadata and OWNERSHIP in metadata:
        raise IdentityError(
            f"metadata may not have the member {OWNERSHIP!r}: it says which task instance a session belongs to.",
            permanent=True,
        )


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

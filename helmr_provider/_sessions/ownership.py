"""Start, adopt and cancel the session of a task instance: the requests behind ``identity``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from helmr_provider._common.cancel_reasons import REPLACED
from helmr_provider._common.cleanup import clean_up
from helmr_provider._common.errors import IdentityError
from helmr_provider._common.steps import drive
from helmr_provider._sessions.identity import (
    Adopt,
    Compare,
    FoundSession,
    LookUp,
    Replace,
    Start,
    clears_in,
    highest_generation,
    instance_in,
    ownership_member,
    try_number_in,
)
from helmr_provider.client.errors import HelmrConflictError, HelmrError, HelmrNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider._sessions.identity import Outcome, OwnershipMetadata, StartSteps, Step
    from helmr_provider._sessions.start_request import Differences, UnnamedStart
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.sessions import SessionSnapshot
    from helmr_provider.hooks.connection import HelmrSettings
    from helmr_provider.hooks.helmr import HelmrHook


# Another client's PATCH can undo a stamp, as nothing compares and swaps; more than a few in a row is no accident.
_STAMP_ATTEMPTS: Final = 3


@dataclass(kw_only=True)
class OwnedSession:
    """The Helmr session owned by this task attempt, from the moment that its start is sent.

    :param external_id: name of the session.
    :param owner: the try; the session's stamp must say the same when something is cancelled.
    :param named: whether the name is ours. If it is the author's, the session may serve others, too.
    :param session_id: known once the start was answered.
    :param run_id: known once the start was answered.
    """

    external_id: str
    owner: str
    named: bool
    session_id: str | None = None
    run_id: str | None = None

    @property
    def ids(self) -> dict[str, str]:
        """IDs pushed to XCom and carried across a deferral."""
        known = {"session_id": self.session_id, "run_id": self.run_id, "external_id": self.external_id}
        return {name: value for name, value in known.items() if value is not None}


class SessionStarter:
    """Perform the steps of ``find_or_start`` on a control plane.

    :param client: of the worker.
    :param stamp: of this try.
    :param name: external id of a generation.
    :param options: what to start with.
    :param wait: waits until a run has ended.
    :param on_owned: called with the name of the session before this try becomes responsible for it.
    :param log: of the task.
    """

    def __init__(
        self,
        client: HelmrClient,
        *,
        stamp: OwnershipMetadata,
        name: Callable[[int], str],
        options: UnnamedStart,
        wait: Callable[[str], object],
        on_owned: Callable[[str], object],
        log: Any,
    ) -> None:
        self._client = client
        self._stamp = stamp
        self._name = name
        self._options = options
        self._wait = wait
        self._on_owned = on_owned
        self._log = log

    def run(self, steps: StartSteps) -> Outcome:
        """Run the steps to the end.

        :param steps: of :func:`~helmr_provider._sessions.identity.find_or_start` or ``find_or_start_named``.
        :raises HelmrError: a request failed.
        :raises IdentityError: no session can be found or started.
        """
        outcome = drive(steps, self._step)
        if not outcome.started:
            self._report(outcome.seen)
        return outcome

    def _step(self, step: Step) -> FoundSession | None:
        match step:
            case LookUp(generation):
                return look_up(self._client, self._name(generation), generation)
            case Start(generation):
                return self._start(generation)
            case Adopt(seen):
                return self._adopt(seen)
            case Replace(seen):
                self._replace(seen)
                return None
            case Compare(seen):
                self._compare(seen)
                return None

    def _start(self, generation: int) -> FoundSession | None:
        external_id = self._name(generation)
        self._on_owned(external_id)
        try:
            started = self._options.start(self._client, external_id, self._stamp.onto(self._options.metadata))
        except HelmrConflictError as error:
            if error.code in {"session_fingerprint_mismatch", "session_terminal"}:
                return None
            raise
        if started.is_cached:
            return None
        return _seen(generation, started.session, started.run.id, started.run.status)

    def _adopt(self, seen: FoundSession) -> FoundSession:
        self._on_owned(self._name(seen.generation))
        session = self._put_stamp(seen)
        run = self._client.runs.retrieve(seen.run_id)
        self._log.info("Adopted run %s of session %s instead of starting another.", seen.run_id, seen.session_id)
        return _seen(seen.generation, session, run.id, run.status)

    def _put_stamp(self, seen: FoundSession) -> SessionSnapshot:
        session = self._client.sessions.retrieve(seen.session_id)
        for _ in range(_STAMP_ATTEMPTS):
            before = ownership_member(session.metadata, "owner")
            if before == self._stamp.owner and ownership_member(session.metadata, "epoch") == self._stamp.epoch:
                break
            try:
                self._client.sessions.update(seen.session_id, metadata=self._stamp.onto(session.metadata))
            except HelmrConflictError:
                # The session has ended; the run, read next, shows how.
                break
            session = self._client.sessions.retrieve(seen.session_id)
            if ownership_member(session.metadata, "owner") not in {before, self._stamp.owner}:
                self._log.warning("Session %s was adopted by another try at the same time.", seen.session_id)
                break
        return session

    def _report(self, seen: FoundSession) -> None:
        """Warn if the run that is used, live or ended, was started with other input."""
        try:
            differences = self._differences(seen)
        except HelmrError:
            return
        if differences is not None and any(differences):
            self._log.warning(
                "Run %s was started with other input than this try would send; it differs in %s. The run is used all "
                "the same. Input that differs from try to try contains something like the time or the try number.",
                seen.run_id,
                differences,
            )

    def _compare(self, seen: FoundSession) -> None:
        differences = self._differences(seen)
        if differences is None:
            self._log.warning("The input of run %s is unknown, so it was not compared with this task's.", seen.run_id)
        elif differences.runs:
            raise IdentityError(
                f"external_id {self._name(1)!r} names session {seen.session_id}, whose run {seen.run_id} "
                f"({seen.run_status}) was started with other input; it differs in {differences._replace(labels=())}. "
                "An external id names one session for ever: template it (with {{ run_id }}, for example), or set "
                "on_mismatch='adopt' to use the existing session and its result.",
                permanent=True,
            )

    def _differences(self, seen: FoundSession) -> Differences | None:
        """Compare the input of a run with this try's; ``None`` if the control plane does not show it."""
        created = next(self._client.runs.events.records(seen.run_id, page_size=1), None)
        attributes: Any = None if created is None else created.attributes
        if not isinstance(attributes, dict) or "task_id" not in attributes:
            return None
        return self._options.differences(attributes, workspace_id=seen.workspace_id)

    def _replace(self, seen: FoundSession) -> None:
        self._log.info("Cancelling session %s of an earlier try, because on_retry is 'new'.", seen.session_id)
        self._client.sessions.open(seen.session_id).cancel(reason=REPLACED)
        self._wait(seen.run_id)


def look_up(client: HelmrClient, external_id: str, generation: int = 1) -> FoundSession | None:
    """Read a session and its first run.

    :param client: of the worker.
    :param external_id: name of the session.
    :param generation: what to call it in the answer.
    :raises HelmrError: a request failed.
    """
    try:
        session = client.sessions.retrieve(external_id=external_id)
    except HelmrNotFoundError:
        return None
    # Not current_run_id: that becomes the run of a later turn (contract/behaviour.md §4).
    for run in client.sessions.open(session).runs():
        if run.turn_index == 0:
            return _seen(generation, session, run.run_id, run.status)
    raise IdentityError(f"Session {session.id} shows no first run.", permanent=False)


def find_last(client: HelmrClient, name: Callable[[int], str], *, single: bool = False) -> FoundSession | None:
    """Read the last session that a task instance has started.

    :param client: of the worker.
    :param name: external id of a generation.
    :param single: whether there is one name only, an author's.
    :raises HelmrError: a request failed.
    """
    if single:
        return look_up(client, name(1))
    return drive(highest_generation(), lambda step: look_up(client, name(step.generation), step.generation))


def find_own(
    hook: HelmrHook, name: Callable[[], Callable[[int], str]], owner: str, *, single: bool, log: Any
) -> FoundSession | None:
    """Find the last session of a task instance, if it belongs to this try; ``None`` if it cannot be found.

    :param hook: gives the worker's client.
    :param name: returns the external id of a generation.
    :param owner: this try.
    :param single: whether there is one name only, an author's.
    :param log: of the task.
    """
    try:
        seen = find_last(hook.client, name(), single=single)
    except Exception as error:  # noqa: BLE001 - with any error here, the try fails for the reason that led here
        log.warning("What this task has started in Helmr cannot be found: %s: %s", type(error).__name__, error)
        return None
    return seen if seen is not None and seen.owner == owner else None


def cancel_until_accepted(settings: HelmrSettings, owned: OwnedSession, *, reason: str, log: Any) -> bool:
    """Cancel what a try owns, again and again while the control plane does not answer.

    :param settings: of the connection. The hook's own client may have been stopped by a signal in the middle of a
        request, with its locks held.
    :param owned: of this try.
    :param reason: goes into the run's events.
    :param log: of the task.
    """

    def do() -> bool:
        with settings.client(max_streams=0) as client:
            return cancel(client, owned, reason=reason, log=log)

    what = left_over(owned.session_id or owned.external_id, owned.run_id, whole_session=owned.named)
    return bool(clean_up(do, log=log, left_over=what))


def cancel(client: HelmrClient, owned: OwnedSession, *, reason: str, log: Any) -> bool:
    """Cancel what a try owns, if it still does. Check and cancel are not atomic; an adopter checks again.

    :param client: of the worker.
    :param owned: of this try.
    :param reason: goes into the run's events.
    :param log: of the task.
    :raises HelmrError: a request failed.
    """
    by_id = {"session": owned.session_id} if owned.session_id else {"external_id": owned.external_id}
    try:
        session = client.sessions.retrieve(**by_id)
    except HelmrNotFoundError:
        return False
    if ownership_member(session.metadata, "owner") != owned.owner:
        log.info("Session %s belongs to another try now; it is left alone.", session.id)
        return False
    if owned.named:
        try:
            client.sessions.open(session.id).cancel(reason=reason)
        except HelmrConflictError:
            return False
        log.info("Cancelled session %s.", session.id)
        return True
    run_id = owned.run_id or session.current_run_id
    if run_id is None:
        return False
    client.runs.cancel(run_id, reason=reason)
    log.info("Cancelled run %s.", run_id)
    if client.sessions.retrieve(session.id).activity != "idle":
        log.warning(INPUT_PENDING, session.id)
    return True


def close_after_result(client: HelmrClient, session_id: str, *, log: Any) -> None:
    """Close a session whose result is there. The result counts even if the session stays open.

    :param client: of the worker.
    :param session_id: the session.
    :param log: of the task.
    """
    try:
        client.sessions.open(session_id).close(reason="the Airflow task has the result")
    except HelmrConflictError as error:
        if error.code != "session_terminal":
            log.warning("Session %s was not closed, because it is active: %s", session_id, error)
    except HelmrError as error:
        log.warning("Session %s was not closed: %s", session_id, error)


def left_over(session: str | None, run_id: str | None, *, whole_session: bool) -> str:
    """Describe what continues when it cannot be cancelled, and how to end it.

    :param session: id or external id of the session.
    :param run_id: its run, if that is known.
    :param whole_session: whether the session was to be cancelled, or its run only.
    """
    if whole_session:
        return f"session {session} and its run continue; HelmrCancelSessionOperator or the console ends them."
    run = run_id or "of this task"
    return f"run {run} of session {session} continues; HelmrCancelRunOperator or the console ends it."


INPUT_PENDING: Final = (
    "Session %s has pending input, which starts another run now. It has an external id of your own, so the session "
    "itself was not cancelled."
)


def _seen(generation: int, session: SessionSnapshot, run_id: str, run_status: str) -> FoundSession:
    return FoundSession(
        generation=generation,
        session_id=session.id,
        run_id=run_id,
        run_status=run_status,
        owner=ownership_member(session.metadata, "owner"),
        epoch=ownership_member(session.metadata, "epoch"),
        instance=instance_in(session.metadata),
        workspace_id=session.workspace_id,
        clears=clears_in(session.metadata),
        try_number=try_number_in(session.metadata),
    )

"""Carry out the steps of ``find_or_start``: read, start, adopt and replace sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from helmr_provider._common.cancel_reasons import REPLACED
from helmr_provider._common.errors import IdentityError
from helmr_provider._common.sans_io import drive
from helmr_provider._sessions.find_or_start import (
    Adopt,
    Compare,
    FoundSession,
    LookUp,
    Replace,
    Start,
    highest_generation,
)
from helmr_provider._sessions.identity import clears_in, instance_in, ownership_member, try_number_in
from helmr_provider.client.errors import HelmrConflictError, HelmrError, HelmrNotFoundError, HelmrPermissionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider._sessions.find_or_start import Outcome, StartSteps, Step
    from helmr_provider._sessions.identity import OwnershipMetadata
    from helmr_provider._sessions.session_spec import Differences, SessionSpec
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.sessions import SessionSnapshot
    from helmr_provider.hooks.helmr import HelmrHook


# Another client's PATCH can undo a stamp, as nothing compares and swaps; more than a few in a row is no accident.
_STAMP_ATTEMPTS: Final = 3


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
        options: SessionSpec,
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

        :param steps: of :func:`~helmr_provider._sessions.find_or_start.find_or_start` or ``find_or_start_named``.
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
            except HelmrPermissionError:
                self._log.warning(
                    "The API key may not change session %s (scope runs:manage): its owner stays an earlier try.",
                    seen.session_id,
                )
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

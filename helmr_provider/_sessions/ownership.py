"""The session that a try owns, and the one rule for ending it: only while the session's metadata name this try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helmr_provider._common.cleanup import clean_up
from helmr_provider._common.metrics import RUNS_CANCELLED, SESSIONS_CANCELLED
from helmr_provider._common.sans_io import run_steps
from helmr_provider._sessions.identity import ownership_member
from helmr_provider.client.errors import HelmrConflictError, HelmrError, HelmrNotFoundError

if TYPE_CHECKING:
    from helmr_provider._common.sans_io import Steps
    from helmr_provider.client import HelmrClient
    from helmr_provider.hooks.connection import HelmrSettings


@dataclass(kw_only=True)
class OwnedSession:
    """The Helmr session owned by this task attempt, from the moment that its start is sent.

    :param external_id: name of the session; ``None`` where only ids are known.
    :param owner: the try; the session's stamp must say the same when something is cancelled.
    :param named: whether the name is ours. If it is the author's, the session may serve others, too.
    :param session_id: known once the start was answered.
    :param run_id: known once the start was answered.
    """

    external_id: str | None = None
    owner: str
    named: bool
    session_id: str | None = None
    run_id: str | None = None

    @property
    def ids(self) -> dict[str, str]:
        """IDs pushed to XCom and carried across a deferral."""
        known = {"session_id": self.session_id, "run_id": self.run_id, "external_id": self.external_id}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def left_over(self) -> str:
        """What continues when it cannot be cancelled, and how to end it."""
        session = self.session_id or self.external_id
        if self.named:
            return f"session {session} and its run continue; HelmrCancelSessionOperator or the console ends them."
        run = self.run_id or "of this task"
        return f"run {run} of session {session} continues; HelmrCancelRunOperator or the console ends it."

    @property
    def cancel_metric(self) -> str:
        """Name of the metric that counts what :meth:`cancel` has cancelled."""
        return SESSIONS_CANCELLED if self.named else RUNS_CANCELLED

    def cancel(self, *, reason: str, log: Any) -> Steps[bool]:
        """Cancel the session if its name is ours, else the run, provided that the try still owns it.

        The worker and the triggerer run the steps. Check and cancel are not atomic; an adopter checks again.

        :param reason: goes into the run's events.
        :param log: of the task.
        :return: whether something was cancelled.
        """
        by_id = {"external_id": self.external_id} if self.session_id is None else {"session": self.session_id}
        try:
            session = yield lambda client: client.sessions.retrieve(**by_id)
        except HelmrNotFoundError:
            return False
        if ownership_member(session.metadata, "owner") != self.owner:
            log.info("Session %s belongs to another try now; it is left alone.", session.id)
            return False
        if self.named:
            try:
                yield lambda client: client.sessions.open(session.id).cancel(reason=reason)
            except HelmrConflictError:
                log.info("Session %s had ended already.", session.id)
                return False
            log.info("Cancelled session %s.", session.id)
            return True
        run_id = self.run_id or session.current_run_id
        if run_id is None:
            return False
        yield lambda client: client.runs.cancel(run_id, reason=reason)
        log.info("Cancelled run %s.", run_id)
        session = yield lambda client: client.sessions.retrieve(session.id)
        if session.activity != "idle":
            log.warning(
                "Session %s has pending input, which starts another run now. It has an external id of your own, so "
                "the session itself was not cancelled.",
                session.id,
            )
        return True


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
            return run_steps(client, owned.cancel(reason=reason, log=log))

    return bool(clean_up(do, log=log, left_over=owned.left_over))


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

"""Cancel a run; close or cancel a session. Each operator can be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, PokeReturnValue

from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import address, check_session_ref, require_id, shown
from helmr_provider.client.errors import HelmrConflictError, HelmrGoneError
from helmr_provider.links import HelmrRunLink, HelmrSessionLink, session_url, store_links
from helmr_provider.operators._base import HelmrOperator, HelmrWaitingOperator

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.sessions import SessionSnapshot
    from helmr_provider.triggers.session import HelmrRunReleaseTrigger, HelmrSessionTrigger


class HelmrCancelRunOperator(HelmrWaitingOperator):
    """Cancel a run of any starter. A run that has ended already stays as it is, and the task succeeds.

    A cancelled run does not end its session: input that is pending there starts the next run. To end both, cancel the
    session.

    Needs the scope ``runs:manage`` (operation cancelRun); to wait, also ``runs:read`` (operation listSessionRuns).

    .. seealso:: Guide: :doc:`/how-to/conversations`

    :param run_id: the run. (templated)
    :param reason: for the run's events. (templated)
    :param force: whether to end the run's events without its worker, which releases the run later.
    :param wait_for_completion: whether to wait until the worker has released the run: its status is
        ``cancelled`` immediately, while its process may still be writing to the workspace.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    :return: ``{"run_id": …, "session_id": …, "status": …}``; the status is not ``cancelled`` if the run had ended.
    :raises AirflowFailException: there is no such run, or the connection may not cancel it.
    :raises AirflowTaskTimeout: the worker had not released the run within the limit.
    """

    run_id = TemplateField[str](text)
    reason = TemplateField[str | None](text)

    template_fields: Collection[str] = ("run_id", "reason", "helmr_conn_id")
    operator_extra_links = (HelmrSessionLink(), HelmrRunLink())
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        run_id: str,
        reason: str | None = None,
        force: bool = False,
        wait_for_completion: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.reason = reason
        self.force = force
        self.wait_for_completion = wait_for_completion

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"the cancellation of Helmr run {self.run_id}"

    def submit(self, context: Context) -> dict[str, Any]:
        """Cancel the run.

        :param context: of the task instance.
        """
        run_id = require_id("run_id", self.run_id)
        run = self.hook.client.runs.cancel(run_id, reason=self.reason, force=self.force or None).run
        store_links(context, console_url=self.hook.settings.console_url, session_id=run.session_id, run_id=run.id)
        self.log.info("Helmr run %s is %s.", run.id, run.status)
        return {"run_id": run.id, "session_id": run.session_id, "status": run.status}

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Poll whether the worker has released the run.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        from helmr_provider.triggers.session import is_released

        if not self.wait_for_completion:
            return PokeReturnValue(is_done=True, xcom_value=ids)
        for run in self.hook.client.sessions.open(ids["session_id"]).runs():
            if run.run_id == ids["run_id"]:
                return PokeReturnValue(is_done=is_released(run), xcom_value={**ids, "status": run.status})
        raise AirflowFailException(f"Helmr session {ids['session_id']} does not show its run {ids['run_id']}.")

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrRunReleaseTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.session import HelmrRunReleaseTrigger

        return HelmrRunReleaseTrigger(
            helmr_conn_id=self.helmr_conn_id,
            session_id=ids["session_id"],
            run_id=ids["run_id"],
            deadline=deadline,
        )


class HelmrCloseSessionOperator(HelmrWaitingOperator):
    """Close a session, so that it takes no more input. A session that has ended already stays as it is.

    A session is closed only while it is idle: no run is active, and no input is pending.

    Needs the scopes ``runs:manage`` and ``runs:read`` (operations closeSession, getSession).

    .. seealso:: Guide: :doc:`/how-to/conversations`

    :param session_id: the session. (templated)
    :param external_id: its external id instead. (templated)
    :param reason: kept with the session. (templated)
    :param wait_for_idle: whether to wait until the session can be closed; if not, one that is active fails the task.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    :return: ``{"session_id": …, "status": …}``; the status is not ``closed`` if the session had ended otherwise.
    :raises AirflowFailException: there is no such session, or the connection may not close it.
    :raises AirflowException: the session is active.
    :raises AirflowTaskTimeout: it was still active at the limit.
    """

    session_id = TemplateField[str | None](text)
    external_id = TemplateField[str | None](text)
    reason = TemplateField[str | None](text)

    template_fields: Collection[str] = ("session_id", "external_id", "reason", "helmr_conn_id")
    operator_extra_links = (HelmrSessionLink(),)
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        session_id: str | None = None,
        external_id: str | None = None,
        reason: str | None = None,
        wait_for_idle: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.session_id = session_id
        self.external_id = external_id
        self.reason = reason
        self.wait_for_idle = wait_for_idle
        check_session_ref(session_id, external_id)

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"{shown(self.session_id, self.external_id)} to become idle and be closed"

    def submit(self, context: Context) -> dict[str, Any]:
        """Find the session.

        :param context: of the task instance.
        """
        session = self.hook.client.sessions.retrieve(**address(self.session_id, self.external_id))
        store_links(context, console_url=self.hook.settings.console_url, session_id=session.id)
        return {"session_id": session.id}

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Close the session, if it can be closed by now.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        client = self.hook.client
        try:
            session = client.sessions.open(ids["session_id"]).close(reason=self.reason)
        except (HelmrConflictError, HelmrGoneError) as error:
            session = client.sessions.retrieve(ids["session_id"])
            if session.is_open and error.code != "close_run_active":
                raise
        if not session.is_open:
            return PokeReturnValue(is_done=True, xcom_value=_end_of(session, self.log))
        if self.wait_for_idle:
            return PokeReturnValue(is_done=False)
        # Another try may find it idle, so this is no permanent failure.
        raise AirflowException(
            f"Helmr session {session.id} can't be closed: it is {session.activity}, so a run is live, or input is "
            "pending. Wait with wait_for_idle=True, or end it with HelmrCancelSessionOperator. "
            f"See {session_url(self.hook.settings.console_url, session.id)}"
        )

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrSessionTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.session import HelmrSessionTrigger

        return HelmrSessionTrigger(
            helmr_conn_id=self.helmr_conn_id, session_id=ids["session_id"], activities=["idle"], deadline=deadline
        )


class HelmrCancelSessionOperator(HelmrOperator):
    """Cancel a session, with its run and all input that is pending. One that has ended already stays as it is.

    Needs the scopes ``runs:manage`` and ``runs:read`` (operations cancelSession, getSession).

    .. seealso:: Guide: :doc:`/how-to/conversations`

    :param session_id: the session. (templated)
    :param external_id: its external id instead. (templated)
    :param reason: kept with the session. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :return: ``{"session_id": …, "status": …}``; the status is not ``cancelled`` if the session had ended otherwise.
    :raises AirflowFailException: there is no such session, or the connection may not cancel it.
    """

    session_id = TemplateField[str | None](text)
    external_id = TemplateField[str | None](text)
    reason = TemplateField[str | None](text)

    template_fields: Collection[str] = ("session_id", "external_id", "reason", "helmr_conn_id")
    operator_extra_links = (HelmrSessionLink(),)
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        session_id: str | None = None,
        external_id: str | None = None,
        reason: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.session_id = session_id
        self.external_id = external_id
        self.reason = reason
        check_session_ref(session_id, external_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Cancel.

        :param context: of the task instance.
        """
        with self._translate_errors(f"cancel {shown(self.session_id, self.external_id)}"):
            handle = self.hook.client.sessions.open(**address(self.session_id, self.external_id))
            try:
                session = handle.cancel(reason=self.reason)
            except HelmrConflictError as error:
                if error.code != "session_terminal":
                    raise
                session = handle.retrieve()
            if session.is_open:
                # The answer to the first cancel is the session as it was (contract/behaviour.md section 21).
                session = handle.retrieve()
        store_links(context, console_url=self.hook.settings.console_url, session_id=session.id)
        return _end_of(session, self.log)


def _end_of(session: SessionSnapshot, log: Any) -> dict[str, Any]:
    log.info("Helmr session %s is %s.", session.id, session.status)
    return {"session_id": session.id, "status": session.status}

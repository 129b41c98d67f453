"""Run a Helmr task in a session of its own, and wait for the result."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, PokeReturnValue

from helmr_provider._common.cancel_reasons import FAILED, TIME_LIMIT
from helmr_provider._common.errors import (
    UNSUCCESSFUL,
    run_failure,
    unsuccessful_statuses,
)
from helmr_provider._common.openlineage import RunLineage
from helmr_provider._common.results import ResultOptions
from helmr_provider._common.template_fields import TemplateField, text, texts
from helmr_provider._sessions.identity import OwnershipMetadata, owner_of
from helmr_provider._sessions.session_spec import START_OPTIONS, Payload, SessionSpec
from helmr_provider.client.errors import HelmrTimeoutError
from helmr_provider.links import HelmrRunLink, HelmrSessionLink, run_url, store_links
from helmr_provider.operators._base import HelmrWaitingOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider._logs.run_logs import Logs
    from helmr_provider._logs.run_logs_worker import RunLogReader
    from helmr_provider._sessions.find_or_start import OnMismatch, OnRetry, Outcome
    from helmr_provider._sessions.ownership import OwnedSession
    from helmr_provider.client import Task
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.triggers.run import HelmrRunTrigger


class HelmrStartSessionOperator(RunLineage, ResultOptions, HelmrWaitingOperator):
    """Start a session of a Helmr task, wait for its first run, and return the run's output.

    A task instance starts at most one session at a time: a retry adopts the live run of an earlier try, or returns its
    result if it has succeeded. Only after a run that ended otherwise, or after a clear, the task starts the next
    session. The session's external id and metadata hold the record of this on the control plane.

    Needs the scopes ``runs:create``, ``runs:read`` and ``runs:manage`` (operations startSession, getSession, getRun;
    for retries and cancellations also patchSession, cancelSession and closeSession).

    .. seealso:: Guide: :doc:`/how-to/sessions`

    :param task: id of the deployed Helmr task (templated), or a :class:`helmr_provider.client.Task`, whose type the
        payload must fit and whose time limit counts, 15 minutes if it declares none.
    :param payload: its input, a JSON value; ``None`` is sent as null. Default: no payload. Not for secrets: the control
        plane copies it into events, like ``metadata``. (templated)
    :param external_id: a name of your own for the session, unique in the Helmr environment forever. If the session
        exists, the task uses its first run, which must be live or have succeeded; see also ``on_mismatch``. Default: a
        name derived from the task instance. (templated)
    :param helmr_queue: queue of the run, declared by the deployment; ``queue`` is Airflow's. (templated)
    :param concurrency_key: runs with the same key share the queue's concurrency limit. (templated)
    :param priority: whole number; higher ones are run first. (templated)
    :param ttl: how long the run may stay queued; timedelta, seconds, or text such as ``"10m"``. (templated)
    :param max_duration: how long the run may take, 5 seconds to a day; timedelta, seconds, or text such as ``"1h"``, a
        whole number of seconds. (templated)
    :param retry: retry policy of the run, such as ``{"maxAttempts": 3}``; these retries are Helmr's. (templated)
    :param metadata: metadata of the session, a JSON object; an adopted session keeps its own. The
        member ``airflow`` is reserved. (templated)
    :param tags: up to 10 tags of the session, 128 bytes each; an adopted session keeps its own. (templated)
    :param expires_at: when the session takes no more input; an aware datetime or RFC 3339 text. (templated)
    :param workspace_id: workspace to run in, instead of a new one. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param wait_for_completion: whether to wait for the run; if not, the ids are returned immediately.
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    :param cancel_on_kill: whether to cancel when the task is ended from outside, deferred or not.
    :param cancel_on_timeout: whether to cancel when a limit is reached. If not, a retry finds the run again.
    :param on_retry: ``"reattach"`` to the live run of an earlier try, or cancel it and start a ``"new"`` session.
    :param on_mismatch: what to do if ``external_id`` names a session that was started with another task, payload,
        ``max_duration``, ``retry`` or ``workspace_id``: ``"fail"`` permanently, naming the members that differ, or
        ``"adopt"`` the session with a warning. A retry always adopts the session that its own task has started.
    :param fail_on: one status or several that fail the task; a run that ended otherwise returns its result.
    :param result: what to return: the run's ``"output"``, or the whole run as a ``"snapshot"``.
    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :param result_to: path or address such as ``"s3://bucket/result.json"`` to write the result to as JSON, instead of
        returning it; one that ends with ``/`` gets a file name. The return value is the address then. (templated)
    :param result_to_conn_id: Airflow connection for ``result_to``.
    :param close_session: whether to close the session after its result was read: then no downstream task can send it
        input. A session that has ended already is accepted. Default: False.
    :param logs: which output of the run to write into the task's log: the ``"tail"`` of stdout and stderr after the
        wait, all lines ``"live"`` while it waits (deferred, too), or nothing (``"off"``).
    :raises AirflowFailException: another try would fail as well: a wrong connection or request, an unknown task, a run
        that was cancelled from elsewhere, a result that is too large.
    :raises AirflowException: the run failed or expired, or the control plane cannot be reached to start it.
    """

    task = TemplateField["str | Task[Any, Any]"](text)  # pyright: ignore[reportAssignmentType] - a descriptor of that type
    external_id = TemplateField[str | None](text)
    helmr_queue = TemplateField[str | None](text)
    concurrency_key = TemplateField[str | None](text)
    workspace_id = TemplateField[str | None](text)
    tags = TemplateField["Sequence[str] | None"](texts)

    template_fields: Collection[str] = (
        "task",
        "payload",
        "external_id",
        "helmr_queue",
        "concurrency_key",
        "priority",
        "ttl",
        "max_duration",
        "retry",
        "metadata",
        "tags",
        "expires_at",
        "workspace_id",
        "result_to",
        "helmr_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json", "metadata": "json", "retry": "json"}
    operator_extra_links = (HelmrSessionLink(), HelmrRunLink())
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        task: str | Task[Any, Any],
        payload: Any = Payload.NONE,
        external_id: str | None = None,
        helmr_queue: str | None = None,
        concurrency_key: str | None = None,
        priority: int | str | None = None,
        ttl: timedelta | float | str | None = None,
        max_duration: timedelta | float | str | None = None,
        retry: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        expires_at: datetime | str | None = None,
        workspace_id: str | None = None,
        wait_for_completion: bool = True,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        on_retry: OnRetry = "reattach",
        on_mismatch: OnMismatch = "fail",
        fail_on: str | Collection[str] = UNSUCCESSFUL,
        result: Literal["output", "snapshot"] = "output",
        close_session: bool = False,
        logs: Logs = "tail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task = task
        self.payload = payload
        self.external_id = external_id
        self.helmr_queue = helmr_queue
        self.concurrency_key = concurrency_key
        self.priority = priority
        self.ttl = ttl
        self.max_duration = max_duration
        self.retry = retry
        self.metadata = metadata
        self.tags = tags
        self.expires_at = expires_at
        self.workspace_id = workspace_id
        self.wait_for_completion = wait_for_completion
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.on_retry: OnRetry = on_retry
        self.on_mismatch: OnMismatch = on_mismatch
        self.fail_on = unsuccessful_statuses(fail_on)
        self.result: Literal["output", "snapshot"] = result
        self.close_session = close_session
        self.logs: Logs = logs
        self.session_id: str | None = None
        self.run_id: str | None = None
        self.run_status: str | None = None
        self.run_page: str | None = None
        self._owned: OwnedSession | None = None
        self._log_cursor: str | None = None
        self._is_resumed = False
        self._is_known_live = False
        self._cancelled = False
        if on_retry not in {"reattach", "new"}:
            raise ValueError("on_retry must be 'reattach' or 'new'")
        if on_mismatch not in {"fail", "adopt"}:
            raise ValueError("on_mismatch must be 'fail' or 'adopt'")
        if result not in {"output", "snapshot"}:
            raise ValueError("result must be 'output' or 'snapshot'")
        if logs not in {"tail", "live", "off"}:
            raise ValueError("logs must be 'tail', 'live' or 'off'")
        if close_session and not wait_for_completion:
            raise ValueError("close_session closes after the result, so it excludes wait_for_completion=False")
        if on_retry == "new" and external_id is not None:
            raise ValueError("on_retry='new' needs a new name for every session, so it excludes external_id")

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"Helmr task '{self.task}'" if self.run_id is None else f"Helmr run {self.run_id}"

    @property
    def submitting(self) -> str:
        """Human-readable description of the submission; it follows "Could not"."""
        return f"start Helmr task '{self.task}'"

    def submit(self, context: Context) -> dict[str, Any]:
        """Start the session, or adopt it.

        :param context: of the task instance.
        """
        outcome = self._start_or_adopt(context, self._deadline(context))
        owned = self._keep(context, outcome)
        self._is_known_live = self.deferrable and outcome.seen.live
        return owned.ids

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Read the run; a run that has ended gives the result, or fails the task.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        if not self.wait_for_completion:
            self._owned = None
            return PokeReturnValue(is_done=True, xcom_value=ids)
        is_known_live, self._is_known_live = self._is_known_live, False
        if is_known_live:
            # The start has just said so, and the trigger asks next.
            return PokeReturnValue(is_done=False)
        run = self.hook.client.runs.retrieve(ids["run_id"])
        if not run.is_terminal:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._finish(run, self._output()))

    def wait(self, context: Context, ids: dict[str, Any], deadline: float | None) -> PokeReturnValue | None:
        """Wait for the run on a worker, and log its output; return ``None`` at the deadline.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        :param deadline: in seconds since the epoch; ``None`` for never.
        """
        if not self.wait_for_completion:
            return self.poll(context, ids)
        output = self._output()
        with self._translate_errors(f"wait for run {self.run_id}"):
            try:
                run = output.wait(_seconds_until(deadline))
            except HelmrTimeoutError:
                return None
        return PokeReturnValue(is_done=True, xcom_value=self._finish(run, output))

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrRunTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.run import HelmrRunTrigger

        owned = self._owned
        named = self.external_id is None
        return HelmrRunTrigger(
            helmr_conn_id=self.helmr_conn_id,
            run_id=ids["run_id"],
            session_id=ids["session_id"],
            deadline=deadline,
            owner=None if owned is None else owned.owner,
            cancel_on_kill=("session" if named else "run") if self.cancel_on_kill else None,
            live_logs=self.logs == "live",
            log_cursor=self._log_cursor,
        )

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        *,
        begun: dict[str, Any] | None = None,
        deadline: float | None = None,
        try_number: int | None = None,
        session_id: str | None = None,
        run_id: str | None = None,
        external_id: str | None = None,
    ) -> Any:
        """Resume after the trigger's event. The state comes from the control plane, not from the event.

        :param context: of the task instance.
        :param event: of the trigger; it can be a stale one.
        :param begun: unused; the ids have arguments of their own here.
        :param deadline: as of the deferral, in seconds since the epoch.
        :param try_number: of the try that was deferred.
        :param session_id: one of the ids.
        :param run_id: likewise.
        :param external_id: likewise.
        """
        stored = {"session_id": session_id, "run_id": run_id, "external_id": external_id}
        if begun is None and None not in stored.values():
            begun = stored
        return super().execute_complete(context, event, begun=begun, deadline=deadline, try_number=try_number)

    def take_over(
        self, context: Context, ids: dict[str, Any] | None, event: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Become responsible for the session, and continue its log where the trigger has stopped.

        :param context: of the task instance.
        :param ids: as of the deferral; ``None`` in ``dag.test()``.
        :param event: of the trigger.
        """
        self._is_resumed, self._log_cursor = True, event.get("log_cursor")
        if ids is None:
            return self.recover(context)
        self._own(owner_of(context["ti"]), **ids)
        return ids

    def resume_kwargs(self, ids: dict[str, Any]) -> dict[str, Any]:
        """Return the ids, each as an argument of its own.

        :param ids: as returned by :meth:`submit`.
        """
        return ids

    def recover(self, context: Context) -> dict[str, Any] | None:
        """Find the session of this try by its name, as far as the control plane can be reached.

        :param context: of the task instance.
        """
        self._is_resumed = True
        from helmr_provider._sessions.starter import find_own

        stamp = self._stamp(context)
        single = self.external_id is not None
        if (seen := find_own(self.hook, lambda: self._name(stamp), stamp.owner, single=single, log=self.log)) is None:
            return None
        owned = self._own(
            stamp.owner, self._name(stamp)(seen.generation), session_id=seen.session_id, run_id=seen.run_id
        )
        return owned.ids

    def on_time_limit(self, context: Context, ids: dict[str, Any]) -> str:
        """Cancel, if that is wanted.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        output = self._output()
        cancelled = self._cancel(TIME_LIMIT, wanted=self.cancel_on_timeout)
        output.finish()
        return f"It {'was cancelled' if cancelled else 'was not cancelled, and a retry finds it again'}."

    def on_lost_trigger(self, context: Context, ids: dict[str, Any]) -> str:
        """Cancel, unless a retry will find the run again.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        retried = context["ti"].try_number <= context["ti"].max_tries
        cancelled = self._cancel(FAILED, wanted=self.cancel_on_kill and not retried)
        return f"The run {'was cancelled' if cancelled else 'continues, and a retry finds it again'}."

    def stop(self, reason: str) -> None:
        """Cancel what this try owns.

        :param reason: kept with the run's events.
        """
        self._cancel(reason, wanted=self.cancel_on_kill)

    def _start_or_adopt(self, context: Context, deadline: float | None) -> Outcome:
        from helmr_provider._sessions.find_or_start import TERMINAL, find_or_start, find_or_start_named
        from helmr_provider._sessions.starter import SessionStarter

        stamp = self._stamp(context)
        client = self.hook.client
        starter = SessionStarter(
            client,
            stamp=stamp,
            name=self._name(stamp),
            options=self._options(),
            wait=lambda run_id: client.runs.wait(run_id, timeout=_seconds_until(deadline)),
            on_owned=lambda external_id: self._own(stamp.owner, external_id),
            log=self.log,
        )
        results = TERMINAL - set(self.fail_on)
        if self.external_id is not None:
            return starter.run(
                find_or_start_named(
                    results=results,
                    instance=stamp.instance,
                    epoch=stamp.epoch,
                    on_mismatch=self.on_mismatch,
                    try_number=stamp.try_number,
                )
            )
        return starter.run(
            find_or_start(
                owner=stamp.owner,
                epoch=stamp.epoch,
                on_retry=self.on_retry,
                results=results,
                clears=stamp.clears,
                try_number=stamp.try_number,
            )
        )

    def _options(self) -> SessionSpec:
        """Return the start options; invalid ones are refused here."""
        try:
            return SessionSpec(queue=self.helmr_queue, **{name: getattr(self, name) for name in START_OPTIONS})
        except (TypeError, ValueError) as error:
            raise AirflowFailException(f"Helmr task '{self.task}' was not started: {error}") from None

    def _stamp(self, context: Context) -> OwnershipMetadata:
        is_of_use_to_the_task_only = self.wait_for_completion and self.cancel_on_kill and self.cancel_on_timeout
        return replace(
            OwnershipMetadata.of(context["ti"], context["dag_run"]),
            ends_with_task=is_of_use_to_the_task_only and self.external_id is None,
        )

    def _name(self, stamp: OwnershipMetadata) -> Callable[[int], str]:
        if (external_id := self.external_id) is not None:
            return lambda _: external_id
        return stamp.identity(self.hook.settings.session_prefix).external_id

    def _own(
        self, owner: str, external_id: str, *, session_id: str | None = None, run_id: str | None = None
    ) -> OwnedSession:
        from helmr_provider._sessions.ownership import OwnedSession

        self.session_id, self.run_id = session_id, run_id
        self._owned = OwnedSession(
            external_id=external_id,
            owner=owner,
            named=self.external_id is None,
            session_id=session_id,
            run_id=run_id,
        )
        return self._owned

    def _keep(self, context: Context, outcome: Outcome) -> OwnedSession:
        from helmr_provider._common.metrics import RUNS_ADOPTED, SESSIONS_STARTED, count

        seen, stamp = outcome.seen, self._stamp(context)
        name = self._name(stamp)(seen.generation)
        owned = self._own(stamp.owner, name, session_id=seen.session_id, run_id=seen.run_id)
        count(SESSIONS_STARTED if outcome.started else RUNS_ADOPTED, self.helmr_conn_id)
        console_url = self.hook.settings.console_url
        if self.do_xcom_push:
            for key, value in owned.ids.items():
                context["ti"].xcom_push(key=key, value=value)
        store_links(context, console_url=console_url, session_id=seen.session_id, run_id=seen.run_id)
        self.run_page = run_url(console_url, seen.session_id, seen.run_id)
        self.log.info("Helmr run: %s", self.run_page)
        return owned

    def _output(self) -> RunLogReader:
        """Return what shows the run's output from here on."""
        from helmr_provider._logs.run_logs_worker import RunLogReader

        # How far the triggerer has got is not known when it was lost.
        is_unknown = self._is_resumed and self.logs == "live" and self._log_cursor is None
        logs: Logs = "tail" if is_unknown else self.logs
        return RunLogReader(logs, self.hook.client, self.run_id or "", self.log, self._log_cursor)

    def _finish(self, run: RunSnapshot, output: RunLogReader) -> Any:
        self._owned, self.run_status = None, run.status
        self.run_page = run_url(self.hook.settings.console_url, run.session_id, run.id)
        output.finish()
        if run.status in self.fail_on:
            raise run_failure(self.hook.client, run, url=self.run_page, ours=self._cancelled)
        value = self._run_result(run, self.result)
        if self.close_session:
            from helmr_provider._sessions.ownership import close_after_result

            close_after_result(self.hook.client, run.session_id, log=self.log)
        return value

    def _cancel(self, reason: str, *, wanted: bool) -> bool:
        """Cancel if wanted; either way, this try owns nothing any more."""
        owned, self._owned = self._owned, None
        if owned is None or not wanted:
            return False
        from helmr_provider._common.metrics import count
        from helmr_provider._sessions.ownership import cancel_until_accepted

        if cancel_until_accepted(self.hook.settings, owned, reason=reason, log=self.log):
            self._cancelled = True
            count(owned.cancel_metric, self.helmr_conn_id)
        return self._cancelled


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.time())

"""Run a Helmr task in a session of its own, and wait for the result."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    conf,
)

from helmr_provider._common.errors import (
    DEFAULT_MAX_RESULT_BYTES,
    UNSUCCESSFUL,
    IdentityError,
    is_permanent,
    run_failure,
    unsuccessful_statuses,
)
from helmr_provider._common.metrics import RUNS_ADOPTED, RUNS_CANCELLED, SESSIONS_CANCELLED, SESSIONS_STARTED, count
from helmr_provider._common.openlineage import RunLineage
from helmr_provider._common.results import return_or_write
from helmr_provider._common.template_fields import TemplateField, text, texts
from helmr_provider._logs.run_logs_worker import RunLogReader
from helmr_provider._sessions.identity import TERMINAL, OwnershipMetadata, find_or_start, find_or_start_named, owner_of
from helmr_provider._sessions.start_request import Payload, StartOptions
from helmr_provider.client.durations import seconds
from helmr_provider.links import HelmrRunLink, HelmrSessionLink, run_url, store_links
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider._logs.run_logs import Logs
    from helmr_provider._sessions.identity import OnMismatch, OnRetry, Outcome
    from helmr_provider._sessions.ownership import OwnedSession
    from helmr_provider.client import Task
    from helmr_provider.client.models.runs import RunSnapshot


class HelmrStartSessionOperator(RunLineage, HelmrOperator):
    """Start a session of a Helmr task, wait for its first run, and return the run's output.

    The session is started at most once for a task instance: a retry adopts the run that an earlier try has left
    running, and takes over a result that came meanwhile; only a run that ended otherwise, or a clear, makes it start
    the next session. The control plane itself keeps the record, in the session's external id and metadata.

    .. seealso:: Guide: :doc:`/how-to/sessions`

    :param task: id of the deployed Helmr task (templated), or a :class:`helmr_provider.client.Task`, whose type the
        payload must fit and whose time limit counts, 15 minutes if it declares none.
    :param payload: its input, a JSON value; ``None`` is sent as null, and nothing if it is not given. Not for secrets:
        the control plane copies it into events, like ``metadata``. (templated)
    :param external_id: a name of your own for the session, unique in the Helmr environment for ever. If the session
        exists, the task uses its first run, which must be live or have succeeded, and see ``on_mismatch``. Default: a
        name derived from the task instance. (templated)
    :param helmr_queue: queue of the run, declared by the deployment; ``queue`` is Airflow's. (templated)
    :param concurrency_key: runs with the same key share the queue's concurrency limit. (templated)
    :param priority: whole number; higher ones are run first. (templated)
    :param ttl: how long the run may stay queued; timedelta, seconds, or text such as ``"10m"``. (templated)
    :param max_duration: how long the run may take, 5 seconds to a day; timedelta, seconds, or text such as ``"1h"``, a
        whole number of seconds. (templated)
    :param retry: retry policy of the run, such as ``{"maxAttempts": 3}``; these retries are Helmr's. (templated)
    :param metadata: metadata of the session, a JSON object; an adopted session keeps what it was started with. The
        member ``airflow`` is reserved. (templated)
    :param tags: up to 10 tags of the session, 128 bytes each; an adopted session keeps its own. (templated)
    :param expires_at: when the session takes no more input; an aware datetime or RFC 3339 text. (templated)
    :param workspace_id: workspace to run in, instead of a new one. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param wait_for_completion: whether to wait for the run; if not, the ids are returned at once.
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    :param cancel_on_kill: whether to cancel when the task is ended from outside, deferred or not.
    :param cancel_on_timeout: whether to cancel when a limit is reached. If not, a retry finds the run again.
    :param on_retry: ``"reattach"`` to what an earlier try has left running, or cancel that and start a ``"new"`` one.
    :param on_mismatch: what to do if ``external_id`` names a session that was started with another task, payload,
        ``max_duration``, ``retry`` or ``workspace_id``: ``"fail"`` permanently, naming the members that differ, or
        ``"adopt"`` the session with a warning. A retry always adopts the session that its own task has started.
    :param fail_on: one status or several that fail the task; a run that ended otherwise returns its result.
    :param result: what to return: the run's ``"output"``, or the whole run as a ``"snapshot"``.
    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :param result_to: path or address such as ``"s3://bucket/result.json"`` to write the result to as JSON, instead of
        returning it; one that ends with ``/`` gets a file name. The return value is the address then. (templated)
    :param result_to_conn_id: Airflow connection for ``result_to``.
    :param close_session: whether to close the session when it has given its result: then no downstream task can send it
        input. A session that has ended already is fine.
    :param logs: what of the run's output to write into the task's log: the ``"tail"`` of stdout and stderr after the
        wait, all lines ``"live"`` while it waits (deferred, too), or nothing (``"off"``).
    :raises AirflowFailException: what cannot be helped by trying again: the connection, the request, an unknown task, a
        run that somebody else has cancelled, a result that is too large.
    :raises AirflowException: the run failed or expired, or the control plane cannot be reached to start it.
    """

    task = TemplateField["str | Task[Any, Any]"](text)
    external_id = TemplateField[str | None](text)
    helmr_queue = TemplateField[str | None](text)
    concurrency_key = TemplateField[str | None](text)
    workspace_id = TemplateField[str | None](text)
    result_to = TemplateField[str | None](text)
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
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta | float | str | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        on_retry: OnRetry = "reattach",
        on_mismatch: OnMismatch = "fail",
        fail_on: str | Collection[str] = UNSUCCESSFUL,
        result: Literal["output", "snapshot"] = "output",
        max_result_bytes: int | None = DEFAULT_MAX_RESULT_BYTES,
        result_to: str | None = None,
        result_to_conn_id: str | None = None,
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
        self.deferrable = deferrable
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.on_retry: OnRetry = on_retry
        self.on_mismatch: OnMismatch = on_mismatch
        self.fail_on = unsuccessful_statuses(fail_on)
        self.result: Literal["output", "snapshot"] = result
        self.max_result_bytes = max_result_bytes
        self.result_to = result_to
        self.result_to_conn_id = result_to_conn_id
        self.close_session = close_session
        self.logs: Logs = logs
        self.session_id: str | None = None
        self.run_id: str | None = None
        self.run_status: str | None = None
        self.run_page: str | None = None
        self._claim: OwnedSession | None = None
        self._log_cursor: str | None = None
        self._killed = False
        self._cancelled = False
        if timeout is not None:
            seconds(timeout, "timeout", positive=True)
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

    def execute(self, context: Context) -> Any:
        """Start or adopt the session; then wait, defer, or return its ids.

        :param context: of the task instance.
        """
        with closing(self.hook):
            return self._execute(context)

    def _execute(self, context: Context) -> Any:
        deadline = self._deadline(context)
        with self._translate_errors(f"start Helmr task '{self.task}'"):
            outcome = self._start_or_adopt(context, deadline)
        claim = self._keep(context, outcome)
        if self._killed:
            self._cancel("the Airflow task was killed", self.cancel_on_kill)
            raise AirflowException("The task was killed while its session was being started.")
        if not self.wait_for_completion:
            self._claim = None
            return claim.ids
        if self.deferrable and outcome.seen.live:
            self._defer(claim, deadline)
        return self._wait(deadline)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        run_id: str | None = None,
        external_id: str | None = None,
        deadline: float | None = None,
    ) -> Any:
        """Go on when the trigger has fired. What became of the run is asked of the control plane, not of the event.

        :param context: of the task instance.
        :param event: of the trigger; it can be a stale one.
        :param session_id: as of the deferral, like the others. ``dag.test()`` hands on nothing but the event.
        :param run_id: as of the deferral.
        :param external_id: as of the deferral.
        :param deadline: as of the deferral, in seconds since the epoch.
        """
        told = dict(event or {})
        self._log_cursor = told.get("log_cursor")
        if external_id is None or session_id is None or run_id is None:
            run = self._find_again(context)
        else:
            self._claim_as(owner_of(context["ti"]), external_id, session_id=session_id, run_id=run_id)
            run = self._read(run_id)
        if run is not None and run.is_terminal:
            return self._finish(run, self._output(resumed=True))
        if deadline is None:
            deadline = self._deadline(context)
        if deadline is not None and time.time() >= deadline:
            self._give_up(self._output(resumed=True))
        if told.get("status") == "error" or self._claim is None:
            cancelled = self._cancel_unless_retried(context)
            raise AirflowException(
                f"Waiting for run {self.run_id} in the triggerer failed ({told.get('error')}); the log has the reason. "
                f"The run {'was cancelled' if cancelled else 'goes on, and a retry finds it again'}."
            )
        return self._defer(self._claim, deadline)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; also when the trigger was lost or timed out, with nothing left of what was deferred.

        :param next_method: what to resume with.
        :param next_kwargs: its arguments.
        :param context: of the task instance.
        """
        from helmr_provider.triggers.base import TRIGGER_FAILED, TRIGGER_TIMED_OUT

        with closing(self.hook):
            if next_method == TRIGGER_FAILED:
                run = self._find_again(context)
                if run is not None and run.is_terminal:
                    return self._finish(run, self._output(resumed=True))
                if run is not None and (next_kwargs or {}).get("error") in TRIGGER_TIMED_OUT:
                    self._give_up(self._output(resumed=True))
                self._cancel_unless_retried(context)
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Cancel what this try answers for."""
        self._killed = True
        self._cancel("the Airflow task was killed", self.cancel_on_kill)

    def _start_or_adopt(self, context: Context, deadline: float | None) -> Outcome:
        from helmr_provider._sessions.ownership import SessionStarter

        stamp = self._stamp(context)
        client = self.hook.client
        starter = SessionStarter(
            client,
            stamp=stamp,
            name=self._name(stamp),
            options=self._options(),
            wait=lambda run_id: client.runs.wait(run_id, timeout=_seconds_until(deadline)),
            claimed=lambda external_id: self._claim_as(stamp.owner, external_id),
            log=self.log,
        )
        results = TERMINAL - set(self.fail_on)
        if self.external_id is not None:
            return starter.run(
                find_or_start_named(results=results, instance=stamp.instance, on_mismatch=self.on_mismatch)
            )
        return starter.run(find_or_start(owner=stamp.owner, epoch=stamp.epoch, on_retry=self.on_retry, results=results))

    def _options(self) -> StartOptions:
        """Return what to start with; whatever would be refused is refused here."""
        try:
            return StartOptions(
                task=self.task,
                payload=self.payload,
                external_id=self.external_id,
                queue=self.helmr_queue,
                concurrency_key=self.concurrency_key,
                priority=self.priority,
                ttl=self.ttl,
                max_duration=self.max_duration,
                retry=self.retry,
                metadata=self.metadata,
                tags=self.tags,
                expires_at=self.expires_at,
                workspace_id=self.workspace_id,
            )
        except (TypeError, ValueError) as error:
            raise AirflowFailException(f"Helmr task '{self.task}' was not started: {error}") from None

    def _stamp(self, context: Context) -> OwnershipMetadata:
        return OwnershipMetadata.of(context["ti"], context["dag_run"])

    def _name(self, stamp: OwnershipMetadata) -> Callable[[int], str]:
        if (external_id := self.external_id) is not None:
            return lambda _: external_id
        return stamp.identity(self.hook.settings.session_prefix).external_id

    def _claim_as(
        self, owner: str, external_id: str, *, session_id: str | None = None, run_id: str | None = None
    ) -> OwnedSession:
        from helmr_provider._sessions.ownership import OwnedSession

        self.session_id, self.run_id = session_id, run_id
        self._claim = OwnedSession(
            external_id=external_id,
            owner=owner,
            named=self.external_id is None,
            session_id=session_id,
            run_id=run_id,
        )
        return self._claim

    def _keep(self, context: Context, outcome: Outcome) -> OwnedSession:
        seen, stamp = outcome.seen, self._stamp(context)
        name = self._name(stamp)(seen.generation)
        claim = self._claim_as(stamp.owner, name, session_id=seen.session_id, run_id=seen.run_id)
        count(SESSIONS_STARTED if outcome.started else RUNS_ADOPTED, self.helmr_conn_id)
        console_url = self.hook.settings.console_url
        if self.do_xcom_push:
            for key, value in claim.ids.items():
                context["ti"].xcom_push(key=key, value=value)
        store_links(context, console_url=console_url, session_id=seen.session_id, run_id=seen.run_id)
        self.run_page = run_url(console_url, seen.session_id, seen.run_id)
        self.log.info("Helmr run: %s", self.run_page)
        return claim

    def _deadline(self, context: Context) -> float | None:
        from helmr_provider.triggers.base import deadline_of

        return deadline_of(context["ti"], timeout=self.timeout, execution_timeout=self.execution_timeout)

    def _read(self, run_id: str) -> RunSnapshot | None:
        """Read the run; ``None`` during an outage, which is not a failure of the run."""
        from helmr_provider.client.errors import HelmrError

        with self._translate_errors(f"learn what became of run {run_id}, which may go on"):
            try:
                return self.hook.client.runs.retrieve(run_id)
            except HelmrError as error:
                if is_permanent(error):
                    raise
                self.log.warning("The control plane cannot be asked for the result: %s", error)
                return None

    def _wait(self, deadline: float | None) -> Any:
        from helmr_provider.client.errors import HelmrTimeoutError

        run, run_id, output = None, self.run_id or "", self._output()
        # Airflow's own alarm can be a moment earlier than our deadline.
        with (
            suppress(AirflowTaskTimeout),
            self._translate_errors(f"wait for run {run_id}"),
            suppress(HelmrTimeoutError),
        ):
            run = output.wait(_seconds_until(deadline))
        return self._give_up(output) if run is None else self._finish(run, output)

    def _output(self, *, resumed: bool = False) -> RunLogReader:
        """Return what shows the run's output from here on."""
        # How far the triggerer has got is not known when it was lost.
        logs: Logs = "tail" if resumed and self.logs == "live" and self._log_cursor is None else self.logs
        return RunLogReader(logs, self.hook.client, self.run_id or "", self.log, self._log_cursor)

    def _defer(self, claim: OwnedSession, deadline: float | None) -> NoReturn:
        from helmr_provider.triggers.base import backstop
        from helmr_provider.triggers.run import HelmrRunTrigger

        self.defer(
            trigger=HelmrRunTrigger(
                helmr_conn_id=self.helmr_conn_id,
                run_id=claim.ids["run_id"],
                session_id=claim.session_id,
                deadline=deadline,
                owner=claim.owner,
                cancel_on_kill=("session" if claim.named else "run") if self.cancel_on_kill else None,
                live_logs=self.logs == "live",
                log_cursor=self._log_cursor,
            ),
            method_name="execute_complete",
            kwargs=claim.ids if deadline is None else {**claim.ids, "deadline": deadline},
            timeout=backstop(deadline),
        )

    def _find_again(self, context: Context) -> RunSnapshot | None:
        """Find what this try answers for by its name, as far as the control plane can be asked."""
        from helmr_provider._sessions.ownership import find_last
        from helmr_provider.client.errors import HelmrError

        try:
            stamp = self._stamp(context)
            name = self._name(stamp)
            seen = find_last(self.hook.client, name, single=self.external_id is not None)
            if seen is None or seen.owner != stamp.owner:
                return None
            self._claim_as(stamp.owner, name(seen.generation), session_id=seen.session_id, run_id=seen.run_id)
            return self.hook.client.runs.retrieve(seen.run_id)
        except (HelmrError, IdentityError) as error:
            self.log.warning("What this task has started in Helmr cannot be found: %s", error)
            return None

    def _finish(self, run: RunSnapshot, output: RunLogReader) -> Any:
        self._claim, self.run_status = None, run.status
        self.run_page = run_url(self.hook.settings.console_url, run.session_id, run.id)
        output.finish()
        if run.status in self.fail_on:
            raise run_failure(self.hook.client, run, url=self.run_page, ours=self._cancelled)
        value = return_or_write(
            run.output if self.result == "output" else run.raw,
            f"The {self.result} of Helmr run {run.id}",
            to=self.result_to,
            conn_id=self.result_to_conn_id,
            file_name=f"{run.id}.json",
            max_bytes=self.max_result_bytes if self.do_xcom_push else None,
            log=self.log,
        )
        if self.close_session:
            self._close_session(run)
        return value

    def _close_session(self, run: RunSnapshot) -> None:
        """Close; a result is not lost for it, and a retry takes the result of a closed session, too."""
        from helmr_provider.client.errors import HelmrConflictError, HelmrError

        try:
            self.hook.client.sessions.open(run.session_id).close(reason="the Airflow task has the result")
        except HelmrConflictError as error:
            if error.code != "session_terminal":
                self.log.warning("Session %s was not closed, because it goes on: %s", run.session_id, error)
        except HelmrError as error:
            self.log.warning("Session %s was not closed: %s", run.session_id, error)

    def _give_up(self, output: RunLogReader) -> NoReturn:
        run_id = self.run_id
        cancelled = self._cancel("the Airflow task has reached its time limit", self.cancel_on_timeout)
        output.finish()
        raise AirflowTaskTimeout(
            f"Helmr run {run_id} had not ended when the time of this task was over; "
            f"it {'was cancelled' if cancelled else 'was not cancelled, and a retry finds it again'}."
        )

    def _cancel_unless_retried(self, context: Context) -> bool:
        ti = context["ti"]
        retried = ti.try_number <= ti.max_tries
        return self._cancel("the Airflow task has failed", self.cancel_on_kill and not retried)

    def _cancel(self, reason: str, wanted: bool) -> bool:  # noqa: FBT001
        """Cancel if wanted; either way, there is nothing left to answer for."""
        from helmr_provider._sessions.ownership import cancel

        claim, self._claim = self._claim, None
        if claim is None or not wanted:
            return False
        try:
            # Not the hook's client: a signal may have stopped that in the middle of a request, with its locks held.
            with self.hook.settings.client(max_streams=0) as client:
                self._cancelled |= cancel(client, claim, reason=reason, log=self.log)
            if self._cancelled:
                count(SESSIONS_CANCELLED if claim.named else RUNS_CANCELLED, self.helmr_conn_id)
        except Exception:
            self.log.exception("Could not cancel what this task has started in Helmr")
        return self._cancelled


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.time())

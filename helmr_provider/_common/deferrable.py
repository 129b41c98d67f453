"""The life cycle of a wait, which operators and sensors share: submit, poll, defer, resume, time out, be killed."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout, BaseOperator, PokeReturnValue

from helmr_provider._common.cancel_reasons import KILLED, USER
from helmr_provider._common.errors import is_permanent, translate_errors
from helmr_provider._common.task_state import why_stopped
from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider.client.durations import seconds as duration_seconds
from helmr_provider.client.errors import HelmrError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from functools import cached_property

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from helmr_provider.hooks.helmr import HelmrHook

# How Airflow resumes a task without an event, and what it gives as the reason after its own limit.
TRIGGER_FAILED: Final = "__fail__"
TRIGGER_TIMED_OUT: Final = frozenset({"Trigger timeout", "Trigger/execution timeout"})

# The trigger's event has to reach the worker first, past a busy triggerer and scheduler.
_BACKSTOP_SECONDS: Final = 120.0


@dataclass
class Attempt:
    """The part of a task's try that this process runs.

    :param ti: the task instance.
    :param thread: runs the operator; a signal handler runs on it, too.
    :param is_waiting: whether this process itself is waiting.
    :param is_handed_over: whether the trigger has become responsible.
    :param kill_reason: set when the process was killed and what it has started was to end.
    :param is_stopping: whether the process was killed and what it started continues.
    """

    ti: Any
    thread: int
    is_waiting: bool = False
    is_handed_over: bool = False
    kill_reason: str | None = None
    is_stopping: bool = False

    @property
    def has_retry(self) -> bool:
        """Whether Airflow starts another try if this one fails."""
        return bool(self.ti.try_number <= self.ti.max_tries)


class DeferrableWait(BaseOperator):
    """Submit something that a repeat finds again, then wait for it in a worker or in the triggerer.

    A subclass says what to submit, how to poll it, which trigger waits for it, and what a kill and a time limit do.
    Polling decides; the event of a trigger only says that it is time to poll.
    """

    helmr_conn_id: str
    deferrable: bool
    _attempt: Attempt | None = None

    if TYPE_CHECKING:
        timeout: Any

        @cached_property
        def hook(self) -> HelmrHook:
            """Access to the control plane."""
            raise NotImplementedError

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        raise NotImplementedError

    @property
    def submitting(self) -> str:
        """Human-readable description of the submission; it follows "Could not"."""
        return f"begin {self.awaited}"

    def submit(self, context: Context) -> dict[str, Any]:
        """Submit, or find what an earlier try has submitted; return the ids to wait with. They survive a deferral.

        :param context: of the task instance.
        :raises HelmrError: a request failed.
        """
        del context
        return {}

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Poll once; the value is what the task returns.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        :raises HelmrError: it cannot be read.
        :raises AirflowException: it has ended, but not as it should.
        """
        raise NotImplementedError

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> BaseTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        raise NotImplementedError

    def take_over(
        self, context: Context, ids: dict[str, Any] | None, event: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Become responsible for what an earlier process of this try has submitted; return its ids.

        :param context: of the task instance.
        :param ids: as of the deferral; ``None`` in ``dag.test()``, which hands over nothing but the event.
        :param event: of the trigger.
        """
        del event
        return self._submit(context) if ids is None else ids

    def resume_kwargs(self, ids: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of :meth:`execute_complete` that carry the ids across a deferral.

        :param ids: as returned by :meth:`submit`.
        """
        return {"begun": ids} if ids else {}

    def recover(self, context: Context) -> dict[str, Any] | None:
        """Find what this try has submitted when its trigger was lost, with all ids; ``None`` if it cannot be found.

        :param context: of the task instance.
        :raises HelmrError: a request failed.
        """
        return self.submit(context)

    def on_time_limit(self, context: Context, ids: dict[str, Any]) -> str:
        """End what must not outlive the task's time limit; return a sentence about what became of it.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        del context, ids
        return "It continues."

    def on_lost_trigger(self, context: Context, ids: dict[str, Any]) -> str:
        """Clean up when the try fails although the awaited resource has not ended; return a sentence about it.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        del context, ids
        return ""

    def stop(self, reason: str) -> None:
        """End what this process is responsible for, because its task was killed.

        :param reason: kept by the control plane.
        """

    def execute(self, context: Context) -> Any:
        """Submit; then wait here, or defer unless there is nothing to wait for.

        :param context: of the task instance.
        """
        with closing(self.hook):
            self._enter(context)
            deadline = self._deadline(context)
            ids = self._submit(context)
            if self.deferrable:
                return self._return_or_defer(context, ids, deadline)
            self._check_killed()
            return self._wait(context, ids, deadline)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        *,
        begun: dict[str, Any] | None = None,
        deadline: float | None = None,
        try_number: int | None = None,
    ) -> Any:
        """Resume after the trigger's event. The state comes from the control plane, not from the event.

        :param context: of the task instance.
        :param event: of the trigger; it can be a stale one.
        :param begun: the ids as of the deferral. ``dag.test()`` hands over nothing but the event.
        :param deadline: as of the deferral, in seconds since the epoch.
        :param try_number: of the try that was deferred; :meth:`resume_execution` reads it.
        """
        del try_number
        with closing(self.hook):
            self._enter(context)
            event = dict(event or {})
            ids = self.take_over(context, begun, event)
            if deadline is None:
                stored = event.get("deadline")
                deadline = stored if isinstance(stored, (int, float)) else self._deadline(context)
            if ids is None:
                raise AirflowException(f"What this task has started in Helmr cannot be found: {self.awaited}.")
            return self._return_or_defer(context, ids, deadline, event)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; also when the trigger was lost or timed out, and the ids of the deferral with it.

        :param next_method: what to resume with.
        :param next_kwargs: its arguments.
        :param context: of the task instance.
        """
        deferred_in = (next_kwargs or {}).get("try_number")
        if deferred_in not in {None, context["ti"].try_number}:
            # The task was cleared while it resumed. Airflow keeps the deferral, and would resume the next try with it.
            return self.execute(context)
        if next_method == TRIGGER_FAILED:
            with closing(self.hook):
                self._enter(context)
                with translate_errors(f"find {self.awaited} again", self.helmr_conn_id):
                    ids = self.recover(context)
                if ids is not None:
                    if (polled := self._poll(context, ids)).is_done:
                        return polled.xcom_value
                    if (next_kwargs or {}).get("error") in TRIGGER_TIMED_OUT:
                        return self._give_up(context, ids)
                    self.on_lost_trigger(context, ids)
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """End what this process is responsible for, if a user has ended the task or no try would continue it.

        A worker is also killed when its node is drained, and when Airflow has given it up. Then the next try finds the
        started resource again; the trigger of a deferred task does so even without a retry.
        """
        attempt = self._attempt
        if attempt is None:
            return
        why = why_stopped(attempt.ti)
        if why == "user" or not (attempt.is_handed_over or attempt.has_retry or why == "next_try"):
            attempt.kill_reason = USER if why == "user" else KILLED
            self.stop(attempt.kill_reason)
            return
        attempt.is_stopping = True
        continues_in = "its trigger waits for it" if attempt.is_handed_over else "a retry finds it again"
        self.log.info("This process must stop. What it started in Helmr continues: %s.", continues_in)
        # Airflow 2 raises an exception of its own. While Airflow has not answered, it may have been interrupted in a
        # request whose answer must still be read.
        if AIRFLOW_V_3_0_PLUS and why is not None and attempt.is_waiting and threading.get_ident() == attempt.thread:
            raise SystemExit(f"The worker is being stopped: {self.awaited} continues, and a retry finds it again.")

    def _enter(self, context: Context) -> None:
        self._attempt = Attempt(ti=context["ti"], thread=threading.get_ident())

    def _check_killed(self) -> None:
        """End the try after a kill that came while a request was under way."""
        if (attempt := self._attempt) is None:
            return
        if attempt.kill_reason is not None:
            self.stop(attempt.kill_reason)
            raise AirflowException(f"The task was killed, and {self.awaited} with it.")
        if attempt.is_stopping:
            raise AirflowException(
                f"The worker is being stopped: {self.awaited} continues, and a retry finds it again."
            )

    def _submit(self, context: Context) -> dict[str, Any]:
        with translate_errors(self.submitting, self.helmr_conn_id):
            ids = self.submit(context)
        if (attempt := self._attempt) is not None and attempt.kill_reason is not None:
            self._check_killed()
        return ids

    def _poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Poll; an outage of the control plane is not a failure of the awaited resource."""
        with translate_errors(f"read {self.awaited}", self.helmr_conn_id):
            try:
                return self.poll(context, ids)
            except HelmrError as error:
                if is_permanent(error):
                    raise
                self.log.warning("The control plane cannot be reached; the wait continues: %s", error)
                return PokeReturnValue(is_done=False)

    def _wait(self, context: Context, ids: dict[str, Any], deadline: float | None) -> Any:
        """Wait on a worker."""
        attempt = self._attempt
        # Airflow's own alarm can be a moment earlier than the deadline.
        try:
            if attempt is not None:
                attempt.is_waiting = True
            polled = self.wait(context, ids, deadline)
        except AirflowTaskTimeout:
            polled = None
        finally:
            if attempt is not None:
                attempt.is_waiting = False
        return self._give_up(context, ids) if polled is None else polled.xcom_value

    def wait(self, context: Context, ids: dict[str, Any], deadline: float | None) -> PokeReturnValue | None:
        """Poll until the awaited resource has ended; return ``None`` at the deadline.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        :param deadline: in seconds since the epoch; ``None`` for never.
        """
        import random

        from helmr_provider.client._waiting.pacing import PollInterval

        interval = PollInterval(1.0, 5.0, 1.5, random.random)
        while not (polled := self._poll(context, ids)).is_done:
            self._check_killed()
            pause = interval.next()
            if deadline is not None:
                if (left := deadline - time.time()) <= 0:
                    return None
                pause = min(pause, left)
            time.sleep(pause)
        return polled

    def _return_or_defer(
        self, context: Context, ids: dict[str, Any], deadline: float | None, event: Mapping[str, Any] | None = None
    ) -> Any:
        if (polled := self._poll(context, ids)).is_done:
            return polled.xcom_value
        if deadline is not None and time.time() >= deadline:
            return self._give_up(context, ids)
        if event is not None and event.get("status") == "error":
            outcome = self.on_lost_trigger(context, ids)
            raise AirflowException(
                f"Waiting for {self.awaited} in the triggerer failed ({event.get('error')}); the log has the reason. "
                f"{outcome}".rstrip()
            )
        return self._defer(ids, deadline)

    def _defer(self, ids: dict[str, Any], deadline: float | None) -> NoReturn:
        kwargs = self.resume_kwargs(ids) | ({} if deadline is None else {"deadline": deadline})
        trigger, limit = self.trigger(ids, deadline), backstop(deadline)
        # From here on, a signal must not end what the trigger will wait for.
        if (attempt := self._attempt) is not None:
            if attempt.kill_reason is not None:
                self._check_killed()
            attempt.is_handed_over = True
            kwargs["try_number"] = attempt.ti.try_number
        self.defer(trigger=trigger, method_name="execute_complete", kwargs=kwargs, timeout=limit)

    def _deadline(self, context: Context) -> float | None:
        return deadline_of(context["ti"], timeout=self.timeout, execution_timeout=self.execution_timeout)

    def _give_up(self, context: Context, ids: dict[str, Any]) -> Any:
        """Fail at the time limit; a subclass may know what to return instead."""
        outcome = self.on_time_limit(context, ids)
        raise AirflowTaskTimeout(f"{self.awaited} had not ended when the time of this task was over. {outcome}")


def deadline_of(
    ti: Any, *, timeout: timedelta | float | str | None = None, execution_timeout: timedelta | None = None
) -> float | None:
    """Return when a task gives up, in seconds since the epoch: the earlier one of its limits.

    Airflow 3 does not enforce ``execution_timeout`` while a task is deferred, and grants it anew when the task resumes.
    Airflow 2 does enforce it, but then the task cannot cancel anything any more: there, the deadline lies a little
    before Airflow's.

    :param ti: the task instance; limits count from its start, before any deferral.
    :param timeout: limit of the operator; timedelta, seconds, or text.
    :param execution_timeout: limit of the task.
    """
    limits: list[float] = []
    if timeout is not None:
        limits.append(duration_seconds(timeout, "timeout"))
    if execution_timeout is not None:
        seconds = execution_timeout.total_seconds()
        limits.append(seconds if AIRFLOW_V_3_0_PLUS else seconds - min(30.0, seconds / 10))
    if not limits:
        return None
    started = getattr(ti, "start_date", None)
    return (time.time() if started is None else started.timestamp()) + min(limits)


def backstop(deadline: float | None) -> timedelta | None:
    """Return the limit to defer with, for the case that even the trigger misses its deadline.

    :param deadline: of the trigger, in seconds since the epoch.
    """
    return None if deadline is None else timedelta(seconds=max(0.0, deadline - time.time()) + _BACKSTOP_SECONDS)

"""An operator that begins something in Helmr and waits for its end, on a worker or in the triggerer."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout, PokeReturnValue, conf

from helmr_provider._common.errors import is_permanent
from helmr_provider.client.durations import seconds
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.triggers.base import HelmrTrigger


class HelmrWaitingOperator(HelmrOperator):
    """Begin something that a repeat finds again, then wait for it.

    A subclass says what to begin, how to look at it, and what waits for it in the triggerer. Looking decides; an event
    only says that it is time to look.

    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    """

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta | float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self.timeout = timeout
        if timeout is not None:
            seconds(timeout, "timeout", positive=True)

    @property
    def awaited(self) -> str:
        """What is waited for, for people."""
        raise NotImplementedError

    def begin(self, context: Context) -> dict[str, Any]:
        """Begin, or find what an earlier try has begun; return the ids to wait with. Only these survive a deferral.

        :param context: of the task instance.
        :raises HelmrError: it cannot be begun.
        """
        raise NotImplementedError

    def look(self, context: Context, begun: dict[str, Any]) -> PokeReturnValue:
        """Look once; the value is what the task returns.

        :param context: of the task instance.
        :param begun: as returned by :meth:`begin`.
        :raises HelmrError: it cannot be read.
        :raises AirflowException: it has ended, but not as it should.
        """
        raise NotImplementedError

    def trigger(self, begun: dict[str, Any], deadline: float | None) -> HelmrTrigger:
        """Return what waits in the triggerer.

        :param begun: as returned by :meth:`begin`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        raise NotImplementedError

    def give_up(self, context: Context, begun: dict[str, Any]) -> str:
        """End what must not outlive the task's time limit; return what became of it, for people.

        :param context: of the task instance.
        :param begun: as returned by :meth:`begin`.
        """
        del context, begun
        return "It goes on."

    def find_again(self, context: Context) -> dict[str, Any] | None:
        """Find what this try has begun when its trigger was lost, and all ids with it; ``None`` if it cannot be found.

        :param context: of the task instance.
        :raises HelmrError: it cannot be asked for.
        """
        return self.begin(context)

    def abandon(self, context: Context, begun: dict[str, Any]) -> None:
        """End what nobody would answer for any more: called when the try fails although what it waits for goes on.

        :param context: of the task instance.
        :param begun: as returned by :meth:`begin`.
        """

    def execute(self, context: Context) -> Any:
        """Begin; then wait here, or defer unless there is nothing to wait for.

        :param context: of the task instance.
        """
        with closing(self.hook):
            begun, deadline = self._begin(context), self._deadline(context)
            if self.deferrable:
                return self._return_or_defer(context, begun, deadline)
            return self._wait(context, begun, deadline)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        *,
        begun: dict[str, Any] | None = None,
        deadline: float | None = None,
    ) -> Any:
        """Go on when the trigger has fired. How things stand is asked of the control plane, not of the event.

        :param context: of the task instance.
        :param event: of the trigger; it can be a stale one.
        :param begun: as of the deferral. ``dag.test()`` hands on nothing but the event.
        :param deadline: as of the deferral, in seconds since the epoch.
        """
        with closing(self.hook):
            begun = self._begin(context) if begun is None else begun
            deadline = self._deadline(context) if deadline is None else deadline
            return self._return_or_defer(context, begun, deadline, event or {})

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; also when the trigger was lost or timed out, with nothing left of what was deferred.

        :param next_method: what to resume with.
        :param next_kwargs: its arguments.
        :param context: of the task instance.
        """
        from helmr_provider.triggers.base import TRIGGER_FAILED, TRIGGER_TIMED_OUT

        if next_method == TRIGGER_FAILED:
            with closing(self.hook):
                with self._translate_errors(f"find {self.awaited} again"):
                    begun = self.find_again(context)
                if begun is not None:
                    if (seen := self._look(context, begun)).is_done:
                        return seen.xcom_value
                    if (next_kwargs or {}).get("error") in TRIGGER_TIMED_OUT:
                        return self._give_up(context, begun)
                    self.abandon(context, begun)
        return super().resume_execution(next_method, next_kwargs, context)

    def _begin(self, context: Context) -> dict[str, Any]:
        with self._translate_errors(f"begin {self.awaited}"):
            return self.begin(context)

    def _look(self, context: Context, begun: dict[str, Any]) -> PokeReturnValue:
        """Look; an outage of the control plane is not a failure of what is waited for."""
        from helmr_provider.client.errors import HelmrError

        with self._translate_errors(f"read {self.awaited}"):
            try:
                return self.look(context, begun)
            except HelmrError as error:
                if is_permanent(error):
                    raise
                self.log.warning("The control plane cannot be asked, waiting on: %s", error)
                return PokeReturnValue(is_done=False)

    def _wait(self, context: Context, begun: dict[str, Any], deadline: float | None) -> Any:
        import random

        from helmr_provider.client._waiting.pacing import PollInterval

        pace = PollInterval(1.0, 5.0, 1.5, random.random)
        while not (seen := self._look(context, begun)).is_done:
            pause = pace.next()
            if deadline is not None:
                if (left := deadline - time.time()) <= 0:
                    return self._give_up(context, begun)
                pause = min(pause, left)
            time.sleep(pause)
        return seen.xcom_value

    def _return_or_defer(
        self,
        context: Context,
        begun: dict[str, Any],
        deadline: float | None,
        event: Mapping[str, Any] | None = None,
    ) -> Any:
        from helmr_provider.triggers.base import backstop

        if (seen := self._look(context, begun)).is_done:
            return seen.xcom_value
        if deadline is not None and time.time() >= deadline:
            return self._give_up(context, begun)
        if event is not None and event.get("status") == "error":
            self.abandon(context, begun)
            raise AirflowException(
                f"Waiting for {self.awaited} in the triggerer failed ({event.get('error')}); the log has the reason."
            )
        return self.defer(
            trigger=self.trigger(begun, deadline),
            method_name="execute_complete",
            kwargs={"begun": begun} if deadline is None else {"begun": begun, "deadline": deadline},
            timeout=backstop(deadline),
        )

    def _deadline(self, context: Context) -> float | None:
        from helmr_provider.triggers.base import deadline_of

        return deadline_of(context["ti"], timeout=self.timeout, execution_timeout=self.execution_timeout)

    def _give_up(self, context: Context, begun: dict[str, Any]) -> Any:
        """Fail at the end of the time; a subclass may know what to return instead."""
        outcome = self.give_up(context, begun)
        raise AirflowTaskTimeout(f"{self.awaited} had not ended when the time of this task was over. {outcome}")

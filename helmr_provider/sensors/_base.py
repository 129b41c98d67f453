"""What all Helmr sensors have in common: three ways to wait, and what ends a wait."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from helmr_provider._common.errors import is_permanent, translate_errors
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider.client.durations import seconds
from helmr_provider.hooks.helmr import HelmrHook

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.triggers.base import HelmrTrigger


_DURATIONS: Final = frozenset({"timeout", "poke_interval", "max_wait"})


class HelmrSensor(BaseSensorOperator):
    """Wait for something in Helmr, in a worker or in the triggerer; an outage of the control plane is waited out.

    Whatever ends the wait without success (``timeout`` included) skips the task with ``soft_fail``, and says why.

    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    """

    helmr_conn_id = TemplateField[str](text)

    def __init__(
        self,
        *,
        helmr_conn_id: str = HelmrHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        for name in _DURATIONS & kwargs.keys():
            # The base class takes no text.
            if isinstance(kwargs[name], str):
                kwargs[name] = seconds(kwargs[name], name, positive=True)
        super().__init__(**kwargs)
        self.helmr_conn_id = helmr_conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> HelmrHook:
        """Access to the control plane."""
        return HelmrHook(self.helmr_conn_id)

    @property
    def awaited(self) -> str:
        """What is waited for, for people."""
        raise NotImplementedError

    def look(self, context: Context) -> PokeReturnValue:
        """Look once.

        :param context: of the task instance.
        :raises HelmrError: it cannot be read.
        :raises AirflowFailException: it has ended, but not as it should.
        """
        raise NotImplementedError

    def trigger(self, deadline: float | None) -> HelmrTrigger:
        """Return what waits in the triggerer.

        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        raise NotImplementedError

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once, from a worker.

        :param context: of the task instance.
        """
        with self._failing_softly():
            return self._look(context)

    def execute(self, context: Context) -> Any:
        """Wait here, or defer unless there is nothing to wait for.

        :param context: of the task instance.
        """
        with closing(self.hook):
            return self._return_or_defer(context) if self.deferrable else super().execute(context)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, *, deadline: float | None = None
    ) -> Any:
        """Go on when the trigger has fired. How things stand is asked of the control plane, not of the event.

        :param context: of the task instance.
        :param event: of the trigger; it can be a stale one.
        :param deadline: as of the deferral, in seconds since the epoch. ``dag.test()`` hands on nothing but the event.
        """
        with closing(self.hook):
            return self._return_or_defer(context, event or {}, deadline)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; Airflow 2 calls its own limit a lost trigger, which it is not for a sensor.

        :param next_method: what to resume with.
        :param next_kwargs: its arguments.
        :param context: of the task instance.
        """
        from helmr_provider.triggers.base import TRIGGER_FAILED, TRIGGER_TIMED_OUT

        if next_method == TRIGGER_FAILED and (next_kwargs or {}).get("error") in TRIGGER_TIMED_OUT:
            with self._failing_softly():
                raise AirflowSensorTimeout(self._too_late)
        return super().resume_execution(next_method, next_kwargs, context)

    @property
    def _too_late(self) -> str:
        return f"{self.awaited} had not ended when the time of this sensor was over."

    def _return_or_defer(
        self, context: Context, event: Mapping[str, Any] | None = None, deadline: float | None = None
    ) -> Any:
        from helmr_provider.triggers.base import backstop, deadline_of

        if deadline is None:
            deadline = deadline_of(context["ti"], timeout=self.timeout, execution_timeout=self.execution_timeout)
        late = event is not None and deadline is not None and time.time() >= deadline
        with self._failing_softly():
            if (seen := self._look(context)).is_done:
                return seen.xcom_value
            if late:
                raise AirflowSensorTimeout(self._too_late)
            if event is not None and event.get("status") == "error":
                raise AirflowException(
                    f"Waiting for {self.awaited} in the triggerer failed ({event.get('error')}); see its log."
                )
        return self.defer(
            trigger=self.trigger(deadline),
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=backstop(deadline),
        )

    def _look(self, context: Context) -> PokeReturnValue:
        from helmr_provider.client.errors import HelmrError

        with translate_errors(f"read {self.awaited}", self.helmr_conn_id):
            try:
                return self.look(context)
            except HelmrError as error:
                if is_permanent(error):
                    raise
                self.log.warning("The control plane cannot be asked, waiting on: %s", error)
                return PokeReturnValue(is_done=False)

    @contextmanager
    def _failing_softly(self) -> Iterator[None]:
        try:
            yield
        except (AirflowSensorTimeout, AirflowFailException) as error:
            # The base class would skip as well, but not say why (after a deferral it replaces even this text), and on
            # Airflow 2 not after a deferral.
            if self.soft_fail or self.never_fail:
                self.log.info("Skipping: %s", error)
                raise AirflowSkipException(str(error)) from None
            raise

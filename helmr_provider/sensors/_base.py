"""Base class of the sensors: the wait, and what ``soft_fail`` skips."""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    conf,
)

from helmr_provider._common.deferrable import DeferrableWait
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider.client.durations import seconds
from helmr_provider.hooks import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context, PokeReturnValue

    from helmr_provider.hooks.helmr import HelmrHook


_DURATIONS: Final = frozenset({"timeout", "poke_interval", "max_wait"})


class _NeverSucceedsError(Exception):
    """Carries an ``AirflowFailException`` past Airflow's base class, which would skip the task for ``soft_fail``."""

    def __init__(self, cause: AirflowFailException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class HelmrSensor(DeferrableWait, BaseSensorOperator):
    """Wait for something in Helmr, in a worker or in the triggerer. The wait outlasts an outage of the control plane.

    ``soft_fail`` skips the task at its time limit only. A wait that can never succeed fails the task: an unknown
    connection, a wrong key, a malformed id, or an awaited resource that ended otherwise.
    ``never_fail`` skips the task in these cases, too.

    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    """

    helmr_conn_id = TemplateField[str](text)  # pyright: ignore[reportAssignmentType] - a descriptor of that type

    def __init__(
        self,
        *,
        helmr_conn_id: str = DEFAULT_CONN_ID,
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
        from helmr_provider.hooks.helmr import HelmrHook

        return HelmrHook(self.helmr_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once, from a worker.

        :param context: of the task instance.
        """
        try:
            return self._poll(context, {})
        except AirflowFailException as error:
            if self.never_fail:
                # The base class would skip as well, but not say why.
                raise AirflowSkipException(str(error)) from None
            if self.soft_fail:
                raise _NeverSucceedsError(error) from None
            raise

    def execute(self, context: Context) -> Any:
        """Wait here, or defer unless there is nothing to wait for.

        :param context: of the task instance.
        """
        if self.deferrable:
            with self._skipping():
                return super().execute(context)
        with closing(self.hook):
            try:
                return BaseSensorOperator.execute(self, context)
            except _NeverSucceedsError as error:
                raise error.cause from None

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
        :param begun: unused; a sensor submits nothing.
        :param deadline: as of the deferral, in seconds since the epoch.
        :param try_number: of the try that was deferred.
        """
        with self._skipping():
            return super().execute_complete(context, event, begun=begun, deadline=deadline, try_number=try_number)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; also when the trigger was lost or timed out.

        :param next_method: what to resume with.
        :param next_kwargs: its arguments.
        :param context: of the task instance.
        """
        # The base class would skip every failure of a resumed task, not only one at its time limit.
        is_soft, self.soft_fail = self.soft_fail, False
        try:
            with self._skipping(soft_fail=is_soft):
                return super().resume_execution(next_method, next_kwargs, context)
        finally:
            self.soft_fail = is_soft

    def _give_up(self, context: Context, ids: dict[str, Any]) -> Any:
        del context, ids
        raise AirflowSensorTimeout(f"{self.awaited} had not ended when the time of this sensor was over.")

    @contextmanager
    def _skipping(self, *, soft_fail: bool | None = None) -> Iterator[None]:
        """Skip the task where the base class would, after a deferral and on every version, and say why."""
        try:
            yield
        except AirflowSkipException:
            raise
        except AirflowException as error:
            is_soft = self.soft_fail if soft_fail is None else soft_fail
            if self.never_fail or (is_soft and isinstance(error, AirflowSensorTimeout)):
                self.log.info("Skipping: %s", error)
                raise AirflowSkipException(str(error)) from None
            raise

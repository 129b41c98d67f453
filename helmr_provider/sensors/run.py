"""Wait for a run that something else has started."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from helmr_provider.hooks.helmr import HelmrHook
from helmr_provider.links import HelmrRunLink, HelmrSessionLink, run_url, store_links

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.runs import RunSnapshot

UNSUCCESSFUL: Final = ("failed", "cancelled", "expired")


class HelmrRunSensor(BaseSensorOperator):
    """Wait until a run has ended, and return its output.

    The run is never cancelled: whoever has started it answers for it. An outage of the control plane is waited out.

    :param run_id: the run. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param fail_on: statuses that fail the sensor, or skip it with ``soft_fail``; with any other one it succeeds.
    :param result: what to return: the run's ``"output"``, or the whole run as a ``"snapshot"``.
    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :raises AirflowFailException: the run ended with a status of ``fail_on``, or cannot be read.
    :raises AirflowSensorTimeout: it has not ended within ``timeout``.
    """

    template_fields: Sequence[str] = ("run_id", "helmr_conn_id")
    operator_extra_links: ClassVar = (HelmrSessionLink(), HelmrRunLink())
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        run_id: str,
        helmr_conn_id: str = HelmrHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        fail_on: Collection[str] = UNSUCCESSFUL,
        result: Literal["output", "snapshot"] = "output",
        max_result_bytes: int | None = 48 * 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.helmr_conn_id = helmr_conn_id
        self.deferrable = deferrable
        self.fail_on = fail_on
        self.result = result
        self.max_result_bytes = max_result_bytes
        if unknown := set(fail_on) - set(UNSUCCESSFUL):
            raise ValueError(f"fail_on takes {', '.join(UNSUCCESSFUL)}; not {', '.join(sorted(unknown))}")

    @cached_property
    def hook(self) -> HelmrHook:
        """Access to the control plane."""
        return HelmrHook(self.helmr_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the run once.

        :param context: of the task instance.
        """
        run = self._look(context)
        if run is None or not run.is_terminal:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._finish(run))

    def execute(self, context: Context) -> Any:
        """Wait here, or defer if the run has not ended.

        :param context: of the task instance.
        """
        if not self.deferrable:
            return super().execute(context)
        from helmr_provider.triggers.base import deadline_of

        deadline = deadline_of(context["ti"], timeout=self.timeout, execution_timeout=self.execution_timeout)
        return self._finish_or_defer(context, deadline)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, *, deadline: float | None = None
    ) -> Any:
        """Go on when the trigger has fired. What became of the run is asked of the control plane, not of the event.

        :param context: of the task instance.
        :param event: of the trigger; it can be a stale one.
        :param deadline: as of the deferral, in seconds since the epoch.
        """
        return self._finish_or_defer(context, deadline, event)

    def _finish_or_defer(self, context: Context, deadline: float | None, event: Mapping[str, Any] | None = None) -> Any:
        import time

        from helmr_provider.triggers.base import backstop
        from helmr_provider.triggers.run import HelmrRunTrigger

        late = deadline is not None and time.time() >= deadline
        try:
            run = self._look(context)
            if run is not None and run.is_terminal:
                return self._finish(run)
            if late:
                raise AirflowSensorTimeout(
                    f"Helmr run {self.run_id} had not ended when the time of this sensor was over."
                )
            if event is not None and event.get("status") == "error":
                raise AirflowException(
                    f"Waiting for run {self.run_id} in the triggerer failed ({event.get('error')}); its log has the reason."
                )
        except (AirflowSensorTimeout, AirflowFailException) as error:
            # As the base class does in the other modes; on Airflow 2 it does not for a resumed sensor that timed out.
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        return self.defer(
            trigger=HelmrRunTrigger(helmr_conn_id=self.helmr_conn_id, run_id=self.run_id, deadline=deadline),
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=backstop(deadline),
        )

    def _look(self, context: Context) -> RunSnapshot | None:
        """Read the run; ``None`` during an outage."""
        from helmr_provider.client.errors import HelmrError
        from helmr_provider.failures import is_permanent, told_to_airflow

        with told_to_airflow(f"read run {self.run_id!r}", self.helmr_conn_id):
            try:
                run = self.hook.client.runs.retrieve(self.run_id)
            except HelmrError as error:
                if is_permanent(error):
                    raise
                self.log.warning("The control plane cannot be asked, waiting on: %s", error)
                return None
        if self.do_xcom_push:
            console_url = self.hook.settings.console_url
            store_links(context, console_url=console_url, session_id=run.session_id, run_id=run.id)
        return run

    def _finish(self, run: RunSnapshot) -> Any:
        from helmr_provider.failures import explain, result_of

        if run.status in self.fail_on:
            url = run_url(self.hook.settings.console_url, run.session_id, run.id)
            # The run stays as it is, so looking at it again cannot help.
            raise AirflowFailException(explain(self.hook.client, run, url=url))
        return result_of(run, self.result, max_bytes=self.max_result_bytes if self.do_xcom_push else None)

"""Wait for a run that something else has started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, PokeReturnValue

from helmr_provider._common.errors import (
    DEFAULT_MAX_RESULT_BYTES,
    UNSUCCESSFUL,
    explain,
    refuse_unknown_statuses,
    result_of,
)
from helmr_provider._common.validation import require_id
from helmr_provider.links import HelmrRunLink, HelmrSessionLink, run_url, store_links
from helmr_provider.sensors._base import HelmrSensor

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.triggers.run import HelmrRunTrigger


class HelmrRunSensor(HelmrSensor):
    """Wait until a run has ended, and return its output.

    The run is never cancelled: whoever has started it answers for it. Needs the scope ``runs:read``.

    .. seealso:: Guide: :doc:`/how-to/sessions`

    :param run_id: the run. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param fail_on: statuses that fail the task, or skip it with ``soft_fail``; with any other one it succeeds.
    :param result: what to return: the run's ``"output"``, or the whole run as a ``"snapshot"``.
    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :param poke_interval: seconds between two looks when not deferred; the triggerer has a pace of its own.
    :param timeout: seconds, or a timedelta, until the sensor gives up; an earlier ``execution_timeout`` counts.
    :raises AirflowFailException: the run ended with a status of ``fail_on``, or cannot be read.
    :raises AirflowSensorTimeout: it had not ended in time.
    """

    template_fields: Collection[str] = ("run_id", "helmr_conn_id")
    operator_extra_links = (HelmrSessionLink(), HelmrRunLink())
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        run_id: str,
        fail_on: Collection[str] = UNSUCCESSFUL,
        result: Literal["output", "snapshot"] = "output",
        max_result_bytes: int | None = DEFAULT_MAX_RESULT_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.fail_on = fail_on
        self.result: Literal["output", "snapshot"] = result
        self.max_result_bytes = max_result_bytes
        refuse_unknown_statuses(fail_on)

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"Helmr run {self.run_id}"

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Read the run.

        :param context: of the task instance.
        :param ids: none; a sensor submits nothing.
        """
        run = self.hook.client.runs.retrieve(require_id("run_id", self.run_id))
        console_url = self.hook.settings.console_url
        if self.do_xcom_push:
            store_links(context, console_url=console_url, session_id=run.session_id, run_id=run.id)
        if not run.is_terminal:
            return PokeReturnValue(is_done=False)
        if run.status in self.fail_on:
            # The run stays as it is, so looking at it again cannot help.
            url = run_url(console_url, run.session_id, run.id)
            raise AirflowFailException(explain(self.hook.client, run, url=url))
        value = result_of(run, self.result, max_bytes=self.max_result_bytes if self.do_xcom_push else None)
        return PokeReturnValue(is_done=True, xcom_value=value)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrRunTrigger:
        """Return the trigger that waits.

        :param ids: none; a sensor submits nothing.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.run import HelmrRunTrigger

        return HelmrRunTrigger(helmr_conn_id=self.helmr_conn_id, run_id=self.run_id, deadline=deadline)

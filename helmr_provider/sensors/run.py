"""Wait for a run that something else has started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, PokeReturnValue

from helmr_provider._common.errors import (
    UNSUCCESSFUL,
    explain,
    unsuccessful_statuses,
)
from helmr_provider._common.results import ResultOptions
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import require_id
from helmr_provider.links import HelmrRunLink, HelmrSessionLink, run_url, store_links
from helmr_provider.sensors._base import HelmrSensor

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.triggers.run import HelmrRunTrigger


class HelmrRunSensor(ResultOptions, HelmrSensor):
    """Wait until a run has ended, and return its output.

    The sensor never cancels the run. Needs the scope ``runs:read``.

    .. seealso:: Guide: :doc:`/how-to/sessions`

    :param run_id: the run. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param fail_on: one status or several that fail the task; a run that ended otherwise returns its result.
    :param result: what to return: the run's ``"output"``, or the whole run as a ``"snapshot"``.
    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :param result_to: path or address such as ``"s3://bucket/result.json"`` to write the result to as JSON, instead of
        returning it; one that ends with ``/`` gets a file name. The return value is the address then. (templated)
    :param result_to_conn_id: Airflow connection for ``result_to``.
    :param poke_interval: time between two polls when not deferred; timedelta, seconds, or text such as ``"30s"``. The
        triggerer has its own pace.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``. An
        ``execution_timeout`` that is earlier counts.
    :raises AirflowFailException: the run ended with a status of ``fail_on``, or cannot be read.
    :raises AirflowSensorTimeout: it had not ended within the limit.
    """

    run_id = TemplateField[str](text)

    template_fields: Collection[str] = ("run_id", "result_to", "helmr_conn_id")
    operator_extra_links = (HelmrSessionLink(), HelmrRunLink())
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        run_id: str,
        fail_on: str | Collection[str] = UNSUCCESSFUL,
        result: Literal["output", "snapshot"] = "output",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.fail_on = unsuccessful_statuses(fail_on)
        self.result: Literal["output", "snapshot"] = result

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
        store_links(context, console_url=console_url, session_id=run.session_id, run_id=run.id)
        if not run.is_terminal:
            return PokeReturnValue(is_done=False)
        if run.status in self.fail_on:
            # The run stays as it is, so another poll cannot help.
            url = run_url(console_url, run.session_id, run.id)
            raise AirflowFailException(explain(self.hook.client, run, url=url))
        value = self._run_result(run, self.result)
        return PokeReturnValue(is_done=True, xcom_value=value)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrRunTrigger:
        """Return the trigger that waits.

        :param ids: none; a sensor submits nothing.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.run import HelmrRunTrigger

        return HelmrRunTrigger(helmr_conn_id=self.helmr_conn_id, run_id=self.run_id, deadline=deadline)

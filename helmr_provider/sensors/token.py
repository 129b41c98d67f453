"""Wait until a Helmr token is completed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, PokeReturnValue

from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import require_id
from helmr_provider.links import HelmrTokenLink, store_token_link
from helmr_provider.sensors._base import HelmrSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.triggers.token import HelmrTokenTrigger


class HelmrTokenSensor(HelmrSensor):
    """Wait until a token is completed, and return its data.

    If the token expires or is cancelled, the task fails permanently; ``soft_fail`` applies to the time limit only. The
    sensor never cancels the token, which others may still complete or await. During an outage of the control plane, the
    wait continues.

    Needs the scope ``tokens:read`` (operations getToken and, deferred, listTokens).

    .. seealso:: Guide: :doc:`/how-to/approvals`

    :param token_id: the token. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param poke_interval: time between two polls when not deferred; timedelta, seconds, or text such as ``"30s"``. The
        triggerer has its own pace.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``. An
        ``execution_timeout`` that is earlier counts.
    :raises AirflowFailException: The token expired, was cancelled, or cannot be read.
    :raises AirflowSensorTimeout: It was still pending at the end of ``timeout``.
    """

    token_id = TemplateField[str](text)

    template_fields = ("token_id", "helmr_conn_id")
    operator_extra_links = (HelmrTokenLink(),)
    ui_color = "#e4e9f7"

    def __init__(self, *, token_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token_id = token_id

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"Helmr token {self.token_id}"

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Read the token once.

        :param context: Context of the task.
        :param ids: none; a sensor submits nothing.
        :raises AirflowFailException: The token can never be completed any more.
        """
        token_id = require_id("token_id", self.token_id)
        token = self.hook.client.tokens.retrieve(token_id)
        store_token_link(context, console_url=self.hook.settings.console_url, token_id=token.id)
        match token.status:
            case "pending":
                return PokeReturnValue(is_done=False)
            case "completed":
                return PokeReturnValue(is_done=True, xcom_value=token.data)
            case "expired":
                why = f"expired: it was not completed before {token.timeout_at}"
            case "cancelled":
                why = "was cancelled"
            case status:
                why = f"ended as {status!r}"
        raise AirflowFailException(f"{self.awaited} {why}.")

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrTokenTrigger:
        """Return the trigger that waits.

        :param ids: none; a sensor submits nothing.
        :param deadline: When to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.token import HelmrTokenTrigger

        return HelmrTokenTrigger(token_id=self.token_id, helmr_conn_id=self.helmr_conn_id, deadline=deadline)

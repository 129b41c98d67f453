"""Wait for somebody to complete a Helmr token."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from helmr_provider.failures import told_to_airflow
from helmr_provider.hooks.helmr import HelmrHook
from helmr_provider.triggers.base import backstop, deadline_of
from helmr_provider.triggers.token import HelmrTokenTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context


class HelmrTokenSensor(BaseSensorOperator):
    """Wait until a token is completed, and return the data it was completed with.

    A token that expires or is cancelled fails the task for good, or skips it with ``soft_fail``; so does the sensor's
    ``timeout``. The sensor never cancels the token: others may complete or await it still. A control plane that cannot
    be reached for a while is waited for.

    Needs the scope ``tokens:read`` (operations getToken and, deferred, listTokens).

    :param token_id: Id of the token (templated).
    :param helmr_conn_id: Airflow connection of the control plane (templated).
    :param deferrable: Wait in the triggerer, without a worker slot. Default: ``[operators] default_deferrable``.
    :param poke_interval: Seconds between two looks when not deferred; the triggerer has a pace of its own.
    :param timeout: Seconds, or a timedelta, until the sensor gives up; an ``execution_timeout`` that is earlier counts.
    """

    template_fields = ("token_id", "helmr_conn_id")
    ui_color = "#e4e9f7"

    def __init__(
        self,
        *,
        token_id: str,
        helmr_conn_id: str = HelmrHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.token_id = token_id
        self.helmr_conn_id = helmr_conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> HelmrHook:
        """Return the hook of the connection."""
        return HelmrHook(self.helmr_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002
        """Look at the token once.

        :param context: Context of the task.
        """
        try:
            with told_to_airflow(f"read Helmr token {self.token_id}", self.helmr_conn_id):
                token = self.hook.client.tokens.retrieve(self.token_id)
        except AirflowFailException as error:
            raise self._given_up(error) from None
        except AirflowException as error:
            self.log.warning("%s The sensor goes on.", error)
            return PokeReturnValue(is_done=False)
        if token.is_pending:
            return PokeReturnValue(is_done=False)
        if token.status == "completed":
            return PokeReturnValue(is_done=True, xcom_value=token.data)
        if token.status == "expired":
            why = f"expired: nobody completed it before {token.timeout_at}"
        elif token.status == "cancelled":
            why = "was cancelled"
        else:
            why = f"ended as {token.status!r}"
        raise self._given_up(AirflowFailException(f"Helmr token {token.id} {why}."))

    def execute(self, context: Context) -> Any:
        """Wait, on the worker or in the triggerer.

        :param context: Context of the task.
        :return: The data that the token was completed with.
        """
        if not self.deferrable:
            return super().execute(context)
        deadline = deadline_of(context["ti"], timeout=self.timeout, execution_timeout=self.execution_timeout)
        return self._finish_or_defer(context, deadline)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, *, deadline: float | None = None
    ) -> Any:
        """Go on when the trigger has fired. How the token ended is asked of the control plane, not of the event.

        :param context: Context of the task.
        :param event: From :class:`~helmr_provider.triggers.token.HelmrTokenTrigger`; it can be a stale one.
        :param deadline: When to give up, in seconds since the epoch, as of the first deferral.
        """
        return self._finish_or_defer(context, deadline, event)

    def _finish_or_defer(self, context: Context, deadline: float | None, event: Mapping[str, Any] | None = None) -> Any:
        if (seen := self.poke(context)).is_done:
            return seen.xcom_value
        if deadline is not None and time.time() >= deadline:
            raise self._given_up(AirflowSensorTimeout(f"Helmr token {self.token_id} was not completed in time."))
        if event is not None and event.get("status") == "error":
            raise self._given_up(
                AirflowException(
                    f"Waiting for Helmr token {self.token_id} in the triggerer failed ({event.get('error')}); "
                    "its log has the reason."
                )
            )
        self.log.info("Helmr token %s is pending; waiting for it in the triggerer.", self.token_id)
        return self.defer(
            trigger=HelmrTokenTrigger(token_id=self.token_id, helmr_conn_id=self.helmr_conn_id, deadline=deadline),
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=backstop(deadline),
        )

    def _given_up(self, failure: AirflowException) -> AirflowException:
        """Return the failure, or a skip with its text; Airflow's own skip would not say why."""
        return AirflowSkipException(str(failure)) if self.soft_fail or self.never_fail else failure

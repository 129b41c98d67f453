"""Base classes of the operators: the connection, idempotency keys, and the wait."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from helmr_provider._common.deferrable import DeferrableWait
from helmr_provider._common.errors import translate_errors
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._sessions.identity import OwnershipMetadata
from helmr_provider.client.durations import seconds
from helmr_provider.hooks import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.hooks.helmr import HelmrHook


class HelmrOperator(BaseOperator):
    """Do something in Helmr.

    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    """

    helmr_conn_id = TemplateField[str](text)

    def __init__(self, *, helmr_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.helmr_conn_id = helmr_conn_id

    @cached_property
    def hook(self) -> HelmrHook:
        """Access to the control plane."""
        from helmr_provider.hooks.helmr import HelmrHook

        return HelmrHook(self.helmr_conn_id)

    def _translate_errors(self, doing: str) -> AbstractContextManager[None]:
        return translate_errors(doing, self.helmr_conn_id)

    def _once_key(self, context: Context, *more: str) -> str:
        """Return an idempotency key: the same in every try, another one after a clear.

        :param context: of the task instance.
        :param more: tells several things apart that one task instance does.
        """
        stamp = OwnershipMetadata.of(context["ti"], context["dag_run"])
        return stamp.identity(self.hook.settings.session_prefix).once_key(stamp.epoch, *more)


class HelmrWaitingOperator(HelmrOperator, DeferrableWait):
    """Submit something that a repeat finds again, then wait for it.

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

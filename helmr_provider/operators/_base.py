"""What all Helmr operators have in common: the connection, and keys that make a retry find what was done already."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from helmr_provider._common.errors import translate_errors
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._sessions.identity import OwnershipMetadata
from helmr_provider.hooks.helmr import HelmrHook

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from airflow.providers.common.compat.sdk import Context


class HelmrOperator(BaseOperator):
    """Do something in Helmr.

    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    """

    helmr_conn_id = TemplateField[str](text)

    def __init__(self, *, helmr_conn_id: str = HelmrHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.helmr_conn_id = helmr_conn_id

    @cached_property
    def hook(self) -> HelmrHook:
        """Access to the control plane."""
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

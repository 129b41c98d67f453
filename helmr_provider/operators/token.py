"""Create, complete and cancel Helmr tokens: questions to people or systems, answered once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowFailException, mask_secret

from helmr_provider.failures import given
from helmr_provider.operators.base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context


class HelmrCreateTokenOperator(HelmrOperator):
    """Create a token, and return its id.

    A retry returns the same token: the key that makes it so names the task instance and the time between two clears. A
    cleared task creates a new one.

    The token's public access token and callback URL let anybody complete it; they are masked in logs and stay in the
    control plane. Tokens are completed with an API key, by :class:`HelmrCompleteTokenOperator`, for example.

    Needs the scope ``tokens:create`` (operation createToken).

    :param timeout: How long the token may be completed (templated): a timedelta, seconds, or text such as ``"90s"``,
        ``"12h"`` or ``"7d"``. Default: the control plane's, 7 days.
    :param tags: Tags of the token (templated).
    :param metadata: JSON object to keep with the token (templated); not for secrets.
    :param idempotency_key: Key of your own (templated): the same key gives the same token, in every task of the
        environment. With it, timeout, tags and metadata must be the same as before.
    :param helmr_conn_id: Airflow connection of the control plane (templated).
    """

    template_fields = ("timeout", "tags", "metadata", "idempotency_key", "helmr_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"metadata": "json"}
    ui_color = "#e4e9f7"

    def __init__(
        self,
        *,
        timeout: timedelta | float | str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.timeout = timeout
        self.tags = tags
        self.metadata = metadata
        self.idempotency_key = idempotency_key

    def execute(self, context: Context) -> str:
        """Create the token.

        :param context: Context of the task.
        :return: Id of the token.
        :raises AirflowFailException: The control plane refuses the token for good; among other reasons because an
            earlier try with the same key asked for another timeout, other tags or other metadata.
        """
        try:
            with self._told_to_airflow("create a Helmr token"):
                token = self.hook.client.tokens.create(
                    timeout=self.timeout,
                    tags=self.tags,
                    metadata=self.metadata,
                    idempotency_key=self.idempotency_key or self._once_key(context),
                )
        except (TypeError, ValueError) as error:
            raise AirflowFailException(f"The Helmr token was not created: {error}") from None
        # The callback URL is a secret by its last part alone.
        for secret in (token.public_access_token, (token.callback_url or "").rsplit("/", 1)[-1]):
            if secret:
                mask_secret(secret)
        self.log.info("Helmr token %s is %s.", token.id, token.status)
        return token.id


class HelmrCompleteTokenOperator(HelmrOperator):
    """Complete a token with data, and return its id.

    A token that was completed with the same data before counts as done, so that a retry succeeds. Other data, an
    expired or a cancelled token fail the task for good.

    Needs the scope ``tokens:complete`` (operation completeToken).

    :param token_id: Id of the token (templated).
    :param data: JSON value that the waiting side receives (templated).
    :param helmr_conn_id: Airflow connection of the control plane (templated).
    """

    template_fields = ("token_id", "data", "helmr_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"data": "json"}
    ui_color = "#e4e9f7"

    def __init__(
        self,
        *,
        token_id: str,
        data: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.token_id = token_id
        self.data = data

    def execute(self, context: Context) -> str:  # noqa: ARG002
        """Complete the token.

        :param context: Context of the task.
        :return: Id of the token.
        :raises AirflowFailException: The data are not JSON, or the token is expired, cancelled, unknown, or completed
            with other data.
        """
        with self._told_to_airflow(f"complete Helmr token {self.token_id}"):
            completion = self.hook.client.tokens.complete(given("token_id", self.token_id), self.data)
        self.log.info("Helmr token %s: %s.", self.token_id, completion.status)
        return self.token_id


class HelmrCancelTokenOperator(HelmrOperator):
    """Cancel a token, so that nobody can complete it any more; return how it has ended: ``cancelled`` or ``expired``.

    A token that was cancelled before counts as done, so that a retry succeeds; so does an expired one. One that was
    completed cannot be taken back: it fails the task for good, unless ``completed_ok``.

    Needs the scope ``tokens:cancel``, and ``tokens:read`` to tell a completed token from an unknown one (operations
    cancelToken, getToken).

    :param token_id: Id of the token (templated).
    :param completed_ok: Whether a token that was completed before is fine, too; ``completed`` is returned then.
    :param helmr_conn_id: Airflow connection of the control plane (templated).
    :raises AirflowFailException: There is no such token, or it was completed.
    """

    template_fields = ("token_id", "helmr_conn_id")
    ui_color = "#e4e9f7"

    def __init__(self, *, token_id: str, completed_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token_id = token_id
        self.completed_ok = completed_ok

    def execute(self, context: Context) -> str:  # noqa: ARG002
        """Cancel the token.

        :param context: Context of the task.
        :return: How the token has ended.
        """
        token_id = given("token_id", self.token_id)
        with self._told_to_airflow(f"cancel Helmr token {token_id}"):
            status = self._cancel(token_id)
        self.log.info("Helmr token %s is %s.", token_id, status)
        if status == "completed" and not self.completed_ok:
            raise AirflowFailException(f"Helmr token {token_id} was not cancelled: it had been completed before.")
        return status

    def _cancel(self, token_id: str) -> str:
        from helmr_provider.client.errors import HelmrConflictError, HelmrGoneError, HelmrNotFoundError

        tokens = self.hook.client.tokens
        try:
            return tokens.cancel(token_id).status
        except HelmrConflictError as error:
            if error.code == "token_cancelled":
                return "cancelled"
            raise
        except HelmrGoneError:
            return "expired"
        except HelmrNotFoundError:
            # A completed token is answered as if there were none (contract/behaviour.md section 21).
            if tokens.retrieve(token_id).status == "completed":
                return "completed"
            raise

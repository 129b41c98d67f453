"""Helmr tokens, which are answered once, and public access tokens, which grant access to one stream.

A public token never becomes an XCom. Tasks can write neither connections nor secrets backends, so it is passed to a
callable, or stored in a variable with a name that Airflow masks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    Variable,
    mask_secret,
    redact,  # pyright: ignore[reportPrivateImportUsage] - offered there for all versions
)

from helmr_provider._common.template_fields import TemplateField, text, texts
from helmr_provider._common.validation import require_id
from helmr_provider._sessions.identity import OwnershipMetadata
from helmr_provider.client.errors import HelmrConflictError, HelmrGoneError, HelmrNotFoundError
from helmr_provider.links import HelmrTokenLink, store_token_link, token_url
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.auth import PublicScope
    from helmr_provider.client.models.tokens import Token


class HelmrCreateTokenOperator(HelmrOperator):
    """Create a token, and return its id.

    A retry returns the same token, and a cleared task creates a new one. The token's metadata name the task instance in
    the member ``airflow``, unless you set an ``idempotency_key``. The task's log and its link lead to the page on which
    the token can be completed.

    Everyone with the token's public access token or callback URL can complete it; both are masked in logs and never
    stored. Tokens are completed with an API key, by :class:`HelmrCompleteTokenOperator`, for example.

    Needs the scope ``tokens:create`` (operation createToken).

    .. seealso:: Guide: :doc:`/how-to/approvals`

    :param timeout: how long the token can be completed; timedelta, seconds, or text such as ``"12h"``. Default: the
        control plane's 7 days. (templated)
    :param tags: up to 10 tags of the token, 128 bytes each. (templated)
    :param metadata: JSON object to keep with the token; not for secrets. (templated)
    :param idempotency_key: key of your own: the same key returns the same token, in every task of the
        environment. With it, timeout, tags and metadata must be the same as before.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    """

    tags = TemplateField["Sequence[str] | None"](texts)
    idempotency_key = TemplateField[str | None](text)

    template_fields = ("timeout", "tags", "metadata", "idempotency_key", "helmr_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"metadata": "json"}
    operator_extra_links = (HelmrTokenLink(),)
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

        :param context: of the task instance.
        :return: Id of the token.
        :raises AirflowFailException: The control plane refuses the token permanently; among other reasons because an
            earlier try with the same key asked for another timeout, other tags or other metadata.
        """
        try:
            with self._translate_errors("create a Helmr token"):
                token = self._create(context)
        except (TypeError, ValueError) as error:
            raise AirflowFailException(f"The Helmr token was not created: {error}") from None
        # The callback URL is a secret by its last part alone.
        for secret in (token.public_access_token, (token.callback_url or "").rsplit("/", 1)[-1]):
            if secret:
                mask_secret(secret)
        console_url = self.hook.settings.console_url
        store_token_link(context, console_url=console_url, token_id=token.id)
        self.log.info(
            "Helmr token %s is %s. Complete it at %s", token.id, token.status, token_url(console_url, token.id)
        )
        return token.id

    def _create(self, context: Context) -> Token:
        from helmr_provider.client.errors import HelmrConflictError

        create = partial(self.hook.client.tokens.create, timeout=self.timeout, tags=self.tags)
        if self.idempotency_key:
            # Other tasks may create the same token, so nothing in it can name this one.
            return create(metadata=self.metadata, idempotency_key=self.idempotency_key)
        key, stamped = self._once_key(context), self.metadata
        if stamped is None or isinstance(stamped, Mapping):
            stamp = OwnershipMetadata.of(context["ti"], context["dag_run"])
            stamped = {**stamp.of_all_tries(self.hook.settings.session_prefix), **(stamped or {})}
        try:
            return create(metadata=stamped, idempotency_key=key)
        except HelmrConflictError:
            # An earlier try may have run with a release that did not name the task instance.
            return create(metadata=self.metadata, idempotency_key=key)


class HelmrCompleteTokenOperator(HelmrOperator):
    """Complete a token with data, and return its id.

    A token that was completed with the same data before counts as done, so that a retry succeeds. Other data, an
    expired or a cancelled token fail the task permanently.

    Needs the scope ``tokens:complete`` (operation completeToken).

    .. seealso:: Guide: :doc:`/how-to/approvals`

    :param token_id: the token. (templated)
    :param data: JSON value that the waiting side receives. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    """

    token_id = TemplateField[str](text)

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

    def execute(self, context: Context) -> str:
        """Complete the token.

        :param context: of the task instance.
        :return: Id of the token.
        :raises AirflowFailException: The data are not JSON, or the token is expired, cancelled, unknown, or completed
            with other data.
        """
        with self._translate_errors(f"complete Helmr token {self.token_id}"):
            completion = self.hook.client.tokens.complete(require_id("token_id", self.token_id), self.data)
        self.log.info("Helmr token %s: %s.", self.token_id, completion.status)
        return self.token_id


class HelmrCancelTokenOperator(HelmrOperator):
    """Cancel a token, so that it cannot be completed any more; return its final status: ``cancelled`` or ``expired``.

    A token that was cancelled before counts as done, so that a retry succeeds; so does an expired one. One that was
    completed cannot be taken back: it fails the task permanently, unless ``completed_ok``.

    Needs the scope ``tokens:cancel``, and ``tokens:read`` to distinguish a completed token from an unknown one
    (operations cancelToken, getToken).

    .. seealso:: Guide: :doc:`/how-to/approvals`

    :param token_id: the token. (templated)
    :param completed_ok: whether a token that was completed before is accepted; ``completed`` is returned then.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: There is no such token, or it was completed.
    """

    token_id = TemplateField[str](text)

    template_fields = ("token_id", "helmr_conn_id")
    ui_color = "#e4e9f7"

    def __init__(self, *, token_id: str, completed_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token_id = token_id
        self.completed_ok = completed_ok

    def execute(self, context: Context) -> str:
        """Cancel the token.

        :param context: of the task instance.
        :return: How the token has ended.
        """
        token_id = require_id("token_id", self.token_id)
        with self._translate_errors(f"cancel Helmr token {token_id}"):
            status = self._cancel(token_id)
        self.log.info("Helmr token %s is %s.", token_id, status)
        if status == "completed" and not self.completed_ok:
            raise AirflowFailException(f"Helmr token {token_id} was not cancelled: it had been completed before.")
        return status

    def _cancel(self, token_id: str) -> str:
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


class HelmrCreatePublicTokenOperator(HelmrOperator):
    """Create a public access token, and pass it to a callable or a variable; return its facts, without the token.

    The token is a secret that Helmr shows once. It is masked in logs and is in no XCom; it leaves the task in one of
    two ways:

    - ``deliver`` is called with it in this task, and can post it to a chat or render it into a page. Its result becomes
      ``delivered``, after a check that the token is not in it.
    - ``variable`` names an Airflow variable to keep it in; a task further down reads it there. Airflow encrypts it with
      its Fernet key, and hides it by the name, which must have a word like ``token`` or ``secret`` in it. Tasks cannot
      write connections on Airflow 3, nor into a secrets backend.

    Returned: ``{"id", "session_id", "stream", "expires_at", "max_uses", "variable", "delivered"}``.

    A retry creates another token, as Helmr cannot show the first again, nor list or revoke it: let tokens expire soon,
    or give them few uses.

    Needs the scope that the token gets: ``session-input:send`` or ``session-streams:read`` (operation
    createPublicAccessToken).

    .. seealso:: Guide: :doc:`/how-to/approvals`

    :param session_id: the session. (templated)
    :param stream: name of its stream. (templated)
    :param access: ``"send"`` records to an input stream, or ``"read"`` those of an output stream.
    :param correlation_id: the only correlation id that the bearer may use. (templated)
    :param expires_at: when it expires; an aware datetime or ISO 8601 text. Default: 30 days from now. (templated)
    :param max_uses: how many calls it allows. Default: no limit.
    :param deliver: called with the token as text; its result must fit into an XCom.
    :param variable: name of the Airflow variable to keep the token in. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: The control plane refuses it, or the token would become readable.
    :raises AirflowException: It could not be passed on.
    """

    session_id = TemplateField[str](text)
    stream = TemplateField[str](text)
    correlation_id = TemplateField[str | None](text)
    variable = TemplateField[str | None](text)

    template_fields = ("session_id", "stream", "correlation_id", "expires_at", "variable", "helmr_conn_id")
    ui_color = "#e4e9f7"

    def __init__(
        self,
        *,
        session_id: str,
        stream: str,
        access: Literal["send", "read"],
        correlation_id: str | None = None,
        expires_at: datetime | str | None = None,
        max_uses: int | None = None,
        deliver: Callable[[str], Any] | None = None,
        variable: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.session_id = session_id
        self.stream = stream
        self.access = access
        self.correlation_id = correlation_id
        self.expires_at = expires_at
        self.max_uses = max_uses
        self.deliver = deliver
        self.variable = variable
        if access not in {"send", "read"}:
            raise ValueError("access must be 'send' or 'read'")
        if (deliver is None) == (variable is None):
            raise ValueError("Set either deliver or variable: otherwise the token reaches no one.")

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the token and hand it over.

        :param context: of the task instance.
        :return: What may be known of it.
        """
        if self.variable is not None and not _is_hidden(self.variable):
            raise AirflowFailException(
                f"Airflow would show the value of a variable called {self.variable!r} to everyone who may see "
                "variables: use a name with a word like 'token' or 'secret' in it."
            )
        try:
            with self._translate_errors("create a public access token"):
                token = self.hook.client.auth.create_public_token(
                    self._scope(), expires_at=self.expires_at, max_uses=self.max_uses
                )
        except (TypeError, ValueError) as error:
            raise AirflowFailException(f"The public access token was not created: {error}") from None
        secret = token.public_access_token
        if not secret:
            raise AirflowException("The control plane did not show the public access token that it created.")
        mask_secret(secret)
        self.log.info("Public access token %s, until %s, uses: %s.", token.id, token.expires_at, token.max_uses)
        return {
            "id": token.id,
            "session_id": token.scope.session.id,
            "stream": token.scope.stream,
            "expires_at": token.expires_at.isoformat(),
            "max_uses": token.max_uses,
            "variable": self.variable,
            "delivered": self._hand_over(secret, token.id),
        }

    def _scope(self) -> PublicScope:
        from helmr_provider.client.models.auth import PublicScope

        build = PublicScope.input if self.access == "send" else PublicScope.output
        return build(require_id("session_id", self.session_id), self.stream, correlation_id=self.correlation_id)

    def _hand_over(self, secret: str, token_id: str) -> Any:
        if self.variable is not None:
            Variable.set(self.variable, secret, description=f"Helmr public access token {token_id}")
            return None
        assert self.deliver is not None  # noqa: S101 - as checked at the start
        try:
            delivered = self.deliver(secret)
        except Exception as error:
            # Logs are masked, but the text of an exception also goes into callbacks and mails.
            self.log.exception("The public access token could not be delivered")
            raise AirflowException(f"deliver failed: {type(error).__name__}: {redact(str(error))}") from None
        if secret in json.dumps(delivered, default=str):
            raise AirflowFailException("deliver has returned the token, which would become an XCom that people read.")
        return delivered


def _is_hidden(variable: str) -> bool:
    """Tell whether Airflow hides what a variable of this name holds."""
    return redact("value", variable) != "value"

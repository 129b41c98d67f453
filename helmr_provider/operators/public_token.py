"""Give somebody without an API key access to one stream of one session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    Variable,
    mask_secret,
    redact,  # pyright: ignore[reportPrivateImportUsage] - offered there for all versions
)

from helmr_provider.failures import given
from helmr_provider.operators.base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.auth import PublicScope


class HelmrCreatePublicTokenOperator(HelmrOperator):
    """Create a public access token, and hand it over; return what may be known of it.

    The token is a secret that Helmr shows once. It is masked in logs and is in no XCom; it leaves the task in one of
    two ways:

    - ``deliver`` is called with it in this task: it may post it to a chat, or render it into a page. What it returns is
      returned as ``delivered``, after a check that the token is not in it.
    - ``variable`` names an Airflow variable to keep it in; a task further down reads it there. Airflow encrypts it with
      its Fernet key, and hides it by the name, which must have a word like ``token`` or ``secret`` in it. Tasks cannot
      write connections on Airflow 3, nor into a secrets backend.

    Returned: ``{"id", "session_id", "stream", "expires_at", "max_uses", "variable", "delivered"}``.

    A retry creates another token, as Helmr cannot show the first again, nor list or revoke it: let tokens expire soon,
    or give them few uses.

    Needs the scope that it gives: ``session-input:send`` or ``session-streams:read`` (operation
    createPublicAccessToken).

    :param session_id: Id of the session (templated).
    :param stream: Name of its stream (templated).
    :param access: ``"send"`` records to an input stream, or ``"read"`` those of an output stream.
    :param correlation_id: The only correlation id that the bearer may use (templated).
    :param expires_at: When it ends (templated): an aware datetime or ISO 8601 text. Default: 30 days from now.
    :param max_uses: How many calls it allows. Default: any number.
    :param deliver: Called with the token as text; its result must fit into an XCom.
    :param variable: Name of the Airflow variable to keep the token in (templated).
    :param helmr_conn_id: Airflow connection of the control plane (templated).
    :raises AirflowFailException: The control plane refuses it, or the token would become readable.
    :raises AirflowException: It could not be handed over.
    """

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
            raise ValueError("Give deliver or variable, one of them: else nobody gets the token.")

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Create the token and hand it over.

        :param context: Context of the task.
        :return: What may be known of it.
        """
        if self.variable is not None and not _is_hidden(self.variable):
            raise AirflowFailException(
                f"Airflow would show the value of a variable called {self.variable!r} to everybody who may see "
                "variables: use a name with a word like 'token' or 'secret' in it."
            )
        try:
            with self._told_to_airflow("create a public access token"):
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
        return build(given("session_id", self.session_id), self.stream, correlation_id=self.correlation_id)

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

# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""Public access tokens (contract/behaviour.md section 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._internals import transport_of
from helmr_provider.client._wire.responses import read
from helmr_provider.client._wire.stream_serialization import public_token_body
from helmr_provider.client.models.auth import PublicAccessToken

if TYPE_CHECKING:
    from datetime import datetime

    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.models.auth import PublicScope


class Auth:
    """Credentials for others.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._transport = transport_of(client)

    def create_public_token(
        self,
        scope: PublicScope,
        *,
        expires_at: datetime | str | None = None,
        max_uses: int | None = None,
        timeout: Duration | None = None,
    ) -> PublicAccessToken:
        """Create a credential for one stream of one session (createPublicAccessToken).

        :param scope: what it allows; built by ``PublicScope.input`` or ``PublicScope.output``.
        :param expires_at: an aware datetime or ISO 8601 text; 30 days from now when left out.
        :param max_uses: how many calls it allows; any number when left out.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: an option does not fit; nothing was sent.
        :raises HelmrPermissionError: the API key lacks the scope that the token would give.
        :raises HelmrNotFoundError: no such session, or it declares no such stream.
        :raises HelmrGoneError: the expiry lies in the past.
        """
        context = self._transport.context
        body = public_token_body(
            scope,
            expires_at=expires_at,
            max_uses=max_uses,
            project_id=context.project_id,
            environment_id=context.environment_id,
        )
        operation = "createPublicAccessToken"
        return read(PublicAccessToken, self._transport.call(operation, body=body, timeout=timeout), operation)

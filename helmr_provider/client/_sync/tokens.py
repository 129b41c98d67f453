# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""Tokens: answers that a run or a DAG waits for (contract/behaviour.md section 11)."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from helmr_provider.client._config import check_callback_url, check_credential
from helmr_provider.client._internals import transport_of
from helmr_provider.client._secrets import hide
from helmr_provider.client._wire.json_values import encode
from helmr_provider.client._wire.responses import read, same_id
from helmr_provider.client._wire.resume import is_behind
from helmr_provider.client._wire.serialization import token_body
from helmr_provider.client.models.tokens import Token, TokenCompletion, TokenPage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client._unasync_pairs import Stream
    from helmr_provider.client.durations import Duration


class TokenHandle(Token):
    """A token just created, with its two secrets, and what can be done with it."""

    _tokens: Tokens = PrivateAttr()

    def _bound_to(self, tokens: Tokens) -> TokenHandle:
        """Set the namespace that the methods below use."""
        self._tokens = tokens
        return self

    def retrieve(self, *, timeout: Duration | None = None) -> Token:
        """Retrieve the token as it is now, without its secrets (getToken).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        return self._tokens.retrieve(self, timeout=timeout)

    def complete(self, data: Any, *, timeout: Duration | None = None) -> TokenCompletion:
        """Complete the token; see :meth:`Tokens.complete`."""
        return self._tokens.complete(self, data, timeout=timeout)

    def cancel(self, *, timeout: Duration | None = None) -> Token:
        """Cancel the token; see :meth:`Tokens.cancel`."""
        return self._tokens.cancel(self, timeout=timeout)


class Tokens:
    """The tokens of the client's environment.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._transport = transport_of(client)

    def create(
        self,
        *,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> TokenHandle:
        """Create a token (createToken).

        :param timeout: how long it may be completed; timedelta, seconds, or text such as ``"24h"`` or ``"7d"``. Seven
            days when left out. ``client.with_options(timeout=)`` limits the call.
        :param idempotency_key: sent unchanged; the same key and options return the same token.
        :param tags: at most 10.
        :param metadata: JSON object.
        :raises ValueError: an option does not fit; nothing was sent.
        :raises HelmrConflictError: the key was used with other options.
        """
        body = token_body(timeout, idempotency_key, tags, metadata)
        handle = read(TokenHandle, self._transport.call("createToken", body=body), "createToken")
        return handle._bound_to(self)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def retrieve(self, token: str | Token, *, timeout: Duration | None = None) -> Token:
        """Retrieve a token, without its secrets (getToken).

        :param token: token id, or a token.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such token in this environment.
        """
        token_id = token if isinstance(token, str) else token.id
        found = read(Token, self._transport.call("getToken", path={"token_id": token_id}, timeout=timeout), "getToken")
        same_id(found.id, token_id, "getToken")
        return found

    def list(
        self,
        *,
        status: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        timeout: Duration | None = None,
    ) -> builtins.list[Token]:
        """List one page of tokens, oldest first (listTokens); see :meth:`iter` for all of them.

        :param status: pending, completed, expired or cancelled.
        :param cursor: ``next_cursor`` of the page before.
        :param limit: 1 to 500; the server's default is 100.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        return builtins.list((self.list_page(status=status, cursor=cursor, limit=limit, timeout=timeout)).tokens)

    def list_page(
        self,
        *,
        status: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        timeout: Duration | None = None,
    ) -> TokenPage:
        """List one page of tokens, oldest first, with the cursor of the next (listTokens).

        :param status: pending, completed, expired or cancelled.
        :param cursor: ``next_cursor`` of the page before.
        :param limit: 1 to 500; the server's default is 100.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        query = {"status": status, "cursor": cursor, "limit": limit}
        return read(TokenPage, self._transport.call("listTokens", query=query, timeout=timeout), "listTokens")

    def iter(
        self,
        *,
        status: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        timeout: Duration | None = None,
    ) -> Stream[Token]:
        """Yield all tokens, oldest first, page by page (listTokens).

        :param status: pending, completed, expired or cancelled.
        :param cursor: begin behind this token.
        :param limit: tokens for each request, 1 to 500.
        :param timeout: limit for each request with its repeats: seconds, timedelta or text; the client's when left out.
        """
        while True:
            page = self.list_page(status=status, cursor=cursor, limit=limit, timeout=timeout)
            for token in page.tokens:
                yield token
            if page.next_cursor is None or not is_behind(page.next_cursor, cursor):
                return
            cursor = page.next_cursor

    def complete(
        self,
        token: str | Token,
        data: Any,
        *,
        public_access_token: str | None = None,
        timeout: Duration | None = None,
    ) -> TokenCompletion:
        """Complete a token (completeToken, publicCompleteToken). The same data again is ``already_completed``.

        :param token: token id, or a token. One that holds its public access token is completed with it.
        :param data: any JSON value.
        :param public_access_token: credential to use instead of the API key.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises PayloadValidationError: the data is not JSON; nothing was sent.
        :raises HelmrConflictError: it was cancelled, or completed with other data.
        :raises HelmrGoneError: it is past its timeout.
        """
        secret = public_access_token
        if secret is None and not isinstance(token, str):
            secret = token.public_access_token
        credential, secret, public_access_token = None if secret is None else hide(secret), None, None
        token_id = token if isinstance(token, str) else token.id
        # An empty credential is refused below: it must not turn into the client's own.
        if credential is None:
            return self._complete("completeToken", data, path={"token_id": token_id}, timeout=timeout)
        check_credential(credential, "The public access token")
        return self._complete(
            "publicCompleteToken", data, path={"token_id": token_id}, credential=credential, timeout=timeout
        )

    def complete_callback(self, url: str, data: Any, *, timeout: Duration | None = None) -> TokenCompletion:
        """Complete a token through its callback URL, without further credential (callbackCompleteToken).

        :param url: the callback URL; a secret.
        :param data: any JSON value.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises PayloadValidationError: the data is not JSON; nothing was sent.
        :raises HelmrAuthError: the URL is not one of a token that can be completed.
        :raises HelmrConflictError: it was completed with other data.
        """
        secret, url = hide(url), ""
        check_callback_url(secret)
        return self._complete("callbackCompleteToken", data, url=secret, timeout=timeout)

    def cancel(self, token: str | Token, *, timeout: Duration | None = None) -> Token:
        """Cancel a pending token (cancelToken).

        :param token: token id, or a token.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such token, or it was completed (contract/behaviour.md section 21).
        :raises HelmrConflictError: it was cancelled before.
        :raises HelmrGoneError: it is past its timeout.
        """
        token_id = token if isinstance(token, str) else token.id
        return read(
            Token,
            self._transport.call("cancelToken", path={"token_id": token_id}, timeout=timeout),
            "cancelToken",
        )

    def _complete(
        self,
        operation: str,
        data: Any,
        *,
        path: Mapping[str, str] | None = None,
        credential: Secret | None = None,
        url: Secret | None = None,
        timeout: Duration | None,
    ) -> TokenCompletion:
        encode(data, "The data")
        body = {"data": data}
        return read(
            TokenCompletion,
            self._transport.call(operation, path=path, body=body, credential=credential, url=url, timeout=timeout),
            operation,
        )

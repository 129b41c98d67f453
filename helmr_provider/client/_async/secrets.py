"""Secrets of the environment: their names can be read, their values only set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._internals import transport_of
from helmr_provider.client._secrets import hide
from helmr_provider.client._wire.responses import read, read_list
from helmr_provider.client.models.deployments import StoredSecret

if TYPE_CHECKING:
    import builtins

    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client.durations import Duration


class AsyncSecrets:
    """The secrets of the client's environment. The API key must have been made by an owner or administrator.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: AsyncHelmrClient) -> None:
        self._transport = transport_of(client)

    async def list(self, *, timeout: Duration | None = None) -> builtins.list[StoredSecret]:
        """List the secrets, 200 at most (listSecrets).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        return read_list(
            StoredSecret, await self._transport.call("listSecrets", timeout=timeout), "secrets", "listSecrets"
        )

    async def retrieve(self, name: str, *, timeout: Duration | None = None) -> StoredSecret:
        """Retrieve a secret, without its value (getSecret).

        :param name: name of the secret.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such secret in this environment.
        """
        return read(
            StoredSecret, await self._transport.call("getSecret", path={"name": name}, timeout=timeout), "getSecret"
        )

    async def set(self, name: str, value: str, *, timeout: Duration | None = None) -> StoredSecret:
        """Set a secret, new or not (setSecret).

        :param name: name of the secret.
        :param value: its value; cannot be read back.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrApiError: 400 for a name or value that the server does not take.
        """
        # Hidden until it is rendered, so that a traceback of a failure does not show it.
        body, value = {"value": hide(value)}, ""
        return read(
            StoredSecret,
            await self._transport.call("setSecret", path={"name": name}, body=body, timeout=timeout),
            "setSecret",
        )

    async def delete(self, name: str, *, timeout: Duration | None = None) -> None:
        """Delete a secret (deleteSecret).

        :param name: name of the secret.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such secret in this environment.
        """
        await self._transport.call("deleteSecret", path={"name": name}, timeout=timeout)

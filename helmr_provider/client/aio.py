"""Asynchronous twins of the module-level namespaces: ``from helmr_provider.client.aio import runs``.

Each event loop has a default client of its own, because connections belong to the loop they were opened in. It is built
at first use from ``HELMR_API_URL`` and ``HELMR_API_KEY``, and again in a forked child.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from helmr_provider.client._default_client import LazyNamespace

if TYPE_CHECKING:
    from helmr_provider.client._async.auth import AsyncAuth
    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client._async.runs import AsyncRuns
    from helmr_provider.client._async.schedules import AsyncSchedules
    from helmr_provider.client._async.sessions import AsyncSessions
    from helmr_provider.client._async.tokens import AsyncTokens
    from helmr_provider.client._async.workspaces import AsyncWorkspaces

__all__ = ["aclose", "auth", "default_client", "runs", "schedules", "sessions", "tokens", "workspaces"]

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, AsyncHelmrClient]] = WeakKeyDictionary()


def default_client() -> AsyncHelmrClient:
    """Return the running event loop's default client.

    :raises HelmrConfigError: ``HELMR_API_URL`` is missing or unfit.
    :raises RuntimeError: no event loop is running.
    """
    from helmr_provider.client._async.client import AsyncHelmrClient

    loop = asyncio.get_running_loop()
    pid, client = _clients.get(loop, (0, None))
    if client is None or pid != os.getpid():
        client = AsyncHelmrClient()
        _clients[loop] = (os.getpid(), client)
    return client


async def aclose() -> None:
    """Close the running event loop's default client, if it was used; the next use builds another."""
    pid, client = _clients.pop(asyncio.get_running_loop(), (0, None))
    if client is not None and pid == os.getpid():
        await client.aclose()


auth = cast("AsyncAuth", LazyNamespace("auth", default_client))
runs = cast("AsyncRuns", LazyNamespace("runs", default_client))
schedules = cast("AsyncSchedules", LazyNamespace("schedules", default_client))
sessions = cast("AsyncSessions", LazyNamespace("sessions", default_client))
tokens = cast("AsyncTokens", LazyNamespace("tokens", default_client))
workspaces = cast("AsyncWorkspaces", LazyNamespace("workspaces", default_client))

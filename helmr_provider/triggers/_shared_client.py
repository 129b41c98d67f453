"""The triggerer's one client per connection: many waits, one fetched connection, one waiter, few streams."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from helmr_provider._common.metrics import WaitMeter
from helmr_provider.client.errors import HelmrAuthError
from helmr_provider.hooks.helmr import HelmrHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helmr_provider.client import AsyncHelmrClient


# As often as Airflow reports its own gauges, roughly.
_METER_SECONDS: Final = 10.0


@dataclass
class _Shared:
    opening: asyncio.Task[AsyncHelmrClient]
    metering: asyncio.Task[None]
    users: int = 0


# Per event loop, because a client belongs to the loop that it was first used on.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Shared]] = WeakKeyDictionary()
# The loop itself holds its tasks only weakly.
_closing: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def shared_client(helmr_conn_id: str) -> AsyncIterator[AsyncHelmrClient]:
    """Share the event loop's client of a connection with all other waits on it.

    The first user fetches the connection, and users who come during it wait for that one fetch; the last one to leave
    closes the client, so that the next user sees a changed connection. A fetch that fails, fails for all who wait for
    it, and is tried anew by the next user.

    A user whose call is refused because of the credential retires the client: it may be older than the key's rotation.
    Those who come later get a fresh one, even if others still use the old one.

    :param helmr_conn_id: Id of the Airflow connection.
    :raises HelmrConfigError: The connection is not usable.
    """
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    shared = clients.get(helmr_conn_id)
    if shared is None:
        opening = asyncio.create_task(_open(helmr_conn_id))
        metering = asyncio.create_task(_meter(helmr_conn_id, opening))
        shared = clients[helmr_conn_id] = _Shared(opening, metering)
    shared.users += 1

    def retire() -> None:
        if clients.get(helmr_conn_id) is shared:
            del clients[helmr_conn_id]

    try:
        # A user who is cancelled must not take the fetch away from the others.
        yield await asyncio.shield(shared.opening)
    except HelmrAuthError:
        retire()
        raise
    finally:
        shared.users -= 1
        if not shared.users:
            retire()
            # The triggerer cancels a trigger again and again until it is gone; the connections must be closed still.
            closing = asyncio.create_task(_close(shared))
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)
            await asyncio.shield(closing)


async def _open(helmr_conn_id: str) -> AsyncHelmrClient:
    hook = HelmrHook(helmr_conn_id)
    settings = await hook.aget_settings()
    return await hook.get_async_client(max_streams=settings.streams)


async def _close(shared: _Shared) -> None:
    shared.metering.cancel()
    shared.opening.cancel()
    await asyncio.wait([shared.opening, shared.metering])
    if not shared.opening.cancelled() and shared.opening.exception() is None:
        await shared.opening.result().aclose()


async def _meter(helmr_conn_id: str, opening: asyncio.Task[AsyncHelmrClient]) -> None:
    await asyncio.wait([opening])
    if opening.cancelled() or opening.exception() is not None:
        return
    meter = WaitMeter(helmr_conn_id, opening.result())
    try:
        while True:
            await asyncio.sleep(_METER_SECONDS)
            # A backend of metrics may resolve names and open sockets.
            await asyncio.to_thread(meter.send, *meter.read())
    finally:
        *_, requests = meter.read()
        await asyncio.to_thread(meter.send, 0, 0, requests)

"""Members of a client for this package alone: its transport, stream slots and waits, and views that repeat nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client._async.transport import AsyncTransport
    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client._sync.transport import Transport
    from helmr_provider.client._waiting.async_waiter import AsyncWaiter
    from helmr_provider.client._waiting.stream_slots import StreamSlots
    from helmr_provider.client._waiting.sync_waiter import Waiter

    ClientT = TypeVar("ClientT", AsyncHelmrClient, HelmrClient)

# ruff: noqa: SLF001 - the one place that reads these members from outside
# pyright: reportPrivateUsage=false


@overload
def transport_of(client: AsyncHelmrClient) -> AsyncTransport: ...
@overload
def transport_of(client: HelmrClient) -> Transport: ...
def transport_of(client: AsyncHelmrClient | HelmrClient) -> AsyncTransport | Transport:
    """Return what sends the requests of a client."""
    return client._transport


@overload
def waiter_of(client: AsyncHelmrClient) -> AsyncWaiter: ...
@overload
def waiter_of(client: HelmrClient) -> Waiter: ...
def waiter_of(client: AsyncHelmrClient | HelmrClient) -> AsyncWaiter | Waiter:
    """Return what all waits of a client share; the first call builds it.

    :raises HelmrError: the client is closed, or belongs to another event loop.
    """
    return client._waiter


def stream_slots_of(client: AsyncHelmrClient | HelmrClient) -> StreamSlots:
    """Return the budget of event streams of a client."""
    return client._stream_slots


def single_shot(client: ClientT, *, silence: float | None = None) -> ClientT:
    """Return a view of a client that repeats no call after a failure, for callers with a rhythm of their own.

    :param silence: seconds that its calls may take and its streams may be silent, if less than the client's own limits.
    """
    return client._single_shot(silence=silence)

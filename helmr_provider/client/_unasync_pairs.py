"""Pairs of names that ``dev/unasync.py`` exchanges: what differs between both clients beyond ``await``.

The first name of each pair is for the asynchronous client, the second for the synchronous one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client._waiting.async_waiter import AsyncWaiter
    from helmr_provider.client._waiting.sync_waiter import Waiter

T = TypeVar("T")


AsyncStream: TypeAlias = AsyncGenerator[T, None]
Stream: TypeAlias = Generator[T, None, None]

AsyncItems: TypeAlias = AsyncIterable[T] | Iterable[T]
Items: TypeAlias = Iterable[T]


async def async_sleep(seconds: float) -> None:
    """Sleep without blocking the event loop."""
    await asyncio.sleep(seconds)


def sleep(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


async def async_each(items: AsyncItems[T]) -> AsyncStream[T]:
    """Yield the items of an iterable of either kind."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    for item in items:
        yield item


def each(items: Items[T]) -> Stream[T]:
    """Yield the items."""
    yield from items


def build_async_waiter(client: AsyncHelmrClient) -> AsyncWaiter:
    """Build the driver of all waits of an asynchronous client."""
    from helmr_provider.client._waiting.async_waiter import AsyncWaiter

    return AsyncWaiter(client)


def build_waiter(client: HelmrClient) -> Waiter:
    """Build what a blocking client waits with."""
    from helmr_provider.client._waiting.sync_waiter import Waiter

    return Waiter(client)

"""The reading side of a feed that several triggers share (Airflow 3.3 and later)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.shared_stream import SharedStreamProducer

from helmr_provider.triggers.events._feeds import feed_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from airflow.triggers.shared_stream import AdvanceItem

    from helmr_provider.triggers.events._feed_events import FeedEvent
    from helmr_provider.triggers.events._feeds import Feed
    from helmr_provider.triggers.events._subscriptions import Subscriptions

# More would gain nothing: Airflow stores about a hundred events a second.
_MOST_UNDER_WAY: Final = 200


class HelmrFeedProducer(SharedStreamProducer):
    """Reads a feed for all its subscribers, and moves their cursors when Airflow has stored their events.

    :param feed: makes the feed to read.
    :param helmr_conn_id: Airflow connection of the control plane.
    :param shared: the subscribers.
    :param log: gets the errors of reading.
    """

    def __init__(self, feed: Callable[[], Feed], *, helmr_conn_id: str, shared: Subscriptions, log: Any) -> None:
        self._feed = feed
        self._helmr_conn_id = helmr_conn_id
        self._shared = shared
        self._log = log
        self._under_way = 0
        self._has_room = asyncio.Event()
        self._stream: Any = None
        # Airflow fails a trigger whose queue is full.
        size = conf.getint("triggerer", "shared_stream_subscriber_queue_size", fallback=_MOST_UNDER_WAY)
        self._most = max(1, min(_MOST_UNDER_WAY, size))

    def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Yield each feed event with the edition it belongs to, twice: for the subscribers and for :meth:`advance`."""
        self._stream = self._read()
        stream: AsyncIterator[tuple[Any, Any]] = self._stream
        return stream

    async def _read(self) -> AsyncIterator[tuple[Any, Any]]:
        while True:
            edition, cursor = await self._shared.begin()
            read = feed_events(
                self._feed(),
                self._helmr_conn_id,
                cursor,
                log=self._log,
                until=partial(self._shared.is_over, edition),
            )
            async with aclosing(read):
                async for feed_event in read:
                    while self._under_way >= self._most:
                        self._has_room.clear()
                        await self._has_room.wait()
                    self._under_way += 1
                    yield (edition, feed_event), (edition, feed_event)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Move the cursors behind the stored events; have all others read again.

        :param batch: in the order of reading.
        """
        self._under_way -= len(batch)
        self._has_room.set()
        done: list[tuple[int, FeedEvent]] = []
        for item in batch:
            if item.outcome.is_clean:
                done.append(item.broker_payload)
            else:
                await self._note(done)
                done = []
                self._shared.lost(item.broker_payload[0])
        await self._note(done)

    async def _note(self, done: list[tuple[int, FeedEvent]]) -> None:
        try:
            await self._shared.stored(done)
        except Exception:  # noqa: BLE001 - Airflow can raise any error
            # An event without a stored cursor is only repeated after a restart; ending the stream would not help.
            self._log.warning("Could not note how far the events have come", exc_info=True)

    async def aclose(self) -> None:
        """Stop reading."""
        if self._stream is not None:
            await self._stream.aclose()

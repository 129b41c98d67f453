"""Subscribers of a shared feed in this triggerer, and up to where Airflow has stored the events of each.

Airflow's shared stream (3.3) reads once for all triggers with the same key, and says when the events made of what was
read are in its database. Only then does a cursor move, in the state store of the asset that the trigger watches: what
was handed on but not stored is handed on again after a crash.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from helmr_provider.triggers.events._feed_events import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from helmr_provider.triggers.events._feed_events import FeedEvent


logger = logging.getLogger(__name__)

# Attributes of Airflow's AssetStateStoreAccessors: an accessor by the name and by the URI of each asset.
_PRIVATE: Final = ("_by_name", "_by_uri")


class Bookmark:
    """A cursor in the state store of the watched assets.

    :param store: as Airflow gives it to an event trigger; ``None`` before Airflow 3.3, where nothing is kept.
    :param key: of the cursor.
    """

    def __init__(self, store: Any, key: str) -> None:
        self.key = key
        # Equal triggers on several assets are one to Airflow, which has no public way to list those assets.
        if store is not None and not all(hasattr(store, name) for name in _PRIVATE):
            logger.warning(
                "This version of Airflow does not show the assets that a trigger watches, so no cursor is stored. "
                "After a restart, the trigger starts anew and misses what happened in between."
            )
        each = [accessor for name in _PRIVATE for accessor in getattr(store, name, {}).values()]
        # The asynchronous access came with Airflow 3.3.2; any other would block the triggerer.
        self._accessors: Final = [accessor for accessor in each if hasattr(accessor, "aset")]

    async def read(self, slack: float) -> Cursor | None:
        """Return the cursor, the oldest if assets differ; ``None`` if none has one.

        :param slack: of the cursor.
        """
        found = [Cursor.read(await accessor.aget(self.key), slack) for accessor in self._accessors]
        kept = [cursor for cursor in found if cursor is not None]
        return min(kept, key=lambda cursor: cursor.order, default=None)

    async def write(self, cursor: Cursor) -> None:
        """Store the cursor.

        :param cursor: the position to continue behind.
        """
        for accessor in self._accessors:
            await accessor.aset(self.key, cursor.stored())


class Subscriber:
    """One trigger's part of a shared feed.

    :param bookmark: where its cursor is kept.
    :param wants: says whether a feed event makes an event.
    """

    def __init__(self, bookmark: Bookmark, matches: Callable[[FeedEvent], bool]) -> None:
        self.bookmark = bookmark
        self.matches = matches
        self.is_ready = asyncio.Event()
        self.delivered = Cursor()
        self.stored = Cursor()
        self._telling: FeedEvent | None = None

    def begin(self, cursor: Cursor) -> None:
        """Begin behind a cursor.

        :param cursor: the position to continue behind.
        """
        self.delivered = self.stored = cursor
        self.is_ready.set()

    @contextmanager
    def telling(self, feed_event: FeedEvent) -> Iterator[None]:
        """Deliver an event; it counts as delivered only when Airflow asks for the next.

        A trigger that is cancelled while Airflow has its event in hand is indistinguishable from one without an event.

        :param feed_event: what the event is made of.
        """
        self._telling = feed_event
        yield
        self._telling = None
        self.delivered = self.delivered.past(feed_event)

    def note(self, feed_event: FeedEvent) -> bool:
        """Move on behind a feed event whose event, if it makes one, is stored; returns whether that is worth keeping.

        :param feed_event: the record or run.
        :raises LookupError: its event has not reached Airflow.
        """
        if not self.matches(feed_event):
            self.stored = self.stored.beside(feed_event)
            return False
        if self._telling is not None and self._telling.id == feed_event.id:
            raise LookupError(feed_event.id)
        is_news = self.stored.is_new(feed_event)
        if is_news:
            self.stored = self.stored.past(feed_event)
        return is_news


class Subscriptions:
    """All that share one feed.

    Each read belongs to an *edition*. A new one, read again from the oldest subscriber's cursor, begins when
    one comes or goes, or when Airflow could not store something; the rest of the old one is discarded.
    """

    def __init__(self) -> None:
        self.edition = 0
        self._subscribers: list[Subscriber] = []
        self._any = asyncio.Event()

    def join(self, subscriber: Subscriber) -> None:
        """Take in a subscriber.

        :param subscriber: not ready yet; the shared feed waits for it.
        """
        self._subscribers.append(subscriber)
        self._any.set()
        self.edition += 1

    def leave(self, subscriber: Subscriber) -> None:
        """Let a subscriber go.

        :param subscriber: whom nothing is handed on to any more.
        """
        self._subscribers.remove(subscriber)
        subscriber.is_ready.set()
        if not self._subscribers:
            self._any.clear()
        self.edition += 1

    def is_over(self, edition: int) -> bool:
        """Whether a newer edition has begun.

        :param edition: the one that was begun.
        """
        return edition != self.edition

    async def begin(self) -> tuple[int, Cursor]:
        """Begin an edition when all are ready; returns its number and where to read from."""
        while True:
            await self._any.wait()
            edition = self.edition
            for subscriber in list(self._subscribers):
                await subscriber.is_ready.wait()
            if not self.is_over(edition):
                oldest = min((each.stored for each in self._subscribers), key=lambda each: each.order)
                return edition, Cursor(oldest.order, oldest.slack)

    async def stored(self, read: Iterable[tuple[int, FeedEvent]]) -> None:
        """Move the cursors: Airflow has stored the events made of these.

        :param read: edition and feed_event, in the order of reading.
        """
        moved: dict[Subscriber, None] = {}
        for edition, feed_event in read:
            if self.is_over(edition):
                continue
            try:
                moved |= {each: None for each in self._subscribers if each.note(feed_event)}
            except LookupError:
                self.lost(edition)
        for subscriber in moved:
            await subscriber.bookmark.write(subscriber.stored)

    def lost(self, edition: int) -> None:
        """Begin again: Airflow has not stored all events of an edition.

        :param edition: that something was lost of.
        """
        if not self.is_over(edition):
            self.edition += 1


# Per event loop. Never removed: a group that stops next may still read for those that come again.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Subscriptions]] = WeakKeyDictionary()


def subscriptions(key: Hashable) -> Subscriptions:
    """Return the shared feed of a key, on this event loop.

    :param key: of the shared stream.
    """
    return _shared.setdefault(asyncio.get_running_loop(), {}).setdefault(key, Subscriptions())

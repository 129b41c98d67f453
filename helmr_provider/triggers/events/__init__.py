"""Triggers for asset watchers: what happens in Helmr updates an asset, and DAGs that are scheduled on it run."""

from __future__ import annotations

import hashlib
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from helmr_provider.hooks import DEFAULT_CONN_ID
from helmr_provider.triggers.base import EVENT_SCHEMA, KWARGS_VERSION, stored_form

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from helmr_provider.triggers.events._feed_events import Cursor, FeedEvent
    from helmr_provider.triggers.events._feeds import Feed
    from helmr_provider.triggers.events._subscriptions import Bookmark

_STARTS: Final = frozenset({"latest", "earliest"})
_ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})


class HelmrEventTrigger(BaseEventTrigger):
    """Fire for everything that happens somewhere in Helmr, for ever.

    The arguments of a subclass's ``__init__`` are its stored form, as of
    :class:`~helmr_provider.triggers.base.HelmrTrigger`.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param start: where to begin without a stored cursor: ``latest`` or ``earliest``.
    :param version: version of the stored form.
    """

    kind: str = ""

    def __init__(self, *, helmr_conn_id: str, start: str, version: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as of HelmrTrigger
        if start not in _STARTS:
            raise ValueError(f"start must be 'latest' or 'earliest', not {start!r}")
        self.helmr_conn_id = helmr_conn_id
        self.start = start
        self.version = version

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to build this trigger from again."""
        return stored_form(self)

    @property
    def source(self) -> tuple[str, ...]:
        """The feed to read, without the filter: triggers with the same feed share the reading."""
        raise NotImplementedError

    def feed(self) -> Feed:
        """Return a new reader of the source."""
        raise NotImplementedError

    def matches(self, feed_event: FeedEvent) -> bool:
        """Whether a feed event fires this trigger.

        :param feed_event: the record or run.
        """
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for what happens, reading alone (before Airflow 3.3)."""
        from helmr_provider.triggers.events._feeds import feed_events

        feed = self.feed()
        cursor = await self._begin(feed, self._bookmark())
        async with aclosing(feed_events(feed, self.helmr_conn_id, cursor, log=self.log)) as read:
            async for feed_event in read:
                if self.matches(feed_event):
                    yield self._event(feed_event)

    def shared_stream_key(self) -> tuple[str, ...]:
        """Return what triggers share that read the same (Airflow 3.3 and later)."""
        return ("helmr", self.kind, self.helmr_conn_id, *self.source)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> Any:
        """Return what reads for all triggers with the same key (Airflow 3.3 and later).

        :param kwargs: of one of them.
        """
        from helmr_provider.triggers.events._shared_producer import HelmrFeedProducer
        from helmr_provider.triggers.events._subscriptions import subscriptions

        trigger = cls(**kwargs)
        shared = subscriptions(trigger.shared_stream_key())
        return HelmrFeedProducer(trigger.feed, helmr_conn_id=trigger.helmr_conn_id, shared=shared, log=trigger.log)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Fire for what happens, reading together with others (Airflow 3.3 and later).

        :param shared_stream: the shared feed.
        """
        from helmr_provider.triggers.events._subscriptions import Subscriber, subscriptions

        subscriber = Subscriber(self._bookmark(), self.matches)
        shared = subscriptions(self.shared_stream_key())
        # Before anything is awaited: reading begins when all have named their positions.
        shared.join(subscriber)
        try:
            subscriber.begin(await self._begin(self.feed(), subscriber.bookmark))
            async for edition, feed_event in shared_stream:
                if (
                    shared.is_over(edition)
                    or not self.matches(feed_event)
                    or not subscriber.delivered.is_new(feed_event)
                ):
                    continue
                with subscriber.telling(feed_event):
                    yield self._event(feed_event)
        finally:
            shared.leave(subscriber)

    def _bookmark(self) -> Bookmark:
        from helmr_provider.triggers.events._subscriptions import Bookmark

        named = json.dumps([*self.shared_stream_key(), *self._picked])
        key = f"helmr.{self.kind}.{hashlib.sha256(named.encode()).hexdigest()[:16]}"
        return Bookmark(getattr(self, "asset_state_store", None), key)

    @property
    def _picked(self) -> tuple[str, ...]:
        """What tells the cursors of triggers apart that share the reading."""
        return ()

    async def _begin(self, feed: Feed, bookmark: Bookmark) -> Cursor:
        from helmr_provider.triggers.events._feeds import first_cursor

        cursor = await bookmark.read(feed.slack)
        if cursor is None:
            cursor = await first_cursor(feed, self.helmr_conn_id, self.start, log=self.log)
            await bookmark.write(cursor)
        self.log.info("Watching %s on %s.", feed.name, self.helmr_conn_id)
        return cursor

    def _event(self, feed_event: FeedEvent) -> TriggerEvent:
        facts = {name: value for name, value in feed_event.facts.items() if value is not None}
        payload = {"schema": EVENT_SCHEMA, "kind": self.kind, "event_id": feed_event.id, **facts}
        return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's class is not annotated


class HelmrSessionOutputEventTrigger(HelmrEventTrigger):
    """Fire for every record of an output stream of a session.

    The event's payload is ``{"schema": 1, "kind": "session_output", "event_id": id of the record, "session_id" or
    "external_id": as set, "stream": …, "sequence": …, "correlation_id": if it has one}``. It holds no data, because
    Airflow logs and keeps it: ``HelmrReadOutputOperator`` reads the record behind ``sequence - 1``.

    Each record fires at least once: on Airflow 3.3.2 and later also across restarts, because how far the asset has come
    is kept with it; before that, a restarted triggerer begins at ``start`` again. ``event_id`` tells what came twice.

    Needs the scope ``session-streams:read`` (operation listSessionOutputRecords, or the one by external id).

    .. seealso:: Guide: :doc:`/how-to/events`

    :param session_id: Id of the session.
    :param external_id: Its external id, instead; it may be started later.
    :param stream: Name of the output stream.
    :param correlation_id: Only records with this correlation id.
    :param start: Where to begin without a stored cursor: ``latest``, behind the existing records, or ``earliest``.
    :param helmr_conn_id: Airflow connection of the control plane.
    :param version: Version of the stored form.
    """

    kind = "session_output"

    def __init__(
        self,
        *,
        stream: str,
        session_id: str | None = None,
        external_id: str | None = None,
        correlation_id: str | None = None,
        start: str = "latest",
        helmr_conn_id: str = DEFAULT_CONN_ID,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, start=start, version=version)
        if (session_id is None) == (external_id is None):
            raise ValueError("Give either session_id or external_id.")
        self.stream = stream
        self.session_id = session_id
        self.external_id = external_id
        self.correlation_id = correlation_id

    @property
    def source(self) -> tuple[str, ...]:
        """The feed to read, without the filter."""
        return (self.session_id or "", self.external_id or "", self.stream)

    @property
    def _picked(self) -> tuple[str, ...]:
        return (self.correlation_id or "",)

    def feed(self) -> Feed:
        """Return a new reader of the stream."""
        from helmr_provider.triggers.events._feeds import OutputFeed

        return OutputFeed(session_id=self.session_id, external_id=self.external_id, stream=self.stream)

    def matches(self, feed_event: FeedEvent) -> bool:
        """Whether the record has the correlation id.

        :param feed_event: a record.
        """
        return self.correlation_id is None or feed_event.facts["correlation_id"] == self.correlation_id


class HelmrRunEndedEventTrigger(HelmrEventTrigger):
    """Fire for every run of a task that has ended, of any client.

    The event's payload is ``{"schema": 1, "kind": "run_ended", "event_id": id of the run, "run_id": …, "session_id": …,
    "task_id": …, "status": …}``.

    There is no feed of ended runs. The runs of the environment are counted every few seconds, and searched for when a
    count has grown; all triggers on one connection share that, for all tasks. On Airflow 3.3.2 and later each run
    fires at least once, also when it ended while no triggerer ran, unless more than 200 younger runs have ended in the
    same way in between: a list shows no more. Before that, a restarted triggerer begins at ``start`` again.

    Needs the scope ``runs:read`` (operations countRuns, listRuns and getRun).

    .. seealso:: Guide: :doc:`/how-to/events`

    :param helmr_task: Id of the Helmr task; ``task`` is Airflow's.
    :param statuses: How the run must have ended: any of ``succeeded``, ``failed``, ``cancelled``, ``expired``.
    :param start: Where to begin without a stored cursor: ``latest``, with runs that end from now on, or ``earliest``,
        with all that a list shows.
    :param helmr_conn_id: Airflow connection of the control plane.
    :param version: Version of the stored form.
    """

    kind = "run_ended"

    def __init__(
        self,
        *,
        helmr_task: str,
        statuses: Sequence[str] = ("succeeded",),
        start: str = "latest",
        helmr_conn_id: str = DEFAULT_CONN_ID,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, start=start, version=version)
        if isinstance(statuses, str) or not statuses or not set(statuses) <= _ENDED:
            raise ValueError(f"statuses must be some of {', '.join(sorted(_ENDED))}, not {statuses!r}")
        self.helmr_task = helmr_task
        self.statuses = sorted(set(statuses))

    @property
    def source(self) -> tuple[str, ...]:
        """The feed: the runs of the environment."""
        return ()

    @property
    def _picked(self) -> tuple[str, ...]:
        return (self.helmr_task, *self.statuses)

    def feed(self) -> Feed:
        """Return a new reader of ended runs."""
        from helmr_provider.triggers.events._feeds import EndedRunsFeed

        return EndedRunsFeed()

    def matches(self, feed_event: FeedEvent) -> bool:
        """Whether the run is one of the task, and has ended as it should.

        :param feed_event: a run.
        """
        facts = feed_event.facts
        return facts["task_id"] == self.helmr_task and facts["status"] in self.statuses

"""Sources of feed events: the output of a session, and the runs that have ended."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from helmr_provider.client._internals import waiter_of
from helmr_provider.client._waiting.actions import WaitKey
from helmr_provider.client.errors import HelmrError, HelmrNotFoundError
from helmr_provider.triggers._shared_client import shared_client
from helmr_provider.triggers.events._ended_runs import FULL, EndedRuns
from helmr_provider.triggers.events._feed_events import Cursor, FeedEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from helmr_provider.client import AsyncHelmrClient
    from helmr_provider.client.models.runs import RunSnapshot

# An event trigger never ends, so what cannot be read now is tried again later: the cause may be removed.
PATIENCE = 30.0
_PAGE: Final = 100
_LARGEST_PAGE: Final = 500
# How much later than younger ones an ended run may show up: its transaction may have been a long one.
_SLACK: Final = 300.0

_numbers = count()


class Feed(ABC):
    """A source of feed events, and what it remembers while it is read.

    :param slack: see :class:`~helmr_provider.triggers.events._feed_events.Cursor`.
    """

    slack: float = 0.0

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is, for people."""

    @abstractmethod
    async def latest(self, client: AsyncHelmrClient) -> Cursor:
        """Return the cursor behind everything that is there now.

        :param client: the triggerer's shared client.
        """

    @abstractmethod
    async def poll(self, client: AsyncHelmrClient, cursor: Cursor) -> list[FeedEvent]:
        """Poll once; return new events, oldest first.

        :param client: repeats nothing.
        :param cursor: the position to continue behind.
        """


class OutputFeed(Feed):
    """The records of an output stream.

    A session that is not there yet has no records: it may be started later, under the external id.

    :param session_id: of the session.
    :param external_id: its external id, instead.
    """

    def __init__(self, *, session_id: str | None, external_id: str | None, stream: str) -> None:
        self._session = {"session_id": session_id} if external_id is None else {"external_id": external_id}
        self._address: dict[str, Any] = {"session": session_id, "external_id": external_id}
        self._stream = stream

    @property
    def name(self) -> str:
        """What it is, for people."""
        (session,) = self._session.values()
        return f"output {self._stream} of session {session}"

    async def latest(self, client: AsyncHelmrClient) -> Cursor:
        """Return the cursor behind the newest record.

        :param client: the triggerer's shared client.
        """
        after = 0
        while page := await self._page(client, after, _LARGEST_PAGE):
            after = page[-1].sequence
        return Cursor(after)

    async def poll(self, client: AsyncHelmrClient, cursor: Cursor) -> list[FeedEvent]:
        """Return the records behind the cursor, a page of them at most.

        :param client: repeats nothing.
        :param cursor: the position to continue behind.
        """
        return [
            FeedEvent(
                record.sequence,
                record.id,
                {
                    **self._session,
                    "stream": self._stream,
                    "sequence": record.sequence,
                    "correlation_id": record.correlation_id,
                },
            )
            for record in await self._page(client, int(cursor.order), _PAGE)
        ]

    async def _page(self, client: AsyncHelmrClient, after: int, limit: int) -> list[Any]:
        try:
            output = client.sessions.open(**self._address).output(self._stream)
            return await output.list(after=after or None, limit=limit)
        except HelmrNotFoundError as error:
            if error.code is not None:
                # The session is there, but its task declares no such stream.
                raise
            return []


class EndedRunsFeed(Feed):
    """The runs of the environment that end, of any task and with any status."""

    slack = _SLACK

    def __init__(self) -> None:
        self._runs = EndedRuns()

    @property
    def name(self) -> str:
        """What it is, for people."""
        return "ended runs"

    async def latest(self, client: AsyncHelmrClient) -> Cursor:
        """Return the cursor behind everything that has ended.

        :param client: the triggerer's shared client.
        """
        cursor = Cursor(slack=self.slack)
        for feed_event in await self.poll(client, cursor):
            cursor = cursor.past(feed_event)
        return cursor

    async def poll(self, client: AsyncHelmrClient, cursor: Cursor) -> list[FeedEvent]:
        """Return the runs that have ended, as far as they can be seen.

        :param client: repeats nothing.
        :param cursor: the position to continue behind.
        """
        counts = await client.runs.count()
        if not self._runs.may_have_new_ends(counts):
            return []
        live = await client.runs.list(limit=FULL)
        if not (is_complete := len(live) < FULL):
            for status in ("running", "waiting"):
                live += await client.runs.list(status=status, limit=FULL)
        scan = self._runs.scan(counts, (run.id for run in live), is_complete=is_complete)
        seen: dict[str, RunSnapshot | None] = {}
        for status, limit in scan.limits.items():
            seen |= {run.id: run for run in await client.runs.list(status=status, limit=limit)}
        for run_id in scan.missing(seen):
            seen[run_id] = await _run(client, run_id)
        alive = [run.id for run in seen.values() if run is not None and not run.is_terminal]
        self._runs.over(scan, ended=seen.keys() - set(alive), alive=alive)
        found = (_ended(run) for run in seen.values() if run is not None and run.is_terminal)
        return sorted((each for each in found if cursor.is_new(each)), key=lambda each: each.order)


async def _run(client: AsyncHelmrClient, run_id: str) -> RunSnapshot | None:
    try:
        return await client.runs.retrieve(run_id)
    except HelmrNotFoundError:
        return None


def _ended(run: RunSnapshot) -> FeedEvent:
    facts = {"run_id": run.id, "session_id": run.session_id, "task_id": run.task_id, "status": run.status}
    return FeedEvent(run.updated_at.timestamp(), run.id, facts)


async def first_cursor(feed: Feed, helmr_conn_id: str, start: str, *, log: Any) -> Cursor:
    """Return where to begin without a stored cursor.

    :param feed: what will be followed.
    :param helmr_conn_id: Airflow connection of the control plane.
    :param start: ``latest`` or ``earliest``.
    :param log: gets the errors that prevent it.
    """
    if start == "earliest":
        return Cursor(slack=feed.slack)
    while True:
        async with _patience(feed, helmr_conn_id, log), shared_client(helmr_conn_id) as client:
            return await waiter_of(client).until(_key(feed), feed.latest, lambda _: True)


async def feed_events(
    feed: Feed, helmr_conn_id: str, cursor: Cursor, *, log: Any, until: Callable[[], bool] = lambda: False
) -> AsyncGenerator[FeedEvent, None]:
    """Yield what occurs behind a cursor, for ever; each once.

    :param feed: where it comes from; a new one for each call.
    :param helmr_conn_id: Airflow connection of the control plane.
    :param cursor: the position to continue behind.
    :param log: gets the errors of reading.
    :param until: ends the iteration, within seconds after it has become true.
    """

    async def poll(client: AsyncHelmrClient) -> list[FeedEvent]:
        return [] if until() else await feed.poll(client, cursor)

    while not until():
        async with _patience(feed, helmr_conn_id, log), shared_client(helmr_conn_id) as client:
            while not until():
                for feed_event in await waiter_of(client).until(_key(feed), poll, lambda found: bool(found) or until()):
                    cursor = cursor.past(feed_event)
                    yield feed_event


@asynccontextmanager
async def _patience(feed: Feed, helmr_conn_id: str, log: Any) -> AsyncIterator[None]:
    """Wait after an error that the waiter does not repeat, then return to the caller."""
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    try:
        yield
    except (HelmrError, AirflowNotFoundException) as error:
        pause = PATIENCE * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load
        log.warning("Cannot read %s on %s, trying again in %.0f s: %s", feed.name, helmr_conn_id, pause, error)
        await asyncio.sleep(pause)


def _key(feed: Feed) -> WaitKey:
    # These reads cannot be shared: they depend on the position of this reader.
    return WaitKey("events", f"{feed.name}/{next(_numbers)}")

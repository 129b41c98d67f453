# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""Run events: pages, streams, and following a run to its end (contract/behaviour.md sections 7 and 9)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from helmr_provider.client._internals import stream_slots_of, transport_of
from helmr_provider.client._sync._record_pages import all_records
from helmr_provider.client._unasync_pairs import sleep
from helmr_provider.client._wire.event_parsing import event_from_record, record_from_frame
from helmr_provider.client._wire.resume import FollowedRun
from helmr_provider.client.errors import HelmrApiError, HelmrConnectionError, HelmrProtocolError

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable

    from helmr_provider.client._http import Response
    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client._unasync_pairs import Stream
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.models.events import EventRecord, RunEvent
    from helmr_provider.client.models.runs import RunHandle


class RunEvents:
    """What happened to runs.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._client = client
        self._transport = transport_of(client)

    def list(
        self,
        run: str | RunHandle,
        *,
        cursor: str | int | None = None,
        page_size: int | None = None,
        timeout: Duration | None = None,
    ) -> builtins.list[RunEvent]:
        """Read all events that are there, as typed events (getRunEvents).

        :param run: run id, or a handle or snapshot.
        :param cursor: only what lies behind this event.
        :param page_size: events for each request, 1 to 200.
        :param timeout: limit for each request with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrProtocolError: an event of a known kind does not fit.
        """
        return [
            event_from_record(record)
            for record in self.records(run, cursor=cursor, page_size=page_size, timeout=timeout)
        ]

    def records(
        self,
        run: str | RunHandle,
        *,
        cursor: str | int | None = None,
        page_size: int | None = None,
        timeout: Duration | None = None,
    ) -> Stream[EventRecord]:
        """Iterate over all raw records that are there, in order; a page is read when it is reached (getRunEvents).

        :param run: run id, or a handle or snapshot.
        :param cursor: only what lies behind this record.
        :param page_size: records for each request, 1 to 200.
        :param timeout: limit for each request with its repeats: seconds, timedelta or text; the client's when left out.
        """
        path = {"run_id": run if isinstance(run, str) else run.id}
        return all_records(self._transport, "getRunEvents", path, cursor=cursor, page_size=page_size, timeout=timeout)

    def subscribe(self, run: str | RunHandle, *, cursor: str | int | None = None) -> Stream[RunEvent]:
        """Follow a run to its end and yield each event once and in order, over all its attempts.

        Nothing is requested before the iteration begins. Use ``contextlib.closing`` around the iterator if you may
        leave it early: it holds a connection.

        :param run: run id, or a handle or snapshot.
        :param cursor: only what lies behind this event.
        :raises HelmrProtocolError: an event of a known kind does not fit, or one without a readable cursor is broken.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        with contextlib.closing(self.follow_records(run, cursor=cursor)) as records:
            for record in records:
                yield event_from_record(record)

    def follow_records(self, run: str | RunHandle, *, cursor: str | int | None = None) -> Stream[EventRecord]:
        """Follow a run to its end and yield each raw record once and in order, over all its attempts.

        :param run: run id, or a handle or snapshot.
        :param cursor: only what lies behind this record.
        :raises HelmrProtocolError: a record without a readable cursor is broken, or one is too large.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        run_id = run if isinstance(run, str) else run.id
        place = FollowedRun(cursor, self._transport.context.reconnects)
        while True:
            try:
                snapshot = self._client.runs.retrieve(run_id)
                place.reached()
                if snapshot.is_terminal or place.must_read_pages():
                    for record in self.records(run_id, cursor=place.cursor):
                        if place.is_new_on_page(record):
                            yield record
                    place.pages_read()
                    if place.is_over(snapshot):
                        return
                if place.must_read_run():
                    pause = place.next_read_in()
                else:
                    with stream_slots_of(self._client).explicit():
                        with contextlib.closing(self._connection(run_id, place.cursor)) as records:
                            for received in records:
                                if received is not None and place.is_next(received):
                                    yield received
                                if place.must_read_pages():
                                    break
                    pause = place.stream_ended(snapshot)
            except (HelmrApiError, HelmrConnectionError, HelmrProtocolError) as error:
                pause = place.tolerate(error)
            sleep(pause)

    def _connection(
        self, run_id: str, cursor: str | None, on_open: Callable[[Response], None] | None = None
    ) -> Stream[EventRecord | None]:
        """Yield the records of one connection; ends when the server ends it, and repeats nothing.

        None is yielded after each chunk, so that the caller can check the clock however little the stream says.

        :param on_open: called with the response.
        """
        path, query = {"run_id": run_id}, {"cursor": cursor}
        frames = self._transport.events("getRunEvents", path=path, query=query, on_open=on_open)
        with contextlib.closing(frames):
            for frame in frames:
                yield None if frame is None else record_from_frame(frame)

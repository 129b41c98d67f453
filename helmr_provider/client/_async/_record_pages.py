"""Event records that come in pages, of runs and of deployments alike (contract/behaviour.md section 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._wire.event_parsing import record_from_page
from helmr_provider.client._wire.responses import read
from helmr_provider.client._wire.resume import is_behind
from helmr_provider.client.models.events import EventPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.client._async.transport import AsyncTransport
    from helmr_provider.client._unasync_pairs import AsyncStream
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.models.events import EventRecord


async def all_records(
    transport: AsyncTransport,
    operation: str,
    path: Mapping[str, str],
    *,
    cursor: str | int | None,
    page_size: int | None,
    timeout: Duration | None,
) -> AsyncStream[EventRecord]:
    """Yield all records that are there, in order; each page is read when it is reached.

    :param cursor: only what lies behind this record.
    :param page_size: records for each request.
    """
    place = None if cursor is None else str(cursor)
    while True:
        value = await transport.call(operation, path=path, query={"cursor": place, "limit": page_size}, timeout=timeout)
        page = read(EventPage, value, operation)
        for item in page.events:
            if (record := record_from_page(item)) is not None:
                yield record
        # A server that hands out the same page again would otherwise be read for ever.
        if page.next_cursor is None or not is_behind(page.next_cursor, place):
            return
        place = page.next_cursor

"""Counters and gauges for Airflow's metrics. A metric that cannot be sent fails neither a task nor a trigger."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from helmr_provider.client._internals import stream_slots_of, waiter_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import AsyncHelmrClient

SESSIONS_STARTED: Final = "helmr.sessions.started"
SESSIONS_CANCELLED: Final = "helmr.sessions.cancelled"
RUNS_ADOPTED: Final = "helmr.runs.adopted"
RUNS_CANCELLED: Final = "helmr.runs.cancelled"
REQUESTS: Final = "helmr.triggerer.requests"
WAITS: Final = "helmr.triggerer.waits"
OPEN_STREAMS: Final = "helmr.triggerer.open_streams"

# Airflow 3.2 and later have the same thing twice, and set up one of them in each process: the first in workers, the
# second in the triggerer. Before, there is one for all.
_IN_WORKERS: Final = ("airflow.sdk.observability.stats", "airflow.observability.stats", "airflow.stats")
_IN_THE_TRIGGERER: Final = ("airflow.observability.stats", "airflow.stats")

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")

logger = logging.getLogger(__name__)


def count(name: str, helmr_conn_id: str, number: int = 1, *, in_triggerer: bool = False) -> None:
    """Add to a counter.

    :param name: one of this module's.
    :param helmr_conn_id: connection that it was done with; a tag.
    :param number: how many.
    :param in_triggerer: whether this runs in the triggerer, not on a worker.
    """
    with _never_failing():
        _stats(_IN_THE_TRIGGERER if in_triggerer else _IN_WORKERS).incr(
            name, count=number, tags={"helmr_conn_id": helmr_conn_id}
        )


class WaitMeter:
    """Reports what the triggerer's shared client of a connection does.

    :param helmr_conn_id: the connection.
    :param client: the client.
    """

    def __init__(self, helmr_conn_id: str, client: AsyncHelmrClient) -> None:
        self._helmr_conn_id = helmr_conn_id
        self._client = client
        self._requests = 0

    def read(self) -> tuple[int, int, int]:
        """Return the waits and streams of now, and the requests since the last time; for the client's event loop."""
        stats = waiter_of(self._client).stats
        before, self._requests = self._requests, stats.requests.total()
        return stats.waits, stream_slots_of(self._client).held, self._requests - before

    def send(self, waits: int, streams: int, requests: int) -> None:
        """Send the counts; it may block."""
        if requests:
            count(REQUESTS, self._helmr_conn_id, requests, in_triggerer=True)
        self._gauge(WAITS, waits)
        self._gauge(OPEN_STREAMS, streams)

    def _gauge(self, name: str, value: int) -> None:
        host = socket.gethostname()
        with _never_failing():
            stats = _stats(_IN_THE_TRIGGERER)
            # As Airflow names the triggerer's own gauges: plain StatsD knows no tags, and would keep one value of many.
            stats.gauge(f"{name}.{_UNFIT.sub('_', host)}.{_UNFIT.sub('_', self._helmr_conn_id)}", value)
            stats.gauge(name, value, tags={"hostname": host, "helmr_conn_id": self._helmr_conn_id})


@cache
def _stats(modules: tuple[str, ...]) -> Any:
    for module in modules:
        with contextlib.suppress(ImportError):
            return import_module(module).Stats
    raise ImportError(f"Airflow has none of {', '.join(modules)}")


@contextlib.contextmanager
def _never_failing() -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.debug("A metric was not sent", exc_info=True)

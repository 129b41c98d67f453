"""Which queued runs their queues let execute now."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


# What a round of leases reads of each run: neither payload nor metadata.
_COLUMNS = (
    "id, environment_id, session_id, queue, concurrency_key, attempt_number, parked_version_id, priority, created_at"
)
_DUE = "execution = 'queued' AND (not_before IS NULL OR not_before <= ?)"
_PAGE = 100


def candidates(core: Core, places: Places, now: int) -> Iterator[Row]:
    """Return the queued runs that are due, in the order in which they are leased: by priority, then by age.

    The runs of a queue are read a page at a time, and only as long as the queue has a place.

    :param core: the control plane's state.
    :param places: the places of this round.
    :param now: the present, in microseconds.
    """
    groups = core.db.all(f"SELECT DISTINCT environment_id, queue, concurrency_key FROM runs WHERE {_DUE}", now)  # noqa: S608 - our text
    return heapq.merge(*(_group(core, places, group, now) for group in groups), key=_order)


def _group(core: Core, places: Places, group: Row, now: int) -> Iterator[Row]:
    after = (-math.inf, 0, "")
    while places.free(group):
        page = core.db.all(
            f"SELECT {_COLUMNS} FROM runs WHERE {_DUE} AND environment_id = ? AND queue = ? AND concurrency_key IS ?"  # noqa: S608 - our text
            " AND (-priority, created_at, id) > (?, ?, ?) ORDER BY priority DESC, created_at, id LIMIT ?",
            now,
            *_place(group),
            *after,
            _PAGE,
        )
        if not page:
            return
        yield from page
        after = _order(page[-1])


def _order(run: Row) -> tuple[float, int, str]:
    return (-run["priority"], run["created_at"], run["id"])


class Places:
    """The places of all queues, for one round of leases.

    A run holds one from its lease until its worker has released it: not while it waits, nor between two attempts.

    :param core: the control plane's state.
    """

    def __init__(self, core: Core) -> None:
        self._limits = core.deployment.queues
        self._taken: Counter[tuple[str, str, str | None]] = Counter()
        held = core.db.all(f"SELECT {_COLUMNS} FROM runs WHERE execution IN ('executing', 'pending_cancel')")  # noqa: S608 - our text
        self._taken.update(_place(run) for run in held)

    def free(self, run: Row) -> bool:
        """Tell whether a run's queue has a place for it."""
        # A queue that no task declares any more limits nothing: its runs must end somehow.
        limit = self._limits.get(run["queue"])
        return limit is None or self._taken[_place(run)] < limit

    def take(self, run: Row) -> None:
        """Note that a run has a place."""
        self._taken[_place(run)] += 1


def _place(run: Row) -> tuple[str, str, str | None]:
    return (run["environment_id"], run["queue"], run["concurrency_key"])

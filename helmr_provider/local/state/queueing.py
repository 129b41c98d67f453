"""Which queued runs their queues let execute now.

A stored number of taken places could disagree with the runs after a crash. Each round of leases counts the places of
the queues that it fills, with an index, so that a restart has nothing to repair.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


# Environment, queue and concurrency key.
Group = tuple[str, str, str | None]

# What a round of leases reads of each run: neither payload nor metadata.
_COLUMNS = (
    "id, environment_id, session_id, queue, concurrency_key, attempt_number, parked_version_id, priority, created_at"
)
_DUE = "execution = 'queued' AND (not_before IS NULL OR not_before <= ?)"
_WITHOUT_KEY = (
    "SELECT 1 FROM runs WHERE execution = 'queued' AND environment_id = ? AND queue = ? AND concurrency_key IS NULL"
    " LIMIT 1"
)
_PAGE = 100


def candidates(core: Core, places: Places, now: int) -> Iterator[Row]:
    """Return the queued runs that are due, in the order in which they are leased: by priority, then by age.

    The runs of a queue are read a page at a time, and only as long as the queue has a place.

    :param core: the control plane's state.
    :param places: the places of this round.
    :param now: the present, in microseconds.
    """
    return heapq.merge(*(_group(core, places, group, now) for group in _groups(core)), key=_order)


def _groups(core: Core) -> Iterator[Group]:
    """Yield the groups that have queued runs. Each is found by a search in an index, however many runs it has."""
    for (environment_id,) in _distinct(core, "environment_id"):
        for (queue,) in _distinct(core, "queue", environment_id=environment_id):
            if core.db.one(_WITHOUT_KEY, environment_id, queue):
                yield (environment_id, queue, None)
            for (key,) in _distinct(core, "concurrency_key", environment_id=environment_id, queue=queue):
                yield (environment_id, queue, key)


def _distinct(core: Core, column: str, **within: str) -> Iterator[Row]:
    """Yield the values of a column of the index of queued runs, NULL excepted, each by a search of its own."""
    conditions = " AND ".join(["execution = 'queued'", *(f"{name} = ?" for name in within)])
    text = f"SELECT {column} FROM runs WHERE {conditions} AND {column} {{}} ORDER BY {column} LIMIT 1"  # noqa: S608 - our text
    row = core.db.one(text.format("IS NOT NULL"), *within.values())
    while row is not None:
        yield row
        row = core.db.one(text.format("> ?"), *within.values(), row[0])


def _group(core: Core, places: Places, group: Group, now: int) -> Iterator[Row]:
    after = (-math.inf, 0, "")
    while places.free(group):
        page = core.db.all(
            f"SELECT {_COLUMNS} FROM runs WHERE {_DUE} AND environment_id = ? AND queue = ? AND concurrency_key IS ?"  # noqa: S608 - our text
            " AND (-priority, created_at, id) > (?, ?, ?) ORDER BY priority DESC, created_at, id LIMIT ?",
            now,
            *group,
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
        self._core = core
        self._limits = core.deployment.queues
        self._taken: dict[Group, int] = {}

    def free(self, group: Group) -> bool:
        """Tell whether a group's queue has a place for one of its runs."""
        # A queue that no task declares any more limits nothing: its runs must end somehow.
        limit = self._limits.get(group[1])
        return limit is None or self._count(group) < limit

    def take(self, group: Group) -> None:
        """Note that a run of this group has a place."""
        if group in self._taken:
            self._taken[group] += 1

    def _count(self, group: Group) -> int:
        if group not in self._taken:
            row = self._core.db.one(
                "SELECT count(*) FROM runs WHERE execution IN ('executing', 'pending_cancel')"
                " AND environment_id = ? AND queue = ? AND concurrency_key IS ?",
                *group,
            )
            self._taken[group] = 0 if row is None else row[0]
        return self._taken[group]


def group_of(run: Row) -> Group:
    """Return the group of a run: runs of one queue and concurrency key share its places."""
    return (run["environment_id"], run["queue"], run["concurrency_key"])

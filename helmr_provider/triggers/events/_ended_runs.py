"""Which runs have ended, found out with as few and as short lists as can be (contract/capacity.md). Pure.

There is no feed of ended runs, and a list of them shows only those that were created last. So runs are remembered from
the list of live ones, and a run that leaves it has ended; what began and ended between two polls was created last, and
stands at the head of the lists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from helmr_provider.client.models.runs import RunCounts

FULL: Final = 200
"""A list of runs holds no more, and there is no way to read on."""
ENDED: Final = ("succeeded", "failed", "cancelled", "expired")
# What ends while the lists are read moves the others down.
_MARGIN: Final = 10
# Unlisted runs are read one by one, so many in a scan; the others have their turn next time.
_SINGLY: Final = 20


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan that is under way; nothing of it counts before it is over, because any request of it can fail.

    :param limits: which lists of ended runs to read, and how far.
    :param reach: how many of the youngest ended runs, by status, may not have been seen yet.
    :param live: runs that are live.
    :param gone: runs that were live, and are not seen to be any more; longest out of sight first.
    """

    counts: Mapping[str, int]
    grown: Mapping[str, int]
    reach: Mapping[str, int]
    limits: Mapping[str, int]
    live: Mapping[str, None]
    gone: Mapping[str, None]
    sees_all: bool

    def missing(self, ended: Container[str]) -> list[str]:
        """Return the runs to read singly, because no list has shown them.

        :param ended: runs that the lists of ended ones have shown.
        """
        return [run_id for run_id in self.gone if run_id not in ended][:_SINGLY]


class EndedRuns:
    """The runs seen in an environment, and which to read next."""

    def __init__(self) -> None:
        self._last = Scan({}, {}, {}, {}, {}, {}, sees_all=False)

    def may_have_new_ends(self, counts: RunCounts) -> bool:
        """Whether something may have ended since the last scan.

        :param counts: runs by status.
        """
        return bool(self._last.gone) or _numbers(counts) != self._last.counts

    def scan(self, counts: RunCounts, live: Iterable[str], *, is_complete: bool) -> Scan:
        """Return what to read, after the counts and the live runs.

        :param counts: runs by status, read first.
        :param live: ids of the live runs, read after that.
        :param is_complete: whether no others are live.
        """
        last, now = self._last, _numbers(counts)
        seen = dict.fromkeys(live)
        grown = {status: now[status] - last.counts.get(status, 0) for status in ENDED}
        # More than the margin may have ended while the last lists were read, and have moved others out of their reach.
        before = {status: (last.reach if grown[status] > _MARGIN else last.grown).get(status, 0) for status in ENDED}
        reach = {status: grown[status] + before[status] for status in ENDED}
        # As long as everything live is known, only runs that began after the last scan have to be found in the lists.
        short = is_complete and last.sees_all
        limits = {status: min(FULL, reach[status] + _MARGIN) if short else FULL for status in ENDED if grown[status]}
        gone = {run_id: None for run_id in {**last.gone, **last.live} if run_id not in seen}
        return Scan(now, grown, reach, limits, seen, gone, is_complete)

    def over(self, scan: Scan, *, ended: Container[str], alive: Iterable[str]) -> None:
        """End a scan; its results are known from now on.

        :param scan: as of :meth:`scan`.
        :param ended: runs that have ended, or are not there any more.
        :param alive: runs that were read singly, and have not; others have their turn before them.
        """
        later = dict.fromkeys(alive)
        gone = {run_id: None for run_id in scan.gone if run_id not in ended and run_id not in later} | later
        self._last = replace(scan, gone=gone)


def _numbers(counts: RunCounts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in (*ENDED, "queued", "running", "waiting")}

"""Looking at many runs at once: is there anything to look for, and for which runs do lists not answer.

One count tells whether anything ended in the environment; one list speaks for up to 200 live runs
(contract/capacity.md). Values and clock in, decisions out; no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import CountRuns, ListRuns
from helmr_provider.client._waiting.pacing import PollInterval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.client._waiting.pacing import Random

_NEVER = float("-inf")


class RunPoller:
    """Decide when runs are counted and listed.

    A *pass* begins when something may have ended: every run must then be shown alive, by a list or singly, by a request
    that started after the beginning of the pass. It is over early when as many ended runs were found as were counted.

    :param random: source of jitter.
    """

    SAFETY = 60.0
    """Seconds after which a pass begins although nothing was counted: counts can hide an end behind a deletion."""
    SPACING = 0.5
    """Least seconds between two passes, so that waits that begin one by one do not ask for a list each."""
    POOR = 3
    """A full list costs as much as this many single looks; one that speaks for fewer of our runs is left out."""
    POOR_FOR = 60.0
    """Seconds for which a list that was not worth its price is left out."""

    def __init__(self, random: Random) -> None:
        self._pace = PollInterval(1.0, 5.0, 1.5, random)
        self._tick_at = _NEVER
        self._safety_at = _NEVER
        self._finished: int | None = None
        self._owed = 0
        self._found_meanwhile = 0
        self._began = _NEVER
        self._later = 0
        self._thorough = False
        # Whether it is unknown how many ends a pass looks for, so that those it finds settle nothing.
        self._blind = False
        self._listed_at = _NEVER
        self._lists: list[ListRuns] = []
        self._under_way: set[CountRuns | ListRuns] = set()
        self._listing = False
        self._poor_until: dict[str | None, float] = {}

    @property
    def began(self) -> float:
        """When the last pass began."""
        return self._began

    @property
    def listing(self) -> bool:
        """Whether lists of a pass are still to be heard."""
        return self._listing

    @property
    def searching(self) -> bool:
        """Whether runs that were seen alive before this pass must be seen again."""
        return self._owed > 0 or self._thorough

    def due(self, now: float) -> list[CountRuns | ListRuns]:
        """Give the requests to make now. Each stays due until it is said to be under way."""
        due: list[CountRuns | ListRuns] = [listing for listing in self._lists if listing not in self._under_way]
        if now >= self._tick_at and CountRuns() not in self._under_way:
            due.append(CountRuns())
        return due

    def wake_at(self) -> float:
        """Give the time at which something is due."""
        if any(listing not in self._under_way for listing in self._lists):
            return _NEVER
        return float("inf") if CountRuns() in self._under_way else self._tick_at

    def started(self, action: CountRuns | ListRuns) -> None:
        """Note that a request is under way."""
        self._under_way.add(action)
        if isinstance(action, CountRuns):
            self._found_meanwhile = 0
        else:
            self._lists.remove(action)

    def counted(self, now: float, finished: int) -> None:
        """Take how many runs of the environment have ended, ever, and begin a pass if one of ours may be among them."""
        self._under_way.discard(CountRuns())
        last, self._finished = self._finished, finished
        if last is None or finished < last:
            self._grew(now, 1, blind=True)
        elif finished > last or now >= self._safety_at:
            self._grew(now, finished - last, blind=False)
        # An end that was found before it was counted is no debt; one that was found earlier must be in this count.
        self._owed = max(self._owed, -self._found_meanwhile)
        self._tick_at = now + self._pace.next()

    def failed(self, action: CountRuns | ListRuns, now: float, *, retryable: bool) -> None:
        """Note that a request failed: what it would have said is looked for without it."""
        self._under_way.discard(action)
        if isinstance(action, CountRuns):
            self._finished = None
            self._grew(now, 1, blind=True)
            self._tick_at = now + self._pace.next()
        elif not retryable:
            self._poor_until[action.status] = now + self.POOR_FOR

    def dropped(self, action: CountRuns | ListRuns) -> None:
        """Note that nothing will be heard of a request."""
        self._under_way.discard(action)

    def newcomers(self, now: float) -> bool:
        """Take note that there are many new runs: list for them, now or a moment after the last list.

        :returns: whether lists will answer for them; otherwise they are to be looked at singly.
        """
        if not self._listing and self._is_poor(None, now):
            return False
        if not self._listing and now >= self.newcomers_at():
            self._list(now)
        return True

    def newcomers_at(self) -> float:
        """Give the earliest time at which lists are made for newcomers."""
        return self._listed_at + self.SPACING

    def found(self, seen_at: float) -> None:
        """Note that a run of ours was found ended.

        :param seen_at: when the last request started that had shown it alive.
        """
        self._pace.reset()
        self._found_meanwhile += 1
        if not self._blind:
            self._owed -= 1
        if seen_at >= self._began:
            self._later -= 1

    def rest(self) -> None:
        """Forget what was counted, because from now on nobody looks."""
        self._finished = None
        self._lists = []
        self._listing = self._thorough = self._blind = False
        self._owed = 0
        self._tick_at = _NEVER

    def listed(
        self, action: ListRuns, now: float, statuses: Mapping[str, str], ours: Mapping[str, str], *, full: bool
    ) -> list[str]:
        """Take a list.

        :param statuses: the runs in the list, with their status.
        :param ours: the runs waited for, with the status they were last seen in.
        :param full: the list is as long as lists get, so that it speaks only for the runs in it.
        :returns: the runs of ours that should be in it and are not.
        """
        self._under_way.discard(action)
        if not full:
            expected = (run for run, status in ours.items() if action.status in {None, status})
            return [run for run in expected if run not in statuses]
        reached = sum(run in ours for run in statuses)
        if reached < self.POOR:
            self._poor_until[action.status] = now + self.POOR_FOR
        if action.status is None and len(ours) - reached > self.POOR:
            self._lists += [
                listing
                for listing in (ListRuns("running"), ListRuns("waiting"))
                if listing not in self._lists and not self._is_poor(listing.status, now)
            ]
        return []

    def listing_ended(self) -> bool:
        """Whether all lists of a pass have answered: said once for each pass."""
        if not self._listing or self._lists or self._under_way - {CountRuns()}:
            return False
        self._listing = False
        return True

    def ended(self, now: float) -> None:
        """Note that every run was seen since the pass began: what ended before it and is still owed was not ours."""
        owed = self._later if self._blind else min(self._owed, self._later)
        self._owed = max(owed, -self._found_meanwhile)
        self._thorough = self._blind = False
        if self._owed > 0:
            self._begin(now)

    def _grew(self, now: float, by: int, *, blind: bool) -> None:
        if by:
            self._pace.reset()
        under_way = self.searching
        self._owed += by
        self._later += by
        if under_way:
            # The pass goes on, or one of many runs would never end; what ended since is looked for in the next one.
            if by:
                self._list(now)
            return
        if blind or now >= self._safety_at:
            self._safety_at = now + self.SAFETY
            self._thorough, self._blind = True, blind
        if self._owed > 0 or self._thorough:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._began = now
        self._later = 0
        self._list(now)

    def _list(self, now: float) -> None:
        self._listing = True
        self._listed_at = now
        # A list that is still under way is asked for again: it may be older than what was counted.
        self._lists = [] if self._is_poor(None, now) else [ListRuns()]

    def _is_poor(self, status: str | None, now: float) -> bool:
        return now < self._poor_until.get(status, _NEVER)

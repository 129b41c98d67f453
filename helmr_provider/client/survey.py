"""Looking at many runs at once: is there anything to look for, and for which runs do lists not answer.

One count tells whether anything ended in the environment; one list speaks for up to 200 live runs
(contract/capacity.md). Values and clock in, decisions out; no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client.pacing import Pace
from helmr_provider.client.wait_actions import Counts, ListRuns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.client.pacing import Random

_NEVER = float("-inf")


class Survey:
    """Decide when runs are counted and listed.

    A *pass* begins when something may have ended: every run must then be shown alive, by a list or singly, by a request
    that started after the beginning of the pass.

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
        self._pace = Pace(1.0, 5.0, 1.5, random)
        self._tick_at = _NEVER
        self._safety_at = _NEVER
        self._finished: int | None = None
        self._owed = 0
        self._found_meanwhile = 0
        self._began = _NEVER
        self._thorough = False
        self._lists: list[ListRuns] = []
        self._under_way: set[ListRuns] = set()
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

    def due(self, now: float) -> list[Counts | ListRuns]:
        """Give the requests to make now. Each stays due until it is said to be under way."""
        due: list[Counts | ListRuns] = [listing for listing in self._lists if listing not in self._under_way]
        if now >= self._tick_at:
            due.append(Counts())
        return due

    def wake_at(self) -> float:
        """Give the time at which something is due."""
        return _NEVER if self.due(_NEVER) else self._tick_at

    def started(self, action: Counts | ListRuns) -> None:
        """Note that a request is under way."""
        if isinstance(action, Counts):
            self._tick_at = float("inf")
            self._found_meanwhile = 0
        else:
            self._lists.remove(action)
            self._under_way.add(action)

    def counted(self, now: float, finished: int) -> None:
        """Take how many runs of the environment have ended, ever, and begin a pass if one of ours may be among them."""
        known = self._finished is not None and finished >= self._finished
        grown = finished - self._finished if self._finished is not None and known else 1
        self._finished = finished
        # An end that was found before it was counted is no debt; one that was found earlier must be in this count.
        self._owed = max(self._owed + grown, -self._found_meanwhile)
        if grown:
            self._pace.reset()
        self._tick_at = now + self._pace.next()
        thorough = not known or now >= self._safety_at
        if self._owed > 0 or thorough:
            self.begin(now, thorough=thorough)

    def failed(self, action: Counts | ListRuns, now: float, *, retryable: bool) -> None:
        """Note that a request failed: what it would have said is looked for without it."""
        if isinstance(action, Counts):
            self._finished = None
            self._tick_at = now + self._pace.next()
            self.begin(now, thorough=True)
            return
        if not retryable:
            self._poor_until[action.status] = now + self.POOR_FOR
        self._under_way.discard(action)

    def dropped(self, action: Counts | ListRuns, now: float) -> None:
        """Note that nothing will be heard of a request."""
        if isinstance(action, Counts):
            self._tick_at = now
        else:
            self._under_way.discard(action)

    def begin(self, now: float, *, thorough: bool = False) -> None:
        """Begin a pass."""
        if thorough:
            self._safety_at = now + self.SAFETY
        self._thorough = self._thorough or thorough
        self._began = now
        self._listing = True
        # A list of an earlier pass that is still under way is asked for again: it may be older than what was counted.
        self._lists = [] if self._is_poor(None, now) else [ListRuns()]

    def newcomers(self, now: float) -> bool:
        """Take note that there are many new runs: begin a pass for them, now or a moment after the last one.

        :returns: whether lists will answer for them; otherwise they are to be looked at singly.
        """
        if not self._listing and self._is_poor(None, now):
            return False
        if not self._listing and now >= self.newcomers_at():
            self.begin(now)
        return True

    def newcomers_at(self) -> float:
        """Give the earliest time at which a pass for newcomers begins."""
        return self._began + self.SPACING

    def found(self) -> None:
        """Note that a run of ours that was seen alive before was found ended."""
        # What a thorough pass finds may have ended before or after the count that began it: it settles no debt.
        if not self._thorough:
            self._owed -= 1
            self._found_meanwhile += 1
        self._pace.reset()

    def rest(self) -> None:
        """Forget what was counted, because from now on nobody looks."""
        self._finished = None
        self._lists = []
        self._listing = self._thorough = False
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
        if not self._listing or self._lists or self._under_way:
            return False
        self._listing = False
        return True

    def ended(self) -> None:
        """Note that every run was seen since the pass began: what ended besides was not ours."""
        self._owed = 0
        self._thorough = False

    def _is_poor(self, status: str | None, now: float) -> bool:
        return now < self._poor_until.get(status, _NEVER)

"""Ruling out that runs have ended by listing the ended ones, where so many are searched that lists are cheaper. No I/O.

A run that has ended is in the list of its final status, unless 200 newer runs are (contract/capacity.md). So a run that
was created after the oldest row of each of the four lists, and is in none of them, was alive when the first of them was
requested. The search then leaves it out, and its single polls go to the others.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from helmr_provider.client._waiting.actions import FULL_LIST, ListRuns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from helmr_provider.client._waiting.actions import ListedRun
    from helmr_provider.client._waiting.poll_queue import Wait

_NEVER = float("-inf")
_FOREVER = float("inf")

ENDED = (ListRuns("succeeded"), ListRuns("failed"), ListRuns("cancelled"), ListRuns("expired"))


class _Answer(NamedTuple):
    """The last answer to one of the lists.

    :param started: when it was requested.
    :param horizon: creation of its oldest row if it was full: it does not reach older runs.
    """

    started: float
    horizon: float


class _End(NamedTuple):
    """A run that has ended.

    :param created: when it was created, by the server's clock.
    :param found: when its end was found.
    """

    run_id: str
    created: float
    found: float


class EndedLists:
    """Decide when ended runs are listed, and for which runs waited for that is evidence that they are alive."""

    LEAST = 100
    """From this many runs to search on, lists of ended runs are requested: fewer are polled within a second."""
    WORTH = 25
    """The four lists cost as much as this many single polls; if they rule out fewer, they are left out for a while."""
    SPACING = 0.75
    """Least seconds between two requests of the same list; more if it is slow."""
    PAUSE = 10
    """A list is requested again no sooner than after this many times the time that it took: it carries outputs."""
    SLOW = 0.1
    """Seconds of answer time over which the control plane is spared these lists, which carry outputs."""
    LEFT_OUT = 60.0
    """Seconds for which lists that were not worth their price, or were wrong, are left out."""
    UNPROVEN = 5.0
    """Seconds for which they are left out while they show no run as young as ours: none may have ended yet."""
    RELIED_ON = 300.0
    """Seconds after which a run is polled although lists rule out that it has ended."""

    def __init__(self) -> None:
        self._sent_at: dict[ListRuns, float] = {}
        # How long the last two answers to each list took: the shorter counts, as one can be late by accident.
        self._took: dict[ListRuns, tuple[float, float]] = {}
        self._not_before = _NEVER
        self.rest()

    def rest(self) -> None:
        """Forget what was listed."""
        self._answers: dict[ListRuns, _Answer] = {}
        # The newest ends for each list, as many as it holds: lists are not requested while few runs are searched.
        self._found = {request.status: deque[_End](maxlen=FULL_LIST) for request in ENDED}
        self._believed = False
        self._ruled_out = 0
        self._judged_at = _NEVER

    # What to request

    def due_at(self, request: ListRuns, searched: int, answer_time: float) -> float:
        """Return the time at which a list is worth another request; infinity for never.

        :param searched: how many runs no list of live runs reaches.
        """
        if searched < self.LEAST or answer_time > self.SLOW:
            return _FOREVER
        spacing = max(self.SPACING, self.PAUSE * min(self._took.get(request, (0.0,))))
        return max(self._not_before, self._sent_at.get(request, _NEVER) + spacing)

    def started(self, request: ListRuns, now: float) -> None:
        """Record that one of the lists was requested."""
        self._sent_at[request] = now

    # What came of it

    def found(self, wait: Wait, status: str, now: float) -> None:
        """Record that a run has ended: a list of that status that is requested later must show it."""
        if self._answers and wait.created is not None and status in self._found:
            self._found[status].append(_End(wait.key.id, wait.created, now))

    def failed(self, now: float) -> None:
        """Record that a list cannot be read."""
        self._leave_out(now)

    def listed(
        self,
        request: ListRuns,
        started: float,
        now: float,
        rows: Mapping[str, ListedRun],
        *,
        horizon: float,
        ours: Collection[Wait],
    ) -> None:
        """Record a list of ended runs, and note which of our runs were alive.

        :param started: when it was requested.
        :param horizon: creation of its oldest row if it was full, else minus infinity.
        :param ours: all runs waited for.
        """
        took = now - started
        self._took[request] = (took, self._took.get(request, (took,))[0])
        ends = self._found[request.status]
        known = [end for end in ends if end.found < started and end.created > horizon]
        ends.clear()
        if any(end.run_id not in rows for end in known):
            self._leave_out(now)
            return
        self._answers[request] = _Answer(started, horizon)
        ended = sum(wait.key.id in rows for wait in ours)
        # Lists that show no end of our runs, nor of a run as young as ours, prove nothing: they may be empty.
        self._believed = self._believed or bool(ended or known) or _is_as_young(rows.values(), ours)
        self._ruled_out += ended
        if len(self._answers) < len(ENDED):
            return
        since = min(answer.started for answer in self._answers.values())
        horizon = max(answer.horizon for answer in self._answers.values())
        if self._believed:
            alive = (wait for wait in ours if wait.key.id not in rows)
            self._rule_out(alive, since, horizon, now)
        if since > self._judged_at:
            self._judged_at = since
            if not self._believed:
                self._leave_out(now, self.UNPROVEN)
            elif self._ruled_out < self.WORTH:
                self._leave_out(now)
            self._ruled_out = 0

    def _rule_out(self, waits: Iterable[Wait], since: float, horizon: float, now: float) -> None:
        for wait in waits:
            if wait.created is None or wait.created <= horizon:
                continue
            if wait.since < since and wait.shown > now - self.RELIED_ON:
                wait.since = since
                self._ruled_out += wait.unreached

    def _leave_out(self, now: float, seconds: float = LEFT_OUT) -> None:
        self.rest()
        self._not_before = now + seconds


def _is_as_young(rows: Iterable[ListedRun], ours: Iterable[Wait]) -> bool:
    oldest = min((wait.created for wait in ours if wait.created is not None), default=_FOREVER)
    return any(row.created is not None and row.created > oldest for row in rows)

"""Looking for many tokens together, by paging through the pending ones. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import ListPendingTokens

if TYPE_CHECKING:
    from collections.abc import Collection

    from helmr_provider.client._waiting.pacing import Random

_NEVER = float("-inf")


class TokenPoller:
    """Page through the pending tokens until all that are waited for were seen, or the pages end.

    :param random: source of jitter.
    """

    INTERVAL = 1.5
    """Seconds between two rounds, unless they have several pages or answers are slow."""
    PER_PAGE = 0.75
    """Seconds between two rounds for each page that a round takes."""
    PAGES = 20
    """Pages of 500 after which a round gives up: with so many tokens of others, single polls are cheaper."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._unseen: dict[str, None] = {}
        self._next: ListPendingTokens | None = None
        self._pages = 0
        self._due_at = _NEVER

    @property
    def page(self) -> ListPendingTokens | None:
        """The page to read next, if a round is under way."""
        return self._next

    @property
    def due_at(self) -> float:
        """When the next round begins, if none is under way."""
        return self._due_at

    def hurry(self, now: float) -> None:
        """Begin the next round now."""
        self._due_at = min(self._due_at, now)

    def begin(self, tokens: Collection[str], now: float) -> None:
        """Begin a round that looks for these tokens."""
        self._due_at = now + self.INTERVAL
        self._unseen = dict.fromkeys(tokens)
        self._next = ListPendingTokens()
        self._pages = 0

    def paged(
        self,
        action: ListPendingTokens,
        now: float,
        pending: Collection[str],
        cursor: str | None,
        answer_time: float = 0.0,
    ) -> list[str] | None:
        """Record a page.

        :returns: when the round is over, the tokens that no page held: they may not be pending any more.
        """
        if action != self._next:
            return None
        for token in pending:
            self._unseen.pop(token, None)
        self._pages += 1
        # A cursor that repeats would never end (contract/behaviour.md section 9, Advice).
        if self._unseen and cursor is not None and cursor != action.cursor and self._pages < self.PAGES:
            self._next = ListPendingTokens(cursor)
            return None
        return self.give_up(now, answer_time)

    def forget(self, token: str) -> None:
        """Look for a token no more."""
        self._unseen.pop(token, None)
        if not self._unseen:
            self._next = None

    def give_up(self, now: float, answer_time: float = 0.0) -> list[str]:
        """End the round.

        :returns: the tokens that were not seen so far.
        """
        pause = max(self.INTERVAL, self._pages * self.PER_PAGE, 2 * answer_time)
        self._due_at = now + pause * (0.8 + 0.4 * self._random())
        unseen, self._unseen, self._next = list(self._unseen), {}, None
        return unseen

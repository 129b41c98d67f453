"""Looking at many tokens at once, by paging through the pending ones. Values in, decisions out; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import ListPendingTokens

if TYPE_CHECKING:
    from collections.abc import Collection


class TokenPoller:
    """Page through the pending tokens until all that are waited for were seen, or the pages end."""

    PAGES = 20
    """Pages of 500 after which a sweep gives up: then tokens of others are so many that single looks are cheaper."""

    def __init__(self) -> None:
        self._unseen: set[str] = set()
        self._next: ListPendingTokens | None = None
        self._pages = 0

    @property
    def page(self) -> ListPendingTokens | None:
        """The page to read next, if a sweep is going on."""
        return self._next

    def begin(self, tokens: Collection[str]) -> None:
        """Begin to look for these tokens."""
        self._unseen = set(tokens)
        self._next = ListPendingTokens()
        self._pages = 0

    def paged(self, action: ListPendingTokens, pending: Collection[str], cursor: str | None) -> set[str] | None:
        """Take a page.

        :returns: when the sweep is over, the tokens that no page held: they may not be pending any more.
        """
        if action != self._next:
            return None
        self._unseen.difference_update(pending)
        self._pages += 1
        # A cursor that repeats would never end (contract/behaviour.md section 9, Advice).
        if self._unseen and cursor is not None and cursor != action.cursor and self._pages < self.PAGES:
            self._next = ListPendingTokens(cursor)
            return None
        return self.give_up()

    def forget(self, token: str) -> None:
        """Look for a token no more."""
        self._unseen.discard(token)
        if not self._unseen:
            self._next = None

    def give_up(self) -> set[str]:
        """End the sweep.

        :returns: the tokens that were not seen so far.
        """
        unseen, self._unseen, self._next = self._unseen, set(), None
        return unseen

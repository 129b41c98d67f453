"""Tokens as the server shows them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from helmr_provider.client.models.base import Instant, OptionalText, WireModel


class Token(WireModel):
    """A token at one moment (schema Token).

    :param status: pending, completed, expired or cancelled. It can read pending for a little while after its timeout.
    :param callback_url: completes the token without further credential; in the answer to a creation only.
    :param public_access_token: credential for one completion; in the answer to a creation only.
    :param data: what it was completed with; see :attr:`has_data`.
    """

    nullable: ClassVar[frozenset[str]] = frozenset({"data"})

    id: str
    status: str = "pending"
    callback_url: OptionalText = Field(default=None, repr=False)
    public_access_token: OptionalText = Field(default=None, repr=False)
    timeout_at: Instant | None = None
    data: Any = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])

    @property
    def has_data(self) -> bool:
        """Whether it was completed with data; they may be null."""
        return "data" in self.raw

    @property
    def is_pending(self) -> bool:
        """Whether it can still be completed."""
        return self.status == "pending"


class TokenPage(WireModel):
    """One page of tokens, oldest first (schema TokenPage).

    :param next_cursor: pass it to get the next page; None at the end.
    """

    tokens: tuple[Token, ...] = ()
    next_cursor: OptionalText = None


class TokenCompletion(WireModel):
    """The answer to a completion (schema CompleteTokenResponse).

    :param status: completed, or already_completed when it had been completed with the same data before.
    """

    status: str
    token: Token

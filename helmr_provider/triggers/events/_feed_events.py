"""Events of a feed in order, and the position of a reader in them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

# Together they stay well below the size that Airflow keeps of one value in the asset state store.
_MOST_REMEMBERED: Final = 500


class FeedEvent(NamedTuple):
    """Something that happened once.

    :param order: a number that grows: a sequence, or seconds since the epoch.
    :param id: what tells it from all others, for ever.
    :param facts: ids and the like, for the event.
    """

    order: float
    id: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The position of a reader in a feed.

    Late events are not missed: anything at most ``slack`` behind the newest is new as well, unless it is remembered.

    :param order: of the newest that is behind.
    :param slack: how much later than a newer one something may become visible.
    :param remembered: order by id of handled events, as far as the slack reaches.
    """

    order: float = 0.0
    slack: float = 0.0
    remembered: dict[str, float] = field(default_factory=dict)

    def is_new(self, feed_event: FeedEvent) -> bool:
        """Whether it is still ahead.

        :param feed_event: what may have been handed on already.
        """
        return feed_event.order > self.order - self.slack and feed_event.id not in self.remembered

    def past(self, feed_event: FeedEvent) -> Cursor:
        """Return the cursor behind it.

        :param feed_event: the delivered event.
        """
        order = max(self.order, feed_event.order)
        if not self.slack:
            return Cursor(order)
        kept = {id_: at for id_, at in self.remembered.items() if at > order - self.slack}
        return Cursor(order, self.slack, {**kept, feed_event.id: feed_event.order})

    def beside(self, feed_event: FeedEvent) -> Cursor:
        """Return the cursor after something that was of no interest and need not be remembered.

        :param feed_event: what it was.
        """
        return Cursor(max(self.order, feed_event.order), self.slack, self.remembered)

    def stored(self) -> dict[str, Any]:
        """Return it as JSON, of a bounded size: of very many, the oldest may come again."""
        newest = dict(sorted(self.remembered.items(), key=lambda item: item[1])[-_MOST_REMEMBERED:])
        return {"order": self.order, **({"remembered": newest} if newest else {})}

    @classmethod
    def read(cls, stored: Any, slack: float) -> Cursor | None:
        """Return the stored cursor, ``None`` if it is none of ours.

        :param stored: as of :meth:`stored`, or anything else.
        :param slack: of the cursor.
        """
        if not isinstance(stored, dict) or not isinstance(stored.get("order"), (int, float)):
            return None
        remembered = stored.get("remembered", {})
        return cls(float(stored["order"]), slack, dict(remembered) if isinstance(remembered, dict) else {})

"""The requests that a control plane has seen, with secrets removed, for tests to assert on."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import Any

from helmr_provider.local.common.jsontext import as_list, as_object

_SECRET = re.compile(r"hlmr_[a-z_]+_[A-Za-z0-9_-]+")
_KEPT = 20_000


@dataclass(frozen=True)
class JournalEntry:
    """One request.

    :param method: the HTTP method.
    :param path: the path, callback secrets replaced.
    :param query: the query's members, the last value of each.
    :param operation: the operationId, or None for a path that is no operation.
    :param body: the parsed JSON body, or None without one.
    :param last_event_id: the resume header.
    :param status: the status answered; None while unanswered, or if the connection was cut before.
    :param fault: the kind of the planted fault that this request met, if any.
    :param environment: the id of the environment that the request's credentials open, if they open any.
    """

    method: str
    path: str
    query: dict[str, str]
    operation: str | None
    body: Any = None
    last_event_id: str | None = None
    status: int | None = None
    fault: str | None = None
    environment: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON can carry it."""
        return asdict(self)


class Journal:
    """The newest requests in the order of their arrival."""

    def __init__(self) -> None:
        self._entries: deque[list[JournalEntry]] = deque(maxlen=_KEPT)
        # Tests read and clear from their own thread while requests come in.
        self._lock = threading.Lock()

    def open(self, entry: JournalEntry) -> list[JournalEntry]:
        """Record a request; pass the result to :meth:`amend` to add later facts."""
        slot = [replace(entry, path=without_secrets(entry.path), query=without_secrets(entry.query))]
        with self._lock:
            self._entries.append(slot)
        return slot

    @staticmethod
    def amend(slot: list[JournalEntry], **changes: Any) -> None:
        """Add facts about a request: body, status, fault."""
        slot[0] = replace(slot[0], **{name: without_secrets(value) for name, value in changes.items()})

    def entries(self, environment: str | None = None) -> list[JournalEntry]:
        """Return the requests since the last :meth:`clear`, of one environment if it is named."""
        with self._lock:
            kept = list(self._entries)
        return [slot[0] for slot in kept if environment in (None, slot[0].environment)]

    def clear(self, environment: str | None = None) -> None:
        """Forget everything, or everything of one environment."""
        with self._lock:
            kept = [slot for slot in self._entries if environment not in (None, slot[0].environment)]
            self._entries = deque(kept, maxlen=_KEPT)


def without_secrets(value: Any) -> Any:
    """Replace everything that has the form of a Helmr secret, at any depth."""
    if isinstance(value, str):
        return _SECRET.sub("<secret>", value)
    members, items = as_object(value), as_list(value)
    if members is not None:
        return {without_secrets(name): without_secrets(item) for name, item in members.items()}
    return value if items is None else [without_secrets(item) for item in items]

"""Queues, and how many of their runs may execute at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Queue(NamedTuple):
    """A queue that a task declares.

    :param name: its name; tasks that name the same one share it.
    :param concurrency_limit: how many of its runs execute at the same time, for each environment and concurrency key;
        without a limit if None. A run that waits does not execute.
    """

    name: str
    concurrency_limit: int | None = None


DEFAULT = Queue("default")


def declared(queue: str | Queue) -> Queue:
    """Return a queue as it is declared; a name alone sets no limit, and leaves one that another task sets.

    :raises ValueError: if the name is blank, or the limit is below 1.
    """
    found = Queue(queue) if isinstance(queue, str) else queue
    if not found.name.strip():
        raise ValueError("a queue has a name")
    if found.concurrency_limit is not None and found.concurrency_limit < 1:
        raise ValueError(f"the concurrency limit of the queue {found.name!r} must be at least 1")
    return found


def limits(queues: Iterable[Queue]) -> dict[str, int | None]:
    """Return the limit of each queue.

    :raises ValueError: if one queue is declared with two limits.
    """
    found: dict[str, int | None] = {}
    for queue in queues:
        earlier = found.setdefault(queue.name, queue.concurrency_limit)
        if None not in {earlier, queue.concurrency_limit} and earlier != queue.concurrency_limit:
            raise ValueError(
                f"the queue {queue.name!r} is declared with the limits {earlier} and {queue.concurrency_limit}"
            )
        found[queue.name] = queue.concurrency_limit if earlier is None else earlier
    return found

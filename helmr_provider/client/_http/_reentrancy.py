"""Calls within calls: the garbage collector and signal handlers run code while their thread is inside httpcore.

The locks of httpcore's pools are not reentrant, and the lists that they guard may be half changed at such a moment.
Therefore each depth of interruption has pools of its own, and what belongs to a pool of a lower depth is closed when
the thread has left httpcore.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class _Thread(threading.local):
    def __init__(self) -> None:
        self.depth = 0
        self.postponed: list[Callable[[], None]] = []


_thread = _Thread()


def depth() -> int:
    """Return how often this thread has entered httpcore without leaving it; the depth of the pools that it may use."""
    return _thread.depth


def inside(depth: int, function: Callable[..., _T], *arguments: object) -> _T:
    """Call a function of httpcore.

    :param depth: of the pool that it uses.
    """
    before = _thread.depth
    # Without a context manager: a signal handler that raises between its ``__exit__`` and the end would keep the depth.
    _thread.depth = max(before, depth) + 1
    try:
        return function(*arguments)
    finally:
        _thread.depth = before
        if before == 0:
            while _thread.postponed:
                _thread.postponed.pop()()


def postpone(action: Callable[[], None]) -> None:
    """Do something when this thread has left httpcore."""
    _thread.postponed.append(action)

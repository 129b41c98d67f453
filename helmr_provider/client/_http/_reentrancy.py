"""Calls within calls: the garbage collector and signal handlers run code while their thread is inside httpcore.

The locks of httpcore's pools are not reentrant, and the lists that they guard may be half changed at such a moment.
Therefore each depth of interruption has pools of its own, and what belongs to a pool of a lower depth is closed when
the thread has left httpcore.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class _Thread(threading.local):
    def __init__(self) -> None:
        self.depth = 0
        self.postponed: list[Callable[[], None]] = []
        self.catching_up = False


_thread = _Thread()


def depth() -> int:
    """Return how often this thread has entered httpcore without leaving it; the depth of the pools that it may use."""
    return _thread.depth


def inside(level: int, function: Callable[..., _T], *arguments: object) -> _T:
    """Call a function of httpcore.

    :param level: depth of the pool that it uses.
    """
    before = _thread.depth
    # Without a context manager: a signal handler that raises between its ``__exit__`` and the end would keep the depth.
    _thread.depth = max(before, level) + 1
    try:
        return function(*arguments)
    finally:
        _thread.depth = before
        if before == 0 and _thread.postponed and not _thread.catching_up:
            _catch_up()


def once_outside(level: int, action: Callable[[], None]) -> None:
    """Do something that needs the lock of a pool, now or when this thread has left httpcore.

    :param level: depth of the pool.
    :param action: its errors are ignored if it is postponed.
    """
    if _thread.depth > level:
        _thread.postponed.append(action)
    else:
        action()


def _catch_up() -> None:
    # The actions enter and leave httpcore. Without the mark, each would do the next one within itself, and many would
    # exceed the limit of recursion.
    _thread.catching_up = True
    try:
        while _thread.postponed:
            with contextlib.suppress(Exception):
                _thread.postponed.pop()()
    finally:
        _thread.catching_up = False

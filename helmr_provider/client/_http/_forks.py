"""Connections after a fork: a child process must not use its parent's, or the two read each other's answers."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _Forkable(Protocol):
    def forget(self) -> None: ...


_known: weakref.WeakSet[_Forkable] = weakref.WeakSet()


def forget_in_child(connections: _Forkable) -> None:
    """Call ``forget`` of an object in every child process that is forked while it exists."""
    _known.add(connections)


def _forget_all() -> None:
    for connections in list(_known):
        connections.forget()


os.register_at_fork(after_in_child=_forget_all)

"""Poll for a condition, with a limit that only a hanging test reaches."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SECONDS = 90
"""Longest wait; less than the time limit of a test, so that the condition appears in the traceback."""


def until(condition: Callable[[], T | None], *, every: float = 0.002) -> T:
    """Poll until the condition returns something true, and return it."""
    limit = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < limit, f"not fulfilled within {SECONDS} s"
        time.sleep(every)
    return found


async def until_async(condition: Callable[[], object], *, every: float = 0.002) -> None:
    """Poll until the condition, or the coroutine that it returns, is true. The event loop runs in between."""
    async with asyncio.timeout(SECONDS):
        while not (await found if inspect.isawaitable(found := condition()) else found):  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(every)

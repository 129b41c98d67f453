"""Poll for a condition without a deadline of its own: the test's timeout ends it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    while not condition():
        time.sleep(0.002)


async def until_async(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds, and let the event loop run in between."""
    while not condition():  # noqa: ASYNC110 - another thread or a counter makes it true, without an event
        await asyncio.sleep(0.002)

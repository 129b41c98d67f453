"""Poll for a condition without a deadline of its own: the test's timeout ends it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    while not condition():
        time.sleep(0.002)

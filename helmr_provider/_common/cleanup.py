"""Repeat a clean-up until the control plane accepts it, and log the remaining resources if it never does."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from helmr_provider._common.errors import is_permanent, one_line
from helmr_provider.client.errors import HelmrError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

R = TypeVar("R")

_FIRST_GAP: Final = 1.0
_LARGEST_GAP: Final = 60.0
_TOTAL_SECONDS: Final = 900.0

_LATER: Final = "The clean-up of this task failed and is repeated for %d minutes: %s: %s. Unless it succeeds, %s"
_NEVER: Final = "The clean-up of this task failed: %s: %s. What is left over: %s"


def gaps() -> Iterator[float]:
    """Yield the pauses between attempts, in seconds: they double up to a minute, and end after a quarter of an hour."""
    gap, total = _FIRST_GAP, 0.0
    while total + gap <= _TOTAL_SECONDS:
        yield gap
        total += gap
        gap = min(2 * gap, _LARGEST_GAP)


def clean_up(do: Callable[[], R], *, log: Any, left_over: str) -> R | None:
    """Call ``do`` until it succeeds, and return its result; ``None`` if it never does.

    It blocks. Airflow may kill the process earlier, so the first failure already says what would be left over.

    :param do: ends something in Helmr; safe to repeat.
    :param log: of the task.
    :param left_over: what continues without the clean-up, and how to end it; a sentence that starts in lower case.
    """
    pauses = gaps()
    is_first = True
    while True:
        try:
            return do()
        except Exception as error:  # noqa: BLE001 - the clean-up must not hide why the task ends
            pause = next(pauses, None) if _may_pass(error) else None
            if pause is None:
                log.error(_NEVER, type(error).__name__, one_line(error), left_over)  # noqa: TRY400 - no traceback in a user's log
                return None
            if is_first:
                log.warning(_LATER, _TOTAL_SECONDS // 60, type(error).__name__, one_line(error), left_over)
            is_first = False
            time.sleep(pause)


async def clean_up_async(do: Callable[[], Awaitable[R]], *, log: Any, left_over: str) -> R | None:
    """Do as :func:`clean_up`, without blocking.

    :param do: ends something in Helmr; safe to repeat.
    :param log: of the task.
    :param left_over: what continues without the clean-up, and how to end it; a sentence that starts in lower case.
    """
    try:
        return await _repeat(do, log, left_over)
    except asyncio.CancelledError:
        log.error("The clean-up of this task was interrupted. What is left over: %s", left_over)  # noqa: TRY400
        raise


async def _repeat(do: Callable[[], Awaitable[R]], log: Any, left_over: str) -> R | None:
    pauses = gaps()
    is_first = True
    while True:
        try:
            return await do()
        except Exception as error:  # noqa: BLE001 - as above
            pause = next(pauses, None) if _may_pass(error) else None
            if pause is None:
                log.error(_NEVER, type(error).__name__, one_line(error), left_over)  # noqa: TRY400 - as above
                return None
            if is_first:
                log.warning(_LATER, _TOTAL_SECONDS // 60, type(error).__name__, one_line(error), left_over)
            is_first = False
            await asyncio.sleep(pause)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, (HelmrError, OSError)) and not is_permanent(error)

"""What a wait makes of the client's errors (contract/behaviour.md sections 2 and 8)."""

from __future__ import annotations

import copy
from datetime import UTC
from typing import TYPE_CHECKING

from helmr_provider.client._waiting.actions import Failure
from helmr_provider.client.errors import (
    HelmrApiError,
    HelmrAuthError,
    HelmrConnectionError,
    HelmrError,
    HelmrPermissionError,
    HelmrProtocolError,
    HelmrTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from helmr_provider.client._waiting.actions import WaitKey

_OUTAGE = frozenset({429, 502, 503, 504})
_UNREACHED = Failure(retryable=True, outage=True)


def failure_of(error: HelmrError) -> Failure:
    """Say how a request failed."""
    if isinstance(error, HelmrConnectionError):
        return _UNREACHED
    if isinstance(error, HelmrAuthError):
        return Failure(retryable=False, credential="all")
    if isinstance(error, HelmrPermissionError):
        return Failure(retryable=False, credential="kind")
    if isinstance(error, HelmrApiError):
        return Failure(error.retryable, outage=error.status in _OUTAGE, retry_after=error.retry_after)
    return Failure(retryable=False)


def stream_failure_of(error: HelmrError) -> Failure:
    """Say how a stream failed; a frame that cannot be read is no reason to give the run up."""
    return Failure(retryable=True) if isinstance(error, HelmrProtocolError) else failure_of(error)


def is_of_one(error: BaseException) -> bool:
    """Whether an error concerns one thing waited for, not all of them."""
    if isinstance(error, HelmrAuthError | HelmrPermissionError):
        return False
    return isinstance(error, HelmrApiError | HelmrProtocolError) or not isinstance(error, HelmrError)


def seconds_since_epoch(moment: datetime | None) -> float | None:
    """Return a moment as seconds since the epoch; None if there is none, or it has no such value (the year 1)."""
    if moment is None:
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        return None


def own_copy(error: BaseException) -> BaseException:
    """Copy an error, so that several waits that end with it do not share a traceback."""
    try:
        mine = copy.copy(error)
    except Exception:  # noqa: BLE001 - an error of unknown make is better shared than lost
        return error
    mine.__cause__ = error.__cause__
    return mine


def raise_held_back(errors: list[BaseException]) -> None:
    """Raise the first of the errors that were held back for the sake of the other waits, with a note of the rest."""
    for error in errors[1:]:
        errors[0].add_note(f"Also: {error}")
    if errors:
        raise errors[0]


def timeout_error(seconds: float | None, pending: Iterable[WaitKey]) -> HelmrTimeoutError:
    """Build the error that names what had not ended, and the limit."""
    keys = list(pending)
    names = ", ".join(f"{key.kind} {key.id}" for key in keys[:3]) + (f" and {len(keys) - 3} more" if keys[3:] else "")
    return HelmrTimeoutError(
        f"Not over after {seconds or 0:g} s: {names}. Nothing was cancelled; wait again, or for longer.",
        pending=tuple(key.id for key in keys),
    )

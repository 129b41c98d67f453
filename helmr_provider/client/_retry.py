"""When a request is sent again, and after how long. No I/O.

Which request may be repeated is said by its endpoint. A request that certainly never reached the server may always be.
Plain calls are repeated a few times only, and only for what passes by itself (no connection, 408, 429, 502, 503, 504):
a caller who wants to outlast a longer outage waits with ``runs.wait``, or is a task that its scheduler retries. A 500
is not repeated, because this server says 500 to several mistakes of the caller (contract/behaviour.md section 21).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tenacity import retry_if_exception

from helmr_provider.client.errors import HelmrApiError, HelmrConnectionError

if TYPE_CHECKING:
    from tenacity import RetryCallState

_PASSING_STATUSES: Final = frozenset({408, 429, 502, 503, 504})

# The 202 protocol (contract/behaviour.md section 3.3).
PENDING_BUDGET: Final = 10.0
PENDING_DEFAULT: Final = 0.25

Random = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: a pause is anything from nothing to a bound that doubles with each failure in a row.

    :param attempts: how often a request is sent at most.
    :param base: bound of the first pause, seconds.
    :param cap: largest bound, seconds.
    """

    attempts: int = 3
    base: float = 0.25
    cap: float = 4.0

    def delay(self, failures: int, retry_after: float | None = None, uniform: Random = random.uniform) -> float:
        """Return the pause after that many failures in a row.

        :param failures: from 1.
        :param retry_after: seconds the server asked to wait; the pause is at least that long.
        :param uniform: source of chance.
        """
        bound = min(self.cap, self.base * 2 ** min(failures - 1, 32))
        return (retry_after or 0.0) + uniform(0.0, bound)


CALLS: Final = Backoff()
ONCE: Final = Backoff(attempts=1)
STREAMS: Final = Backoff(attempts=0, base=1.0, cap=15.0)

# A ``Retry-After`` is cut to this where it is read: nothing in this client sleeps longer because a server says so.
LONGEST_RETRY_AFTER: Final = 300.0

# A plain call does not wait longer than this, and raises the error instead.
_LONGEST_RETRY_AFTER: Final = 10.0


def may_repeat(error: BaseException, *, repeatable: bool) -> bool:
    """Whether a plain call is sent again after this error.

    :param error: what it ended with.
    :param repeatable: whether the endpoint allows it although the server may have served the first one.
    """
    if isinstance(error, HelmrConnectionError):
        return repeatable or not error.delivered
    if isinstance(error, HelmrApiError) and error.status in _PASSING_STATUSES and error.retryable:
        return repeatable and (error.retry_after or 0.0) <= _LONGEST_RETRY_AFTER
    return False


def is_transient(error: BaseException) -> bool:
    """Whether a wait or a follower continues after this error (contract/behaviour.md section 2)."""
    return isinstance(error, HelmrConnectionError) or (isinstance(error, HelmrApiError) and error.retryable)


def is_pending(error: BaseException) -> bool:
    """Whether the server asks for the same request again; for exec and pty it does so with a 500."""
    return isinstance(error, HelmrApiError) and error.status in {202, 500} and error.code == "idempotency_pending"


def pending_delay(retry_after: float | None) -> float:
    """Return the pause before the same start is sent again."""
    return min(retry_after or PENDING_DEFAULT, PENDING_BUDGET)


def call_options(backoff: Backoff, *, repeatable: bool, deadline: float) -> dict[str, Any]:
    """Return what tenacity needs to repeat a plain call.

    :param deadline: time of ``time.monotonic`` at which the whole call ends.
    """

    def wait(state: RetryCallState) -> float:
        return backoff.delay(state.attempt_number, _retry_after(state))

    def stop(state: RetryCallState) -> bool:
        return state.attempt_number >= backoff.attempts or time.monotonic() + state.upcoming_sleep >= deadline

    retry = retry_if_exception(lambda error: may_repeat(error, repeatable=repeatable))
    return {"retry": retry, "wait": wait, "stop": stop, "reraise": True}


def pending_options(deadline: float) -> dict[str, Any]:
    """Return what tenacity needs for the 202 protocol: give up once the next delay would pass the budget.

    :param deadline: time of ``time.monotonic`` at which the whole call ends.
    """

    def wait(state: RetryCallState) -> float:
        return pending_delay(_retry_after(state))

    def stop(state: RetryCallState) -> bool:
        spent = (state.seconds_since_start or 0.0) + state.upcoming_sleep
        return spent > PENDING_BUDGET or time.monotonic() + state.upcoming_sleep >= deadline

    return {"retry": retry_if_exception(is_pending), "wait": wait, "stop": stop, "reraise": True}


def _retry_after(state: RetryCallState) -> float | None:
    error = None if state.outcome is None else state.outcome.exception()
    return error.retry_after if isinstance(error, HelmrApiError) else None

"""What a wait writes to the log of its caller: that requests fail and are repeated, and that they succeed again."""

from __future__ import annotations

import contextvars
import logging
from typing import TYPE_CHECKING, Final

from helmr_provider.client._waiting.actions import Retrieve
from helmr_provider.client.models.runs import TERMINAL_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from helmr_provider.client._waiting.actions import Failure, PollRequest

logger = logging.getLogger("helmr_provider.client")

KNOWN_STATUSES: Final = frozenset({"queued", "running", "waiting", *TERMINAL_STATUSES})


class WaitLog:
    """The log lines of one wait.

    It logs the first failure, later ones at growing gaps, and the first success after a failure that was logged.
    Requests are sent by the task that all waits share. Airflow finds the task's log by context variables, so each line
    is logged in the context in which the wait began.
    """

    FIRST_GAP = 15.0
    """Seconds after the first line until the next one at the earliest; each gap is twice as long as the one before."""
    LONGEST_GAP = 900.0
    """Seconds of the longest gap."""

    def __init__(self) -> None:
        self._context = contextvars.copy_context()
        self._cause: PollRequest | None = None
        self._failures = 0
        self._since = self._failed_at = self._next_at = float("-inf")
        self._gap = self.FIRST_GAP
        self._logged = False
        self._odd: set[str] = set()

    def failed(self, action: PollRequest, failure: Failure, error: Exception, now: float) -> None:
        """Record a failed request that is repeated, and log it unless the last line is too recent.

        :param failure: an outage ends with any success, another failure with that of the same request.
        """
        if not self._failures:
            self._since = now
            if now >= self._next_at + self._gap:
                self._gap = self.FIRST_GAP
        self._failures += 1
        self._failed_at = now
        self._cause = None if failure.outage else action
        if now < self._next_at:
            return
        self._next_at = now + self._gap
        self._gap = min(self.LONGEST_GAP, 2 * self._gap)
        self._logged = True
        text = " ".join(str(error).split()) or type(error).__name__
        if self._failures == 1:
            self._log(logging.WARNING, "The wait continues, although a request failed: %s", text)
        else:
            line = "The wait continues, although requests have failed for %.0f s (%d failures). The last one: %s"
            self._log(logging.WARNING, line, now - self._since, self._failures, text)

    def succeeded(self, action: PollRequest, began: float, now: float) -> bool:
        """Record a successful request.

        :param began: when it was sent; one that was sent before the last failure proves nothing.
        :returns: whether no failure is left.
        """
        if self._failures and (began < self._failed_at or self._cause not in {None, action}):
            return False
        if self._logged:
            line = "Requests succeed again, %.0f s after the first failure (%d failures)."
            self._log(logging.INFO, line, now - self._since, self._failures)
        self._failures, self._logged = 0, False
        return True

    def status(self, run_id: str, status: str) -> None:
        """Log a run status that this version of the client does not know, once for each status."""
        if status not in KNOWN_STATUSES and status not in self._odd:
            self._odd.add(status)
            line = "Run %s has the status %.100r, which this version of the client does not know; the wait continues."
            self._log(logging.WARNING, line, run_id, status)

    def _log(self, level: int, line: str, *values: object) -> None:
        self._context.copy().run(logger.log, level, line, *values)


class WaitLogs:
    """The logs of all waits that share their requests."""

    def __init__(self) -> None:
        self._failing: set[WaitLog] = set()

    def failed(
        self, logs: Iterable[WaitLog], action: PollRequest, failure: Failure, error: Exception, now: float
    ) -> None:
        """Record a failed request in the logs of the waits that it concerns."""
        for log in set(logs):
            log.failed(action, failure, error, now)
            self._failing.add(log)

    def succeeded(self, action: PollRequest, began: float, now: float) -> None:
        """Record a successful request in the logs of the waits that have seen failures."""
        self._failing = {log for log in self._failing if not log.succeeded(action, began, now)}

    def forget(self, log: WaitLog) -> None:
        """Forget a wait that is over."""
        self._failing.discard(log)


def is_repeated(action: PollRequest, failure: Failure) -> bool:
    """Whether a wait sends a failed request again. Single polls replace a list that fails by itself."""
    return failure.retryable and (failure.outage or isinstance(action, Retrieve))

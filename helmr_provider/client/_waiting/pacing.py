"""When to send the next request: growing intervals, back-off after failures, rates and limits. No I/O.

Times go in as seconds of one monotonic clock, and times or decisions come out.
"""

from __future__ import annotations

from collections.abc import Callable

# A float in [0, 1); passed in so that tests control it.
Random = Callable[[], float]


class PollInterval:
    """An interval that grows while nothing changes and starts again when something does.

    :param first: seconds of the shortest interval.
    :param longest: seconds that it grows to.
    :param growth: factor from one interval to the next.
    :param random: source of the jitter, which spreads an interval over 80 to 120 per cent of it.
    """

    def __init__(self, first: float, longest: float, growth: float, random: Random) -> None:
        self._first = first
        self._longest = longest
        self._growth = growth
        self._random = random
        self._interval = first

    def reset(self) -> None:
        """Start again with the shortest interval."""
        self._interval = self._first

    def next(self) -> float:
        """Return the seconds until the next poll, and grow."""
        interval = self._interval
        self._interval = min(self._longest, interval * self._growth)
        return interval * (0.8 + 0.4 * self._random())


class FailureDelay:
    """Delays after consecutive failures: doubling, jittered, bounded.

    :param first: seconds after the first failure.
    :param longest: upper bound of the delay in seconds, before jitter.
    :param random: source of the jitter, which takes up to half of a delay away.
    """

    def __init__(self, first: float, longest: float, random: Random) -> None:
        self._first = first
        self._longest = longest
        self._random = random
        self.failures = 0

    def reset(self) -> None:
        """Forget the failures."""
        self.failures = 0

    def next(self) -> float:
        """Count one more failure and return the seconds to wait after it."""
        # The exponent is bounded as well: an outage of days must not overflow a float.
        delay = min(self._longest, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return delay * (1.0 - 0.5 * self._random())


class CircuitBreaker:
    """Stop all requests after an outage, then send one probe at a time until one succeeds.

    :param random: source of the jitter.
    """

    LONGEST = 10.0
    """Seconds within which the end of an outage is noticed, for the price of one request each."""

    def __init__(self, random: Random) -> None:
        self._backoff = FailureDelay(0.5, self.LONGEST, random)
        self._failed_at = float("-inf")
        self.opens_at = float("-inf")

    @property
    def probing(self) -> bool:
        """Whether the last response was a failure, so that only one request may be in flight."""
        return self._backoff.failures > 0

    def succeeded(self, started: float) -> None:
        """Record a response to a request that started at ``started``: if after the failure, the outage is over."""
        if started >= self._failed_at:
            self._backoff.reset()
            self.opens_at = float("-inf")

    def failed(self, started: float, now: float, retry_after: float | None) -> None:
        """Record a failure of a request that started at ``started``.

        Requests that were in flight together fail together: they count as one failure.
        """
        if started >= self._failed_at:
            self._failed_at = now
            self.opens_at = max(self.opens_at, now + self._backoff.next())
        if retry_after is not None:
            self.opens_at = max(self.opens_at, now + retry_after)


class RateLimiter:
    """A token bucket: a rate per second with a small burst.

    :param per_second: tokens per second.
    :param burst: most tokens that can be taken together after a rest.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        if self.free_at(now) > now:
            return False
        self._left -= 1.0
        return True

    def free_at(self, now: float) -> float:
        """Return the time at which one token can be taken."""
        self.refill(now)
        # Sums of refills fall short of one by rounding.
        short = 1.0 - self._left
        return now if short < 1e-9 else now + short / self._per_second

    def refill(self, now: float) -> float:
        """Add the tokens of the time since the last call.

        :returns: the tokens that did not fit.
        """
        if now <= self._at:
            return 0.0
        # Nothing is left over from before the first call.
        added = (now - self._at) * self._per_second if self._at > float("-inf") else 0.0
        self._at = now
        total = self._left + added
        self._left = min(float(self._burst), total)
        return total - self._left


class PollBudget:
    """The budget of single polls and stream openings: a steady rate, and a reserve of what was not used.

    The reserve serves polls that look for ended runs. It doubles their rate for a while, and a rest fills it again, so
    that the average stays within the steady rate.

    :param rate: polls per second on average.
    :param burst: most polls sent together.
    """

    RESERVE = 40.0
    """Seconds of unused rate that the reserve holds."""

    def __init__(self, rate: float, burst: int) -> None:
        self._steady = RateLimiter(rate, burst)
        self._extra = RateLimiter(rate, burst)
        self._most = rate * self.RESERVE
        self._reserve = self._most / 2

    def take(self, now: float, *, urgent: bool = False) -> bool:
        """Take one poll out of the budget if it allows one.

        :param urgent: the reserve may be used.
        """
        self._save(now)
        if self._steady.take(now):
            return True
        if urgent and self._reserve >= 1.0 and self._extra.take(now):
            self._reserve -= 1.0
            return True
        return False

    def free_at(self, now: float, *, urgent: bool = False) -> float:
        """Return the time at which ``take`` succeeds."""
        self._save(now)
        at = self._steady.free_at(now)
        return min(at, self._extra.free_at(now)) if urgent and self._reserve >= 1.0 else at

    def _save(self, now: float) -> None:
        self._reserve = min(self._most, self._reserve + self._steady.refill(now))


class ConcurrencyLimit:
    """How many requests may be in flight: fewer when the control plane answers slower than it did.

    The limit halves when the smoothed answer time is more than twice its least value of the last minute, and grows by
    one for each round of answers that are not slow. It goes no lower than half: the rate falls as answers take longer
    anyway.

    :param most: upper bound.
    """

    SLOWER = 2.0
    """Factor over the shortest answer time that counts as slow."""
    SLACK = 0.2
    """Seconds over the shortest answer time that are never slow."""
    WINDOW = 30.0
    """Seconds after which the older half of the shortest answer time's window is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = max(1, most // 2)
        self._limit = most
        self._changed_at = float("-inf")
        self._answer_time = 0.0
        self._shortest = self._shortest_before = float("inf")
        self._window_ends = float("-inf")

    @property
    def value(self) -> int:
        """Requests that may be in flight."""
        return self._limit

    @property
    def answer_time(self) -> float:
        """Smoothed answer time in seconds; 0 before the first answer."""
        return self._answer_time

    def answered(self, started: float, now: float) -> None:
        """Record the answer to a single poll or a count."""
        took = max(0.0, now - started)
        self._answer_time += (took - self._answer_time) * (0.1 if self._answer_time else 1.0)
        if now >= self._window_ends:
            self._window_ends = now + self.WINDOW
            self._shortest_before, self._shortest = self._shortest, self._answer_time
        self._shortest = min(self._shortest, self._answer_time)
        baseline = min(self._shortest, self._shortest_before)
        # One change for each round of answers: those in flight were sent under the limit before.
        if now < self._changed_at + max(1.0, 2 * self._answer_time):
            return
        if self._answer_time > max(self.SLOWER * baseline, baseline + self.SLACK):
            self._limit = max(self._least, self._limit // 2)
            self._changed_at = now
        elif self._limit < self._most:
            self._limit += 1
            self._changed_at = now

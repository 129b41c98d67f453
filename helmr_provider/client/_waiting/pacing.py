"""How fast to ask: growing intervals, back-off after failures, and a rate. Values and clock in, times out; no I/O."""

from __future__ import annotations

from collections.abc import Callable

# A float in [0, 1); given by the caller so that tests decide.
Random = Callable[[], float]


class PollInterval:
    """An interval that grows while nothing happens and starts again when something does.

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
        """Give the seconds until the next look, and grow."""
        interval = self._interval
        self._interval = min(self._longest, interval * self._growth)
        return interval * (0.8 + 0.4 * self._random())


class Backoff:
    """Delays after failures in a row: doubling, jittered, bounded.

    :param first: seconds after the first failure.
    :param longest: seconds that the delay is bounded by, before jitter.
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
        """Count one more failure and give the seconds to wait after it."""
        # The exponent is bounded as well: an outage of days must not overflow a float.
        delay = min(self._longest, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return delay * (1.0 - 0.5 * self._random())


class CircuitBreaker:
    """Whether the control plane may be asked: shut after a failure that concerns everybody, then one probe at a time.

    :param random: source of the jitter.
    """

    # An outage is noticed as over within this many seconds, for the price of one request each.
    LONGEST = 10.0
    # A control plane that asks for more patience than this is asked again anyway: the wait has its own deadline.
    LONGEST_RETRY_AFTER = 300.0

    def __init__(self, random: Random) -> None:
        self._backoff = Backoff(0.5, self.LONGEST, random)
        self._failed_at = float("-inf")
        self.opens_at = float("-inf")

    @property
    def probing(self) -> bool:
        """Whether the last thing heard was a failure, so that only one request may be under way."""
        return self._backoff.failures > 0

    def succeeded(self, started: float) -> None:
        """Note an answer to a request that started at ``started``: if after the failure, it is over."""
        if started >= self._failed_at:
            self._backoff.reset()
            self.opens_at = float("-inf")

    def failed(self, started: float, now: float, retry_after: float | None) -> None:
        """Note a failure of a request that started at ``started``.

        Requests that were under way together fail together: they count as one failure.
        """
        if started >= self._failed_at:
            self._failed_at = now
            self.opens_at = max(self.opens_at, now + self._backoff.next())
        if retry_after is not None:
            self.opens_at = max(self.opens_at, now + min(retry_after, self.LONGEST_RETRY_AFTER))


class RateLimiter:
    """At most so many things a second, with a small burst.

    :param per_second: how many a second.
    :param burst: how many at once after a rest.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Take one if there is one."""
        if self.free_at(now) > now:
            return False
        self._left -= 1.0
        return True

    def free_at(self, now: float) -> float:
        """Give the time at which one can be taken."""
        self._refill(now)
        # Sums of refills fall short of one by rounding.
        short = 1.0 - self._left
        return now if short < 1e-9 else now + short / self._per_second

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._left = min(float(self._burst), self._left + (now - self._at) * self._per_second)
            self._at = now

"""Intervals, back-off, circuit breaker and rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.client._waiting.pacing import (
    CircuitBreaker,
    ConcurrencyLimit,
    FailureDelay,
    PollBudget,
    PollInterval,
    RateLimiter,
)

chances = st.floats(0.0, 1.0, exclude_max=True)


@given(chances=st.lists(chances, min_size=1, max_size=40))
def test_an_interval_grows_to_its_bound_and_jitters_by_a_fifth(chances: list[float]) -> None:
    left = iter(chances)
    pace = PollInterval(1.0, 5.0, 1.5, lambda: next(left))
    for number in range(len(chances)):
        middle = min(5.0, 1.5**number)
        assert 0.8 * middle <= pace.next() <= 1.2 * middle + 1e-9


def test_an_interval_starts_again_after_something_happened() -> None:
    pace = PollInterval(1.0, 5.0, 1.5, lambda: 0.5)
    assert [pace.next() for _ in range(3)] == [1.0, 1.5, 2.25]
    pace.reset()
    assert pace.next() == 1.0


@given(failures=st.integers(0, 5000), chance=chances)
def test_a_delay_is_between_half_and_all_of_a_bound_that_doubles(failures: int, chance: float) -> None:
    backoff = FailureDelay(0.5, 10.0, lambda: chance)
    backoff.failures = failures
    bound = min(10.0, 0.5 * 2.0 ** min(failures, 10))
    assert 0.5 * bound <= backoff.next() <= bound
    assert backoff.failures == failures + 1


def test_failures_of_requests_that_were_under_way_together_count_once() -> None:
    breaker = CircuitBreaker(lambda: 0.0)
    for _ in range(8):
        breaker.failed(started=1.0, now=2.0, retry_after=None)
    assert breaker.opens_at == 2.5
    breaker.failed(started=2.5, now=3.0, retry_after=None)
    assert breaker.opens_at == 4.0


def test_only_an_answer_to_a_request_after_the_failure_opens_the_breaker() -> None:
    breaker = CircuitBreaker(lambda: 0.0)
    breaker.failed(started=1.0, now=2.0, retry_after=30.0)
    states: list[tuple[bool, bool]] = []
    for started in (1.5, 32.0):
        breaker.succeeded(started)
        states.append((breaker.probing, breaker.opens_at >= 32.0))
    assert states == [(True, True), (False, False)]


def test_a_request_that_began_in_the_moment_of_the_failure_counts_as_a_later_one() -> None:
    breaker = CircuitBreaker(lambda: 0.0)
    breaker.failed(started=1.0, now=2.0, retry_after=None)
    breaker.failed(started=2.0, now=2.0, retry_after=None)
    assert breaker.opens_at == 3.0
    breaker.succeeded(2.0)
    assert not breaker.probing


@given(
    steps=st.lists(st.floats(0.0, 2.0), max_size=60),
    per_second=st.sampled_from([0.5, 5.0, 100.0]),
    burst=st.integers(1, 8),
)
def test_a_rate_is_never_exceeded(steps: list[float], per_second: float, burst: int) -> None:
    rate, now, taken = RateLimiter(per_second, burst), 0.0, 0
    for step in steps:
        now += step
        while rate.take(now):
            taken += 1
        assert taken <= burst + now * per_second + 1e-6
        assert rate.free_at(now) > now
        assert rate.take(rate.free_at(now))
        taken += 1
        now = rate._at


def test_an_unused_rate_allows_its_burst_and_then_single_requests() -> None:
    rate = RateLimiter(10.0, 3)
    assert [rate.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert rate.free_at(0.0) == pytest.approx(0.1)


def test_the_reserve_doubles_the_rate_of_urgent_polls_and_the_average_stays_within_the_rate() -> None:
    budget, taken = PollBudget(10.0, 1), {False: 0, True: 0}
    for tick in range(200 * 50):
        urgent = tick >= 100 * 50
        while budget.take(tick / 50, urgent=urgent):
            taken[urgent] += 1
    assert taken[False] == pytest.approx(10.0 * 100, abs=2)
    # What is left of the reserve lasts half as long as a full one.
    assert taken[True] == pytest.approx(10.0 * 100 + 10.0 * PollBudget.RESERVE / 2, abs=2)


def test_idle_time_fills_the_reserve_and_no_more() -> None:
    budget = PollBudget(10.0, 1)
    budget.take(0.0)
    taken = 0
    for tick in range(100 * 50):
        while budget.take(1000.0 + tick / 50, urgent=True):
            taken += 1
    assert taken == pytest.approx(10.0 * 100 + 10.0 * PollBudget.RESERVE, abs=3)


def answers(limit: ConcurrencyLimit, took: float, begin: float, until: float) -> int:
    now = begin
    while now < until:
        limit.answered(now - took, now)
        now += max(took, 0.01)
    return limit.value


def test_slow_answers_halve_the_requests_in_flight_and_quick_ones_allow_them_again() -> None:
    limit = ConcurrencyLimit(8)
    assert answers(limit, 0.01, 0.0, 20.0) == 8
    assert answers(limit, 0.5, 20.0, 26.0) == 4
    assert answers(limit, 0.01, 26.0, 60.0) == 8


def test_answers_that_are_always_slow_are_not_taken_for_slower() -> None:
    assert answers(ConcurrencyLimit(8), 2.0, 0.0, 300.0) == 8


def test_answers_that_stay_slow_become_the_measure_after_a_minute() -> None:
    limit = ConcurrencyLimit(8)
    answers(limit, 0.01, 0.0, 20.0)
    assert answers(limit, 0.5, 20.0, 30.0) == 4
    assert answers(limit, 0.5, 30.0, 120.0) == 8


def test_one_request_at_a_time_is_never_less() -> None:
    limit = ConcurrencyLimit(1)
    answers(limit, 0.01, 0.0, 5.0)
    assert answers(limit, 3.0, 5.0, 30.0) == 1

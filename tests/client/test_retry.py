"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import Retrying

from helmr_provider.client._retry import (
    CALLS,
    ONCE,
    STREAMS,
    Backoff,
    call_options,
    is_pending,
    is_transient,
    may_repeat,
    pending_delay,
    pending_options,
)
from helmr_provider.client.errors import HelmrApiError, HelmrConnectionError, HelmrProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

POSITIVE = st.floats(0.001, 100)


@given(
    failures=st.integers(1, 10_000),
    base=POSITIVE,
    cap=POSITIVE,
    retry_after=st.none() | POSITIVE,
    seed=st.integers(),
)
def test_a_pause_is_never_shorter_than_asked_and_never_longer_than_its_bound(
    failures: int, base: float, cap: float, retry_after: float | None, seed: int
) -> None:
    pause = Backoff(base=base, cap=cap).delay(failures, retry_after, random.Random(seed).uniform)
    at_least = retry_after or 0.0
    assert at_least <= pause <= at_least + cap
    assert pause <= at_least + base * 2 ** min(failures - 1, 1000) or failures > 1000


@given(failures=st.integers(1, 30))
def test_the_bound_doubles_until_the_cap_and_all_of_it_is_used(failures: int) -> None:
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    for backoff in (CALLS, STREAMS):
        backoff.delay(failures, None, uniform)
        assert bounds.pop() == (0.0, min(backoff.cap, backoff.base * 2 ** (failures - 1)))


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_passes_by_itself_is_repeated_where_the_endpoint_allows_it(status: int) -> None:
    assert may_repeat(HelmrApiError("busy", status=status), repeatable=True)
    assert not may_repeat(HelmrApiError("busy", status=status), repeatable=False)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422, 500, 501])
def test_what_would_be_answered_the_same_again_is_not_repeated(status: int) -> None:
    assert not may_repeat(HelmrApiError("no", status=status), repeatable=True)


def test_a_request_that_never_left_is_repeated_even_if_it_is_not_safe_to_serve_twice() -> None:
    assert may_repeat(HelmrConnectionError("refused", delivered=False), repeatable=False)
    assert not may_repeat(HelmrConnectionError("cut", delivered=True), repeatable=False)
    assert may_repeat(HelmrConnectionError("cut", delivered=True), repeatable=True)


def test_a_long_retry_after_is_not_waited_for() -> None:
    assert may_repeat(HelmrApiError("busy", status=503, retry_after=10), repeatable=True)
    assert not may_repeat(HelmrApiError("busy", status=503, retry_after=10.5), repeatable=True)


def test_waits_survive_outages_and_nothing_else() -> None:
    assert is_transient(HelmrConnectionError("gone"))
    assert is_transient(HelmrApiError("broken", status=500))
    assert not is_transient(HelmrApiError("not there", status=404))
    assert not is_transient(HelmrApiError("spent", status=500, code="idempotency_fingerprint_mismatch"))
    assert not is_transient(HelmrProtocolError("garbage"))


def test_only_the_pending_answer_asks_for_the_same_start_again() -> None:
    assert is_pending(HelmrApiError("wait", status=202, code="idempotency_pending"))
    assert not is_pending(HelmrApiError("wait", status=202))
    assert is_pending(HelmrApiError("exec and pty say it so", status=500, code="idempotency_pending"))
    assert not is_pending(HelmrApiError("broken", status=500))


@pytest.mark.parametrize(("retry_after", "pause"), [(None, 0.25), (1.0, 1.0), (0.5, 0.5), (99.0, 10.0)])
def test_the_pause_before_the_same_start_is_the_servers_within_limits(retry_after: float | None, pause: float) -> None:
    assert pending_delay(retry_after) == pause


class Sent:
    """Requests with these outcomes, one after the other; the last outcome repeats."""

    def __init__(self, ends: Iterable[BaseException | str]) -> None:
        self.ends = list(ends)
        self.count = 0
        self.pauses: list[float] = []

    def send(self) -> str:
        self.count += 1
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(end, BaseException):
            raise end
        return end

    def with_options(self, options: dict[str, Any]) -> str:
        return Retrying(**options, sleep=self.pauses.append)(self.send)


BUSY = HelmrApiError("busy", status=503, retry_after=2.0)
NEVER = float("inf")
PENDING = HelmrApiError("wait", status=202, code="idempotency_pending", retry_after=4.0)


def test_a_call_is_sent_three_times_at_most_and_ends_with_its_last_error() -> None:
    sent = Sent([BUSY, BUSY, last := HelmrApiError("still busy", status=503), "too late"])
    with pytest.raises(HelmrApiError) as caught:
        sent.with_options(call_options(CALLS, repeatable=True, deadline=NEVER))
    assert caught.value is last
    assert (sent.count, len(sent.pauses)) == (3, 2)


def test_a_call_that_succeeds_at_last_has_paused_as_requested() -> None:
    sent = Sent([HelmrConnectionError("cut"), BUSY, "answer"])
    assert sent.with_options(call_options(Backoff(base=0.25), repeatable=True, deadline=NEVER)) == "answer"
    first, second = sent.pauses
    assert 0 <= first <= 0.25
    assert 2 <= second <= 2.5


def test_the_pauses_of_a_call_grow_with_each_failure() -> None:
    longest = [0.0, 0.0, 0.0]
    for _ in range(200):
        sent = Sent([HelmrConnectionError("cut")] * 3 + ["answer"])
        sent.with_options(call_options(Backoff(attempts=4, base=1.0, cap=100.0), repeatable=True, deadline=NEVER))
        longest = [max(pair) for pair in zip(longest, sent.pauses, strict=True)]
    # Of 200 draws the largest lies in the upper half of the range, or there is no chance at all in it.
    for bound, seen in zip((1.0, 2.0, 4.0), longest, strict=True):
        assert bound / 2 < seen <= bound


def test_what_may_not_be_repeated_is_sent_once() -> None:
    for options in (
        call_options(CALLS, repeatable=False, deadline=NEVER),
        call_options(ONCE, repeatable=True, deadline=NEVER),
    ):
        sent = Sent([BUSY, "answer"])
        with pytest.raises(HelmrApiError):
            sent.with_options(options)
        assert (sent.count, sent.pauses) == (1, [])


def test_a_pending_start_is_sent_again_until_the_next_pause_would_pass_the_budget() -> None:
    sent = Sent([PENDING, HelmrApiError("wait", status=202, code="idempotency_pending"), "started"])
    assert sent.with_options(pending_options(NEVER)) == "started"
    assert sent.pauses == [4.0, 0.25]
    # No time passes here but what was slept, which tenacity does not see: only a pause beyond the budget ends it.
    forever = Sent([HelmrApiError("wait", status=202, code="idempotency_pending", retry_after=99.0)])
    with pytest.raises(HelmrApiError, match="wait"):
        forever.with_options(pending_options(NEVER))
    assert forever.count == 1


def test_only_pending_answers_are_repeated_by_the_pending_protocol() -> None:
    sent = Sent([BUSY, "started"])
    with pytest.raises(HelmrApiError):
        sent.with_options(pending_options(NEVER))
    assert sent.count == 1

"""Assembling a scheduler of waits from its parts."""

from __future__ import annotations

import random as _random
from typing import TYPE_CHECKING

from helmr_provider.client._waiting.pacing import CircuitBreaker, ConcurrencyLimit, PollBudget, RateLimiter
from helmr_provider.client._waiting.poll_queue import PollQueue
from helmr_provider.client._waiting.run_poller import RunPoller
from helmr_provider.client._waiting.scheduler import Scheduler
from helmr_provider.client._waiting.stream_allocator import StreamAllocator
from helmr_provider.client._waiting.token_poller import TokenPoller

if TYPE_CHECKING:
    from helmr_provider.client._waiting.actions import WaitKey
    from helmr_provider.client._waiting.pacing import Random
    from helmr_provider.client._waiting.poll_queue import Wait


def build_scheduler(*, requests: int = 8, rate: float = 100.0, random: Random = _random.random) -> Scheduler:
    """Build a scheduler with its parts.

    :param requests: most requests in flight, streams not counted.
    :param rate: most single polls a second on average.
    :param random: source of jitter.
    """
    waits: dict[WaitKey, Wait] = {}
    return Scheduler(
        waits=waits,
        queue=PollQueue(waits, PollBudget(rate, requests)),
        runs=RunPoller(random),
        tokens=TokenPoller(random),
        streams=StreamAllocator(random),
        breaker=CircuitBreaker(random),
        limit=ConcurrencyLimit(requests),
        newcomers=RateLimiter(Scheduler.NEWCOMERS, Scheduler.NEWCOMERS),
        random=random,
    )

"""Followers of events are scarce: a full pool stops all events until one follower's silence is over."""

from __future__ import annotations

import asyncio

from helmr_provider.local.common.event_slots import EventSlots
from helmr_provider.local.common.notifier import Notifier

_LONG = 60.0


async def _following(slots: EventSlots, notifier: Notifier, *timeouts: float) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.create_task(slots.wait(notifier, "run:1", timeout)) for timeout in timeouts]
    await asyncio.sleep(0)
    return tasks


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_with_a_slot_left_a_notification_comes_immediately() -> None:
    notifier, slots = Notifier(), EventSlots(3)
    followers = await _following(slots, notifier, _LONG, _LONG)
    notifier.notify("run:1")
    assert await asyncio.gather(*followers) == [True, True]


async def test_in_a_full_pool_it_comes_when_a_follower_s_silence_ends() -> None:
    notifier, slots = Notifier(), EventSlots(2)
    followers = await _following(slots, notifier, _LONG)
    silent = asyncio.create_task(slots.wait(notifier, "run:2", 0.05))
    await asyncio.sleep(0)
    notifier.notify("run:1")
    await _settled()
    assert not followers[0].done()
    assert await silent is False
    assert await followers[0] is True


async def test_a_follower_beyond_the_pool_waits_for_a_slot_and_gets_a_free_one() -> None:
    notifier, slots = Notifier(), EventSlots(1)
    first, second = await _following(slots, notifier, _LONG, 0.01)
    await _settled()
    assert not second.done()
    first.cancel()
    assert await second is False

"""The stream budget of one client."""

from __future__ import annotations

import threading

from helmr_provider.client._waiting.stream_slots import StreamSlots


def test_waits_use_what_explicit_followers_leave() -> None:
    slots = StreamSlots(2)
    with slots.explicit():
        assert slots.for_waits() == 1
        assert slots.try_take()
        assert not slots.try_take()
        with slots.explicit(), slots.explicit():
            assert slots.for_waits(mine=1) == 0
        assert slots.for_waits(mine=1) == 1
    assert slots.try_take()
    slots.give_back()
    slots.give_back()
    assert slots.for_waits() == 2


def test_a_slot_that_a_waiter_took_counts_until_it_is_returned() -> None:
    slots = StreamSlots(2)
    slots.take()
    slots.take()
    assert (slots.for_waits(), slots.for_waits(mine=2), slots.try_take()) == (0, 2, False)
    slots.give_back()
    assert slots.for_waits(mine=1) == 2


def test_observers_are_notified_of_explicit_followers_that_come_and_leave() -> None:
    slots = StreamSlots(1)
    heard: list[int] = []
    slots.watchers.add(lambda: heard.append(slots.for_waits()))
    with slots.explicit():
        pass
    assert heard == [0, 1]


def test_threads_never_take_more_slots_than_there_are() -> None:
    slots = StreamSlots(3)
    start, taken = threading.Barrier(12), list[bool]()

    def take() -> None:
        start.wait()
        taken.append(slots.try_take())

    threads = [threading.Thread(target=take) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 3

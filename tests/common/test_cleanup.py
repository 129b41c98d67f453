"""Clean-ups: repeated while the control plane is away, given up in the end, and logged in one line each."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import pytest

from helmr_provider._common.cleanup import clean_up, clean_up_async, gaps
from helmr_provider.client.errors import HelmrConfigError, HelmrConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("helmr.test")
LEFT_OVER = "session s continues; the console ends it."


def failing(times: int, error: Exception) -> Callable[[], str]:
    """Return a clean-up that fails a few times first."""
    left = [error] * times

    def do() -> str:
        if left:
            raise left.pop()
        return "done"

    return do


def run(do: Callable[[], str], *, is_async: bool) -> str | None:
    if not is_async:
        return clean_up(do, log=log, left_over=LEFT_OVER)

    async def coroutine() -> str:
        return do()

    return asyncio.run(clean_up_async(coroutine, log=log, left_over=LEFT_OVER))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Take no pauses, and keep which would have been taken."""
    taken: list[float] = []

    async def asleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(time, "sleep", taken.append)
    monkeypatch.setattr(asyncio, "sleep", asleep)
    return taken


def test_pauses_grow_to_a_minute_and_last_for_more_than_ten_minutes() -> None:
    taken = list(gaps())
    assert taken == sorted(taken)
    assert (taken[0], taken[-1]) == (1.0, 60.0)
    assert 600 < sum(taken) <= 900


@pytest.mark.parametrize("is_async", [False, True])
def test_it_is_repeated_until_it_succeeds_and_says_once_that_it_is(
    is_async: bool, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(failing(4, HelmrConnectionError("no route")), is_async=is_async) == "done"
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    [line] = [record.getMessage() for record in caplog.records if record.name == log.name]
    assert "no route" in line
    assert LEFT_OVER in line


@pytest.mark.parametrize("is_async", [False, True])
def test_in_the_end_it_says_what_is_left_over(
    is_async: bool, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(failing(999, HelmrConnectionError("no route")), is_async=is_async) is None
    assert pauses == list(gaps())
    lines = [record.getMessage() for record in caplog.records if record.name == log.name]
    assert len(lines) == 2
    assert f"What is left over: {LEFT_OVER}" in lines[-1]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", [HelmrConfigError("no such key"), RuntimeError("a mistake")])
def test_what_cannot_succeed_later_is_not_repeated(
    error: Exception, is_async: bool, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(failing(1, error), is_async=is_async) is None
    assert pauses == []
    [line] = [record.getMessage() for record in caplog.records if record.name == log.name]
    assert type(error).__name__ in line
    assert LEFT_OVER in line


async def test_a_triggerer_that_stops_says_what_is_left_over(caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    async def do() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(clean_up_async(do, log=log, left_over=LEFT_OVER))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert LEFT_OVER in caplog.text

"""The output of a run, in the task's log while its trigger waits. A failure here costs the log, never the wait."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from helmr_provider._logs.run_logs import SILENCE, is_worth_retrying
from helmr_provider.client._internals import single_shot, stream_slots_of
from helmr_provider.client._waiting.pacing import PollInterval

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helmr_provider._logs.run_logs import RunLogLines
    from helmr_provider.client import AsyncHelmrClient

# Then waits may have the slot; who still finds it free takes it again.
_HOLD_SECONDS: Final = 60.0
_READ_SECONDS: Final = 5.0
_LAST_WORDS_SECONDS: Final = 10.0
_CLOSING_SECONDS: Final = 5.0

# Reads without a slot: one after the other, however many triggers there are.
_turns: WeakKeyDictionary[AsyncHelmrClient, asyncio.Lock] = WeakKeyDictionary()


@asynccontextmanager
async def forward_run_logs(client: AsyncHelmrClient, run_id: str, lines: RunLogLines, log: Any) -> AsyncIterator[None]:
    """Forward a run's output while the block waits for the run, and the rest when the run has ended.

    It follows the output if one of the client's stream slots is free, else it polls.

    :param client: the triggerer's shared client.
    :param run_id: the run.
    :param lines: where the output goes, and how far it has got.
    :param log: of the task.
    """
    ended = asyncio.Event()
    forwarding = asyncio.create_task(_forward(client, run_id, lines, log, ended))
    try:
        yield
        ended.set()
        await asyncio.wait([forwarding], timeout=_LAST_WORDS_SECONDS)
    finally:
        forwarding.cancel()
        try:
            await asyncio.wait([forwarding], timeout=_CLOSING_SECONDS)
        finally:
            lines.end()


async def _forward(client: AsyncHelmrClient, run_id: str, lines: RunLogLines, log: Any, ended: asyncio.Event) -> None:
    pace = PollInterval(2.0, 60.0, 2.0, random.random)
    while True:
        last, before = ended.is_set(), lines.cursor
        followed = False
        try:
            followed = await _read_or_follow(client, run_id, lines, last=last)
        except Exception as error:  # noqa: BLE001 - it is said
            if not is_worth_retrying(error, log, lines):
                return
        if last:
            return
        if followed or lines.cursor != before:
            pace.reset()
        with suppress(TimeoutError):
            async with asyncio.timeout(pace.next()):
                await ended.wait()


async def _read_or_follow(client: AsyncHelmrClient, run_id: str, lines: RunLogLines, *, last: bool) -> bool:
    """Read the existing output, or follow for a while; return which."""
    slots = stream_slots_of(client)
    if not last and slots.try_take():
        try:
            await _read(single_shot(client), run_id, lines, _HOLD_SECONDS)
        finally:
            slots.give_back()
        return True
    async with _turns.setdefault(client, asyncio.Lock()):
        # When the run is over, its stream ends by itself.
        reader = single_shot(client, silence=None if last else SILENCE)
        await _read(reader, run_id, lines, _READ_SECONDS)
    return False


async def _read(client: AsyncHelmrClient, run_id: str, lines: RunLogLines, seconds: float) -> None:
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(seconds),
            aclosing(client.runs.logs.stream(run_id, cursor=lines.cursor)) as chunks,
        ):
            async for chunk in chunks:
                lines.take(chunk)

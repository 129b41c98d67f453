"""An event loop in virtual time, on which client and local control plane speak through memory.

When nothing is ready, the loop's time jumps to the next timer. Connections to a port that is served on the same loop
lead through :class:`~tests.client.faults.network.Network`; nothing else is connected, and nothing waits in real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import selectors
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

from helmr_provider.local.common.clock import SECOND, Clock
from tests.client.faults.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

EPOCH = 1_800_000_000


class Stuck(Exception):  # noqa: N818 - what a test reports
    """Nothing is scheduled any more, although something is waited for."""


class _Selector(selectors.SelectSelector):
    """Passes the time that the loop would sleep."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing is scheduled, and nothing can happen any more")
        self.loop.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when nothing is to be done.

    :param seed: of the network's latencies.
    """

    def __init__(self, seed: int) -> None:
        self.now = 1000.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.network = Network(self, random.Random(seed))

    def time(self) -> float:
        return self.now

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, **_: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        protocol = protocol_factory()
        return await self.network.connect(protocol, port), protocol

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *, sock: Any, **_: Any
    ) -> Any:
        return self.network.listen(protocol_factory, sock)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - passed on
            future.set_exception(error)
        return future


class SteppedClock(Clock):
    """The control plane's clock: it follows the loop, and can be set.

    :param elapsed: returns the seconds that have passed.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self.offset = 0.0
        super().__init__()

    def now(self) -> int:
        return int((EPOCH + self._elapsed() + self.offset) * SECOND)

    def seconds_until(self, instant: int) -> float:
        return max(0.0, (instant - self.now()) / SECOND)

    def reset(self) -> None:
        self.rate = 1.0


class WallClock:
    """The client's wall clock, which can be set while its monotonic clock continues.

    :param elapsed: returns the seconds that have passed.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self.offset = 0.0

    def time(self) -> float:
        return EPOCH + self._elapsed() + self.offset


@contextlib.contextmanager
def virtual_time(seed: int) -> Generator[tuple[VirtualLoop, WallClock]]:
    """Run a block in virtual time and with seeded chance; what is asynchronous runs on the loop."""
    loop, chance = VirtualLoop(seed), random.Random(seed)
    wall = WallClock(loop.time)
    state = random.getstate()
    random.seed(seed)
    with (
        mock.patch.object(time, "monotonic", loop.time),
        mock.patch.object(time, "time", wall.time),
        mock.patch.object(os, "urandom", chance.randbytes),
        mock.patch.object(random, "_urandom", chance.randbytes),
    ):
        try:
            yield loop, wall
        finally:
            random.setstate(state)
            loop.network.close()
            loop.close()

"""No test of a trigger may block the event loop: in a triggerer, that would hold up every other trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

from helmr_provider._common import cleanup

if TYPE_CHECKING:
    from collections.abc import Iterator

# What runs on the triggerer's loop. The client that blocks is not among it, so that a test may use it as a
# second client; a trigger that calls it is still found, because it is in the stack itself.
ON_THE_LOOP = [
    "helmr_provider.triggers",
    "helmr_provider.hooks",
    "helmr_provider.client._async",
    "helmr_provider.client._waiting.async_waiter",
]


@pytest.fixture(autouse=True)
def nothing_blocks_the_event_loop() -> Iterator[None]:
    """Raise from every call that would block the loop that it is made on."""
    with blockbuster_ctx(scanned_modules=ON_THE_LOOP):
        yield


@pytest.fixture(autouse=True)
def clean_ups_give_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat no clean-up for minutes: an outage of a test lasts until the test ends it."""
    monkeypatch.setattr(cleanup, "_FIRST_GAP", 0.01)
    monkeypatch.setattr(cleanup, "_TOTAL_SECONDS", 0.05)

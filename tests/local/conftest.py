"""What the tests of the local control plane share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helmr_provider.local import LocalControlPlane, Settings
from tests.local.scripted import Director
from tests.local.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = Settings(start_and_wait=2.0, keep_alive=0.2, log_poll=0.05, sweep=0.02)


@pytest.fixture
def director() -> Director:
    return Director()


@pytest.fixture
def server(director: Director) -> Iterator[LocalControlPlane]:
    """A control plane with one scripted task, `scripted`, that declares streams."""
    tasks = [director.define("scripted", inputs=("messages", "approval"), outputs=("progress",))]
    with LocalControlPlane(tasks, settings=QUICK) as running:
        yield running


@pytest.fixture
def wire(server: LocalControlPlane) -> Wire:
    return Wire(server)

"""What the tests of the local control plane share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helmr_provider.local import LocalControlPlane
from tests.support.local.scripted_tasks import Director
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.fixture
def examples() -> Iterator[Wire]:
    """A control plane with the example tasks."""
    with LocalControlPlane(settings=QUICK) as running:
        yield Wire(running)

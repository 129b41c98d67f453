"""The tab's application on the local control plane, with made-up storage of Airflow's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from helmr_provider._common.versions import AIRFLOW_V_3_1_1_PLUS
from tests.airflow_ui.helpers import Clock, Storage

if TYPE_CHECKING:
    from helmr_provider.airflow_ui.connections import Connections
    from helmr_provider.airflow_ui.reader import Reader
    from helmr_provider.local import LocalEnvironment

needs_tab = pytest.mark.skipif(not AIRFLOW_V_3_1_1_PLUS, reason="Airflow has no tabs before 3.1.1")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(helmr_server: LocalEnvironment) -> Storage:
    storage = Storage()
    storage.connect(helmr_server.url, helmr_server.api_key)
    return storage


@pytest.fixture
def connections(storage: Storage, clock: Clock) -> Connections:
    from helmr_provider.airflow_ui.connections import Connections

    began = datetime(2026, 11, 28, tzinfo=UTC)
    return Connections(storage.fetch, clock=clock, now=lambda: began + timedelta(seconds=clock()))


@pytest.fixture
def reader(storage: Storage, connections: Connections, clock: Clock) -> Reader:
    from helmr_provider.airflow_ui.reader import Reader

    return Reader(connections, read_task=storage.read_task, read_run=storage.read_run, clock=clock)

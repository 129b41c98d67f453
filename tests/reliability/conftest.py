"""One Airflow on PostgreSQL and one control plane for all tests of this folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.postgres_stack import PostgresStack
from dev.stack import ROOT
from helmr_provider.client import HelmrClient
from tests.airflow.conftest import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[PostgresStack]:
    """Start every component of Airflow as a program of its own, PostgreSQL, and the local control plane.

    The logs stay when a test has failed.
    """
    # Not below pytest's own folder, which is closed to the user that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="helmr-reliability-"))
    folder.chmod(0o755)
    tasks = ROOT / "tests/airflow/local_tasks.py"
    settings = {
        **SETTINGS,
        # A task whose processes were killed keeps its place in the local executor.
        "AIRFLOW__CORE__PARALLELISM": "128",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    }
    with PostgresStack(folder / "stack", dags=HERE / "dags", tasks=tasks, settings=settings) as running:
        yield running
    if not request.session.testsfailed:
        shutil.rmtree(folder)


@pytest.fixture
def client(stack: PostgresStack) -> Iterator[HelmrClient]:
    """Look at the control plane as a person would, and complete tokens."""
    with HelmrClient(url=stack.control_plane.url, api_key=stack.control_plane.api_key) as connected:
        yield connected

"""Fixtures for tests against a local control plane; pytest finds them wherever this package is installed.

Nothing is imported or started before a test uses a fixture, and none of them needs Airflow.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from helmr_provider.client import AsyncHelmrClient, HelmrClient
    from helmr_provider.local import LocalControlPlane, LocalEnvironment

_ENVIRONMENT = pytest.StashKey["LocalEnvironment"]()

# pytest-asyncio's strict mode needs its own decorator; without that plugin, anyio's takes plain asynchronous fixtures.
_async_fixture: Callable[..., Any] = pytest.fixture
if find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    _async_fixture = pytest_asyncio.fixture


@pytest.fixture(scope="session")
def helmr_control_plane() -> Generator[LocalControlPlane]:
    """Share one local control plane, with the example tasks, among all tests of this process."""
    from helmr_provider.local import LocalControlPlane

    with LocalControlPlane() as server:
        yield server


@pytest.fixture
def helmr_server(helmr_control_plane: LocalControlPlane, request: pytest.FixtureRequest) -> Generator[LocalEnvironment]:
    """Give a test an environment of its own, with its own keys, journal, faults and tasks.

    A test that passes although a fault which it planted never fired fails nevertheless. What still runs at the test's
    end is cancelled.
    """
    environment = helmr_control_plane.environment(f"test-{uuid4().hex}")
    request.node.stash[_ENVIRONMENT] = environment
    yield environment
    environment.end()


@pytest.fixture
def helmr_client(helmr_server: LocalEnvironment) -> Generator[HelmrClient]:
    """Give a test a client of its environment."""
    from helmr_provider.client import HelmrClient

    with HelmrClient(url=helmr_server.url, api_key=helmr_server.api_key) as client:
        yield client


@_async_fixture
async def helmr_async_client(helmr_server: LocalEnvironment) -> AsyncGenerator[AsyncHelmrClient]:
    """Give a test an asynchronous client of its environment."""
    from helmr_provider.client import AsyncHelmrClient

    async with AsyncHelmrClient(url=helmr_server.url, api_key=helmr_server.api_key) as client:
        yield client


@pytest.fixture
def helmr_airflow_connection(helmr_server: LocalEnvironment, monkeypatch: pytest.MonkeyPatch) -> str:
    """Define Airflow's connection `helmr_default`, in this process and those it starts, and return its id."""
    connection = {"conn_type": "helmr", "host": helmr_server.url, "password": helmr_server.api_key}
    monkeypatch.setenv("AIRFLOW_CONN_HELMR_DEFAULT", json.dumps(connection))
    return "helmr_default"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that passed although a fault that it planted never fired."""
    result = yield
    environment = item.stash.get(_ENVIRONMENT, None)
    pending = [] if environment is None else environment.pending_faults
    if pending:
        named = ", ".join(f"{planted['fault']['kind']} at {planted['operation']}" for planted in pending)
        pytest.fail(f"planted faults never fired: {named}", pytrace=False)
    return result

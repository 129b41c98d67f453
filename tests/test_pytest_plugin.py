"""The fixtures as another project's tests use them, in a pytest of their own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

_HEAD = """
import pytest
from helmr_provider.local import faults
"""


@pytest.fixture
def others(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose tests have nothing but what the installed package brings."""
    pytester.makeini("[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def _run(others: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    others.makepyfile(_HEAD + code)
    return others.runpytest_subprocess("-q", *options, timeout=60)


def test_a_scripted_task_runs_for_both_clients(others: pytest.Pytester) -> None:
    _run(
        others,
        """
def test_blocking(helmr_server, helmr_client):
    @helmr_server.task("double")
    async def double(ctx, payload):
        return payload * 2

    assert helmr_client.runs.wait(helmr_client.sessions.start("double", 21).run).output == 42

@pytest.mark.asyncio
async def test_asynchronous(helmr_server, helmr_async_client):
    @helmr_server.task("double")
    async def double(ctx, payload):
        return payload * 3

    started = await helmr_async_client.sessions.start("double", 21)
    assert (await helmr_async_client.runs.wait(started.run)).output == 63

def test_what_a_test_deployed_is_gone_with_it(helmr_client):
    assert "double" not in [task.id for task in helmr_client.tasks.list()]
""",
    ).assert_outcomes(passed=3)


def test_each_test_sees_only_what_it_did_itself(others: pytest.Pytester) -> None:
    _run(
        others,
        """
@pytest.mark.parametrize("number", [1, 2])
def test_one_of_two(number, helmr_server, helmr_client):
    assert helmr_server.journal == []
    assert helmr_client.runs.count().queued == 0
    started = helmr_client.sessions.start("work", {"seconds": 600, "waiting": True}, external_id="always the same")
    assert not started.is_cached
    assert [entry.operation for entry in helmr_server.journal] == ["countRuns", "startSession"]

def test_keys_of_two_environments_open_different_things(helmr_control_plane, helmr_server, helmr_client):
    from helmr_provider.client import HelmrClient, HelmrError
    started = helmr_client.sessions.start("echo")
    other = helmr_control_plane.environment("another")
    other.fail_next("getRun", 400)
    with HelmrClient(url=other.url, api_key=other.api_key) as stranger:
        helmr_client.runs.retrieve(started.run.id)
        with pytest.raises(HelmrError):
            stranger.runs.retrieve(started.run.id)
    assert other.pending_faults == []
    assert [(entry.operation, entry.status) for entry in other.journal] == [("getRun", 400)]
    assert [entry.operation for entry in helmr_server.journal] == ["startSession", "getRun"]

def test_a_key_may_have_fewer_scopes(helmr_server):
    from helmr_provider.client import HelmrClient
    with HelmrClient(url=helmr_server.url, api_key=helmr_server.create_key(["runs:read"])) as reader:
        assert reader.runs.list() == []
        with pytest.raises(Exception, match="permission"):
            reader.sessions.start("echo")
""",
    ).assert_outcomes(passed=4)


def test_a_test_fails_if_its_planted_fault_never_fired_and_the_next_one_is_not_blamed(others: pytest.Pytester) -> None:
    result = _run(
        others,
        """
def test_forgetful(helmr_server):
    helmr_server.fail_next("getRun", faults.reset())

def test_next(helmr_server):
    assert helmr_server.pending_faults == []

def test_thorough(helmr_server, helmr_client):
    helmr_server.fail_next("listRuns", 503)
    assert helmr_client.runs.list() == []
    assert [entry.status for entry in helmr_server.journal] == [503, 200]

def test_failing_for_its_own_reason(helmr_server):
    helmr_server.fail_next("getRun", 500)
    raise ValueError("its own reason")
""",
    )
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*planted faults never fired: reset at getRun*", "*ValueError: its own reason*"])


def test_the_connection_needs_no_airflow(others: pytest.Pytester) -> None:
    others.makeconftest(
        """
import sys

class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ImportError("there is no Airflow here")

sys.meta_path.insert(0, NoAirflow())
"""
    )
    _run(
        others,
        """
def test_connection(helmr_airflow_connection, helmr_server, helmr_client):
    import json, os
    assert helmr_airflow_connection == "helmr_default"
    connection = json.loads(os.environ["AIRFLOW_CONN_HELMR_DEFAULT"])
    assert connection == {"conn_type": "helmr", "host": helmr_server.url, "password": helmr_server.api_key}
    with pytest.raises(ImportError):
        import airflow
    assert helmr_client.runs.list() == []

def test_after():
    import os
    assert "AIRFLOW_CONN_HELMR_DEFAULT" not in os.environ
""",
    ).assert_outcomes(passed=2)


def test_airflow_finds_the_connection(helmr_airflow_connection: str) -> None:
    from helmr_provider.hooks.helmr import HelmrHook

    with HelmrHook(helmr_airflow_connection).client as client:
        assert client.runs.list() == []


def test_nothing_heavy_is_imported_before_a_test_asks_for_a_fixture(others: pytest.Pytester) -> None:
    others.makepyfile(
        """
def test_idle():
    import sys
    assert "helmr_provider.pytest_plugin" in sys.modules
    assert not {"airflow", "httpx", "pydantic", "starlette", "uvicorn", "helmr_provider.local"} & set(sys.modules)
"""
    )
    others.runpytest_subprocess("-q", timeout=60).assert_outcomes(passed=1)

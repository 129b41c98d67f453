"""Tasks that one revision has deferred are resumed by another one, on the same database of a real Airflow.

``HELMR_PREVIOUS`` names a folder with the package of the other revision (`make test-upgrade`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.stack import COMPONENTS, ROOT, Stack
from helmr_provider.client import HelmrClient
from tests.airflow.conftest import SETTINGS, Scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.airflow.conftest import Scenario

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(600)]

PREVIOUS = os.environ.get("HELMR_PREVIOUS", "")
DAGS = ("scenarios.py", "workspaces.py", "approvals.py")
SOURCE_DAG = '''"""Which package this Airflow uses."""

from airflow.sdk import dag, task

import helmr_provider


@dag(schedule=None)
def source() -> None:
    @task
    def work() -> str:
        return helmr_provider.__file__

    work()


source()
'''


@pytest.fixture
def previous() -> Path:
    if not PREVIOUS:
        pytest.skip("HELMR_PREVIOUS names no package; use `make test-upgrade`")
    folder = Path(PREVIOUS).resolve()
    assert (folder / "helmr_provider" / "__init__.py").is_file()
    return folder


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    dags = tmp_path / "dags"
    dags.mkdir()
    for name in DAGS:
        shutil.copy(ROOT / "tests/airflow/dags" / name, dags)
    (dags / "source.py").write_text(SOURCE_DAG)
    running = Stack(tmp_path / "stack", dags=dags, tasks=ROOT / "tests/airflow/local_tasks.py", settings=SETTINGS)
    try:
        running.prepare()
        # Its revision is always this one.
        running.control_plane.start()
        yield running
    finally:
        running.stop()


def use(stack: Stack, package: Path | None) -> None:
    """Let all programs of Airflow that start from now on import this package; ``None`` for the installed one."""
    stack.environment.pop("PYTHONPATH", None)
    if package is not None:
        stack.environment["PYTHONPATH"] = str(package)


def restart(stack: Stack) -> None:
    for name in reversed(COMPONENTS):
        stack.programs[name].stop(seconds=60)
    for name in COMPONENTS:
        stack.programs[name].start()
    stack.wait_until_healthy()


def gate(scenario: Scenario) -> Path:
    return Path(tempfile.gettempdir(), scenario.token_id)


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_a_deferred_task_is_resumed_by_the_other_revision(stack: Stack, previous: Path, direction: str) -> None:
    first, second = (previous, None) if direction == "upgrade" else (None, previous)
    use(stack, first)
    stack.start_airflow()
    stack.wait_until_healthy()
    with HelmrClient(url=stack.control_plane.url, api_key=stack.control_plane.api_key) as client:
        scenarios = Scenarios(stack, client)

        def package() -> str:
            scenario = scenarios.begin("source")
            scenario.succeeds()
            return str(scenario.xcom())

        package_before = package()
        session, sensor, command, approval = waits = [
            scenarios.begin(dag_id) for dag_id in ("gated_session", "gated_sensor", "workspace_exec", "asks")
        ]
        try:
            for scenario in waits:
                scenario.wait_until_settled()
            use(stack, second)
            restart(stack)
            assert (package_before == str(previous / "helmr_provider/__init__.py")) is (direction == "upgrade")
            assert (package() == package_before) is False
            for scenario in (session, sensor):
                scenario.open_gate()
            gate(command).touch()
            client.tokens.complete(str(approval.xcom("token_id")), "Approve")
            for scenario in waits:
                scenario.succeeds(seconds=180)
        finally:
            gate(command).unlink(missing_ok=True)
        assert [run.status for run in session.helmr_runs()] == ["succeeded"]
        assert session.xcom(task_id="use") == "used go"
        assert sensor.xcom() == "go"
        execs = client.workspaces.open(str(command.xcom("workspace_id", "create"))).execs.list()
        assert [each.state for each in execs] == ["exited"]
        assert command.xcom() == "BEGUN\nENDED\n"
        assert approval.xcom()["chosen"] == ["Approve"]
        questions = [
            token
            for token in client.tokens.iter()
            if token.metadata.get("airflow", {}).get("run_id") == approval.run_id
        ]
        assert [token.status for token in questions] == ["completed"]
        if direction == "upgrade":
            # No retry had to help.
            assert [scenario.task()["try_number"] for scenario in waits] == [1, 1, 1, 1]

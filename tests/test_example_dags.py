"""Every example DAG imports anywhere, and runs against the local control plane as it is."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.client import HelmrClient

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "example_dags").glob("example_*.py"))


def dags_of(path: Path) -> list[DAG]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As Airflow does; dataclasses expect their module there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    made = [value for value in vars(module).values() if isinstance(value, DAG)]
    # A decorated function does not keep what it made; calling it once more makes the same.
    return made or [vars(module)[path.stem]()]


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_dag_named_like_its_file(path: Path) -> None:
    assert [dag.dag_id for dag in dags_of(path)] == [path.stem]


@pytest.fixture
def somebody(client: HelmrClient) -> Iterator[None]:
    """Answer whatever is asked, in Helmr: ``dag.test()`` does nothing else while a task waits."""
    home = threading.Event()

    def answer() -> None:
        while not home.wait(0.1):
            for token in client.tokens.iter(status="pending"):
                if "approval" in token.metadata:
                    client.tokens.complete(token, {"approved": True, "by": "somebody"})

    person = threading.Thread(target=answer)
    person.start()
    yield
    home.set()
    person.join()


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_against_the_local_control_plane(
    path: Path, run_dag: Callable[..., Any], helmr_connection: str
) -> None:
    (dag,) = dags_of(path)
    run = run_dag(dag, run_conf={"thinking_seconds": 0})
    assert str(run.state) == "success"

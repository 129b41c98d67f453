"""Each fault of the kill matrix on a real Airflow: all results arrive, and nothing is started twice or left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reliability.kill_matrix import LOSES_COMMANDS, MOMENTS, TESTED, tried_moments
from tests.reliability.scene import ANSWER, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dev.postgres_stack import PostgresStack
    from helmr_provider.client import HelmrClient
    from tests.reliability.kill_matrix import Row

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def scene(stack: PostgresStack, client: HelmrClient, tmp_path: Path) -> Iterator[Scene]:
    """A DAG run whose tasks are all held at their moments."""
    begun = Scene(stack, client, tmp_path)
    try:
        begun.hold()
        yield begun
    finally:
        begun.close()


@pytest.mark.parametrize("row", TESTED, ids=" - ".join)
def test_every_result_arrives_once(scene: Scene, row: Row) -> None:
    assert tried_moments(row)
    TESTED[row](scene)
    scene.finish()
    results, started = scene.results(), scene.started()
    for moment in MOMENTS:
        expected = {"session": {"opened_with": "go"}, "command": "done\n", "approval": [ANSWER]}
        assert {kind: results[f"{kind}.{moment}"] for kind in expected} == expected
        if row in LOSES_COMMANDS and "lost" in started[f"command.{moment}"]:
            started[f"command.{moment}"].remove("lost")
    ended = {"session": ["succeeded"], "command": ["exited"], "approval": ["completed"]}
    assert started == {f"{kind}.{moment}": ended[kind] for kind in ended for moment in MOMENTS}
    # Nothing is left for the search for orphans.
    assert scene.left_over() == []

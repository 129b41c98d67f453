"""The first trigger of a triggerer finds nothing imported or fetched, and still must not block the event loop."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockingError

from helmr_provider.triggers.base import HelmrTrigger

if TYPE_CHECKING:
    from helmr_provider.client import AsyncHelmrClient
    from helmr_provider.local import LocalControlPlane

STORED = sorted((Path(__file__).parent / "stored").glob("*.json"))

# Ids that nobody knows are enough: the connection is fetched, its secrets masked, the client imported and used.
FIRST_USE = """
import asyncio, json, sys
import airflow.jobs.triggerer_job_runner  # so much is imported in every triggerer
from blockbuster import blockbuster_ctx
from airflow.providers.common.compat.module_loading import import_string

path, kwargs = json.loads(sys.argv[1])
trigger = import_string(path)(**kwargs)
assert "helmr_provider.client._http" not in sys.modules

async def events():
    return [event.payload async for event in trigger.run()]

with blockbuster_ctx(scanned_modules=["helmr_provider"]):
    [event] = asyncio.run(events())
assert "helmr_provider.client._http" in sys.modules
print(json.dumps(event))
"""


@pytest.mark.usefixtures("helmr_connection")
@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_first_use_does_not_block(path: Path, control_plane: LocalControlPlane) -> None:
    class_path, kwargs = json.loads(path.read_text())["smallest"]
    if "deadline" not in kwargs:
        kwargs["deadline"] = time.time() + 60
    command = [sys.executable, "-c", FIRST_USE, json.dumps([class_path, kwargs])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "error"
    assert control_plane.journal


class Blocking(HelmrTrigger):
    """Does what no trigger may."""

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        time.sleep(0)  # noqa: ASYNC251 - the mistake that has to be found


@pytest.mark.usefixtures("helmr_connection")
def test_a_trigger_that_blocks_is_found() -> None:
    async def run() -> None:
        async for _ in Blocking(helmr_conn_id="helmr_default").run():
            pass

    with pytest.raises(BlockingError):
        asyncio.run(run())

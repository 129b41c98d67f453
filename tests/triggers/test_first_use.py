"""The first trigger of a triggerer finds nothing imported or fetched, and still must not block the event loop."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import BlockingError

from helmr_provider.triggers.base import HelmrTrigger

if TYPE_CHECKING:
    from helmr_provider.client import AsyncHelmrClient
    from helmr_provider.local import LocalControlPlane

# Unknown ids are enough: the connection is fetched, its secrets masked, the client imported and used.
# Each trigger is the first one of a process of its own, forked when as much is imported as in every triggerer.
FIRST_USES = """
import asyncio, json, os, sys, traceback
import airflow.jobs.triggerer_job_runner
from blockbuster import blockbuster_ctx
from airflow.providers.common.compat.module_loading import import_string

async def only_event(trigger):
    [event] = [event.payload async for event in trigger.run()]
    return event

def use(path, kwargs):
    trigger = import_string(path)(**kwargs)
    assert "helmr_provider.client._http" not in sys.modules
    with blockbuster_ctx(scanned_modules=["helmr_provider"]) as blockbuster:
        # Airflow writes log lines to the standard output here; in a triggerer they go elsewhere.
        blockbuster.functions["io.BufferedWriter.write"].can_block_in("structlog/_output.py", {"msg"})
        event = asyncio.run(only_event(trigger))
    assert "helmr_provider.client._http" in sys.modules
    assert event["status"] == "error", event

failed = []
for path, kwargs in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        try:
            use(path, kwargs)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(path)
print(json.dumps(failed))
"""


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("helmr_connection")
def test_the_first_use_of_any_trigger_does_not_block(control_plane: LocalControlPlane) -> None:
    stored = [json.loads(path.read_text()) for path in (Path(__file__).parent / "stored").glob("*.json")]
    # Event triggers never end, and have no such form.
    forms = [forms["smallest"] for forms in stored if "smallest" in forms]
    uses = [(path, {"deadline": time.time() + 3600, **kwargs}) for path, kwargs in forms]
    command = [sys.executable, "-c", FIRST_USES, json.dumps(uses)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=890, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stderr
    assert len(control_plane.journal) >= len(uses) > 1


class Blocking(HelmrTrigger):
    """Does what no trigger may."""

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        time.sleep(0)  # noqa: ASYNC251 - the mistake that has to be found


@pytest.mark.usefixtures("helmr_connection")
def test_a_trigger_that_blocks_is_found() -> None:
    async def run() -> dict[str, Any]:
        events = [event.payload async for event in Blocking(helmr_conn_id="helmr_default").run()]
        return dict(events[0])

    assert asyncio.run(run())["error"] == BlockingError.__name__

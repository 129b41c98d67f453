"""Triggers of one kind in a process of their own, as a triggerer runs them, with what they cost and when they fired.

Reads two lines from stdin: what is needed to warm up, and, once it has answered `ready`, the plan. Times are seconds
since the epoch. Several event loops are several triggerers in one process; they share nothing.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import random
import resource
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONN_ID = "bench"


class StreamTrigger(BaseTrigger):
    """The obvious trigger: follow the events of the run on a stream of its own until they end."""

    def __init__(self, run_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's class is not annotated
        self.run_id = run_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "benchmarks.trigger_process.StreamTrigger", {"run_id": self.run_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from helmr_provider.triggers._shared_client import shared_client

        async with shared_client(CONN_ID) as client:
            while not (await client.runs.retrieve(self.run_id)).is_terminal:
                async for _ in client.runs.events.follow_records(self.run_id):
                    pass
        yield TriggerEvent({"status": "ended"})  # type: ignore[no-untyped-call]  # Airflow's class is not annotated


def build(kind: str, run: str) -> Any:
    """Build a trigger with the poll interval that its operator or the trigger itself has by default."""
    if kind == "helmr":
        from helmr_provider.triggers.run import HelmrRunTrigger

        return HelmrRunTrigger(helmr_conn_id=CONN_ID, run_id=run)
    if kind == "stream":
        return StreamTrigger(run)
    if kind == "dbt":
        dbt = importlib.import_module("airflow.providers.dbt.cloud.triggers.dbt")
        end_time = time.time() + 86400
        # The interval that the operator has by default.
        return dbt.DbtCloudRunJobTrigger(CONN_ID, int(run), end_time=end_time, poll_interval=60, account_id=1)
    databricks = importlib.import_module("airflow.providers.databricks.triggers.databricks")
    return databricks.DatabricksExecutionTrigger(int(run), CONN_ID)


def succeeded(payload: dict[str, Any]) -> bool:
    if "run_state" in payload:
        return bool(json.loads(payload["run_state"])["result_state"] == "SUCCESS")
    return payload["status"] in {"ended", "success"}


async def fire(kind: str, run: str) -> float:
    """Run one trigger until its event; return when it came."""
    async for event in build(kind, run).run():
        if not succeeded(event.payload):
            raise RuntimeError(f"{kind} trigger of {run}: {event.payload}")
        return time.time()
    raise RuntimeError(f"the {kind} trigger of {run} ended without an event")


async def wait_for_all(kind: str, runs: list[str], plan: dict[str, Any], fired: dict[str, float]) -> None:
    """Start the triggers spread over the ramp; those that have not fired in time are cancelled."""

    async def one(run: str) -> None:
        await asyncio.sleep(max(0.0, plan["begin"] - time.time()) + plan["ramp"] * random.random())
        fired[run] = await fire(kind, run)

    waits = [asyncio.create_task(one(run)) for run in runs]
    done, late = await asyncio.wait(waits, timeout=plan["give_up_at"] - time.time())
    for each in late:
        each.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for each in done:
        each.result()


def main() -> None:
    # Loggers write to stdout, which carries the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # That plain http is fit for this machine only is known.
    logging.getLogger("helmr_provider").setLevel(logging.ERROR)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    setup = json.loads(sys.stdin.readline())
    kind = setup["kind"]
    asyncio.run(fire(kind, setup["ended_run"]))
    gc.collect()
    process = psutil.Process()
    memory = process.memory_info().rss
    print("ready", file=answers, flush=True)
    plan = json.loads(sys.stdin.readline())
    fired: dict[str, float] = {}

    def loop(runs: list[str]) -> None:
        asyncio.run(wait_for_all(kind, runs, plan, fired))

    loops = [threading.Thread(target=loop, args=(runs,)) for runs in plan["loops"]]
    for each in loops:
        each.start()
    time.sleep(max(0.0, plan["idle_from"] - time.time()))
    cpu = time.process_time()
    time.sleep(max(0.0, plan["idle_until"] - time.time()))
    measured = {"cpu": time.process_time() - cpu, "memory": process.memory_info().rss - memory}
    for each in loops:
        each.join()
    json.dump(measured | {"fired": fired}, answers)
    answers.flush()
    # Threads of libraries must not keep a process that is measured by its end.
    os._exit(0)


if __name__ == "__main__":
    main()

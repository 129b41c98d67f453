"""The client in a process of its own, so that its memory can be measured: one line of JSON for each scenario.

Run as ``python -m tests.client.hostile.victim VARIANT``; standard input has ``[url, limit, stream, waits_for]`` lines.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from helmr_provider.client import AsyncHelmrClient, HelmrClient, HelmrError
from tests.client.hostile.scenarios import API_KEY, SECRET


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


LOGGED = Lines()
OPTIONS: dict[str, Any] = {"api_key": API_KEY}


def memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def shown(error: BaseException) -> str:
    """Return what an exception says, with everything behind it."""
    seen: list[str] = []
    chain: BaseException | None = error
    while chain is not None:
        seen += [str(chain), repr(chain), repr(vars(chain))]
        chain = chain.__cause__ or chain.__context__
    return "\n".join(seen)


def blocking(url: str, limit: float, *, stream: bool) -> None:
    with HelmrClient(url=url, timeout=limit, **OPTIONS) as client:
        if not stream:
            client.with_options(max_retries=0).runs.retrieve("r")
            return
        for _ in client._single_shot(silence=limit).runs.events._connection("r", None):
            pass


async def asynchronously(url: str, limit: float, *, stream: bool) -> None:
    async with AsyncHelmrClient(url=url, timeout=limit, **OPTIONS) as client:
        if not stream:
            await client.with_options(max_retries=0).runs.retrieve("r")
            return
        async for _ in client._single_shot(silence=limit).runs.events._connection("r", None):
            pass


TRIGGERS: dict[str, tuple[str, dict[str, Any]]] = {
    "run": ("run.HelmrRunTrigger", {"run_id": "r"}),
    "token": ("token.HelmrTokenTrigger", {"token_id": "t"}),
    "exec": ("workspace.HelmrExecTrigger", {"workspace_id": "w", "exec_id": "e"}),
    "session": ("session.HelmrSessionTrigger", {"session_id": "s", "statuses": ["closed"]}),
    "stream": ("session.HelmrSessionOutputTrigger", {"session_id": "s", "stream": "progress"}),
}


async def triggered(url: str, limit: float, waits_for: str) -> None:
    """Wait as a deferred task does. The trigger must end in an event at its deadline, whatever the server answers."""
    path, what = TRIGGERS[waits_for]
    module, name = path.split(".")
    trigger_class = getattr(importlib.import_module(f"helmr_provider.triggers.{module}"), name)
    connection = {"conn_type": "helmr", "host": url, "password": API_KEY}
    os.environ["AIRFLOW_CONN_HOSTILE"] = json.dumps(connection)
    trigger = trigger_class(helmr_conn_id="hostile", deadline=time.time() + limit, **what)
    async for event in trigger.run():
        raise HelmrError(json.dumps(event.payload))


def attack(variant: str, url: str, limit: float, *, stream: bool, waits_for: str) -> dict[str, Any]:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    base = memory("VmRSS")
    LOGGED.text = ""
    result: dict[str, Any] = {"error": None, "text": "", "secret": False}
    try:
        if variant == "blocking":
            blocking(url, limit, stream=stream)
        elif variant == "trigger":
            asyncio.run(triggered(url, limit, waits_for))
        else:
            asyncio.run(asynchronously(url, limit, stream=stream))
    except HelmrError as error:
        result = {"error": type(error).__name__, "text": str(error), "secret": SECRET in shown(error)}
    except BaseException as error:  # noqa: BLE001 - what must not happen is reported
        result = {"error": f"raw {type(error).__name__}", "text": str(error), "secret": False}
    result["secret"] |= SECRET in LOGGED.text
    result["memory"] = memory("VmHWM") - base
    return result


def main() -> None:
    # What libraries print must not mix with the results.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.getLogger().addHandler(LOGGED)
    logging.getLogger().setLevel(logging.DEBUG)
    for line in sys.stdin:
        url, limit, stream, waits_for = json.loads(line)
        result = attack(sys.argv[1], url, limit, stream=stream, waits_for=waits_for)
        print(json.dumps(result), file=results, flush=True)


if __name__ == "__main__":
    main()

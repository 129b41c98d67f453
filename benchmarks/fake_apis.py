"""The one endpoint of dbt Cloud or Databricks that a trigger polls: a run's state, which changes at a planned time.

Reads `{"api": "dbt" | "databricks", "certificate": path or null}` from the first line of stdin and prints its port.
The next line maps runs to the times of their ends, in seconds since the epoch; a run without one has ended. At the end
of stdin it prints when it served requests, and stops.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from typing import Any


def dbt(target: str, ends: dict[str, float]) -> dict[str, Any]:
    run = target.rstrip("/").rpartition("/")[2]
    over = time.time() >= ends.get(run, 0)
    return {"status": {"code": 200}, "data": {"id": int(run), "status": 10 if over else 3}}


def databricks(body: str, ends: dict[str, float]) -> dict[str, Any]:
    run = str(json.loads(body)["run_id"])
    over = time.time() >= ends.get(run, 0)
    state = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS"} if over else {"life_cycle_state": "RUNNING"}
    return {"run_id": int(run), "state": {"state_message": "", **state}, "tasks": []}


class Fake:
    """Answer with the state that a run has now."""

    def __init__(self, api: str) -> None:
        self._api = api
        self.ends: dict[str, float] = {}
        self.served: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = head.split("\r\n")
                lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
                body = (await reader.readexactly(int(lengths[0]) if lengths else 0)).decode()
                self.served.append(time.time())
                state = dbt(lines[0].split()[1], self.ends) if self._api == "dbt" else databricks(body, self.ends)
                content = json.dumps(state).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(content), content)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


async def main() -> None:
    setup = json.loads(sys.stdin.readline())
    context = None
    if setup["certificate"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(setup["certificate"])
    fake = Fake(setup["api"])
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        fake.ends = json.loads(line)
    json.dump(fake.served, sys.stdout)
    sys.stdout.flush()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())

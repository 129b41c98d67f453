"""A server that says the same bytes again, as fast as a socket takes them: what is measured is the client.

Reads a plan from stdin, `{"answers": {path: JSON text}, "run": id, "events": number}`, and prints its port. The run's
event stream has that many events, and the run is over once the stream was read.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

PIECE = 16 * 1024


def event_stream(template: dict[str, Any], last: dict[str, Any], count: int) -> bytes:
    frames = []
    for number in range(1, count + 1):
        record = (last if number == count else template) | {"id": str(number)}
        frames.append(f"event: run_event\nid: {number}\ndata: {json.dumps(record, separators=(',', ':'))}\n\n")
    return "".join(frames).encode()


class Canned:
    """Answer what the plan says."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._answers: dict[str, str] = plan["answers"]
        self._run = f"/api/runs/{plan['run']['id']}"
        self._snapshot: dict[str, Any] = plan["run"]
        self._stream = event_stream(plan["event"], plan["last_event"], plan["events"])
        self._over = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                target = request.split(b" ", 2)[1].decode()
                if "follow=1" in target:
                    await self._say_stream(writer)
                    continue
                body = self._answer(target).encode()
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, target: str) -> str:
        path = target.partition("?")[0]
        if path == self._run:
            over, self._over = self._over, False
            return json.dumps(self._snapshot | {"status": "succeeded" if over else "running"})
        if path == self._run + "/events":
            return '{"events": [], "next_cursor": ""}'
        return self._answers[path]

    async def _say_stream(self, writer: asyncio.StreamWriter) -> None:
        self._over = True
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for start in range(0, len(self._stream), PIECE):
            piece = self._stream[start : start + PIECE]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")


async def main() -> None:
    server = await asyncio.start_server(Canned(json.load(sys.stdin)).serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

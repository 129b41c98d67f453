"""What one call and one event cost, beside bare httpx and other parsers of server-sent events. Takes about a minute.

The server is a process of its own that answers every request with the same bytes. The parsers of ``httpx-sse`` and
``openai`` are measured where they are installed, as ``make bench-calls`` does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import platform
import statistics
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import httpx  # noqa: TID251 - what the client is compared with

from dev.processes import child, leave_nothing_running
from helmr_provider.client import AsyncHelmrClient, HelmrClient
from helmr_provider.client._wire.event_parsing import event_from_record, record_from_frame
from helmr_provider.client._wire.sse import EventParser

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

RUN = {
    "id": "r", "task_id": "t", "session_id": "s", "project_id": "p", "environment_id": "e", "deployment_id": "d",
    "deployment_task_id": "dt", "status": "succeeded", "output": {"n": 1}, "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z", "metadata": {},
}  # fmt: skip
BODY = json.dumps(RUN).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
EVENTS = 20_000
STREAM = b"".join(
    b"id: %d\nevent: run_event\ndata: %s\n\n"
    % (
        number,
        json.dumps(
            {
                "id": str(number),
                "kind": "log.stdout",
                "message": "log.stdout",
                "at": "2026-01-01T00:00:00.5Z",
                "run_id": "r",
                "attributes": {"bytes": 12, "observed_seq": number},
            }
        ).encode(),
    )
    for number in range(1, EVENTS + 1)
)
CHUNK = 16 * 1024
GOAL_CALL, GOAL_PARSE, GOAL_MODEL = 25.0, 2.0, 10.0


class Answer(asyncio.Protocol):
    """Answer every request that is complete; requests have no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self._transport.write(ANSWER)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with asyncio.timeout(600):
        await server.serve_forever()


@contextlib.contextmanager
def server() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.calls", "--serve"]
    with child(command) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"


def best(rounds: int, count: int, *measured: Callable[[int], float]) -> list[float]:
    """Microseconds for one of each, the median of interleaved rounds, so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in measured]
    for _ in range(rounds):
        for found, run in zip(times, measured, strict=True):
            found.append(run(count) / count * 1e6)
    return [statistics.median(found) for found in times]


def timed(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Callable[[int], float]:
    def run(count: int) -> float:
        began = clock()
        for _ in range(count):
            call()
        return clock() - began

    return run


def timed_async(runner: asyncio.Runner, call: Callable[[], Awaitable[object]]) -> Callable[[int], float]:
    async def repeat(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            await call()
        return time.perf_counter() - began

    return lambda count: runner.run(repeat(count))


def calls(url: str, rounds: int, count: int) -> list[tuple[str, float, float]]:
    path = f"{url}/api/runs/r"
    with httpx.Client(trust_env=False) as bare, HelmrClient(url=url, api_key="hlmr_sk_bench") as ours:
        sync = best(rounds, count, timed(lambda: bare.get(path).json()), timed(lambda: ours.runs.retrieve("r")))
    with asyncio.Runner() as runner:
        bare_async, ours_async = httpx.AsyncClient(trust_env=False), AsyncHelmrClient(url=url, api_key="hlmr_sk_bench")

        async def get() -> object:
            return (await bare_async.get(path)).json()

        asynchronous = best(
            rounds, count, timed_async(runner, get), timed_async(runner, lambda: ours_async.runs.retrieve("r"))
        )
        runner.run(bare_async.aclose())
        runner.run(ours_async.aclose())
    return [("blocking", *sync), ("asynchronous", *asynchronous)]  # type: ignore[list-item]


def pieces() -> Iterator[bytes]:
    for start in range(0, len(STREAM), CHUNK):
        yield STREAM[start : start + CHUNK]


def ours_parsed() -> int:
    parser = EventParser()
    return sum(1 for piece in pieces() for _ in parser.feed(piece))


def ours_typed() -> int:
    parser = EventParser()
    return sum(
        event_from_record(record_from_frame(frame)).cursor != "" for piece in pieces() for frame in parser.feed(piece)
    )


def peer_parsers() -> dict[str, Callable[[], int]]:
    found: dict[str, Callable[[], int]] = {}
    with contextlib.suppress(ImportError):
        httpx_sse: Any = importlib.import_module("httpx_sse")

        def with_httpx_sse() -> int:
            headers = {"content-type": "text/event-stream"}
            source = httpx_sse.EventSource(httpx.Response(200, headers=headers, content=pieces()))
            return sum(1 for _ in source.iter_sse())

        found["httpx-sse"] = with_httpx_sse
    with contextlib.suppress(ImportError):
        streaming: Any = importlib.import_module("openai._streaming")
        found["openai"] = lambda: sum(1 for _ in streaming.SSEDecoder().iter_bytes(pieces()))
    return found


def parsers(rounds: int) -> dict[str, float]:
    measured: dict[str, Callable[[], int]] = {
        "this client, parsed": ours_parsed,
        "this client, typed model": ours_typed,
        **peer_parsers(),
    }
    for name, parse in measured.items():
        assert parse() == EVENTS, name
    # Parsing waits for nothing, so that only the processor's time counts, however busy the machine is.
    times = best(rounds, 1, *(timed(parse, time.process_time) for parse in measured.values()))
    return {name: took / EVENTS for name, took in zip(measured, times, strict=True)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--calls", type=int, default=300, help="calls in a round")
    given = options.parse_args()
    if given.serve:
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            asyncio.run(serve())
        return
    print(f"Python {platform.python_version()}, httpx {version('httpx')}, httpcore {version('httpcore')}\n")
    with leave_nothing_running(), server() as url:
        for kind, bare, ours in calls(url, given.rounds, given.calls):
            more = (ours / bare - 1) * 100
            verdict = "met" if more <= GOAL_CALL else "missed"
            goal = f"goal +{GOAL_CALL:.0f} %: {verdict}"
            print(f"{kind:>13} call: httpx {bare:6.0f} µs, this client {ours:6.0f} µs, {more:+.0f} % ({goal})")
    goals = {"this client, parsed": GOAL_PARSE, "this client, typed model": GOAL_MODEL}
    for name, took in parsers(given.rounds).items():
        goal = f" (goal {goals[name]:g} µs: {'met' if took <= goals[name] else 'missed'})" if name in goals else ""
        print(f"{name:>26}: {took:6.2f} µs an event{goal}")


if __name__ == "__main__":
    main()

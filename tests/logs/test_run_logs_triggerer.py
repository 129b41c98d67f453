"""Output that a trigger shows while it waits: within the stream budget, without blocking, at no cost to the wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx

from helmr_provider._logs.run_logs import RunLogLines
from helmr_provider._logs.run_logs_triggerer import forward_run_logs
from helmr_provider.client import AsyncHelmrClient
from helmr_provider.local import LocalControlPlane, faults, task
from tests.support.journal import until_requested_async
from tests.support.polling import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import TaskContext


@task("talk", inputs=("go",))
async def talk(context: TaskContext, payload: Any) -> None:
    """Write lines, wait for input, write more."""
    context.log("before the gate")
    await context.wait_for_input("go")
    context.log("after the gate")


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane(tasks=[talk]) as server:
        yield server


@pytest.fixture
async def connected(control_plane: LocalControlPlane) -> AsyncIterator[Callable[[int], AsyncHelmrClient]]:
    clients: list[AsyncHelmrClient] = []

    def connect(streams: int) -> AsyncHelmrClient:
        clients.append(
            AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key, max_streams=streams),
        )
        return clients[-1]

    yield connect
    for client in clients:
        await client.aclose()


class Log:
    """Lets a test wait for a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, *args: Any) -> None:
        self.lines.append(text % args)

    warning = info

    async def wait_for(self, text: str) -> None:
        await until_async(lambda: any(text in line for line in self.lines))


@pytest.fixture
async def talking(client: HelmrClient) -> tuple[str, str]:
    """Session and run of a task that has begun to talk."""
    started = await asyncio.to_thread(client.sessions.start, "talk")
    return started.session.id, started.run.id


def open_gate(client: HelmrClient, session_id: str) -> Any:
    return asyncio.to_thread(lambda: client.sessions.open(session_id).input("go").send(True))


async def test_a_follower_takes_a_slot_that_is_free_and_gives_it_back(
    connected: Any, client: HelmrClient, talking: tuple[str, str]
) -> None:
    session_id, run_id = talking
    waits, log = connected(2), Log()
    async with forward_run_logs(waits, run_id, RunLogLines(log), log):
        await log.wait_for("before the gate")
        assert waits._stream_slots.for_waits() == 1
        await open_gate(client, session_id)
        await waits._waiter.run(run_id, timeout=60)
    assert waits._stream_slots.for_waits() == 2
    assert log.lines == ["[stdout] before the gate", "[stdout] after the gate"]


async def test_without_a_free_slot_it_polls_and_holds_nothing(
    control_plane: LocalControlPlane, connected: Any, client: HelmrClient, talking: tuple[str, str]
) -> None:
    session_id, run_id = talking
    waits, log = connected(1), Log()
    with waits._stream_slots.explicit():
        async with forward_run_logs(waits, run_id, RunLogLines(log), log):
            await log.wait_for("before the gate")
            # A second read shows that the first one is over although the run continues.
            await until_requested_async(control_plane, "getRunLogs", times=2)
            assert waits._stream_slots.for_waits() == 0
            await open_gate(client, session_id)
            await log.wait_for("after the gate")
            await waits._waiter.run(run_id, timeout=60)
    assert log.lines == ["[stdout] before the gate", "[stdout] after the gate"]


async def test_many_without_a_slot_poll_one_after_the_other(
    control_plane: LocalControlPlane, connected: Any, client: HelmrClient
) -> None:
    started = await asyncio.to_thread(lambda: [client.sessions.start("talk") for _ in range(5)])
    waits, logs = connected(0), [Log() for _ in range(5)]
    open_now, most = 0, 0
    stream = type(waits.runs.logs).stream

    async def counting(self: Any, run: str, *, cursor: str | None = None) -> Any:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            async for chunk in stream(self, run, cursor=cursor):
                yield chunk
        finally:
            open_now -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(waits.runs.logs), "stream", counting)
        async with asyncio.TaskGroup() as group:

            async def show(run_id: str, session_id: str, log: Log) -> None:
                async with forward_run_logs(waits, run_id, RunLogLines(log), log):
                    await log.wait_for("before the gate")
                    await open_gate(client, session_id)
                    await waits._waiter.run(run_id, timeout=60)

            for start, log in zip(started, logs, strict=True):
                group.create_task(show(start.run.id, start.session.id, log))
    assert most == 1
    assert all(log.lines == ["[stdout] before the gate", "[stdout] after the gate"] for log in logs)


async def test_a_trigger_that_is_cancelled_gives_its_slot_back_and_keeps_half_lines(
    connected: Any, talking: tuple[str, str]
) -> None:
    waits, log, lines = connected(1), Log(), None

    async def watch() -> None:
        nonlocal lines
        lines = RunLogLines(log)
        async with forward_run_logs(waits, talking[1], lines, log):
            await waits._waiter.run(talking[1])

    watching = asyncio.create_task(watch())
    await log.wait_for("before the gate")
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert waits._stream_slots.for_waits() == 1
    assert lines is not None
    assert lines.cursor == "1"


async def test_it_continues_from_its_cursor_after_an_outage(
    control_plane: LocalControlPlane, connected: Any, client: HelmrClient, talking: tuple[str, str]
) -> None:
    session_id, run_id = talking
    waits, log = connected(1), Log()
    control_plane.fail_next("getRunLogs", faults.reset_stream(after=1))
    control_plane.fail_next("getRunLogs", faults.status(503))
    async with forward_run_logs(waits, run_id, RunLogLines(log), log):
        await log.wait_for("before the gate")
        await until_requested_async(control_plane, "getRunLogs", times=3)
        await open_gate(client, session_id)
        await waits._waiter.run(run_id, timeout=60)
    assert [line for line in log.lines if "gate" in line] == ["[stdout] before the gate", "[stdout] after the gate"]


async def test_a_refusal_is_logged_once_and_ends_the_reading(
    control_plane: LocalControlPlane, connected: Any, client: HelmrClient, talking: tuple[str, str]
) -> None:
    session_id, run_id = talking
    waits, log = connected(1), Log()
    control_plane.fail_next("getRunLogs", faults.status(403))
    async with forward_run_logs(waits, run_id, RunLogLines(log), log):
        await log.wait_for("is not shown")
        await open_gate(client, session_id)
        assert (await waits._waiter.run(run_id, timeout=60)).is_success
    assert len(log.lines) == 1
    assert [entry.status for entry in control_plane.journal if entry.operation == "getRunLogs"] == [403]


async def test_showing_output_blocks_no_other_wait(
    connected: Any, client: HelmrClient, talking: tuple[str, str]
) -> None:
    session_id, run_id = talking
    waits, log = connected(1), Log()
    # The client itself loads certificates when it is made, which the triggerer does in a thread.
    await waits.runs.retrieve(run_id)
    with blockbuster_ctx(scanned_modules=["helmr_provider"], excluded_modules=["helmr_provider.local"]):
        async with forward_run_logs(waits, run_id, RunLogLines(log), log):
            await log.wait_for("before the gate")
            await open_gate(client, session_id)
            await waits._waiter.run(run_id, timeout=60)
    assert log.lines[-1] == "[stdout] after the gate"

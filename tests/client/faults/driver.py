"""Run a fault schedule with the real client, and say what did not come out as it must."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from helmr_provider.client import (
    AsyncHelmrClient,
    HelmrApiError,
    HelmrClient,
    HelmrConnectionError,
    HelmrTimeoutError,
    WorkspaceStreamError,
    WorkspaceStreamTerminalError,
)
from helmr_provider.client._internals import waiter_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.client.faults.fault_schedule import Schedule, Watch
    from tests.client.faults.world import World

LATE_WAIT = 150.0
"""Seconds after the end of what is waited for, and of the last fault, within which a wait ends."""
LATE_SUBSCRIPTION = 260.0
"""The same for a subscription, which may have to find out twice that a stream is silent."""


def most_requests(callers: int, seconds: float) -> float:
    """Return how many requests so many callers send at most in so many seconds of a schedule."""
    return 40 + callers * (30 + 2 * seconds)


EXPIRED = "workspace_stream_cursor_expired"


@dataclass
class Outcome:
    """What came of a schedule.

    :param wrong: what is wrong, a line each.
    :param late: most seconds from an end, or the last fault, to the end of a wait and of a subscription.
    """

    schedule: Schedule
    wrong: list[str] = field(default_factory=list[str])
    late: dict[str, float] = field(default_factory=dict[str, float])
    requests: int = 0
    seconds: float = 0.0
    fired: list[str] = field(default_factory=list[str])
    over_sockets: bool = False

    def report(self) -> str:
        """Return what failed, how to replay it, and the schedule."""
        replay = f"replay: make test-faults SEED={self.schedule.seed}{' SOCKETS=1' if self.over_sockets else ''}"
        return "\n".join([*self.wrong, replay, str(self.schedule)])


@dataclass
class Seen:
    """What one caller was given, and when it ended, in the schedule's seconds."""

    watch: Watch
    result: list[Any] = field(default_factory=list[Any])
    error: BaseException | None = None
    ended: float | None = None


class Callers(Protocol):
    """Calls a client as the watches say."""

    def begin(self, world: World, seen: Seen) -> Awaitable[None]: ...
    async def close(self) -> None: ...


def _unreached(error: Exception) -> bool:
    """Whether a subscription may end like this before it has begun, so that its caller repeats it."""
    return isinstance(error, HelmrConnectionError) and not error.delivered


def _expired(error: Exception) -> bool:
    return isinstance(error, HelmrApiError | WorkspaceStreamError) and error.code == EXPIRED


class AsyncCallers:
    """Callers of one asynchronous client."""

    def __init__(self, world: World) -> None:
        schedule, server = world.schedule, world.server
        self.client = AsyncHelmrClient(
            url=server.url,
            api_key=server.api_key,
            max_streams=schedule.streams,
            timeout=world.call_timeout,
            connect_timeout=world.call_timeout,
        )

    async def begin(self, world: World, seen: Seen) -> None:
        client, watch = self.client, seen.watch
        match watch.kind:
            case "wait":
                seen.result.append(await client.runs.wait(world.runs[watch.target]))
            case "abandon":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2.0 * world.scale):
                        await client.runs.wait(world.runs[watch.target])
            case "wait_many":
                async for run in client.runs.wait_many(world.runs):
                    seen.result.append(run)
            case "token":
                seen.result.append(await waiter_of(client).token(world.tokens[watch.target]))
            case "exec":
                seen.result.append(await self._exec(world, watch).wait(timeout=86_400, poll_interval=1.0))
            case "events":
                await self._all(
                    seen, lambda cursor: client.runs.events.subscribe(world.runs[watch.target], cursor=cursor)
                )
            case "logs":
                await self._all(seen, lambda cursor: client.runs.logs.follow(world.runs[watch.target], cursor=cursor))
            case "stdout":
                stdout = self._exec(world, watch).stdout
                await self._all(seen, lambda cursor: stdout.stream(from_cursor=cursor))

    def _exec(self, world: World, watch: Watch) -> Any:
        workspace_id, exec_id = world.execs[watch.target]
        return self.client.workspaces.open(workspace_id).execs.open(exec_id)

    async def _all(self, seen: Seen, subscribe: Callable[[int | None], Any]) -> None:
        while True:
            before = len(seen.result)
            try:
                async with contextlib.aclosing(subscribe(next_cursor(seen))) as items:
                    async for item in items:
                        seen.result.append(item)
            except WorkspaceStreamTerminalError:
                return
            except Exception as error:
                if not ((_unreached(error) and len(seen.result) == before) or _expired(error)):
                    raise
                await asyncio.sleep(1.0)
            else:
                return

    async def close(self) -> None:
        await self.client.aclose()


class BlockingCallers:
    """Callers of one blocking client.

    :param run: runs a blocking function while the event loop continues.
    """

    def __init__(self, world: World, run: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        schedule, server = world.schedule, world.server
        self.client = HelmrClient(
            url=server.url,
            api_key=server.api_key,
            max_streams=schedule.streams,
            timeout=world.call_timeout,
            connect_timeout=world.call_timeout,
        )
        self._run = run

    def begin(self, world: World, seen: Seen) -> Awaitable[None]:
        return self._run(lambda: self._call(world, seen))

    def _call(self, world: World, seen: Seen) -> None:
        client, watch = self.client, seen.watch
        match watch.kind:
            case "wait":
                seen.result.append(client.runs.wait(world.runs[watch.target]))
            case "abandon":
                with contextlib.suppress(HelmrTimeoutError):
                    client.runs.wait(world.runs[watch.target], timeout=2.0 * world.scale)
            case "wait_many":
                seen.result += client.runs.wait_many(world.runs)
            case "token":
                seen.result.append(waiter_of(client).token(world.tokens[watch.target]))
            case "exec":
                seen.result.append(self._exec(world, watch).wait(timeout=86_400, poll_interval=1.0))
            case "events":
                self._all(seen, lambda cursor: client.runs.events.subscribe(world.runs[watch.target], cursor=cursor))
            case "logs":
                self._all(seen, lambda cursor: client.runs.logs.follow(world.runs[watch.target], cursor=cursor))
            case "stdout":
                stdout = self._exec(world, watch).stdout
                self._all(seen, lambda cursor: stdout.stream(from_cursor=cursor))

    def _exec(self, world: World, watch: Watch) -> Any:
        workspace_id, exec_id = world.execs[watch.target]
        return self.client.workspaces.open(workspace_id).execs.open(exec_id)

    def _all(self, seen: Seen, subscribe: Callable[[int | None], Any]) -> None:
        while True:
            before = len(seen.result)
            try:
                with contextlib.closing(subscribe(next_cursor(seen))) as items:
                    for item in items:
                        seen.result.append(item)
            except WorkspaceStreamTerminalError:
                return
            except Exception as error:
                if not ((_unreached(error) and len(seen.result) == before) or _expired(error)):
                    raise
                time.sleep(1.0)
            else:
                return

    async def close(self) -> None:
        self.client.close()


def next_cursor(seen: Seen) -> int | None:
    """Return where a caller continues whose subscription ended early."""
    if not seen.result:
        return seen.watch.cursor
    last = seen.result[-1]
    match seen.watch.kind:
        case "events":
            return int(last.cursor)
        case "logs":
            return int(last.id)
        case _:
            return int(last.offset_end)


def check(world: World, seen: Seen, outcome: Outcome) -> None:
    """Compare what a caller was given with what was true."""
    watch, name = seen.watch, f"{seen.watch.kind} {seen.watch.target}"
    if seen.error is not None:
        outcome.wrong.append(f"{name}: raised {seen.error!r}")
    elif seen.ended is None:
        outcome.wrong.append(f"{name}: had not ended {world.now():.1f} s into the schedule")
    else:
        expected, got = _expected(world, watch), _got(seen)
        if expected is not None and got != expected:
            outcome.wrong.append(f"{name}: expected {_short(expected)}, got {_short(got)}")


def _expected(world: World, watch: Watch) -> Any:  # noqa: PLR0911 - one for each kind
    match watch.kind:
        case "wait":
            return [(world.runs[watch.target], *world.end_of_run(watch.target))]
        case "wait_many":
            return sorted((run_id, *world.end_of_run(index)) for index, run_id in enumerate(world.runs))
        case "token":
            return [world.end_of_token(watch.target)]
        case "exec":
            return [world.end_of_exec(watch.target)]
        case "events":
            return world.events_of(watch.target, watch.cursor or 0)
        case "logs":
            return world.logs_of(watch.target, watch.cursor or 0)
        case "stdout":
            return world.stdout_of(watch.target, watch.cursor or 0)
        case _:
            return None


def _got(seen: Seen) -> Any:  # noqa: PLR0911 - one for each kind
    match seen.watch.kind:
        case "wait":
            return [(run.id, run.status, run.output) for run in seen.result]
        case "wait_many":
            return sorted((run.id, run.status, run.output) for run in seen.result)
        case "token":
            return [(token.status, token.data) for token in seen.result]
        case "exec":
            return [(found.state, found.exit_code) for found in seen.result]
        case "events":
            return [(event.cursor, event.raw.kind) for event in seen.result]
        case "logs":
            return [(chunk.id, chunk.stream, chunk.content) for chunk in seen.result]
        case _:
            return [(chunk.offset_end, chunk.content) for chunk in seen.result]


def _short(value: Any) -> str:
    text = json.dumps(value, default=lambda content: f"{len(content)} bytes")
    return text if len(text) < 600 else f"{text[:300]} … {text[-300:]}"


def _ends(world: World, watch: Watch) -> list[str]:
    match watch.kind:
        case "wait" | "events" | "logs" | "abandon":
            return [world.runs[watch.target]]
        case "wait_many":
            return world.runs
        case "token":
            return [world.tokens[watch.target]]
        case _:
            return [world.execs[watch.target][1]]


class Run:
    """One schedule on an event loop.

    :param callers: makes the callers of a client.
    :param patience: factor of the seconds after which a caller is late, for sockets.
    """

    def __init__(self, world: World, callers: Callable[[World], Callers], patience: float = 1.0) -> None:
        self._world, self._make_callers, self._patience = world, callers, patience
        self.outcome = Outcome(world.schedule, over_sockets=patience > 1)

    async def go(self) -> Outcome:
        world, outcome = self._world, self.outcome
        await world.start()
        callers = self._make_callers(world)
        everything = [Seen(watch) for watch in world.schedule.watches]
        tasks = [asyncio.create_task(self._watch(callers, seen)) for seen in everything]
        pending = set(tasks)
        while pending and not self._overdue(everything):
            _, pending = await asyncio.wait(pending, timeout=5.0 * world.scale)
        outcome.seconds = world.now()
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await callers.close()
        await world.settle()
        world.check()
        for seen in everything:
            check(world, seen, outcome)
        self._measure(everything)
        await world.stop()
        outcome.requests, outcome.fired = world.requests, world.fired
        if outcome.requests > (most := most_requests(len(everything), outcome.seconds * world.scale)):
            outcome.wrong.append(
                f"{outcome.requests} requests in {outcome.seconds:.0f} s; at most {most:.0f} are right"
            )
        return outcome

    async def _watch(self, callers: Callers, seen: Seen) -> None:
        world = self._world
        await world.until(seen.watch.at)
        if seen.watch.kind in ("wait", "events", "logs", "abandon"):
            await world.started[seen.watch.target].wait()
        elif seen.watch.kind == "wait_many":
            for started in world.started:
                await started.wait()
        try:
            await callers.begin(world, seen)
        except Exception as error:  # noqa: BLE001 - reported
            seen.error = error
        seen.ended = world.now()

    def _due(self, seen: Seen) -> float | None:
        """Return from when on a caller is late; None while what it waits for has not ended."""
        world = self._world
        ends = [world.ended.get(name) for name in _ends(world, seen.watch)]
        if not all(end is not None for end in ends):
            return None
        return max([seen.watch.at, world.schedule.quiet_at, *(end for end in ends if end is not None)])

    def _overdue(self, everything: list[Seen]) -> bool:
        now = self._world.now()
        late = [due for seen in everything if seen.ended is None and (due := self._due(seen)) is not None]
        # What has not ended itself after this many hours never will.
        return any(now > due + LATE_SUBSCRIPTION * self._patience for due in late) or now > 20_000

    def _measure(self, everything: list[Seen]) -> None:
        for seen in everything:
            due = self._due(seen)
            if due is None or seen.ended is None:
                continue
            kind = "subscription" if seen.watch.kind in ("events", "logs", "stdout") else "wait"
            late = seen.ended - due
            self.outcome.late[kind] = max(self.outcome.late.get(kind, 0.0), late)
            if late > (LATE_WAIT if kind == "wait" else LATE_SUBSCRIPTION) * self._patience:
                self.outcome.wrong.append(f"{seen.watch.kind} {seen.watch.target}: {late:.0f} s late")

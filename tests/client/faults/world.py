"""The control plane of one fault schedule: it does what the schedule plans, and knows how everything ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from helmr_provider.client import AsyncHelmrClient
from helmr_provider.local import Settings, task
from helmr_provider.local._core import DEFAULT_ENVIRONMENT
from helmr_provider.local._server import Server
from helmr_provider.local.api.starts import checked
from helmr_provider.local.common.clock import SECOND
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.state import chunks, execs, runs, tokens
from helmr_provider.local.state.api_keys import environment_id
from helmr_provider.local.state.starting import Starter
from tests.client.faults.fault_schedule import Outage, Planted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from helmr_provider.local import TaskContext
    from helmr_provider.local.storage.database import Row
    from tests.client.faults.fault_schedule import ClockStep, ExecPlan, RunPlan, Schedule, TokenPlan
    from tests.client.faults.network import Network
    from tests.client.faults.virtual_loop import SteppedClock

# Less often than the real one sweeps, because each sweep costs this machine time.
SETTINGS = Settings(sweep=2.0, schedule_jitter=0.0)


@task("planned")
async def planned(context: TaskContext, payload: dict[str, Any]) -> Any:
    """Do the steps of this attempt, then end as planned."""
    attempts = payload["attempts"]
    number = min(context.attempt_number, len(attempts))
    for what, size in attempts[number - 1]:
        if what == "sleep":
            await asyncio.sleep(size * payload["scale"])
        elif what == "wait":
            await context.sleep(size * payload["scale"])
        elif what == "entry":
            context.log_entry()
        elif what == "out":
            context.stdout("o" * int(size))
        else:
            context.stderr("e" * int(size))
    if number < len(attempts):
        raise RuntimeError(f"attempt {number} fails")
    if payload["end"] == "fail":
        raise RuntimeError("the last attempt fails")
    return {"answer": payload["answer"], "attempt": context.attempt_number}


class World:
    """What happens in the control plane.

    :param schedule: the plan.
    :param clock: the control plane's.
    :param set_client_clock: sets the client's wall clock by so many seconds.
    :param network: of connections in memory; None for sockets.
    :param folder: where the database's file is, for a control plane that is restarted.
    :param settings: of the control plane.
    :param scale: factor of all times, for sockets.
    :param call_timeout: seconds that a call of the client may take; real ones.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        clock: SteppedClock,
        set_client_clock: Callable[[float], None],
        network: Network | None,
        folder: Path | None,
        settings: Settings = SETTINGS,
        scale: float = 1.0,
        call_timeout: float = 30.0,
    ) -> None:
        self.call_timeout = call_timeout
        self.schedule, self.scale, self._settings = schedule, scale, settings
        self._clock, self._network, self._set_client_clock = clock, network, set_client_clock
        self._db = None if folder is None else folder / "state.db"
        self.server = self._make(0)
        self._up = asyncio.Event()
        self._changing = asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()
        self.began = 0.0
        self.runs: list[str] = [""] * len(schedule.runs)
        self.started = [asyncio.Event() for _ in schedule.runs]
        self.tokens: list[str] = []
        self.execs: list[tuple[str, str]] = []
        self.ended: dict[str, float] = {}
        self.requests = 0
        self.fired: list[str] = []

    def _make(self, port: int) -> Server:
        return Server([planned], db=self._db, port=port, settings=self._settings, clock=self._clock)

    def now(self) -> float:
        """Return the seconds since the schedule began, in its own measure."""
        return (asyncio.get_running_loop().time() - self.began) / self.scale

    async def until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, (at - self.now()) * self.scale))

    async def start(self) -> None:
        """Start the control plane, make what is there from the beginning, and begin with the schedule."""
        await self.server.start()
        self.server.workspaces.pause("workspaces")
        self._up.set()
        core = self.server.core
        environment = environment_id(core, DEFAULT_ENVIRONMENT)
        for token in self.schedule.tokens:
            limit = int(token.at * self.scale * SECOND) if token.end == "expire" else 86_400 * SECOND
            made, _ = tokens.create(core, environment, tokens.NewToken(limit, [], {}, None, ""))
            self.tokens.append(made["id"])
        if self.schedule.execs:
            async with AsyncHelmrClient(
                url=self.server.url, api_key=self.server.api_key, max_streams=0, timeout=600.0
            ) as client:
                for _ in self.schedule.execs:
                    workspace = await client.workspaces.create("local")
                    handle = await client.workspaces.open(workspace).exec(["planned"])
                    self.execs.append((workspace.id, handle.id))
        self.began = asyncio.get_running_loop().time()
        network = self._network
        if network is not None:
            network.latency, network.segment = self.schedule.latency, self.schedule.segment
            network.cuts = {cut.connection + network.opened: cut for cut in self.schedule.cuts}
        for index, run in enumerate(self.schedule.runs):
            self._do(self._run(index, run))
        for index, token in enumerate(self.schedule.tokens):
            self._do(self._token(index, token))
        for index, command in enumerate(self.schedule.execs):
            self._do(self._exec(index, command))
        for fault in self.schedule.faults:
            self._do(self._fault(fault))
        self._do(self._quiet())

    async def settle(self) -> None:
        """Wait until a restart that has begun is over."""
        async with self._changing:
            await self._up.wait()

    async def stop(self) -> None:
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        self._count()
        await self.server.stop()

    # What happens

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self._work.add(asyncio.get_running_loop().create_task(work))

    def check(self) -> None:
        """Raise what went wrong in the world itself."""
        for work in self._work:
            if work.done() and not work.cancelled() and (error := work.exception()) is not None:
                raise error

    def _start(self, index: int, plan: RunPlan) -> None:
        if plan.ttl is not None:
            self.server.worker.pause()
        backoff = {"minMs": 1000, "maxMs": 5000, "factor": 2.0, "jitter": "none"}
        members = {
            "task_id": "planned",
            "payload": {"attempts": plan.attempts, "end": plan.end, "answer": index, "scale": self.scale},
            "retry": {"maxAttempts": len(plan.attempts), "backoff": backoff},
            "ttl": None if plan.ttl is None else f"{int(plan.ttl * self.scale * 1000)}ms",
        }
        core = self.server.core
        started = Starter(core).start_new(environment_id(core, DEFAULT_ENVIRONMENT), checked(members, None))
        self.runs[index] = started.run_id
        self.started[index].set()

    async def _run(self, index: int, plan: RunPlan) -> None:
        await self.until(plan.starts)
        await self._up.wait()
        self._start(index, plan)
        if plan.ttl is not None:
            await self.until(plan.starts + plan.ttl + 2)
            await self._up.wait()
            self.server.worker.resume()
        if plan.cancelled is not None:
            await self.until(plan.starts + plan.cancelled)
            await self._up.wait()
            row = self._row(index)
            if row["status"] in runs.LIVE:
                runs.cancel(self.server.core, row, None)
        while self._row(index)["status"] in runs.LIVE:
            await self.server.core.notifier.wait(f"run:{self.runs[index]}", 5.0)
            await self._up.wait()
        self.ended[self.runs[index]] = self.now()

    async def _token(self, index: int, plan: TokenPlan) -> None:
        await self.until(plan.at)
        await self._up.wait()
        row = tokens.by_id(self.server.core, self.tokens[index])
        assert row is not None
        # A step of the clock may have let it expire before.
        with contextlib.suppress(ApiError):
            if plan.end == "complete":
                tokens.complete(self.server.core, row, {"token": index})
            elif plan.end == "cancel":
                tokens.cancel(self.server.core, row)
        while self._token_row(index)["status"] == "pending":
            await asyncio.sleep(self.scale)
            await self._up.wait()
        self.ended[self.tokens[index]] = self.now()

    async def _exec(self, index: int, plan: ExecPlan) -> None:
        _, exec_id = self.execs[index]
        for number, (at, size) in enumerate(plan.writes):
            await self.until(at)
            await self._up.wait()
            if execs.EXECS.reread(self.server.core, exec_id)["state"] in execs.EXECS.live:
                chunks.append(self.server.core, exec_id, "stdout", bytes([65 + number]) * size)
        await self.until(plan.ends)
        await self._up.wait()
        execs.end(self.server.core, exec_id, "exited", exit_code=index)
        self.ended[exec_id] = self.now()

    # What goes wrong

    async def _fault(self, fault: Planted | Outage | ClockStep) -> None:
        await self.until(fault.at)
        await self._up.wait()
        if isinstance(fault, Planted):
            self.server.faults.plant(fault.operation, fault.fault, fault.times)
        elif isinstance(fault, Outage):
            await self._outage(fault)
        elif fault.whose == "client":
            self.fired.append("client's clock step")
            self._set_client_clock(fault.seconds)
        else:
            self.fired.append("server's clock step")
            self._clock.offset += fault.seconds

    async def _outage(self, outage: Outage) -> None:
        seconds, network = outage.seconds * self.scale, self._network
        until = asyncio.get_running_loop().time() + seconds
        self.fired.append(outage.kind)
        if outage.kind in ("restart", "unplug") or network is None:
            async with self._changing:
                await (self._restart(seconds) if outage.kind == "restart" else self._unplug(seconds))
        elif outage.kind == "stall":
            network.stalled_until = until
        else:
            if outage.kind == "refuse":
                network.refused_until = until
            network.cut_all(outage.how)

    async def _restart(self, seconds: float) -> None:
        self._up.clear()
        port = self.server.listener.port
        self._count()
        await self.server.stop()
        await asyncio.sleep(seconds)
        self.server = self._make(port)
        await self.server.start()
        self.server.workspaces.pause("workspaces")
        self._up.set()

    async def _unplug(self, seconds: float) -> None:
        await self.server.listener.close()
        await asyncio.sleep(seconds)
        await self.server.listener.open()

    async def _quiet(self) -> None:
        """Let nothing go wrong any more, so that the end of everything is bounded."""
        await self.until(self.schedule.quiet_at + 1)
        await self._up.wait()
        self.server.faults.clear()
        if self._network is not None:
            self._network.cuts = {}

    def _count(self) -> None:
        entries = self.server.journal.entries()
        self.requests += len(entries)
        self.fired += [entry.fault for entry in entries if entry.fault is not None]

    # How it ended

    def _row(self, index: int) -> Row:
        return runs.reread(self.server.core, self.runs[index])

    def _token_row(self, index: int) -> Row:
        row = tokens.by_id(self.server.core, self.tokens[index])
        assert row is not None
        return row

    def end_of_run(self, index: int) -> tuple[str, Any]:
        row = self._row(index)
        return row["status"], None if row["output"] is None else json.loads(row["output"])

    def end_of_token(self, index: int) -> tuple[str, Any]:
        row = self._token_row(index)
        return row["status"], None if row["data"] is None else json.loads(row["data"])

    def end_of_exec(self, index: int) -> tuple[str, int | None]:
        row = execs.EXECS.reread(self.server.core, self.execs[index][1])
        return row["state"], row["exit_code"]

    def events_of(self, index: int, cursor: int) -> list[tuple[str, str]]:
        sql = "SELECT sequence, kind FROM events WHERE run_id = ? AND sequence > ? ORDER BY sequence"
        return [(str(row["sequence"]), row["kind"]) for row in self.server.core.db.all(sql, self.runs[index], cursor)]

    def logs_of(self, index: int, cursor: int) -> list[tuple[str, str, bytes]]:
        sql = "SELECT * FROM log_chunks WHERE run_id = ? AND sequence > ? ORDER BY sequence"
        rows = self.server.core.db.all(sql, self.runs[index], cursor)
        return [(str(row["sequence"]), row["stream"], bytes(row["content"])) for row in rows]

    def stdout_of(self, index: int, cursor: int) -> list[tuple[int, bytes]]:
        sql = "SELECT * FROM byte_chunks WHERE resource_id = ? AND offset_end > ? ORDER BY offset_end"
        rows = self.server.core.db.all(sql, self.execs[index][1], cursor)
        return [(row["offset_end"], bytes(row["content"])) for row in rows]

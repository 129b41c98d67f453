"""Wait for a command, or for a workspace, in the triggerer."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import uuid4

from helmr_provider._logs.exec_logs import PAGE, STREAMS, Output, advances
from helmr_provider._workspaces.ownership import left_over_exec
from helmr_provider.client._internals import waiter_of
from helmr_provider.client.errors import HelmrConflictError, HelmrGoneError, HelmrPermissionError
from helmr_provider.triggers.base import KWARGS_VERSION, HelmrTrigger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from helmr_provider.client import AsyncExecHandle, AsyncHelmrClient
    from helmr_provider.client.models.execs import Exec

Awaited: TypeAlias = Literal["free", "stopped", "running", "state", "exec"]


class HelmrExecTrigger(HelmrTrigger):
    """Fire when a command has ended, in any way; until then, its output goes into the task's log.

    Outputs are read page by page, from a byte offset on, and never followed: a follower would hold one of the control
    plane's scarce streams. A line that was logged before a triggerer was killed may be logged again.

    The event is ``{"schema": 1, "status": "ended" | "timeout" | "error", "workspace_id": …, "exec_id": …,
    "stdout_cursor": …, "stderr_cursor": …}``; the resumed task reads the command itself.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param workspace_id: the workspace.
    :param exec_id: the command.
    :param stdout_cursor: byte offset behind the output that the log already contains.
    :param stderr_cursor: the same of the other output.
    :param log_output: whether to log what the command writes.
    :param owner: the try that owns the command.
    :param stop_on_kill: whether to stop the workspace when a user ends the deferred task, if this try owns it.
    :param deadline: when to give up, in seconds since the epoch.
    :param version: version of the stored form.
    """

    def __init__(
        self,
        *,
        helmr_conn_id: str,
        workspace_id: str,
        exec_id: str,
        stdout_cursor: int = 0,
        stderr_cursor: int = 0,
        log_output: bool = True,
        owner: str | None = None,
        stop_on_kill: bool = False,
        deadline: float | None = None,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.workspace_id = workspace_id
        self.exec_id = exec_id
        self.stdout_cursor = stdout_cursor
        self.stderr_cursor = stderr_cursor
        self.log_output = log_output
        self.owner = owner
        self.stop_on_kill = stop_on_kill
        self._output = Output(stdout_cursor, stderr_cursor)

    @property
    def kills(self) -> bool:
        """Whether a killed task stops the workspace."""
        return self.stop_on_kill and self.owner is not None

    @property
    def left_over(self) -> str:
        """What continues when :meth:`kill` fails, and how to end it."""
        return left_over_exec(self.workspace_id, self.exec_id)

    @property
    def ids(self) -> Mapping[str, str | int]:
        """What every event says besides how the wait ended."""
        read = {f"{stream}_cursor": cursor for stream, cursor in self._output.cursors.items()}
        return {"workspace_id": self.workspace_id, "exec_id": self.exec_id, **read}

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait for the command.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        """
        from helmr_provider.client._waiting.actions import WaitKey

        # Reads run in a task of the waiter, which serves many; only in our own context do lines reach our task's log.
        context = contextvars.copy_context()

        async def read(client: AsyncHelmrClient) -> Exec:
            handle = client.workspaces.open(self.workspace_id).execs.open(self.exec_id)
            found = await handle.retrieve()
            if self.log_output:
                for stream in STREAMS:
                    while self._output.is_behind(stream, found):
                        lines = await self._next_lines(handle, stream, found)
                        if lines is None:
                            break
                        context.copy().run(self._say, lines)
            return found

        # Equal keys share reads, and another task's would log into another task's log.
        key = WaitKey("exec", f"{self.exec_id} for {uuid4()}")
        await waiter_of(client).until(key, read, lambda found: found.is_terminal, timeout=remaining)

    async def kill(self, client: AsyncHelmrClient) -> None:
        """Stop the workspace, if this try still owns the command in it.

        :param client: the triggerer's shared client.
        """
        from helmr_provider._workspaces.ownership import astop_if_held

        stopped = await astop_if_held(
            client, workspace_id=self.workspace_id, exec_id=self.exec_id, owner=self.owner or ""
        )
        self.log.info("Exec %s was %s.", self.exec_id, "stopped with its workspace" if stopped else "left alone")

    async def _next_lines(self, handle: AsyncExecHandle, stream: str, found: Exec) -> list[str] | None:
        source = handle.stdout if stream == "stdout" else handle.stderr
        position = self._output.position(stream)
        try:
            chunks = await source.list(cursor=position, limit=PAGE)
        except HelmrGoneError:
            return list(self._output.skip(stream, found))
        return list(self._output.take(stream, chunks)) if advances(chunks, position) else None

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.log.info("%s", line)


class HelmrWorkspaceTrigger(HelmrTrigger):
    """Fire when a workspace, or a command in it, is as awaited.

    The event is ``{"schema": 1, "status": "ended" | "timeout" | "error", "workspace_id": …}``; the resumed task
    polls again.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param workspace_id: the workspace.
    :param what: ``free``: nothing writes to it; ``stopped``: it has stopped, which is asked for again and again;
        ``running``: it is on a machine, which is asked for, too; ``state``: its state is one of ``states``; ``exec``:
        the command's state is.
    :param states: for ``state`` and ``exec``; an end that rules them out fires, too.
    :param exec_id: for ``exec``.
    :param materialization_id: for ``stopped``: the materialization that is being stopped, in case the workspace is
        started again.
    :param deadline: when to give up, in seconds since the epoch.
    :param version: version of the stored form.
    """

    def __init__(
        self,
        *,
        helmr_conn_id: str,
        workspace_id: str,
        what: Awaited,
        states: Collection[str] = (),
        exec_id: str | None = None,
        materialization_id: str | None = None,
        deadline: float | None = None,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.workspace_id = workspace_id
        self.what: Awaited = what
        self.states = tuple(states)
        self.exec_id = exec_id
        self.materialization_id = materialization_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to build this trigger from again."""
        path, stored = super().serialize()
        # JSON has no tuples.
        return path, {name: list(value) if name == "states" else value for name, value in stored.items()}

    @property
    def ids(self) -> Mapping[str, str | int]:
        """What every event says besides how the wait ended."""
        return {"workspace_id": self.workspace_id, **({} if self.exec_id is None else {"exec_id": self.exec_id})}

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait until it is as awaited.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        """
        from helmr_provider.client._waiting.actions import WaitKey

        polls: dict[Awaited, Callable[[AsyncHelmrClient], Awaitable[bool]]] = {
            "free": self._is_free_twice(),
            "stopped": self._is_stopped,
            "running": self._is_running,
            "state": self._is_in_state,
            "exec": self._is_exec_in_state,
        }
        key = WaitKey("workspace", f"{self.workspace_id} for {uuid4()}")
        await waiter_of(client).until(key, polls[self.what], bool, timeout=remaining)

    def _is_free_twice(self) -> Callable[[AsyncHelmrClient], Awaitable[bool]]:
        # A worker that has just been refused would come back immediately, be refused again, and so on.
        before = [False]

        async def poll(client: AsyncHelmrClient) -> bool:
            before.append(await self._is_free(client))
            return before[-1] and before[-2]

        return poll

    async def _is_free(self, client: AsyncHelmrClient) -> bool:
        handle = client.workspaces.open(self.workspace_id)
        if not all(found.is_terminal for found in await handle.execs.list()):
            return False
        try:
            if not all(found.is_terminal for found in await handle.pty.list()):
                return False
            sessions = await client.sessions.list(status="open", limit=200)
        except HelmrPermissionError:
            # Not every key may read what else can write; then the worker finds out by trying.
            return True
        return not any(
            session.workspace_id == self.workspace_id and session.activity == "running" for session in sessions
        )

    async def _is_stopped(self, client: AsyncHelmrClient) -> bool:
        from helmr_provider._workspaces.ownership import is_stopped

        return is_stopped(await client.workspaces.stop(self.workspace_id), self.materialization_id)

    async def _is_running(self, client: AsyncHelmrClient) -> bool:
        from helmr_provider._workspaces.ownership import BUSY

        try:
            return (await client.workspaces.connect(self.workspace_id)).is_running
        except HelmrConflictError as error:
            if error.code not in BUSY:
                raise
            # It is being stopped; after that it can be started again.
            return False

    async def _is_in_state(self, client: AsyncHelmrClient) -> bool:
        from helmr_provider._workspaces.ownership import ENDED

        return (await client.workspaces.retrieve(self.workspace_id)).state in {*self.states, *ENDED}

    async def _is_exec_in_state(self, client: AsyncHelmrClient) -> bool:
        found = await client.workspaces.open(self.workspace_id).execs.open(self.exec_id or "").retrieve()
        return found.state in self.states or found.is_terminal

"""Wait for the end of a run without a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from helmr_provider._common.cancel_reasons import USER
from helmr_provider._common.metrics import count
from helmr_provider._common.sans_io import run_steps_async
from helmr_provider._sessions.ownership import OwnedSession
from helmr_provider.client._internals import waiter_of
from helmr_provider.triggers.base import KWARGS_VERSION, HelmrTrigger

if TYPE_CHECKING:
    from helmr_provider.client import AsyncHelmrClient


class HelmrRunTrigger(HelmrTrigger):
    """Fire when a run has ended, with any status.

    The event is ``{"schema": 1, "status": "ended" | "timeout" | "error", "run_id": …}``; the resumed task reads
    the run itself. An outage of the control plane is waited out.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param run_id: the run.
    :param session_id: its session; needed to cancel.
    :param deadline: when to give up, in seconds since the epoch.
    :param owner: the try that owns the run; the session's metadata must still name it when something is cancelled.
    :param cancel_on_kill: what to cancel when a user ends the deferred task: the session, if its name is ours, else the
        run. Nothing by default.
    :param live_logs: whether to write the run's output into the task's log while waiting.
    :param log_cursor: behind the lines already written; the event says how far this trigger has got.
    """

    def __init__(
        self,
        *,
        helmr_conn_id: str,
        run_id: str,
        session_id: str | None = None,
        deadline: float | None = None,
        owner: str | None = None,
        cancel_on_kill: Literal["session", "run"] | None = None,
        live_logs: bool = False,
        log_cursor: str | None = None,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.run_id = run_id
        self.session_id = session_id
        self.owner = owner
        self.cancel_on_kill = cancel_on_kill
        self.live_logs = live_logs
        self.log_cursor = log_cursor

    @property
    def kills(self) -> bool:
        """Whether a killed task cancels something."""
        return None not in {self.cancel_on_kill, self.owner, self.session_id}

    @property
    def left_over(self) -> str:
        """What continues when :meth:`kill` fails, and how to end it."""
        return self._owned.left_over

    @property
    def ids(self) -> dict[str, str]:
        """What every event says besides how the wait ended."""
        return {"run_id": self.run_id} | ({"log_cursor": self.log_cursor} if self.log_cursor else {})

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait for the run.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        """
        if not self.live_logs:
            await waiter_of(client).run(self.run_id, timeout=remaining)
            return
        from helmr_provider._logs.run_logs import RunLogLines
        from helmr_provider._logs.run_logs_triggerer import forward_run_logs

        lines = RunLogLines(self.log, self.log_cursor)
        try:
            async with forward_run_logs(client, self.run_id, lines, self.log):
                await waiter_of(client).run(self.run_id, timeout=remaining)
        finally:
            self.log_cursor = lines.cursor

    async def kill(self, client: AsyncHelmrClient) -> None:
        """Cancel the session or its run, if the session still belongs to this try.

        :param client: the triggerer's shared client.
        """
        owned = self._owned
        if await run_steps_async(client, owned.cancel(reason=USER, log=self.log)):
            # A backend of metrics may resolve names and open sockets.
            await asyncio.to_thread(count, owned.cancel_metric, self.helmr_conn_id, in_triggerer=True)

    @property
    def _owned(self) -> OwnedSession:
        return OwnedSession(
            owner=self.owner or "",
            named=self.cancel_on_kill == "session",
            session_id=self.session_id,
            run_id=self.run_id,
        )

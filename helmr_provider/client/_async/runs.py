"""Runs: retrieve, wait, cancel, list, count (contract/behaviour.md sections 6 and 8)."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import TYPE_CHECKING

from helmr_provider.client._async.events import AsyncRunEvents
from helmr_provider.client._async.logs import AsyncRunLogs
from helmr_provider.client._internals import transport_of, waiter_of
from helmr_provider.client._wire.responses import read, read_list, same_id
from helmr_provider.client._wire.serialization import cancel_run_body
from helmr_provider.client.durations import seconds
from helmr_provider.client.models.runs import RunCancellation, RunCounts, RunSnapshot

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable

    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client._unasync_pairs import AsyncStream
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.models.runs import RunHandle


class AsyncRuns:
    """The runs of the client's environment.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: AsyncHelmrClient) -> None:
        self._client = client
        self._transport = transport_of(client)

    @cached_property
    def logs(self) -> AsyncRunLogs:
        """What runs wrote to stdout and stderr."""
        return AsyncRunLogs(self._client)

    @cached_property
    def events(self) -> AsyncRunEvents:
        """What happened to runs."""
        return AsyncRunEvents(self._client)

    async def retrieve(self, run: str | RunHandle, *, timeout: Duration | None = None) -> RunSnapshot:
        """Retrieve a run (getRun).

        :param run: run id, or a handle or snapshot.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        run_id = run_id_of(run)
        value = await self._transport.call("getRun", path={"run_id": run_id}, timeout=timeout)
        snapshot = read(RunSnapshot, value, "getRun")
        same_id(snapshot.id, run_id, "getRun")
        return snapshot

    async def wait(
        self,
        run: str | RunHandle,
        *,
        timeout: Duration | None = None,
    ) -> RunSnapshot:
        """Wait until a run is over and return its snapshot; a failed or cancelled run is returned, not raised.

        :param run: run id, or a handle or snapshot.
        :param timeout: length of the wait: timedelta, seconds, or text such as ``"1h"``; None waits for as long as it
            takes. ``client.with_options(timeout=)`` limits its calls.
        :raises HelmrTimeoutError: the deadline passed. The run continues.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        return await waiter_of(self._client).run(run_id_of(run), timeout=limit)

    async def wait_many(
        self,
        runs: Iterable[str | RunHandle],
        *,
        timeout: Duration | None = None,
    ) -> AsyncStream[RunSnapshot]:
        """Yield the snapshot of each run once, as they end. Closing the iterator stops the waits, never the runs.

        :param runs: run ids, handles or snapshots; one that stands twice counts once.
        :param timeout: length of the wait for all of them: timedelta, seconds, or text such as ``"1h"``; None waits
            for as long as it takes. ``client.with_options(timeout=)`` limits its calls.
        :raises HelmrTimeoutError: the deadline passed; ``pending`` has the ids of those that continue.
        :raises HelmrNotFoundError: a run is missing; raised after the others were yielded.
        """
        ids = list(dict.fromkeys(run_id_of(run) for run in runs))
        limit = None if timeout is None else seconds(timeout, "timeout")
        async with contextlib.aclosing(waiter_of(self._client).run_many(ids, timeout=limit)) as snapshots:
            async for snapshot in snapshots:
                yield snapshot

    async def cancel(
        self,
        run: str | RunHandle,
        *,
        reason: str | None = None,
        force: bool | None = None,
        idempotency_key: str | None = None,
        timeout: Duration | None = None,
    ) -> RunCancellation:
        """Ask for a run's cancellation (cancelRun). A run that is over is answered with a rejected operation.

        :param run: run id, or a handle or snapshot.
        :param reason: text for the event.
        :param force: do not wait until the worker has stopped.
        :param idempotency_key: sent unchanged; the same key with another body is a conflict.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        body = cancel_run_body(reason=reason, force=force, idempotency_key=idempotency_key)
        value = await self._transport.call("cancelRun", path={"run_id": run_id_of(run)}, body=body, timeout=timeout)
        return read(RunCancellation, value, "cancelRun")

    async def list(
        self,
        *,
        status: str | None = None,
        limit: int | None = None,
        session_id: str | None = None,
        timeout: Duration | None = None,
    ) -> builtins.list[RunSnapshot]:
        """List runs, newest first (listRuns). There is no cursor: 200 is all that a list can show.

        :param status: a run status, ``"live"`` (the server's default: not terminal) or ``"all"``.
        :param limit: 1 to 200; the server's default is 100.
        :param session_id: runs of this session only.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        query = {"status": status, "limit": limit, "session_id": session_id}
        return read_list(
            RunSnapshot, await self._transport.call("listRuns", query=query, timeout=timeout), "runs", "listRuns"
        )

    async def count(self, *, timeout: Duration | None = None) -> RunCounts:
        """Count the runs of the environment by status (countRuns).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        return read(RunCounts, await self._transport.call("countRuns", timeout=timeout), "countRuns")


def run_id_of(run: str | RunHandle) -> str:
    """Return the id that a caller means."""
    return run if isinstance(run, str) else run.id

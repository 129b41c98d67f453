"""Wait for sessions, their output, and what becomes of their input, without a worker."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from helmr_provider._common.sans_io import run_steps_async
from helmr_provider._sessions.turns import Turn, TurnPoller
from helmr_provider.client._internals import waiter_of
from helmr_provider.client._waiting.actions import WaitKey
from helmr_provider.triggers.base import KWARGS_VERSION, HelmrTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from helmr_provider.client import AsyncHelmrClient


class HelmrSessionTrigger(HelmrTrigger):
    """Fire when a session has one of the statuses and one of the activities, or has ended otherwise.

    The event is ``{"schema": 1, "status": "ended" | "timeout" | "error", …}`` with the session's id or external id;
    the resumed task reads the session itself. The session is never ended by this trigger.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param session_id: the session.
    :param external_id: its external id instead.
    :param statuses: ``open``, ``closed``, ``cancelled``, ``expired``; none for any.
    :param activities: ``idle``, ``queued``, ``running``, ``waiting``; none for any.
    :param deadline: when to give up, in seconds since the epoch.
    :param version: version of the stored form.
    """

    def __init__(
        self,
        *,
        helmr_conn_id: str,
        session_id: str | None = None,
        external_id: str | None = None,
        statuses: Sequence[str] | None = None,
        activities: Sequence[str] | None = None,
        deadline: float | None = None,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.session_id = session_id
        self.external_id = external_id
        self.statuses = list(statuses or ()) or None
        self.activities = list(activities or ()) or None

    @property
    def ids(self) -> dict[str, str]:
        """What every event says besides how the wait ended."""
        return _address_ids(self.session_id, self.external_id)

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait for the session.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        """
        await waiter_of(client).until(
            _key("session", self.session_id, self.external_id, self.statuses, self.activities),
            lambda client: client.sessions.retrieve(self.session_id, external_id=self.external_id),
            lambda session: not session.is_open or reached(session, self.statuses, self.activities),
            timeout=remaining,
        )


class HelmrSessionOutputTrigger(HelmrTrigger):
    """Fire when a session's output stream has a record behind a sequence, or the session has ended.

    The event holds the session's id or external id; the resumed task reads the record itself.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param session_id: the session.
    :param external_id: its external id instead.
    :param stream: name of the output stream.
    :param after: only records behind this sequence.
    :param correlation_id: only records with it.
    :param deadline: when to give up, in seconds since the epoch.
    :param version: version of the stored form.
    """

    def __init__(
        self,
        *,
        helmr_conn_id: str,
        session_id: str | None = None,
        external_id: str | None = None,
        stream: str,
        after: int = 0,
        correlation_id: str | None = None,
        deadline: float | None = None,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.session_id = session_id
        self.external_id = external_id
        self.stream = stream
        self.after = after
        self.correlation_id = correlation_id

    @property
    def ids(self) -> dict[str, str]:
        """What every event says besides how the wait ended."""
        return _address_ids(self.session_id, self.external_id)

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait for the record.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        """

        async def poll(client: AsyncHelmrClient) -> bool:
            session = client.sessions.open(self.session_id, external_id=self.external_id)
            record = await session.output(self.stream).read(after=self.after, correlation_id=self.correlation_id)
            return record is not None or not (await session.retrieve()).is_open

        key = _key("output", self.session_id, self.external_id, self.stream, self.after, self.correlation_id)
        await waiter_of(client).until(key, poll, bool, timeout=remaining)


class HelmrTurnTrigger(HelmrTrigger):
    """Fire when a turn is over: the run that has taken an input record has ended, or the answer is there.

    The event holds the session's id; the resumed task polls the turn itself. Nothing is ended by this
    trigger, as input can't be taken back.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param session_id: the session.
    :param stream: name of the input stream.
    :param sequence: of the input record.
    :param run_id: the run that takes it, where that is known already.
    :param output: name of the output stream whose next record ends the turn; without it, the end of the run does.
    :param correlation_id: only an output record with it counts.
    :param after: no output record up to this sequence can be the answer.
    :param deadline: when to give up, in seconds since the epoch.
    :param version: version of the stored form.
    """

    def __init__(
        self,
        *,
        helmr_conn_id: str,
        session_id: str,
        stream: str,
        sequence: int,
        run_id: str | None = None,
        output: str | None = None,
        correlation_id: str | None = None,
        after: int = 0,
        deadline: float | None = None,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.session_id = session_id
        self.stream = stream
        self.sequence = sequence
        self.run_id = run_id
        self.output = output
        self.correlation_id = correlation_id
        self.after = after

    @property
    def ids(self) -> dict[str, str]:
        """What every event says besides how the wait ended."""
        return {"session_id": self.session_id}

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait for the turn.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        """
        turn = Turn(
            session_id=self.session_id,
            stream=self.stream,
            sequence=self.sequence,
            run_id=self.run_id,
            output=self.output,
            correlation_id=self.correlation_id,
            after=self.after,
        )
        clock = asyncio.get_running_loop().time
        began, run_id = clock(), self.run_id
        if self.output is not None or run_id is None:
            poller = TurnPoller(turn)
            seen = await waiter_of(client).until(
                _key("turn", *turn.ids.items()),
                lambda client: run_steps_async(client, poller.poll()),
                lambda seen: seen.is_over or (self.output is None and seen.run is not None),
                timeout=remaining,
            )
            if seen.is_over or seen.run is None:
                return
            run_id = seen.run.id
        # Runs are waited for together, with streams; a turn by itself is only polled.
        await waiter_of(client).run(run_id, timeout=None if remaining is None else remaining - (clock() - began))


class HelmrRunReleaseTrigger(HelmrTrigger):
    """Fire when the worker has released a run: later than the run's own end, if that was cancelled.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param session_id: the session.
    :param run_id: its run.
    :param deadline: when to give up, in seconds since the epoch.
    :param version: version of the stored form.
    """

    def __init__(
        self,
        *,
        helmr_conn_id: str,
        session_id: str,
        run_id: str,
        deadline: float | None = None,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.session_id = session_id
        self.run_id = run_id

    @property
    def ids(self) -> dict[str, str]:
        """What every event says besides how the wait ended."""
        return {"session_id": self.session_id, "run_id": self.run_id}

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait for the worker.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        """
        await waiter_of(client).until(
            _key("release", self.session_id, self.run_id),
            lambda client: client.sessions.open(self.session_id).runs(),
            lambda runs: all(run.run_id != self.run_id or is_released(run) for run in runs),
            timeout=remaining,
        )


def reached(session: Any, statuses: Sequence[str] | None, activities: Sequence[str] | None) -> bool:
    """Say whether a session is as it should be.

    :param session: as it was read.
    :param statuses: one of them, if there are any.
    :param activities: one of them, if there are any.
    """
    return (not statuses or session.status in statuses) and (not activities or session.activity in activities)


def is_released(run: Any) -> bool:
    """Say whether no worker holds the run any more.

    :param run: as the list of its session's runs shows it; a server may not say how it is executed.
    """
    return bool(run.is_terminal and run.execution_status in {"finished", ""})


def _address_ids(session_id: str | None, external_id: str | None) -> dict[str, str]:
    ids = {"session_id": session_id, "external_id": external_id}
    return {name: value for name, value in ids.items() if value is not None}


def _key(kind: str, *depends_on: Any) -> WaitKey:
    # Equal keys share their reads, so a key says everything that these depend on.
    return WaitKey(kind, json.dumps(depends_on))

"""The context that a task receives.

**Replay.** Each effect of a task (a log line, a token, a wait, a record, a metadata change) is a numbered *step* of its
attempt, and each step's result is committed together with its effect. A run that waited when the process died is
resumed by calling its coroutine again from the start: steps that have a result return it without doing anything, so
the coroutine arrives where it waited. What a task does outside its context (reading a file, calling a service, plain
`asyncio.sleep`) is done again. A coroutine that takes other steps than it took before fails its attempt.

A run that *ran* when the process died is not resumed: it is unknown how far its own effects went. Its execution
counts as lost, and its next attempt starts with no steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import SECOND
from helmr_provider.local.common.durations import token_timeout
from helmr_provider.local.common.jsontext import jsonb, loads, plain
from helmr_provider.local.definitions.tasks import TaskFailure
from helmr_provider.local.state import events, logs, runs, streams, tokens

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

Resumption = Callable[[], "asyncio.Future[None]"]
_DEFAULT_TIMEOUT = "168h"


class TokenCancelled(Exception):  # noqa: N818 - named after what happened to the wait
    """The token that the task waited for was cancelled."""


class TokenExpired(Exception):  # noqa: N818 - named after what happened to the wait
    """The token that the task waited for was not completed in time."""


class WaitTimedOut(Exception):  # noqa: N818 - named after what happened to the wait
    """Nothing came before the wait's own timeout."""


@dataclass(frozen=True)
class TaskToken:
    """A token that the task has created. Its `repr` shows no secret.

    :param id: the token's id.
    :param callback_url: completes the token without credentials.
    :param public_access_token: completes the token once, as a bearer.
    :param timeout_at: when it expires, RFC 3339.
    """

    id: str
    callback_url: str = field(repr=False)
    public_access_token: str = field(repr=False)
    timeout_at: str


@dataclass(frozen=True)
class TaskInput:
    """What a stream wait gives the task. It carries no correlation id: :meth:`TaskContext.peek` returns the record.

    :param data: any JSON value.
    :param sequence: its place in the stream, from 1.
    :param stream: the stream's name.
    """

    data: Any
    sequence: int
    stream: str


@dataclass(frozen=True)
class TaskRecord:
    """A record of a stream, as the API lists it.

    :param id: its id.
    :param data: any JSON value.
    :param sequence: its place in the stream, from 1.
    :param stream_id: the stream's id.
    :param correlation_id: the correlation id that it was sent with.
    :param content_type: its content type.
    :param created_at: when it was appended, RFC 3339.
    """

    id: str
    data: Any
    sequence: int
    stream_id: str
    correlation_id: str | None
    content_type: str
    created_at: str


@dataclass(frozen=True)
class TurnCause:
    """The input record that caused a follow-up turn, as the run's `run.created` event names it.

    :param record_id: the record's id.
    :param stream_id: the stream's id.
    :param sequence: the record's place in the stream, from 1.
    """

    record_id: str
    stream_id: str
    sequence: int


class TaskContext:
    """The run that a task executes, and what it may do there. Made by the worker."""

    def __init__(self, core: Core, run: Row, resumption: Resumption) -> None:
        self._shared_state = core
        self._dropped = False
        self._resumption = resumption
        self._step = 0
        self._uses_workspace = False
        self.run_id: str = run["id"]
        self.session_id: str = run["session_id"]
        self.task_id: str = run["task_id"]
        self.attempt_number: int = run["attempt_number"]
        self.turn_index: int = run["turn_index"]
        self.cause = _cause(core, run)
        self._positions: dict[str, int] = {}
        self._lease: str | None = run["lease_id"]

    @property
    def _core(self) -> Core:
        # The only access to the database, which is closed after the drop. The task may still be running then.
        if self._dropped:
            raise asyncio.CancelledError
        return self._shared_state

    def drop(self) -> None:
        """Raise a cancellation from every later call. The worker calls this when the control plane stops."""
        self._dropped = True

    def log(self, text: str) -> None:
        """Write a line to the run's stdout."""
        self.stdout(f"{text}\n")

    def stdout(self, content: str | bytes) -> None:
        """Write to the run's stdout as it is."""
        self._effect("stdout", lambda run: logs.append(self._core, run, "stdout", _bytes(content)))

    def stderr(self, content: str | bytes) -> None:
        """Write to the run's stderr as it is."""
        self._effect("stderr", lambda run: logs.append(self._core, run, "stderr", _bytes(content)))

    def log_entry(self) -> None:
        """Write a structured log entry; no API returns its content, so none is taken (contract/behaviour.md §7.1)."""

        def write(run: Row) -> None:
            events.append(self._core, run, "log", at=self._core.clock.now(), leased=True, worker_span=True)

        self._effect("log", write)

    async def set_metadata(self, **members: Any) -> None:
        """Set members of the run's metadata."""
        self._effect("metadata", lambda run: runs.set_metadata(self._core, run, members))

    async def create_token(
        self,
        *,
        timeout: str | float | timedelta | None = None,  # noqa: ASYNC109 - the token's, not this call's
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> TaskToken:
        """Create a token.

        :param timeout: how long it may be completed: duration text, seconds or a timedelta; 7 days if absent.
        :param tags: its tags.
        :param metadata: its metadata.
        """

        def create(run: Row) -> str:
            limit = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
            milliseconds = limit * 1000 if isinstance(limit, int | float) else limit or _DEFAULT_TIMEOUT
            new = tokens.NewToken(token_timeout(milliseconds), sorted(set(tags or [])), metadata or {}, None, "")
            token, _ = tokens.create(self._core, run["environment_id"], new)
            return str(token["id"])

        token_id = self._effect("token", create)
        row = tokens.by_id(self._core, token_id)
        if row is None:
            raise TaskFailure(f"token {token_id} is gone")
        shown = tokens.rendered_with_secrets(self._core, row)
        return TaskToken(token_id, shown["callback_url"], shown["public_access_token"], shown["timeout_at"])

    async def wait_for_token(
        self,
        token: TaskToken | str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a durable wait, not a cancelled call
    ) -> Any:
        """Wait until a token is completed and return the completion's data; the run is `waiting` until then.

        :param token: a token of this environment, or its id.
        :param timeout: seconds after which to wait no longer.
        :raises TokenCancelled: if it is cancelled.
        :raises TokenExpired: if it expires.
        :raises WaitTimedOut: after `timeout`.
        """
        token_id = token.id if isinstance(token, TaskToken) else token
        row = tokens.by_id(self._core, token_id)
        if row is None or row["environment_id"] != self._row()["environment_id"]:
            raise TaskFailure(f"there is no token {token_id}")
        known = None
        if row["status"] == "completed":
            known = {"status": "completed", "data": loads(row["data"])}
        elif row["status"] != "pending":
            known = {"status": row["status"]}
        outcome = await self._wait("token", known, ref=token_id, seconds=timeout)
        if outcome["status"] == "completed":
            return plain(outcome["data"])
        if outcome["status"] == "timed_out":
            raise WaitTimedOut(f"token {token_id} was not completed in time")
        refusal = TokenCancelled if outcome["status"] == "cancelled" else TokenExpired
        raise refusal(f"token {token_id} is {outcome['status']}")

    async def wait_for_input(
        self,
        stream: str,
        *,
        correlation_id: str | None = None,
        after_sequence: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a durable wait, not a cancelled call
    ) -> Any:
        """Wait for a record of an input stream, as :meth:`receive` does, and return its data.

        :param stream: the name of a declared input stream.
        :param correlation_id: wait for a record that carries it.
        :param after_sequence: wait for a record after this one.
        :param timeout: seconds after which to wait no longer.
        :raises WaitTimedOut: after `timeout`.
        """
        received = await self.receive(
            stream, correlation_id=correlation_id, after_sequence=after_sequence, timeout=timeout
        )
        return received.data

    async def receive(
        self,
        stream: str,
        *,
        correlation_id: str | None = None,
        after_sequence: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a durable wait, not a cancelled call
    ) -> TaskInput:
        """Wait for a record of an input stream and return it; the run is `waiting` while there is none.

        The control plane keeps no position: the first wait of every turn gets the *first* record of the stream, not the
        one that caused the turn. Later waits of the same run continue after the record that they got. To continue
        where the turn before ended, pass `after_sequence`, for example `ctx.cause.sequence - 1`.

        :param stream: the name of a declared input stream.
        :param correlation_id: wait for a record that carries it.
        :param after_sequence: wait for a record after this one; after the last one that this run got if absent.
        :param timeout: seconds after which to wait no longer.
        :raises WaitTimedOut: after `timeout`.
        """
        self._require_stream("input", stream)
        opened = streams.opened(self._core, self.session_id, "input", stream)
        after = self._positions.get(stream, 0) if after_sequence is None else after_sequence

        def read(run: Row) -> dict[str, Any] | None:
            record = streams.read(self._core, opened, run, after, correlation_id)
            return None if record is None else {"status": "received", "record": streams.resolution(stream, record)}

        outcome = await self._wait(
            "stream", read, ref=opened["id"], correlation=correlation_id, seconds=timeout, after=after
        )
        if outcome["status"] == "timed_out":
            raise WaitTimedOut(f"no input came on {stream} in time")
        record = outcome["record"]
        self._positions[stream] = record["sequence"]
        return TaskInput(plain(record["data"]), record["sequence"], stream)

    async def peek(
        self, stream: str, *, correlation_id: str | None = None, after_sequence: int = 0
    ) -> TaskRecord | None:
        """Return the first record of an input stream after a sequence without waiting; None if there is none.

        :param stream: the name of a declared input stream.
        :param correlation_id: return a record that carries it.
        :param after_sequence: return a record after this one.
        """
        self._require_stream("input", stream)

        def read(run: Row) -> dict[str, Any] | None:
            opened = streams.opened(self._core, run["session_id"], "input", stream)
            found = streams.after(self._core, opened, after_sequence, correlation_id, 1)
            return streams.rendered_record(found[0]) if found else None

        record = self._effect("peek", read)
        if record is None:
            return None
        return TaskRecord(
            record["id"],
            plain(record["data"]),
            record["sequence"],
            record["stream_id"],
            record.get("correlation_id"),
            record["content_type"],
            record["created_at"],
        )

    async def publish(self, stream: str, data: Any, *, correlation_id: str | None = None) -> int:
        """Append a record to an output stream and return its sequence."""
        self._require_stream("output", stream)

        def append(run: Row) -> int:
            opened = streams.opened(self._core, run["session_id"], "output", stream)
            record, _ = streams.append(self._core, opened, streams.NewRecord(data, correlation_id))
            return int(record["sequence"])

        return int(self._effect("publish", append))

    async def workspace(self) -> Path:
        """Return the directory of the session's workspace, to read and to change.

        Its content when the task has succeeded becomes a version. Ask again after a wait: if the workspace was
        stopped during the wait, the directory is made again from its version.
        """
        self._uses_workspace = True
        return await self._core.workspaces.directory(self._leased())

    async def commit_workspace(self) -> None:
        """Make the workspace of a task that has succeeded a version; the worker calls this."""
        await self._core.workspaces.commit(self._leased(), changed=self._uses_workspace)

    async def sleep(self, seconds: float) -> None:
        """Wait for a timer: the run is `waiting` until then, also over a restart of the control plane."""
        await self._wait("timer", None, seconds=seconds)

    def _effect(self, kind: str, act: Callable[[Row], Any]) -> Any:
        step = self._next_step()
        with self._core.db.transaction():
            recorded = self._recorded(step, kind)
            if recorded is not None:
                return recorded["value"]
            value = act(self._leased())
            self._record(step, kind, {"value": value})
        return value

    async def _wait(
        self,
        kind: str,
        known: dict[str, Any] | Callable[[Row], dict[str, Any] | None] | None,
        *,
        ref: str | None = None,
        correlation: str | None = None,
        seconds: float | None = None,
        after: int | None = None,
    ) -> dict[str, Any]:
        """Wait for an outcome: a recorded one, one that is there already, or one that comes."""
        step = self._next_step()
        with self._core.db.transaction():
            recorded = self._recorded(step, f"wait.{kind}")
            if recorded is not None:
                return recorded
            run = self._leased()
            self._core.workspaces.require_held(run)
            outcome = known(run) if callable(known) else known
            if outcome is not None:
                self._record(step, f"wait.{kind}", outcome)
                return outcome
            due = None if seconds is None else self._core.clock.now() + int(seconds * SECOND)
            runs.suspend(self._core, run, step=step, kind=kind, ref=ref, correlation=correlation, due=due, after=after)
            if not self._uses_workspace:
                # A waiting run does not hold its workspace; one that has used the directory keeps it as it is.
                self._core.workspaces.release(self.run_id)
            resumed = self._resumption()
        await resumed
        self._lease = self._row()["lease_id"]
        recorded = self._recorded(step, f"wait.{kind}")
        if recorded is None:
            raise asyncio.CancelledError
        return recorded

    def _next_step(self) -> int:
        self._step += 1
        return self._step

    def _recorded(self, step: int, kind: str) -> dict[str, Any] | None:
        row = self._core.db.one(
            "SELECT kind, result FROM run_steps WHERE run_id = ? AND attempt_number = ? AND step = ?",
            self.run_id,
            self.attempt_number,
            step,
        )
        if row is None:
            return None
        if row["kind"] != kind:
            raise TaskFailure(
                f"the task took another way than before it was interrupted: step {step} was {row['kind']}, now {kind}"
            )
        result: dict[str, Any] = loads(row["result"])
        return result

    def _record(self, step: int, kind: str, result: dict[str, Any]) -> None:
        self._core.db.insert(
            "run_steps",
            run_id=self.run_id,
            attempt_number=self.attempt_number,
            step=step,
            kind=kind,
            result=jsonb(result),
        )

    def _row(self) -> Row:
        return runs.reread(self._core, self.run_id)

    def _leased(self) -> Row:
        """Return the run if this execution still holds it; a cancelled or lost one may change nothing any more."""
        run = self._row()
        if run["lease_id"] is None or run["lease_id"] != self._lease:
            raise asyncio.CancelledError
        return run

    def _require_stream(self, direction: str, name: str) -> None:
        if not self._core.deployment.declares(direction, name):
            raise TaskFailure(f"no task declares the {direction} stream {name!r}")


def _cause(core: Core, run: Row) -> TurnCause | None:
    if run["cause_record_id"] is None:
        return None
    record = streams.record(core, run["cause_record_id"])
    return TurnCause(record["id"], record["stream_id"], record["sequence"])


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "replace")

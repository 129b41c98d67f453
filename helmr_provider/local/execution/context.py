"""What a task sees: its context.

**Replay.** Each effect of a task (a log line, a token, a wait, a record, a metadata change) is a numbered *step* of its
attempt, and each step's result is committed together with its effect. A run that waited when the process died is
resumed by calling its coroutine again from the start: steps that have a result return it without doing anything, so
the coroutine arrives where it waited. What a task does outside its context (reading a file, calling a service, plain
`asyncio.sleep`) is done again. A coroutine that takes other steps than it took before fails its attempt.

A run that *ran* when the process died is not resumed: nobody can know how far its own effects went. Its execution
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
from helmr_provider.local.common.jsontext import jsonb, loads
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
    """A token as the task that created it sees it; both secrets stay out of its text.

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
    """An input record as the task that took it sees it.

    :param data: what was sent, any JSON value.
    :param sequence: its place in the stream, from 1.
    :param correlation_id: for the answer to carry, too.
    """

    data: Any
    sequence: int
    correlation_id: str | None = None


class TaskContext:
    """The run that a task executes, and what it may do there. Made by the worker."""

    def __init__(self, core: Core, run: Row, resumption: Resumption) -> None:
        self._core = core
        self._resumption = resumption
        self._step = 0
        self._uses_workspace = False
        self.run_id: str = run["id"]
        self.session_id: str = run["session_id"]
        self.task_id: str = run["task_id"]
        self.attempt_number: int = run["attempt_number"]
        self.turn_index: int = run["turn_index"]
        self._lease: str | None = run["lease_id"]

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
        """Wait until a token is completed and return the completion's data; the run is `waiting` meanwhile.

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
            return outcome["data"]
        if outcome["status"] == "timed_out":
            raise WaitTimedOut(f"token {token_id} was not completed in time")
        refusal = TokenCancelled if outcome["status"] == "cancelled" else TokenExpired
        raise refusal(f"token {token_id} is {outcome['status']}")

    async def wait_for_input(
        self,
        stream: str,
        *,
        correlation_id: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a durable wait, not a cancelled call
    ) -> Any:
        """Take the next record of an input stream, as :meth:`receive` does, and return its data.

        :param stream: the name of a declared input stream.
        :param correlation_id: take only records that carry it.
        :param timeout: seconds after which to wait no longer.
        :raises WaitTimedOut: after `timeout`.
        """
        return (await self.receive(stream, correlation_id=correlation_id, timeout=timeout)).data

    async def receive(
        self,
        stream: str,
        *,
        correlation_id: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a durable wait, not a cancelled call
    ) -> TaskInput:
        """Take the next record of an input stream that nobody took, and return it.

        The run is `waiting` while there is none. In a follow-up turn the record that caused it is the first.

        :param stream: the name of a declared input stream.
        :param correlation_id: take only records that carry it.
        :param timeout: seconds after which to wait no longer.
        :raises WaitTimedOut: after `timeout`.
        """
        self._require_stream("input", stream)
        opened = streams.opened(self._core, self.session_id, "input", stream)

        def take(run: Row) -> dict[str, Any] | None:
            record = streams.take(self._core, opened, run, correlation_id)
            return None if record is None else {"status": "received", "record": streams.rendered_record(record)}

        outcome = await self._wait("stream", take, ref=opened["id"], correlation=correlation_id, seconds=timeout)
        if outcome["status"] == "timed_out":
            raise WaitTimedOut(f"no input came on {stream} in time")
        record = outcome["record"]
        return TaskInput(record["data"], record["sequence"], record.get("correlation_id"))

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

        What is in it when the task has succeeded becomes a version. Ask again after a wait: somebody may have stopped
        the workspace meanwhile, and then the directory is made anew from its version.
        """
        self._uses_workspace = True
        return await self._core.workspaces.directory(self._leased())

    async def commit_workspace(self) -> None:
        """Make the workspace's directory a version, if this task asked for it; the worker calls this."""
        if self._uses_workspace:
            await self._core.workspaces.commit(self._leased())

    async def sleep(self, seconds: float) -> None:
        """Wait for a timer: the run is `waiting` meanwhile, and a restart of the control plane does not shorten it."""
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
    ) -> dict[str, Any]:
        """Wait for an outcome: a recorded one, one that is there already, or one that comes."""
        step = self._next_step()
        with self._core.db.transaction():
            recorded = self._recorded(step, f"wait.{kind}")
            if recorded is not None:
                return recorded
            run = self._leased()
            outcome = known(run) if callable(known) else known
            if outcome is not None:
                self._record(step, f"wait.{kind}", outcome)
                return outcome
            due = None if seconds is None else self._core.clock.now() + int(seconds * SECOND)
            runs.suspend(self._core, run, step=step, kind=kind, ref=ref, correlation=correlation, due=due)
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


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "replace")

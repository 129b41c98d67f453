"""Sessions: start, open, retrieve, list, update, close, cancel (contract/behaviour.md sections 3 and 4)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, overload

from typing_extensions import TypeVar

from helmr_provider.client._async.session_streams import AsyncSessionInput, AsyncSessionOutput
from helmr_provider.client._internals import transport_of
from helmr_provider.client._session_ref import SessionRef
from helmr_provider.client._wire.responses import check_start, read, read_list, same_id
from helmr_provider.client._wire.serialization import NOT_GIVEN, reason_body, update_body
from helmr_provider.client._wire.start_request import start_request
from helmr_provider.client.durations import seconds
from helmr_provider.client.errors import HelmrError, HelmrTimeoutError
from helmr_provider.client.models.sessions import SessionRun, SessionSnapshot, SessionStart, SessionStartAndWait
from helmr_provider.client.models.streams import SessionStream
from helmr_provider.client.streams import input_stream, output_stream

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Unpack

    from _typeshed import DataclassInstance
    from pydantic import BaseModel

    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client._wire.serialization import NotGiven
    from helmr_provider.client._wire.start_request import StartAndWaitOptions, StartOptions, StartRequest
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.streams import InputStream, OutputStream
    from helmr_provider.client.tasks import Task

In = TypeVar("In")
# Models and dataclasses may also be mappings, alone and in collections: both are checked at run time.
Record = TypeVar("Record", bound="BaseModel | DataclassInstance")
# With a default, None alone is not ``OrNone | None`` to mypy.
OrNone = TypeVar("OrNone", bound="BaseModel | DataclassInstance", default="BaseModel")
if TYPE_CHECKING:
    OfRecord = Task[Record, Any] | Task[OrNone | None, Any]
    OfRecords = Task[list[Record], Any] | Task[list[Record] | None, Any]
    OfNamedRecords = Task[dict[str, Record], Any] | Task[dict[str, Record] | None, Any]
T = TypeVar("T")


class AsyncSessions:
    """The sessions of the client's environment.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: AsyncHelmrClient) -> None:
        self._client = client
        self._transport = transport_of(client)

    @overload
    async def start(self, target: StartRequest, *, timeout: Duration | None = ...) -> SessionStart: ...

    @overload
    async def start(
        self, target: str, payload: Any = ..., *, timeout: Duration | None = ..., **options: Unpack[StartOptions]
    ) -> SessionStart: ...

    @overload
    async def start(
        self, target: Task[None, Any], *, timeout: Duration | None = ..., **options: Unpack[StartOptions]
    ) -> SessionStart: ...

    @overload
    async def start(
        self, target: Task[In, Any], payload: In, *, timeout: Duration | None = ..., **options: Unpack[StartOptions]
    ) -> SessionStart: ...

    @overload
    async def start(
        self,
        target: OfRecord[Record, OrNone],
        payload: Mapping[str, Any],
        *,
        timeout: Duration | None = ...,
        **options: Unpack[StartOptions],
    ) -> SessionStart: ...

    @overload
    async def start(
        self,
        target: OfRecords[Record],
        payload: Sequence[Record | Mapping[str, Any]],
        *,
        timeout: Duration | None = ...,
        **options: Unpack[StartOptions],
    ) -> SessionStart: ...

    @overload
    async def start(
        self,
        target: OfNamedRecords[Record],
        payload: Mapping[str, Record | Mapping[str, Any]],
        *,
        timeout: Duration | None = ...,
        **options: Unpack[StartOptions],
    ) -> SessionStart: ...

    async def start(
        self,
        target: str | Task[Any, Any] | StartRequest,
        payload: Any = NOT_GIVEN,
        *,
        timeout: Duration | None = None,
        **options: Unpack[StartOptions],
    ) -> SessionStart:
        """Start a session and its first run, or find the one that has this identity (startSession).

        Pass an ``external_id`` to be sure that a start that is sent twice starts once: it holds on every server
        version. Metadata and payload are copied into events and are no place for secrets.

        :param target: task id, a typed task, or a :class:`~helmr_provider.client.StartRequest`, which is sent as it is.
        :param payload: any JSON value; left out it is ``{}`` for the task, None is null.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :param options: the options of :class:`~helmr_provider.client.StartRequest`, which describes them.
        :raises PayloadValidationError: the payload does not fit the task, or is not JSON; nothing was sent.
        :raises ValueError: another option does not fit; nothing was sent.
        :raises HelmrConflictError: the task is not deployed, or the identity belongs to another or a finished session.
        :raises HelmrProtocolError: the answer is about another session, run or task.
        """
        request = start_request(target, payload, options)
        value = await self._transport.call("startSession", body=request.body, content=request.content, timeout=timeout)
        started = read(SessionStart, value, "startSession")
        check_start(started, request)
        return started

    @overload
    async def start_and_wait(
        self,
        target: StartRequest,
        *,
        timeout: Duration | None = ...,
    ) -> SessionStartAndWait: ...

    @overload
    async def start_and_wait(
        self, target: str, payload: Any = ..., **options: Unpack[StartAndWaitOptions]
    ) -> SessionStartAndWait: ...

    @overload
    async def start_and_wait(
        self, target: Task[None, Any], **options: Unpack[StartAndWaitOptions]
    ) -> SessionStartAndWait: ...

    @overload
    async def start_and_wait(
        self, target: Task[In, Any], payload: In, **options: Unpack[StartAndWaitOptions]
    ) -> SessionStartAndWait: ...

    @overload
    async def start_and_wait(
        self, target: OfRecord[Record, OrNone], payload: Mapping[str, Any], **options: Unpack[StartAndWaitOptions]
    ) -> SessionStartAndWait: ...

    @overload
    async def start_and_wait(
        self,
        target: OfRecords[Record],
        payload: Sequence[Record | Mapping[str, Any]],
        **options: Unpack[StartAndWaitOptions],
    ) -> SessionStartAndWait: ...

    @overload
    async def start_and_wait(
        self,
        target: OfNamedRecords[Record],
        payload: Mapping[str, Record | Mapping[str, Any]],
        **options: Unpack[StartAndWaitOptions],
    ) -> SessionStartAndWait: ...

    async def start_and_wait(
        self,
        target: str | Task[Any, Any] | StartRequest,
        payload: Any = NOT_GIVEN,
        *,
        timeout: Duration | None = None,
        **options: Unpack[StartOptions],
    ) -> SessionStartAndWait:
        """Start a session as :meth:`start` does, and wait for its run.

        The server's own start-and-wait ignores its timeout and ends after 30 s (contract/behaviour.md §21), so this
        starts and then waits, for as long as you say. The session of the result is read after the wait.

        :param target: task id, a typed task, or a :class:`~helmr_provider.client.StartRequest`.
        :param payload: any JSON value.
        :param timeout: length of the wait: timedelta, seconds, or text such as ``"1h"``; None waits for as long as it
            takes. When it passes, the result has ``timed_out`` set and the run as it is; the run continues.
            ``client.with_options(timeout=)`` limits the calls.
        :param options: the options of :class:`~helmr_provider.client.StartRequest`, which describes them.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        started = await self.start(start_request(target, payload, options))
        try:
            run = await self._client.runs.wait(started.run, timeout=limit)
        except HelmrTimeoutError:
            run = await self._client.runs.retrieve(started.run)
        # The server updates the session with its run; the answer to the start shows it as it was before.
        # Should reading it fail, the answer's is better than none: the run is over.
        session = started.session
        with contextlib.suppress(HelmrError):
            session = await self.retrieve(session)
        raw = started.raw | {"session": session.raw, "run": run.raw, "timed_out": not run.is_terminal}
        return read(SessionStartAndWait, raw, "startSession")

    def open(
        self,
        session: str | SessionSnapshot | AsyncSessionHandle | None = None,
        *,
        external_id: str | None = None,
    ) -> AsyncSessionHandle:
        """Return a handle of a session; sends nothing.

        :param session: session id (a plain text is always an id), or a snapshot or handle.
        :param external_id: the session's external id instead.
        :raises ValueError: both or neither are passed, or it is blank.
        """
        if isinstance(session, AsyncSessionHandle):
            return AsyncSessionHandle(self._client, session.address)
        return AsyncSessionHandle(self._client, SessionRef.of(session, external_id))

    async def retrieve(
        self,
        session: str | SessionSnapshot | AsyncSessionHandle | None = None,
        *,
        external_id: str | None = None,
        timeout: Duration | None = None,
    ) -> SessionSnapshot:
        """Retrieve a session (getSession, getSessionByExternalId).

        :param session: session id, snapshot or handle.
        :param external_id: the session's external id instead.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such session in this environment.
        """
        return await self.open(session, external_id=external_id).retrieve(timeout=timeout)

    async def list(
        self,
        *,
        status: str | None = None,
        task_id: str | None = None,
        external_id: str | None = None,
        limit: int | None = None,
        timeout: Duration | None = None,
    ) -> builtins.list[SessionSnapshot]:
        """List sessions, last updated first (listSessions). There is no cursor.

        :param status: open, closed, cancelled or expired; ``"all"`` and None mean every session.
        :param task_id: sessions of this task only.
        :param external_id: the session with exactly this external id.
        :param limit: 1 to 200; the server's default is 100.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        # The server knows no "all" and would answer with an empty list (contract/behaviour.md section 21).
        wanted = None if status == "all" else status
        query = {"status": wanted, "task_id": task_id, "external_id": external_id, "limit": limit}
        value = await self._transport.call("listSessions", query=query, timeout=timeout)
        return read_list(SessionSnapshot, value, "sessions", "listSessions")

    async def update(
        self,
        session: str | SessionSnapshot | AsyncSessionHandle | None = None,
        *,
        external_id: str | None = None,
        metadata: Mapping[str, Any] | NotGiven = NOT_GIVEN,
        tags: Sequence[str] | NotGiven = NOT_GIVEN,
        expires_at: datetime | str | NotGiven = NOT_GIVEN,
        timeout: Duration | None = None,
    ) -> SessionSnapshot:
        """Change a session; see :meth:`AsyncSessionHandle.update`.

        :param session: session id, snapshot or handle.
        :param external_id: the session's external id instead.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        handle = self.open(session, external_id=external_id)
        return await handle.update(metadata=metadata, tags=tags, expires_at=expires_at, timeout=timeout)


class AsyncSessionHandle:
    """One session, by id or by external id. Building it sends nothing.

    :param client: the client to speak through.
    :param address: which session.
    """

    def __init__(self, client: AsyncHelmrClient, address: SessionRef) -> None:
        self._transport = transport_of(client)
        self.address = address

    @property
    def id(self) -> str | None:
        """Session id, if the handle was opened by id."""
        return self.address.id

    @property
    def external_id(self) -> str | None:
        """External id, if the handle was opened by it."""
        return self.address.external_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    async def retrieve(self, *, timeout: Duration | None = None) -> SessionSnapshot:
        """Retrieve the session (getSession, getSessionByExternalId).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such session in this environment.
        """
        return await self._snapshot("getSession", timeout=timeout)

    async def close(self, *, reason: str | None = None, timeout: Duration | None = None) -> SessionSnapshot:
        """Close the session, so that it takes no more input (closeSession).

        :param reason: kept as ``terminal_reason``.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: a run is live or owed, or the session is over.
        """
        return await self._snapshot("closeSession", reason_body(reason), timeout=timeout)

    async def cancel(self, *, reason: str | None = None, timeout: Duration | None = None) -> SessionSnapshot:
        """Cancel the session and its current run (cancelSession).

        The server answers with the session as it was before (contract/behaviour.md §21), so this reads it again; should
        that fail, the answer stands as it is, because the session is cancelled all the same.

        :param reason: kept as ``terminal_reason``.
        :param timeout: limit for each request with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrConflictError: the session is closed or expired.
        """
        before = await self._snapshot("cancelSession", reason_body(reason), timeout=timeout)
        try:
            return await self.retrieve(timeout=timeout)
        except HelmrError:
            return before

    async def runs(self, *, timeout: Duration | None = None) -> list[SessionRun]:
        """List all runs of the session, first turn first (listSessionRuns).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        value = await self._call("listSessionRuns", timeout=timeout)
        return read_list(SessionRun, value, "runs", "listSessionRuns")

    async def update(
        self,
        *,
        metadata: Mapping[str, Any] | NotGiven = NOT_GIVEN,
        tags: Sequence[str] | NotGiven = NOT_GIVEN,
        expires_at: datetime | str | NotGiven = NOT_GIVEN,
        timeout: Duration | None = None,
    ) -> SessionSnapshot:
        """Change the session (patchSession). Each member is replaced whole; of two writers, the last one wins.

        :param metadata: JSON object.
        :param tags: at most 10.
        :param expires_at: only later than the one it has; an aware datetime or ISO 8601 text.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: no member is passed, or a value does not fit; nothing was sent.
        :raises HelmrConflictError: the session is over.
        """
        return await self._snapshot("patchSession", update_body(metadata, tags, expires_at), timeout=timeout)

    async def streams(self, *, timeout: Duration | None = None) -> list[SessionStream]:
        """List the session's streams (listSessionStreams). A declared stream shows up with its first use.

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        value = await self._call("listSessionStreams", timeout=timeout)
        return read_list(SessionStream, value, "streams", "listSessionStreams")

    @overload
    def input(self, stream: str) -> AsyncSessionInput[Any]: ...

    @overload
    def input(self, stream: InputStream[T]) -> AsyncSessionInput[T]: ...

    def input(self, stream: str | InputStream[T]) -> AsyncSessionInput[Any] | AsyncSessionInput[T]:
        """Return an input stream of the session; sends nothing.

        :param stream: name, or a definition with the type of its records.
        :raises ValueError: the name is not one of a stream, or the definition is one of an output.
        """
        return AsyncSessionInput(self._transport, self.address, input_stream(stream))

    @overload
    def output(self, stream: str) -> AsyncSessionOutput[Any]: ...

    @overload
    def output(self, stream: OutputStream[T]) -> AsyncSessionOutput[T]: ...

    def output(self, stream: str | OutputStream[T]) -> AsyncSessionOutput[Any] | AsyncSessionOutput[T]:
        """Return an output stream of the session; sends nothing.

        :param stream: name, or a definition with the type of its records.
        :raises ValueError: the name is not one of a stream, or the definition is one of an input.
        """
        return AsyncSessionOutput(self._transport, self.address, output_stream(stream))

    async def _snapshot(
        self, operation: str, body: Mapping[str, Any] | None = None, *, timeout: Duration | None
    ) -> SessionSnapshot:
        snapshot = read(SessionSnapshot, await self._call(operation, body, timeout=timeout), operation)
        if self.address.id is not None:
            same_id(snapshot.id, self.address.id, operation)
        return snapshot

    async def _call(self, operation: str, body: Mapping[str, Any] | None = None, *, timeout: Duration | None) -> Any:
        address = self.address
        return await self._transport.call(
            address.operation(operation), path=address.path, query=address.query, body=body, timeout=timeout
        )

# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""The streams of one session (contract/behaviour.md section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, cast, overload

from typing_extensions import TypeVar

from helmr_provider.client._config import check_credential
from helmr_provider.client._schemas import parse
from helmr_provider.client._secrets import hide
from helmr_provider.client._unasync_pairs import each
from helmr_provider.client._wire.json_values import json_object
from helmr_provider.client._wire.responses import read, read_list
from helmr_provider.client._wire.stream_serialization import record_body
from helmr_provider.client.errors import HelmrProtocolError
from helmr_provider.client.models.streams import SentRecord, StreamRecord

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence
    from typing import TypedDict, Unpack

    from _typeshed import DataclassInstance
    from pydantic import BaseModel

    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._session_ref import SessionRef
    from helmr_provider.client._sync.transport import Transport
    from helmr_provider.client._unasync_pairs import Items, Stream
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.streams import InputStream, OutputStream

T = TypeVar("T", default=Any)
# As for the payload of a start.
Record = TypeVar("Record", bound="BaseModel | DataclassInstance")
if TYPE_CHECKING:

    class AppendOptions(TypedDict, total=False):
        """Options of ``append`` of an output stream, which describes them."""

        content_type: str | None
        correlation_id: str | None
        idempotency_key: str | None
        timeout: Duration | None

    class SendOptions(AppendOptions, total=False):
        """Options of ``send`` of an input stream, which describes them."""

        public_access_token: str | None


class _Records(Generic[T]):
    """The records of one stream, oldest first."""

    _LIST: str

    def __init__(self, transport: Transport, address: SessionRef, stream: InputStream[T] | OutputStream[T]) -> None:
        self._transport = transport
        self._address = address
        self.stream = stream

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self.stream.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self._address})"

    def list(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        correlation_id: str | None = None,
        timeout: Duration | None = None,
    ) -> builtins.list[StreamRecord[T]]:
        """List records, oldest first (listSessionInputRecords, listSessionOutputRecords); see :meth:`iter` for all.

        :param after: only records behind this sequence.
        :param limit: 1 to 500; the server's default is 100.
        :param correlation_id: only records with this correlation id.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises PayloadValidationError: a record does not fit the stream's type.
        :raises HelmrNotFoundError: no such session, or it declares no such stream.
        """
        query = {"after_sequence": after, "limit": limit, "correlation_id": correlation_id}
        value = self._call(self._LIST, query=query, timeout=timeout)
        return [self._typed(record) for record in read_list(StreamRecord[Any], value, "records", self._LIST)]

    def iter(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        correlation_id: str | None = None,
        timeout: Duration | None = None,
    ) -> Stream[StreamRecord[T]]:
        """Yield all records that are there, oldest first, page by page. It does not wait for more.

        :param after: only records behind this sequence.
        :param limit: records for each request, 1 to 500.
        :param correlation_id: only records with this correlation id.
        :param timeout: limit for each request with its repeats: seconds, timedelta or text; the client's when left out.
        :raises PayloadValidationError: a record does not fit the stream's type.
        """
        while True:
            page = self.list(after=after, limit=limit, correlation_id=correlation_id, timeout=timeout)
            for record in page:
                yield record
            # A server that hands out the same page again would otherwise be read for ever.
            if not page or page[-1].sequence <= (after or 0):
                return
            after = page[-1].sequence

    def _typed(self, record: StreamRecord[Any]) -> StreamRecord[T]:
        if self.stream.schema is None:
            return cast("StreamRecord[T]", record)
        what = f"Record {record.sequence} of the {self.stream.direction} stream {self.name}"
        advice = "Open the stream by its name alone to read what it holds."
        return record.model_copy(update={"data": parse(self.stream.schema, record.data, what, advice)})

    def _send(
        self,
        operation: str,
        body: dict[str, Any],
        credential: Secret | None = None,
        *,
        timeout: Duration | None,
    ) -> SentRecord:
        return read(SentRecord, self._call(operation, body=body, credential=credential, timeout=timeout), operation)

    def _call(
        self,
        operation: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        credential: Secret | None = None,
        timeout: Duration | None,
    ) -> Any:
        address = self._address
        return self._transport.call(
            address.operation(operation),
            path={**address.path, "stream": self.name},
            query={**address.query, **(query or {})},
            body=body,
            credential=credential,
            timeout=timeout,
        )


class SessionInput(_Records[T]):
    """An input stream of one session. Building it sends nothing."""

    _LIST = "listSessionInputRecords"

    @overload
    def send(self, data: T, **options: Unpack[SendOptions]) -> SentRecord: ...

    @overload
    def send(self: SessionInput[Record], data: Mapping[str, Any], **options: Unpack[SendOptions]) -> SentRecord: ...

    @overload
    def send(
        self: SessionInput[Record | None], data: Mapping[str, Any], **options: Unpack[SendOptions]
    ) -> SentRecord: ...

    @overload
    def send(
        self: SessionInput[list[Record]],
        data: Sequence[Record | Mapping[str, Any]],
        **options: Unpack[SendOptions],
    ) -> SentRecord: ...

    @overload
    def send(
        self: SessionInput[list[Record] | None],
        data: Sequence[Record | Mapping[str, Any]],
        **options: Unpack[SendOptions],
    ) -> SentRecord: ...

    @overload
    def send(
        self: SessionInput[dict[str, Record]],
        data: Mapping[str, Record | Mapping[str, Any]],
        **options: Unpack[SendOptions],
    ) -> SentRecord: ...

    @overload
    def send(
        self: SessionInput[dict[str, Record] | None],
        data: Mapping[str, Record | Mapping[str, Any]],
        **options: Unpack[SendOptions],
    ) -> SentRecord: ...

    def send(
        self,
        data: Any,
        *,
        content_type: str | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        public_access_token: str | None = None,
        timeout: Duration | None = None,
    ) -> SentRecord:
        """Send a record to the session (appendSessionInput, publicAppendSessionInput).

        A waiting run takes it; otherwise it is kept for the next turn, which starts when the current run is over.

        :param data: any JSON value; must fit the stream's type, if it has one. It is sent unchanged.
        :param content_type: application/json when left out.
        :param correlation_id: kept with the record.
        :param idempotency_key: sent unchanged; the same key and data are stored once. Without a key, a send whose
            answer was lost is not repeated.
        :param public_access_token: credential to use instead of the API key; the client's project and environment play
            no part then, and each call uses up one of the token's uses, also one that only repeats.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises PayloadValidationError: the data do not fit, or are not JSON; nothing was sent.
        :raises HelmrConflictError: the session is over, or the key was used with other data.
        :raises HelmrGoneError: the session, or the public access token, has expired.
        """
        body = record_body(
            self.stream,
            data,
            content_type=content_type,
            correlation_id=correlation_id,
            idempotency_key=idempotency_key,
        )
        if public_access_token is None:
            return self._send("appendSessionInput", body, timeout=timeout)
        credential, public_access_token = hide(public_access_token), None
        check_credential(credential, "The public access token")
        return self._send("publicAppendSessionInput", body, credential, timeout=timeout)


class SessionOutput(_Records[T]):
    """An output stream of one session. Building it sends nothing."""

    _LIST = "listSessionOutputRecords"

    @overload
    def append(self, data: T, **options: Unpack[AppendOptions]) -> SentRecord: ...

    @overload
    def append(
        self: SessionOutput[Record], data: Mapping[str, Any], **options: Unpack[AppendOptions]
    ) -> SentRecord: ...

    @overload
    def append(
        self: SessionOutput[Record | None], data: Mapping[str, Any], **options: Unpack[AppendOptions]
    ) -> SentRecord: ...

    @overload
    def append(
        self: SessionOutput[list[Record]],
        data: Sequence[Record | Mapping[str, Any]],
        **options: Unpack[AppendOptions],
    ) -> SentRecord: ...

    @overload
    def append(
        self: SessionOutput[list[Record] | None],
        data: Sequence[Record | Mapping[str, Any]],
        **options: Unpack[AppendOptions],
    ) -> SentRecord: ...

    @overload
    def append(
        self: SessionOutput[dict[str, Record]],
        data: Mapping[str, Record | Mapping[str, Any]],
        **options: Unpack[AppendOptions],
    ) -> SentRecord: ...

    @overload
    def append(
        self: SessionOutput[dict[str, Record] | None],
        data: Mapping[str, Record | Mapping[str, Any]],
        **options: Unpack[AppendOptions],
    ) -> SentRecord: ...

    def append(
        self,
        data: Any,
        *,
        content_type: str | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        timeout: Duration | None = None,
    ) -> SentRecord:
        """Write a record as if the session had (appendSessionOutput).

        The server takes it in every status of the session.

        :param data: any JSON value; must fit the stream's type, if it has one. It is sent unchanged.
        :param content_type: application/json when left out.
        :param correlation_id: kept with the record.
        :param idempotency_key: sent unchanged; the same key and data are stored once.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises PayloadValidationError: the data do not fit, or are not JSON; nothing was sent.
        :raises HelmrConflictError: the key was used with other data.
        """
        body = record_body(
            self.stream,
            data,
            content_type=content_type,
            correlation_id=correlation_id,
            idempotency_key=idempotency_key,
        )
        return self._send("appendSessionOutput", body, timeout=timeout)

    @overload
    def extend(self, items: Items[T], *, content_type: str | None = ..., timeout: Duration | None = ...) -> None: ...

    @overload
    def extend(
        self: SessionOutput[Record],
        items: Items[Record | Mapping[str, Any]],
        *,
        content_type: str | None = ...,
        timeout: Duration | None = ...,
    ) -> None: ...

    @overload
    def extend(
        self: SessionOutput[Record | None],
        items: Items[Record | Mapping[str, Any] | None],
        *,
        content_type: str | None = ...,
        timeout: Duration | None = ...,
    ) -> None: ...

    @overload
    def extend(
        self: SessionOutput[list[Record]],
        items: Items[Sequence[Record | Mapping[str, Any]]],
        *,
        content_type: str | None = ...,
        timeout: Duration | None = ...,
    ) -> None: ...

    @overload
    def extend(
        self: SessionOutput[list[Record] | None],
        items: Items[Sequence[Record | Mapping[str, Any]] | None],
        *,
        content_type: str | None = ...,
        timeout: Duration | None = ...,
    ) -> None: ...

    @overload
    def extend(
        self: SessionOutput[dict[str, Record]],
        items: Items[Mapping[str, Record | Mapping[str, Any]]],
        *,
        content_type: str | None = ...,
        timeout: Duration | None = ...,
    ) -> None: ...

    @overload
    def extend(
        self: SessionOutput[dict[str, Record] | None],
        items: Items[Mapping[str, Record | Mapping[str, Any]] | None],
        *,
        content_type: str | None = ...,
        timeout: Duration | None = ...,
    ) -> None: ...

    def extend(self, items: Items[Any], *, content_type: str | None = None, timeout: Duration | None = None) -> None:
        """Write many records, one request each and in order (appendSessionOutput); stops at the first that fails.

        :param items: values as :meth:`append` takes them.
        :param content_type: application/json when left out.
        :param timeout: limit for each request with its repeats: seconds, timedelta or text; the client's when left out.
        """
        for item in each(items):
            self.append(item, content_type=content_type, timeout=timeout)

    def read(
        self,
        *,
        after: int | None = None,
        correlation_id: str | None = None,
        public_access_token: str | None = None,
        timeout: Duration | None = None,
    ) -> StreamRecord[T] | None:
        """Read the first record behind a position, or None if there is none yet. It never waits.

        Serves readSessionOutputRecord and publicReadSessionOutput.

        :param after: sequence of the last record seen; the first record when left out.
        :param correlation_id: only records with this correlation id.
        :param public_access_token: credential to use instead of the API key; the client's project and environment play
            no part then, and each call uses up one of the token's uses, also one that finds nothing.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises PayloadValidationError: the record does not fit the stream's type.
        :raises HelmrNotFoundError: no such session, or it declares no such stream.
        :raises HelmrGoneError: the public access token has expired.
        """
        operation, credential = "readSessionOutputRecord", None
        if public_access_token is not None:
            operation, credential = "publicReadSessionOutput", hide(public_access_token)
            public_access_token = None
            check_credential(credential, "The public access token")
        query = {"after_sequence": after, "correlation_id": correlation_id}
        answer = json_object(self._call(operation, query=query, credential=credential, timeout=timeout))
        if answer is None or "record" not in answer:
            raise HelmrProtocolError(f"{operation}: the answer has no member 'record'.", operation=operation)
        found = answer["record"]
        return None if found is None else self._typed(read(StreamRecord[Any], found, operation))

"""Session streams and their records as the server shows them."""

from __future__ import annotations

from typing import Any, ClassVar, Generic

from pydantic import Field
from typing_extensions import TypeVar

from helmr_provider.client.models.base import Instant, OptionalText, WireModel

T = TypeVar("T", default=Any)


class SessionStream(WireModel):
    """A stream of a session (schema Stream).

    :param direction: input or output.
    :param sequence: sequence of its newest record; 0 when it is empty.
    """

    id: str
    session_id: str
    name: str
    direction: str
    sequence: int = 0
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    created_at: Instant


class StreamRecord(WireModel, Generic[T]):
    """One record of a session stream (schema StreamRecord).

    :param sequence: position in its stream, from 1 and without gaps; what ``after`` takes.
    :param data: any JSON value, or what the stream's type makes of it; null is a value.
    """

    nullable: ClassVar[frozenset[str]] = frozenset({"data"})

    id: str
    stream_id: str
    sequence: int
    data: T
    correlation_id: OptionalText = None
    content_type: str = "application/json"
    created_at: Instant


class SentRecord(WireModel):
    """The answer to a sent record (schema AppendStreamRecordResponse).

    :param record: the record as it is stored; its data are plain JSON.
    :param idempotency_status: created, or duplicate for one that was there under this idempotency key.
    :param continuation_status: of an input. accepted_run_pending: a follow-up run is owed; created: a follow-up run was
        started; duplicate; None: a waiting run took the record.
    """

    record: StreamRecord[Any]
    idempotency_status: str = "created"
    continuation_status: OptionalText = None

    @property
    def id(self) -> str:
        """Id of the record."""
        return self.record.id

    @property
    def sequence(self) -> int:
        """Position of the record in its stream."""
        return self.record.sequence

    @property
    def is_duplicate(self) -> bool:
        """Whether the record had been sent before."""
        return self.idempotency_status == "duplicate"

"""The one request that starts a session: validated and encoded once (contract/behaviour.md sections 3 and 16). No I/O.

Importing this module loads neither httpx nor pydantic.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict

from helmr_provider.client._idempotency import session_key_value
from helmr_provider.client._session_ref import external_id_text
from helmr_provider.client._wire.json_values import encode, join_members
from helmr_provider.client._wire.serialization import NOT_GIVEN, check_retry, drop_none, is_whole, labels
from helmr_provider.client.durations import duration_text, instant_text, whole_seconds
from helmr_provider.client.errors import PayloadValidationError
from helmr_provider.client.tasks import Task, check_task_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from helmr_provider.client._idempotency import IdempotencyKey
    from helmr_provider.client._wire.serialization import RetryPolicy


class StartOptions(TypedDict, total=False):
    """Options of :class:`StartRequest`, which describes them, for functions that pass them on."""

    external_id: str | None
    idempotency_key: str | Sequence[str] | IdempotencyKey | None
    idempotency_key_ttl: timedelta | float | str | None
    queue: str | None
    concurrency_key: str | None
    priority: int | None
    ttl: timedelta | float | str | None
    max_duration: timedelta | float | str | None
    retry: RetryPolicy | None
    metadata: Mapping[str, Any] | None
    tags: Sequence[str] | None
    expires_at: datetime | str | None
    workspace_id: str | None


class StartAndWaitOptions(StartOptions, total=False):
    """Options of ``sessions.start_and_wait``, which describes them."""

    timeout: timedelta | float | str | None


# Members that name a session or describe it. The digest is about what runs.
_NOT_DIGESTED: Final = frozenset({"external_id", "idempotency_key", "idempotency_key_ttl", "metadata", "tags"})


@dataclass(frozen=True, eq=False)
class StartRequest:
    """What starts a session and its first run. Both clients take it: ``client.sessions.start(request)``.

    The constructor checks and encodes every member, so that a request that exists can be sent. Two requests are equal
    if they send the same bytes.

    :param target: task id, or a typed task, which the payload must fit.
    :param payload: any JSON value. Left out, the task receives ``{}``; None is null.
    :param external_id: names the session in its environment permanently, at most 512 bytes. A start with an external
        id can be repeated safely on every server version.
    :param idempotency_key: names this request; text, a list of texts, or a ready key.
    :param idempotency_key_ttl: how long the key holds; text, timedelta or seconds. Default: 30 days.
    :param queue: name of a declared queue.
    :param concurrency_key: runs with the same key take turns, as the queue is configured.
    :param priority: whole number; higher runs first.
    :param ttl: how long the run may stay queued; text, timedelta or seconds.
    :param max_duration: how long the run may take, 5 s to a day; text, timedelta or seconds, a whole number of them. A
        typed task sends its own limit unless this is set.
    :param retry: how often the server repeats a failed run.
    :param metadata: JSON object, kept with the session. No place for secrets.
    :param tags: at most 10, each at most 128 bytes.
    :param expires_at: when the session expires; an aware datetime or ISO 8601 text.
    :param workspace_id: workspace to attach instead of creating one.
    :raises PayloadValidationError: the payload does not fit the task, or is not JSON.
    :raises ValueError: another option does not fit.
    :raises TypeError: an option is of the wrong type.
    """

    target: str | Task[Any, Any]
    payload: Any = field(default=NOT_GIVEN, repr=False)
    _: KW_ONLY
    external_id: str | None = None
    idempotency_key: str | Sequence[str] | IdempotencyKey | None = field(default=None, repr=False)
    idempotency_key_ttl: timedelta | float | str | None = field(default=None, repr=False)
    queue: str | None = None
    concurrency_key: str | None = None
    priority: int | None = None
    ttl: timedelta | float | str | None = None
    max_duration: timedelta | float | str | None = None
    retry: RetryPolicy | None = None
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    tags: Sequence[str] | None = None
    expires_at: datetime | str | None = None
    workspace_id: str | None = None

    _members: dict[str, bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        members = {name: encode(value) for name, value in self._options().items()}
        if self.payload is not NOT_GIVEN:
            members["payload"] = encode(self.payload, "The payload")
        object.__setattr__(self, "_members", members)

    @property
    def task_id(self) -> str:
        """Id of the task."""
        return self.target.id if isinstance(self.target, Task) else self.target

    @property
    def content(self) -> bytes:
        """The body of startSession: a JSON object in UTF-8."""
        return join_members(self._members)

    @property
    def body(self) -> dict[str, Any]:
        """The body as JSON values, as the server reads them."""
        return {name: json.loads(value) for name, value in self._members.items()}

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of what runs: the task, the payload and every option that decides how it runs.

        External id, idempotency key, metadata and tags are not part of it, so that two attempts that would start the
        same work have the same digest, with any names and owners. The order of the keys of an
        object makes no difference. The digest is stable between releases: it may be stored and compared later.
        """
        body = {name: value for name, value in self.body.items() if name not in _NOT_DIGESTED}
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def named(self, external_id: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """Return this request under another name. The payload and the other options are not encoded again.

        :param external_id: external id of the session.
        :param metadata: metadata of the session; None leaves it out.
        :raises ValueError: the external id is blank or too long.
        :raises PayloadValidationError: the metadata is not JSON.
        """
        members = {name: value for name, value in self._members.items() if name not in {"external_id", "metadata"}}
        named = {"external_id": external_id_text(external_id), **labels(metadata, None)}
        request = copy.copy(self)
        for name, value in (
            ("external_id", external_id),
            ("metadata", metadata),
            ("_members", members | {name: encode(value) for name, value in named.items()}),
        ):
            object.__setattr__(request, name, value)
        return request

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StartRequest) and other._members == self._members

    def __hash__(self) -> int:
        return hash(frozenset(self._members.items()))

    def _options(self) -> dict[str, Any]:
        """Return the members of the body, payload excepted.

        :raises PayloadValidationError: the payload does not fit the target.
        :raises ValueError: another option does not fit.
        """
        body: dict[str, Any] = {"task_id": check_task_id(self.task_id)}
        if isinstance(self.target, Task):
            self._check_payload(self.target)
            body["max_duration_seconds"] = self.target.max_duration_seconds
        if self.idempotency_key is not None:
            body["idempotency_key"] = session_key_value(self.idempotency_key)
            if self.idempotency_key_ttl is not None:
                body["idempotency_key_ttl"] = duration_text("idempotency_key_ttl", self.idempotency_key_ttl)
        if self.queue is not None:
            body["queue"] = {"name": self.queue}
        if self.priority is not None and not is_whole(self.priority):
            raise TypeError("priority must be a whole number.")
        if self.max_duration is not None:
            body["max_duration_seconds"] = whole_seconds("max_duration", self.max_duration)
        if not 5 <= body.get("max_duration_seconds", 5) <= 86400:
            raise ValueError("max_duration must be between 5 seconds and a day.")
        body |= drop_none(
            external_id=None if self.external_id is None else external_id_text(self.external_id),
            concurrency_key=self.concurrency_key,
            priority=self.priority,
            ttl=None if self.ttl is None else duration_text("ttl", self.ttl),
            retry=None if self.retry is None else check_retry(self.retry),
            expires_at=None if self.expires_at is None else instant_text("expires_at", self.expires_at),
            workspace_id=self.workspace_id,
        )
        return body | labels(self.metadata, self.tags)

    def _check_payload(self, task: Task[Any, Any]) -> None:
        if task.payload is None:
            if self.payload is not NOT_GIVEN:
                raise PayloadValidationError(f"Task {task.id} takes no payload.")
            return
        if self.payload is NOT_GIVEN:
            raise PayloadValidationError(f"Task {task.id} needs a payload.")
        task.validate(self.payload)


def start_request(target: str | Task[Any, Any] | StartRequest, payload: Any, options: StartOptions) -> StartRequest:
    """Return the request that a caller means.

    :raises TypeError: a ready request comes with a payload or options.
    :raises ValueError: an option does not fit.
    """
    if not isinstance(target, StartRequest):
        return StartRequest(target, payload, **options)
    if payload is not NOT_GIVEN or options:
        raise TypeError("A StartRequest holds its payload and options already.")
    return target

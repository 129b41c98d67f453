"""Run events: the raw record, and what it means (contract/behaviour.md section 7)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from helmr_provider.client.models.base import Instant, OptionalText, WireModel

# The records after which only the snapshot can tell whether the run is over (contract/behaviour.md section 7.3).
TERMINAL_KINDS: Final = frozenset({"run.completed", "run.failed", "run.cancelled", "run.expired"})

WaitKind = Literal["token", "stream", "timer"]


class EventRecord(WireModel):
    """A run event as the server wrote it (schema RunEvent).

    :param id: position in the run, from 1; the cursor behind this record.
    :param attributes: ``{"redacted": true}`` for everything a task's own code produced.
    """

    id: str
    kind: str
    message: str
    at: Instant
    run_id: OptionalText = None
    run_lease_id: OptionalText = None
    attempt_id: OptionalText = None
    attempt_number: int | None = None
    category: str = ""
    severity: str = ""
    source: str = ""
    redaction_class: str = ""
    attributes: Any = None

    @property
    def is_terminal(self) -> bool:
        """Whether it reads as the end of the run. A retried run writes ``run.failed`` and continues."""
        return self.message in TERMINAL_KINDS or self.kind in TERMINAL_KINDS


def _text_or_none(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _number_or_none(value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _all_text_or_empty(value: Any) -> Any:
    items: list[Any] | None = value
    return items if isinstance(items, list) and all(isinstance(item, str) for item in items) else ()


_Text = Annotated[str | None, BeforeValidator(_text_or_none)]
_Number = Annotated[float | None, BeforeValidator(_number_or_none)]
_Tags = Annotated[tuple[str, ...], BeforeValidator(_all_text_or_empty)]


class BaseRunEvent(BaseModel):
    """What all events share.

    :param run_id: the run.
    :param at: when it happened.
    :param cursor: where to follow on from.
    :param raw: the record.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str = ""
    at: Instant
    cursor: str
    raw: EventRecord = Field(repr=False)


class LogEvent(BaseRunEvent):
    """The task wrote output; the bytes are in ``runs.logs``. Counts are 0 where the server redacts them."""

    type: Literal["log"] = "log"
    stream: Literal["stdout", "stderr"]
    bytes: int = 0
    observed_seq: int = 0


class WaitEvent(BaseRunEvent):
    """The run began to wait. This server version never writes it."""

    type: Literal["token_wait", "stream_wait", "timer_wait"]
    wait_id: str
    kind: WaitKind
    params: dict[str, Any] = Field(default_factory=dict[str, Any])
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    tags: _Tags = ()
    timeout: _Number = None


class WaitCompletedEvent(BaseRunEvent):
    """A wait of the run was resolved. This server version never writes it."""

    type: Literal["token_wait_completed", "stream_wait_completed", "timer_wait_completed"]
    wait_id: str
    kind: WaitKind
    payload: Any = None


class WaitTimedOutEvent(BaseRunEvent):
    """A wait of the run timed out. This server version never writes it."""

    type: Literal["token_wait_timed_out", "stream_wait_timed_out", "timer_wait_timed_out"]
    wait_id: str
    kind: WaitKind


class TaskResultEvent(BaseRunEvent):
    """The task returned."""

    type: Literal["task_result"] = "task_result"
    exit_code: int = 0


class RunFailedEvent(BaseRunEvent):
    """An attempt failed; another may follow.

    :param failure_kind: ``task_failed``, ``worker_failed``, ``max_duration``, ``task_not_found``, … (open-ended). The
        control plane sends none when it has failed the run itself; `origin`, `reason` and `message` say why then.
    :param detail: the worker's description, usually an object with a ``message``.
    :param origin: the part of the control plane that has failed the run, for example ``run_wait_resume``.
    :param reason: its reason, for example ``workspace_version_mismatch``.
    :param message: its text for people.
    """

    type: Literal["run_failed"] = "run_failed"
    failure_kind: str = "task_failed"
    detail: Any = None
    origin: _Text = None
    reason: _Text = None
    message: _Text = None


class RunCancelledEvent(BaseRunEvent):
    """The run was cancelled, and the worker has stopped."""

    type: Literal["run_cancelled"] = "run_cancelled"
    reason: _Text = None


class RunExpiredEvent(BaseRunEvent):
    """The run stayed queued for longer than its ttl."""

    type: Literal["run_expired"] = "run_expired"
    ttl: _Text = None
    message: _Text = None


class UnknownEvent(BaseRunEvent):
    """A record without a typed form; everything it says is in ``raw``.

    :param kind: what the server calls it.
    """

    type: Literal["unknown"] = "unknown"
    kind: str


RunEvent: TypeAlias = (
    LogEvent
    | WaitEvent
    | WaitCompletedEvent
    | WaitTimedOutEvent
    | TaskResultEvent
    | RunFailedEvent
    | RunCancelledEvent
    | RunExpiredEvent
    | UnknownEvent
)
"""Any event. ``if event.type == "log"`` narrows it for type checkers."""


def _cursor_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class EventPage(WireModel):
    """One page of records (schema RunEventPage). Cursors are always text (contract/behaviour.md §20).

    :param next_cursor: pass it to get the next page; None at the end.
    """

    events: tuple[Any, ...] = ()
    next_cursor: Annotated[OptionalText, BeforeValidator(_cursor_text)] = None

"""Faults that a test plants: what goes wrong, at which operation, how often. Each is consumed by one request."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

FaultKind = Literal[
    "status",
    "reset",
    "hang_up",
    "refuse",
    "lose_answer",
    "delay",
    "late_headers",
    "close_stream",
    "reset_stream",
    "half_frame",
    "malformed_frame",
    "oversize_frame",
    "silent_stream",
    "drip",
    "duplicate",
    "gap",
    "expired_cursor",
]
STREAM_KINDS = frozenset(
    (
        "close_stream",
        "reset_stream",
        "half_frame",
        "malformed_frame",
        "oversize_frame",
        "silent_stream",
        "drip",
        "duplicate",
        "gap",
        "expired_cursor",
    )
)
ANY_OPERATION = "*"
EXPIRED_CURSOR = "workspace_stream_cursor_expired"
_OVERSIZE = 1_200_000


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. Build it with the functions of this module.

    :param kind: what happens.
    :param status: the status answered, for `status`.
    :param retry_after: the `Retry-After` header with it, verbatim.
    :param code: the error code with it.
    :param seconds: how long, for `delay`, `late_headers` and `refuse`; between two bytes, for `drip`.
    :param after: how many event frames pass before a stream goes wrong.
    :param size: how many characters an oversize frame has.
    """

    kind: FaultKind
    status: int = 503
    retry_after: str | None = None
    code: str | None = None
    seconds: float = 0.0
    after: int = 0
    size: int = _OVERSIZE

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"unknown fault kind {self.kind!r}; known are {', '.join(get_args(FaultKind))}")

    @classmethod
    def from_dict(cls, members: dict[str, Any]) -> Fault:
        """Read a fault from JSON.

        :raises ValueError: for an unknown kind or member.
        """
        unknown = set(members) - {field.name for field in fields(cls)}
        if unknown or "kind" not in members:
            raise ValueError(f"a fault has a kind and no member {', '.join(sorted(unknown)) or 'else'}")
        return cls(**members)


def status(code: int, *, retry_after: float | str | None = None, error_code: str | None = None) -> Fault:
    """Answer with this status instead of handling the request."""
    return Fault("status", status=code, retry_after=None if retry_after is None else str(retry_after), code=error_code)


def reset() -> Fault:
    """Reset the connection (RST) instead of handling the request."""
    return Fault("reset")


def hang_up() -> Fault:
    """Close the connection (FIN) without an answer instead of handling the request."""
    return Fault("hang_up")


def refuse(seconds: float) -> Fault:
    """Reset the connection and refuse new ones for so many seconds."""
    return Fault("refuse", seconds=seconds)


def lose_answer() -> Fault:
    """Handle the request, then reset the connection instead of answering."""
    return Fault("lose_answer")


def delay(seconds: float) -> Fault:
    """Handle the request and answer, but so many seconds later."""
    return Fault("delay", seconds=seconds)


def close_stream(after: int = 0) -> Fault:
    """End the stream properly after so many events."""
    return Fault("close_stream", after=after)


def reset_stream(after: int = 0) -> Fault:
    """Reset the connection after so many events."""
    return Fault("reset_stream", after=after)


def half_frame(after: int = 0) -> Fault:
    """Send half of the next frame after so many events, then end the stream properly."""
    return Fault("half_frame", after=after)


def malformed_frame(after: int = 0) -> Fault:
    """Send the next frame after so many events with data that is no JSON, then continue."""
    return Fault("malformed_frame", after=after)


def oversize_frame(after: int = 0, size: int = _OVERSIZE) -> Fault:
    """Send a frame of so many characters in place of the next one after so many events, then continue."""
    return Fault("oversize_frame", after=after, size=size)


def silent_stream(after: int = 0) -> Fault:
    """Send nothing more after so many events, not even comments, and keep the connection open."""
    return Fault("silent_stream", after=after)


def late_headers(seconds: float) -> Fault:
    """Handle the request immediately, but send the status of the response later.

    :param seconds: the delay.
    """
    return Fault("late_headers", seconds=seconds)


def drip(seconds: float = 0.0, after: int = 0) -> Fault:
    """Send every frame after so many events in single bytes, so many seconds apart."""
    return Fault("drip", seconds=seconds, after=after)


def duplicate(after: int = 0) -> Fault:
    """Send the next frame after so many events twice, then continue."""
    return Fault("duplicate", after=after)


def gap(after: int = 0) -> Fault:
    """Leave out the next frame after so many events, then continue."""
    return Fault("gap", after=after)


def expired_cursor(after: int = 0) -> Fault:
    """Refuse a follower's cursor: with 410 immediately, or after so many events with an error frame (section 14)."""
    if after == 0:
        return Fault("status", status=410, code=EXPIRED_CURSOR)
    return Fault("expired_cursor", after=after)


class FaultBook:
    """The planted faults that are still to fire. Tests plant from their own thread."""

    def __init__(self) -> None:
        self._planted: list[tuple[str, Fault, str | None]] = []
        self._lock = threading.Lock()

    def plant(self, operation: str, fault: Fault, times: int = 1, *, environment: str | None = None) -> None:
        """Let the next so many requests of an operation meet a fault.

        :param operation: its operationId, or `*` for any operation.
        :param environment: the id of the environment whose requests meet it; those of every environment if absent.
        """
        with self._lock:
            self._planted.extend([(operation, fault, environment)] * times)

    def take(self, operation: str, *, streaming: bool, environment: str | None = None) -> Fault | None:
        """Consume the oldest fault that a request meets; faults of streams wait for a request that follows one."""
        with self._lock:
            for index, (planted, fault, planted_for) in enumerate(self._planted):
                if planted not in (operation, ANY_OPERATION) or planted_for not in (None, environment):
                    continue
                if streaming or fault.kind not in STREAM_KINDS:
                    del self._planted[index]
                    return fault
        return None

    def pending(self, environment: str | None = None) -> list[dict[str, Any]]:
        """List faults that have not fired yet, of one environment if it is named."""
        with self._lock:
            return [
                {"operation": operation, "fault": asdict(fault)}
                for operation, fault, planted_for in self._planted
                if environment in (None, planted_for)
            ]

    def clear(self, environment: str | None = None) -> None:
        """Remove faults that have not fired yet, of one environment if it is named."""
        with self._lock:
            self._planted = [planted for planted in self._planted if environment not in (None, planted[2])]

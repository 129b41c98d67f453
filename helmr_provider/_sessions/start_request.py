"""What a session is started with: checked before anything is sent, and compared with what an adopted run was given."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

from helmr_provider._sessions.identity import OWNERSHIP, refuse_reserved

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from helmr_provider.client import HelmrClient, Task
    from helmr_provider.client.models.sessions import SessionStart


class Payload(Enum):
    """Stands for a payload that is not there, as ``None`` is one. An enum member stays itself when it is copied."""

    NONE = "no payload"

    def __str__(self) -> str:
        return self.value


class StartOptions:
    """All that a start sends but the session's name and stamp, as rendered templates give it.

    :param task: id of the task, or a typed one, which the payload must fit.
    :param payload: any JSON value, or ``Payload.NONE``.
    :param metadata: the author's, without a stamp.
    :param priority: a whole number, also as text.
    :param max_duration: timedelta or whole seconds, also as text.
    :raises ValueError: something does not fit; nothing was sent.
    :raises TypeError: likewise.
    :raises IdentityError: the metadata looks like a stamp.
    """

    def __init__(
        self,
        *,
        task: str | Task[Any, Any],
        payload: Any,
        external_id: str | None,
        queue: str | None,
        concurrency_key: str | None,
        priority: int | str | None,
        ttl: timedelta | float | str | None,
        max_duration: timedelta | int | str | None,
        retry: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str] | None,
        expires_at: datetime | str | None,
        workspace_id: str | None,
    ) -> None:
        from helmr_provider.client._wire.serialization import NOT_GIVEN
        from helmr_provider.client._wire.start_request import StartRequest

        self._request = StartRequest(
            task,
            NOT_GIVEN if payload is Payload.NONE else payload,
            external_id=external_id,
            queue=queue,
            concurrency_key=concurrency_key,
            priority=_whole_number("priority", priority),
            ttl=ttl,
            max_duration=_whole_number("max_duration", max_duration),
            retry=cast("Any", dict(retry) if isinstance(retry, Mapping) else retry),
            metadata=metadata,
            tags=tags,
            expires_at=expires_at,
            workspace_id=workspace_id,
        )
        self.metadata = metadata
        refuse_reserved(metadata)

    def start(self, client: HelmrClient, external_id: str, metadata: Mapping[str, Any]) -> SessionStart:
        """Send the start.

        :param client: of the worker.
        :param external_id: name of the session.
        :param metadata: the author's, with the stamp.
        :raises HelmrError: it failed.
        """
        return client.sessions.start(self._request.named(external_id, metadata))

    def differences(self, created: Mapping[str, Any]) -> list[str]:
        """Name what a run was started with otherwise, as far as its first event shows it.

        :param created: attributes of the run's ``run.created`` event (contract/behaviour.md section 7.1).
        """
        sent = {_SHOWN_AS[name]: value for name, value in self._request.body.items() if name in _SHOWN_AS}
        return [_WORDS[name] for name in _WORDS if name in sent and name in created and not _fits(name, sent, created)]


# Names of the start's members in the event. Queue, priority, ttl and the like are not in it.
_SHOWN_AS: Final = {
    "task_id": "task_id",
    "payload": "payload",
    "max_duration_seconds": "max_duration_seconds",
    "retry": "retry_policy",
    "metadata": "metadata",
    "tags": "tags",
}
_WORDS: Final = {
    "task_id": "task",
    "payload": "payload",
    "max_duration_seconds": "max_duration",
    "retry_policy": "retry",
    "metadata": "metadata",
    "tags": "tags",
}


def _fits(name: str, sent: Mapping[str, Any], created: Mapping[str, Any]) -> bool:
    wanted, there = sent[name], created[name]
    if name == "metadata" and isinstance(there, Mapping):
        there = {member: value for member, value in cast("Mapping[str, Any]", there).items() if member != OWNERSHIP}
    if name == "retry_policy":
        return _contains(there, wanted)
    if name == "tags" and isinstance(there, list):
        return sorted(tag.strip() for tag in wanted) == sorted(there)
    return bool(wanted == there)


def _contains(policy: Any, wanted: Any) -> bool:
    """Whether a policy says what was asked for; the server fills in what was left open."""
    if isinstance(wanted, dict) and isinstance(policy, dict):
        return all(_contains(policy.get(name), value) for name, value in wanted.items())
    return bool(policy == wanted)


def _whole_number(name: str, value: Any) -> Any:
    """Return the number that a rendered template shows, as that is text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, but is {value!r}.") from None

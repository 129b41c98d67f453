"""The session that an operator's parameters ask for: checked before anything is sent, and compared on adoption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from helmr_provider._sessions.identity import OWNERSHIP, refuse_reserved

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from helmr_provider.client import HelmrClient, Task
    from helmr_provider.client.models.sessions import SessionStart


class Payload(Enum):
    """Marks an absent payload, as ``None`` is a payload. An enum member stays itself when it is copied."""

    NONE = "no payload"

    def __str__(self) -> str:
        return self.value


START_OPTIONS: Final = (
    *("task", "payload", "external_id", "concurrency_key", "priority", "ttl", "max_duration", "retry"),
    *("metadata", "tags", "expires_at", "workspace_id"),
)
"""Names of the options that an operator calls as :class:`SessionSpec` does; only the queue differs."""


class SessionSpec:
    """A session as an operator's rendered parameters describe it: all that a start sends but name and stamp.

    :param task: id of the task, or a typed one, which the payload must fit.
    :param payload: any JSON value, or ``Payload.NONE``.
    :param metadata: the author's, without a stamp.
    :param priority: a whole number, also as text.
    :param max_duration: a whole number of seconds, as a timedelta, number or text.
    :raises ValueError: something does not fit; nothing was sent.
    :raises TypeError: likewise.
    :raises IdentityError: the metadata have the reserved member.
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
        max_duration: timedelta | float | str | None,
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
            max_duration=max_duration,
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

    def differences(self, created: Mapping[str, Any], *, workspace_id: str | None = None) -> Differences:
        """Compare this start with the one that created a run, as far as the run's first event shows it.

        :param created: attributes of the run's ``run.created`` event (contract/behaviour.md section 7.1).
        :param workspace_id: workspace of the run's session.
        """
        sent = self._request.body
        shown = {name: created.get(member) for name, member in _SHOWN_AS.items()}
        # A start without a payload sends the task an empty object.
        wanted = {"payload": {}, **{name: sent[member] for name, member in _SENT_AS.items() if member in sent}}
        runs = [path for name in _DECIDING if name in wanted for path in _differing(name, wanted[name], shown[name])]
        if "workspace_id" in sent and sent["workspace_id"] != workspace_id:
            runs.append("workspace_id")
        return Differences(
            runs=tuple(runs),
            labels=tuple(
                path for name in _LABELS if name in wanted for path in _differing(name, wanted[name], shown[name])
            ),
        )


class Differences(NamedTuple):
    """Paths of the members that differ between two starts; values are left out, as they may be confidential.

    :param runs: members that decide what runs, such as ``payload.repository``.
    :param labels: members that only describe the session.
    """

    runs: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        paths = [*self.runs, *self.labels]
        more = len(paths) - _MOST_PATHS
        return ", ".join(paths[:_MOST_PATHS]) + (f" and {more} more" if more > 0 else "")


# Parameter names to the members of the start and of the event. Queue, priority, ttl and the like are not in the event.
_SENT_AS: Final = {
    "task": "task_id",
    "payload": "payload",
    "max_duration": "max_duration_seconds",
    "retry": "retry",
    "metadata": "metadata",
    "tags": "tags",
}
_SHOWN_AS: Final = {**_SENT_AS, "retry": "retry_policy"}
_DECIDING: Final = ("task", "payload", "max_duration", "retry")
_LABELS: Final = ("metadata", "tags")
_MOST_PATHS: Final = 10
_MOST_CHARACTERS: Final = 100


def _differing(name: str, wanted: Any, shown: Any) -> list[str]:
    if name == "metadata":
        members = cast("Mapping[str, Any]", shown) if isinstance(shown, Mapping) else {}
        shown = {member: value for member, value in members.items() if member != OWNERSHIP}
    if name == "tags":
        tags = cast("list[str]", shown) if isinstance(shown, list) else []
        return [] if sorted(tag.strip() for tag in wanted) == sorted(tags) else [name]
    # The server completes a retry policy with its defaults.
    paths = _paths(name, wanted, shown, completed=name == "retry")
    return [path if len(path) <= _MOST_CHARACTERS else f"{path[:_MOST_CHARACTERS]}…" for path in paths]


def _paths(path: str, wanted: Any, shown: Any, *, completed: bool = False) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(shown, dict):
        ours, theirs = cast("dict[str, Any]", wanted), cast("dict[str, Any]", shown)
        for name in ours if completed else {**ours, **theirs}:
            below = f"{path}.{name}" if name.isidentifier() else f"{path}[{json.dumps(name, ensure_ascii=False)}]"
            if name in ours and name in theirs:
                yield from _paths(below, ours[name], theirs[name], completed=completed)
            else:
                yield below
    elif isinstance(wanted, list) and isinstance(shown, list) and len(wanted) == len(shown):
        for index, (our, their) in enumerate(zip(wanted, shown, strict=True)):
            yield from _paths(f"{path}[{index}]", our, their, completed=completed)
    elif not _same(wanted, shown):
        yield path


def _same(wanted: Any, shown: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(shown, bool):
        return wanted is shown
    if isinstance(wanted, (int, float)) and isinstance(shown, (int, float)):
        try:
            # Events show numbers as doubles (contract/behaviour.md section 22).
            return float(wanted) == float(shown)
        except OverflowError:
            return wanted == shown
    return bool(wanted == shown)


def _whole_number(name: str, value: Any) -> Any:
    """Return the number that a rendered template shows, as that is text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, but is {value!r}.") from None

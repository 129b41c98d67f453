"""What requests carry: options to wire members, strictly (contract/behaviour.md section 16). No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from helmr_provider.client._idempotency import session_key_value
from helmr_provider.client._schemas import dump_dataclass
from helmr_provider.client._secrets import Secret
from helmr_provider.client._session_ref import external_id_text
from helmr_provider.client._wire.responses import json_object
from helmr_provider.client.durations import duration_text, instant_text, whole_seconds
from helmr_provider.client.errors import PayloadValidationError
from helmr_provider.client.tasks import Task, check_task_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from helmr_provider.client._idempotency import IdempotencyKey


class NotGiven:
    """Stands for an argument that was left out where None is a value."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()

_MAX_TAGS = 10
_MAX_TAG = 128


class RetryBackoff(TypedDict, total=False):
    """Pause between attempts.

    :param minMs: shortest pause, milliseconds.
    :param maxMs: longest pause, milliseconds.
    :param factor: growth from one pause to the next.
    :param jitter: ``"none"`` or ``"full"``.
    """

    minMs: int
    maxMs: int
    factor: float
    jitter: str


class RetryPolicy(TypedDict, total=False):
    """How often the server repeats a failed run; the one request object in camelCase.

    :param enabled: false alone turns retries off.
    :param maxAttempts: 1 to 10; needed unless turned off.
    :param backoff: pause between attempts.
    """

    enabled: bool
    maxAttempts: int
    backoff: RetryBackoff


def encode(value: Any, what: str = "The body") -> bytes:
    """Render a JSON body. Pydantic models and dataclasses in it are rendered as JSON; nothing else is converted.

    :param what: subject of the error text.
    :raises PayloadValidationError: it is not JSON, before anything is sent.
    """
    try:
        _check_keys(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_dump_model)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        if isinstance(error, UnicodeEncodeError):
            reason = "it holds text that is not Unicode"
    raise PayloadValidationError(f"{what} is not JSON: {reason}.")


def start_body(
    target: str | Task[Any, Any],
    payload: Any,
    *,
    external_id: str | None,
    idempotency_key: str | Sequence[str] | IdempotencyKey | None,
    idempotency_key_ttl: timedelta | float | str | None,
    queue: str | None,
    concurrency_key: str | None,
    priority: int | None,
    ttl: timedelta | float | str | None,
    max_duration: timedelta | int | None,
    retry: RetryPolicy | None,
    metadata: Mapping[str, Any] | None,
    tags: Sequence[str] | None,
    expires_at: datetime | str | None,
    workspace_id: str | None,
) -> dict[str, Any]:
    """Build the body of startSession.

    :raises PayloadValidationError: the payload does not fit the target, or is not JSON.
    :raises ValueError: another option does not fit.
    """
    body: dict[str, Any]
    if isinstance(target, Task):
        body = {"task_id": check_task_id(target.id)}
        if target.payload is None and payload is not NOT_GIVEN:
            raise PayloadValidationError(f"Task {target.id} takes no payload.")
        if target.payload is not None:
            if payload is NOT_GIVEN:
                raise PayloadValidationError(f"Task {target.id} needs a payload.")
            target.validate(payload)
        body["max_duration_seconds"] = target.max_duration_seconds
    else:
        body = {"task_id": check_task_id(target)}
    if payload is not NOT_GIVEN:
        encode(payload, "The payload")
        body["payload"] = payload
    if idempotency_key is not None:
        body["idempotency_key"] = session_key_value(idempotency_key)
        if idempotency_key_ttl is not None:
            body["idempotency_key_ttl"] = duration_text("idempotency_key_ttl", idempotency_key_ttl)
    if queue is not None:
        body["queue"] = {"name": queue}
    if priority is not None and not _is_whole(priority):
        raise TypeError("priority must be a whole number.")
    if max_duration is not None:
        body["max_duration_seconds"] = whole_seconds("max_duration", max_duration)
    if "max_duration_seconds" in body and not 5 <= body["max_duration_seconds"] <= 86400:
        raise ValueError("max_duration must be between 5 seconds and a day.")
    body |= _given(
        external_id=None if external_id is None else external_id_text(external_id),
        concurrency_key=concurrency_key,
        priority=priority,
        ttl=None if ttl is None else duration_text("ttl", ttl),
        retry=None if retry is None else check_retry(retry),
        expires_at=None if expires_at is None else instant_text("expires_at", expires_at),
        workspace_id=workspace_id,
    )
    return body | labels(metadata, tags)


def labels(metadata: Mapping[str, Any] | None, tags: Sequence[str] | None) -> dict[str, Any]:
    """Build the members ``metadata`` and ``tags``, where they are given.

    :raises ValueError: more than 10 tags, or one that is blank or longer than 128 bytes.
    :raises TypeError: metadata is not a mapping, or tags is not a list of text.
    """
    body: dict[str, Any] = {}
    if metadata is not None:
        if not isinstance(metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("metadata must be a mapping.")
        encode(body.setdefault("metadata", dict(metadata)), "The metadata")
    if tags is not None:
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("tags must be a list of text.")
        if len(tags) > _MAX_TAGS:
            raise ValueError(f"At most {_MAX_TAGS} tags are allowed.")
        if not all(tag.strip() and len(tag.strip().encode()) <= _MAX_TAG for tag in tags):
            raise ValueError(f"A tag must not be blank and has at most {_MAX_TAG} bytes.")
        body["tags"] = list(tags)
    return body


def update_body(
    metadata: Mapping[str, Any] | NotGiven, tags: Sequence[str] | NotGiven, expires_at: datetime | str | NotGiven
) -> dict[str, Any]:
    """Build the body of patchSession.

    :raises ValueError: nothing to change, or a value does not fit.
    """
    given: tuple[Any, ...] = (metadata, tags, expires_at)
    if None in given:
        raise ValueError("None is no value for metadata, tags or expires_at; leave out what is not to change.")
    body = labels(
        None if isinstance(metadata, NotGiven) else metadata,
        None if isinstance(tags, NotGiven) else tags,
    )
    if not isinstance(expires_at, NotGiven):
        body["expires_at"] = instant_text("expires_at", expires_at)
    if not body:
        raise ValueError("Nothing to change: give metadata, tags or expires_at.")
    return body


def token_body(
    timeout: timedelta | float | str | None,
    idempotency_key: str | None,
    tags: Sequence[str] | None,
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Build the body of createToken.

    :raises ValueError: an option does not fit.
    """
    return _given(
        timeout=None if timeout is None else duration_text("timeout", timeout),
        idempotency_key=idempotency_key,
    ) | labels(metadata, tags)


def cancel_run_body(*, reason: str | None, force: bool | None, idempotency_key: str | None) -> dict[str, Any]:
    """Build the body of cancelRun; ``{}`` when there is nothing to say."""
    return _given(reason=reason, force=force, idempotency_key=idempotency_key)


def reason_body(reason: str | None) -> dict[str, Any]:
    """Build the body of closeSession and cancelSession; ``{}`` when there is nothing to say."""
    return _given(reason=reason)


def check_retry(retry: RetryPolicy) -> RetryPolicy:
    """Return the retry policy (contract/behaviour.md section 6).

    :raises ValueError: a member is unknown or out of range.
    """
    # What the caller wrote need not be what the type says.
    members = json_object(retry)
    if members is None:
        raise TypeError("retry must be a mapping.")
    if members.get("enabled") is False and set(members) == {"enabled"}:
        return retry
    attempts: Any = members.get("maxAttempts")
    if set(members) - {"enabled", "maxAttempts", "backoff"} or members.get("enabled", True) is not True:
        raise ValueError("retry takes enabled, maxAttempts and backoff; {'enabled': False} alone turns retries off.")
    if not _is_whole(attempts) or not 1 <= attempts <= 10:
        raise ValueError("retry.maxAttempts must be a whole number from 1 to 10.")
    pauses = json_object(members.get("backoff", {}))
    if pauses is None or set(pauses) - {"minMs", "maxMs", "factor", "jitter"}:
        raise ValueError("retry.backoff takes minMs, maxMs, factor and jitter.")
    if not all(_is_whole(pauses[name]) and pauses[name] >= 1 for name in ("minMs", "maxMs") if name in pauses):
        raise ValueError("retry.backoff.minMs and maxMs must be whole, positive numbers.")
    factor: Any = pauses.get("factor", 1)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor <= 0:
        raise ValueError("retry.backoff.factor must be greater than 0.")
    if pauses.get("jitter", "none") not in {"none", "full"}:
        raise ValueError("retry.backoff.jitter must be 'none' or 'full'.")
    return retry


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _check_keys(value: Any) -> None:
    # json.dumps turns 1 and None into texts, so two different payloads would be one on the wire.
    if isinstance(value, dict):
        for key, member in cast("dict[object, Any]", value).items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text")
            _check_keys(member)
    elif isinstance(value, (list, tuple)):
        for item in cast("list[Any]", value):
            _check_keys(item)


def _dump_model(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        # By alias, because that is the name under which the other side reads it.
        return dump(mode="json", by_alias=True)
    if is_dataclass(value) and not isinstance(value, type):
        return dump_dataclass(value)
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"a {type(value).__name__} cannot be rendered")

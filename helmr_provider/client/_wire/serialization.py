"""What requests carry: options to wire members, strictly (contract/behaviour.md section 16). No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict

from helmr_provider.client._wire.json_values import encode, json_object
from helmr_provider.client.durations import duration_text, instant_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta


class NotGiven:
    """Marks an argument that was left out where None is a value."""

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
    values: tuple[Any, ...] = (metadata, tags, expires_at)
    if None in values:
        raise ValueError("None is no value for metadata, tags or expires_at; leave out members that stay.")
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
    return drop_none(
        timeout=None if timeout is None else duration_text("timeout", timeout),
        idempotency_key=idempotency_key,
    ) | labels(metadata, tags)


def cancel_run_body(*, reason: str | None, force: bool | None, idempotency_key: str | None) -> dict[str, Any]:
    """Build the body of cancelRun; ``{}`` when there is nothing to say."""
    return drop_none(reason=reason, force=force, idempotency_key=idempotency_key)


def reason_body(reason: str | None) -> dict[str, Any]:
    """Build the body of closeSession and cancelSession; ``{}`` when there is nothing to say."""
    return drop_none(reason=reason)


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
    if unknown := sorted(set(members) - {"enabled", "maxAttempts", "backoff"}):
        raise ValueError(f"retry has no member {unknown[0]!r}; it takes enabled, maxAttempts and backoff.")
    if members.get("enabled", True) is False:
        raise ValueError("retry.enabled False turns retries off; it goes with no other member.")
    if members.get("enabled", True) is not True:
        raise ValueError("retry.enabled must be true or false.")
    if not is_whole(attempts) or not 1 <= attempts <= 10:
        raise ValueError("retry.maxAttempts must be a whole number from 1 to 10.")
    pauses = json_object(members.get("backoff", {}))
    if pauses is None or set(pauses) - {"minMs", "maxMs", "factor", "jitter"}:
        raise ValueError("retry.backoff takes minMs, maxMs, factor and jitter.")
    if not all(is_whole(pauses[name]) and pauses[name] >= 1 for name in ("minMs", "maxMs") if name in pauses):
        raise ValueError("retry.backoff.minMs and maxMs must be whole, positive numbers.")
    factor: Any = pauses.get("factor", 1)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor <= 0:
        raise ValueError("retry.backoff.factor must be greater than 0.")
    if pauses.get("jitter", "none") not in {"none", "full"}:
        raise ValueError("retry.backoff.jitter must be 'none' or 'full'.")
    return retry


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, which a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def drop_none(**members: Any) -> dict[str, Any]:
    """Return the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}

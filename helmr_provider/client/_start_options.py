"""The options of a session start, for type checkers and for callers that pass them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from helmr_provider.client._idempotency import IdempotencyKey
    from helmr_provider.client._wire.serialization import RetryPolicy


class StartOptions(TypedDict, total=False):
    """Keyword arguments of ``sessions.start``, which describes them."""

    external_id: str | None
    idempotency_key: str | Sequence[str] | IdempotencyKey | None
    idempotency_key_ttl: timedelta | float | str | None
    queue: str | None
    concurrency_key: str | None
    priority: int | None
    ttl: timedelta | float | str | None
    max_duration: timedelta | int | None
    retry: RetryPolicy | None
    metadata: Mapping[str, Any] | None
    tags: Sequence[str] | None
    expires_at: datetime | str | None
    workspace_id: str | None


class StartAndWaitOptions(StartOptions, total=False):
    """Keyword arguments of ``sessions.start_and_wait``, which describes them."""

    timeout: timedelta | float | None

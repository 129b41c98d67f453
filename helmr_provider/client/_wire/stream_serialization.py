"""Bodies of session stream and public token requests, strictly checked (contract/behaviour.md §5 and 12). No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.client._schemas import validate
from helmr_provider.client._wire.json_values import encode
from helmr_provider.client.durations import instant_text

if TYPE_CHECKING:
    from datetime import datetime

    from helmr_provider.client.models.auth import PublicScope
    from helmr_provider.client.streams import InputStream, OutputStream

_SCOPES = frozenset({"session.input.send", "session.output.read"})


def record_body(
    stream: InputStream[Any] | OutputStream[Any],
    data: Any,
    *,
    content_type: str | None,
    correlation_id: str | None,
    idempotency_key: str | None,
) -> dict[str, Any]:
    """Build the body of appendSessionInput and appendSessionOutput.

    :raises PayloadValidationError: the data do not fit the stream's type, or are not JSON.
    """
    if stream.schema is not None:
        validate(stream.schema, data, f"The record for the {stream.direction} stream {stream.name}")
    encode(data, "The data")
    options = {"content_type": content_type, "correlation_id": correlation_id, "idempotency_key": idempotency_key}
    return {"data": data} | {name: value for name, value in options.items() if value is not None}


def public_token_body(
    scope: PublicScope,
    *,
    expires_at: datetime | str | None,
    max_uses: int | None,
    project_id: str | None,
    environment_id: str | None,
) -> dict[str, Any]:
    """Build the body of createPublicAccessToken, the one that names its environment in the body.

    :raises ValueError: the scope is of no known type, or another option does not fit.
    """
    if scope.type not in _SCOPES:
        raise ValueError("Build the scope with PublicScope.input or PublicScope.output.")
    if max_uses is not None and (isinstance(max_uses, bool) or max_uses < 1):
        raise ValueError("max_uses must be at least 1.")
    body: dict[str, Any] = {"scope": scope.model_dump(exclude_none=True)}
    if expires_at is not None:
        body["expires_at"] = instant_text("expires_at", expires_at)
    options = {"max_uses": max_uses, "project_id": project_id, "environment_id": environment_id}
    return body | {name: value for name, value in options.items() if value is not None}

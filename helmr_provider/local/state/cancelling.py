"""Cancel operations on runs: each request leaves one, applied or rejected, and a repeated key finds it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError, run_not_found
from helmr_provider.local.common.ids import uuid7
from helmr_provider.local.common.jsontext import fingerprint
from helmr_provider.local.state import runs

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


def request(core: Core, run: Row, *, reason: str | None, force: bool, idempotency_key: str | None) -> Row:
    """Cancel a run, or reject it for a run that is over, and return the operation.

    :raises ApiError: 409 if the key was used with another request.
    """
    request_fingerprint = fingerprint([reason, force])
    with core.db.transaction():
        if idempotency_key is not None:
            earlier = core.db.one(
                "SELECT * FROM operations WHERE run_id = ? AND idempotency_key = ?", run["id"], idempotency_key
            )
            if earlier is not None:
                if earlier["fingerprint"] != request_fingerprint:
                    raise ApiError(409, "cancel idempotency key was used with a different request")
                return earlier
        run = runs.reread(core, run["id"])
        live = run["status"] in runs.LIVE
        now = core.clock.now()
        if live:
            runs.cancel(core, run, reason, force=force)
        operation_id = uuid7(now)
        core.db.insert(
            "operations",
            id=operation_id,
            run_id=run["id"],
            status="applied" if live else "rejected",
            reason=reason,
            idempotency_key=idempotency_key,
            fingerprint=request_fingerprint,
            created_at=now,
            applied_at=core.clock.now() if live else None,
        )
        operation = core.db.one("SELECT * FROM operations WHERE id = ?", operation_id)
    if operation is None:
        raise run_not_found()
    return operation


def rendered(operation: Row) -> dict[str, Any]:
    """Return an operation as the API answers it."""
    answer: dict[str, Any] = {
        "id": operation["id"],
        "run_id": operation["run_id"],
        "kind": "cancel",
        "status": operation["status"],
    }
    if operation["reason"] is not None:
        answer["reason"] = operation["reason"]
    answer["created_at"] = rfc3339(operation["created_at"])
    if operation["applied_at"] is not None:
        answer["applied_at"] = rfc3339(operation["applied_at"])
    return answer

"""Tokens: created pending, ended once by completion, cancellation or timeout (contract/behaviour.md section 11)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError, fingerprint_mismatch, token_not_found
from helmr_provider.local.common.ids import derived_secret, hashed, uuid7
from helmr_provider.local.common.jsontext import fingerprint, jsonb, loads
from helmr_provider.local.state import runs

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

STATUSES = ("pending", "completed", "expired", "cancelled")
PUBLIC_PREFIX = "hlmr_public_access_"
CALLBACK_PREFIX = "hlmr_callback_"


class NewToken(NamedTuple):
    """The options of a creation; `request_fingerprint` tells two requests with one idempotency key apart."""

    timeout_us: int
    tags: list[str]
    metadata: dict[str, Any]
    idempotency_key: str | None
    request_fingerprint: str


def create(core: Core, environment_id: str, new: NewToken) -> tuple[Row, bool]:
    """Create a token, or find the one that the idempotency key made; tell whether it is new.

    :raises ApiError: 409 if the key was used with another request.
    """
    with core.db.transaction():
        if new.idempotency_key is not None:
            earlier = core.db.one(
                "SELECT * FROM tokens WHERE environment_id = ? AND idempotency_key = ?",
                environment_id,
                new.idempotency_key,
            )
            if earlier is not None:
                if earlier["fingerprint"] != new.request_fingerprint:
                    raise fingerprint_mismatch()
                return earlier, False
        now = core.clock.now()
        token_id = uuid7(now)
        core.db.insert(
            "tokens",
            id=token_id,
            environment_id=environment_id,
            status="pending",
            tags=jsonb(new.tags),
            metadata=jsonb(new.metadata),
            timeout_at=now + new.timeout_us,
            callback_hash=hashed(derived_secret(core.installation_key, CALLBACK_PREFIX, token_id)),
            public_hash=hashed(derived_secret(core.installation_key, PUBLIC_PREFIX, token_id)),
            idempotency_key=new.idempotency_key,
            fingerprint=new.request_fingerprint,
            created_at=now,
        )
        return find(core, environment_id, token_id), True


def find(core: Core, environment_id: str, token_id: str) -> Row:
    """Return a token's row if the environment has it.

    :raises ApiError: 404 if not.
    """
    row = core.db.one("SELECT * FROM tokens WHERE id = ? AND environment_id = ?", token_id, environment_id)
    if row is None:
        raise token_not_found()
    return row


def by_id(core: Core, token_id: str) -> Row | None:
    """Return a token's row, of any environment."""
    return core.db.one("SELECT * FROM tokens WHERE id = ?", token_id)


def by_public_secret(core: Core, secret: str) -> Row | None:
    """Return the token that a public access token may complete."""
    return core.db.one("SELECT * FROM tokens WHERE public_hash = ?", hashed(secret))


def has_callback_secret(token: Row, secret: str) -> bool:
    """Tell whether a callback URL's secret belongs to the token."""
    return hmac.compare_digest(token["callback_hash"], hashed(secret))


def listed(core: Core, environment_id: str, status: str | None, after: str | None, limit: int) -> list[Row]:
    """Return tokens oldest first, after the token with the id `after`."""
    return core.db.all(
        "SELECT * FROM tokens WHERE environment_id = ? AND (? IS NULL OR status = ?) AND (? IS NULL OR"
        " (created_at, id) > (SELECT created_at, id FROM tokens WHERE id = ? AND environment_id = ?))"
        " ORDER BY created_at, id LIMIT ?",
        environment_id,
        status,
        status,
        after,
        after,
        environment_id,
        limit,
    )


def complete(core: Core, token: Row, data: Any) -> tuple[str, Row]:
    """Complete a token and wake the runs that wait for it.

    :raises ApiError: 409 cancelled or completed with other data, 410 past its timeout.
    """
    with core.db.transaction():
        token = find(core, token["environment_id"], token["id"])
        if token["status"] == "completed":
            # A token that an older release completed has no fingerprint of its own.
            if (token["data_fingerprint"] or fingerprint(loads(token["data"]))) != fingerprint(data):
                text = "token completion conflicts with existing completion"
                raise ApiError(409, text, "token_completion_conflict")
            return "already_completed", token
        _refuse_unless_pending(core, token)
        core.db.update("tokens", token["id"], status="completed", data=jsonb(data), data_fingerprint=fingerprint(data))
        _wake(core, token["id"], {"status": "completed", "data": data})
        return "completed", find(core, token["environment_id"], token["id"])


def cancel(core: Core, token: Row) -> Row:
    """Cancel a pending token and wake the runs that wait for it.

    :raises ApiError: 404 if it is completed (contract/behaviour.md section 21), 409 if cancelled, 410 past its timeout.
    """
    with core.db.transaction():
        token = find(core, token["environment_id"], token["id"])
        if token["status"] == "completed":
            raise token_not_found()
        _refuse_unless_pending(core, token)
        core.db.update("tokens", token["id"], status="cancelled")
        _wake(core, token["id"], {"status": "cancelled"})
        return find(core, token["environment_id"], token["id"])


def expire_due(core: Core) -> None:
    """Expire the pending tokens whose timeout has passed."""
    for token in core.db.all("SELECT id FROM tokens WHERE status = 'pending' AND timeout_at <= ?", core.clock.now()):
        with core.db.transaction():
            core.db.update("tokens", token["id"], status="expired")
            _wake(core, token["id"], {"status": "expired"})


def rendered(token: Row) -> dict[str, Any]:
    """Return a token as every answer but the one to its creation has it."""
    answer: dict[str, Any] = {
        "id": token["id"],
        "status": token["status"],
        "timeout_at": rfc3339(token["timeout_at"]),
    }
    if token["data"] is not None:
        answer["data"] = loads(token["data"])
    return _with_tags(answer, token)


def rendered_with_secrets(core: Core, token: Row) -> dict[str, Any]:
    """Return a token as the answer to its creation has it."""
    callback = derived_secret(core.installation_key, CALLBACK_PREFIX, token["id"])
    answer: dict[str, Any] = {
        "id": token["id"],
        "status": token["status"],
        "callback_url": f"{core.public_url}/api/v1/tokens/{token['id']}/callback/{callback}",
        "public_access_token": derived_secret(core.installation_key, PUBLIC_PREFIX, token["id"]),
        "timeout_at": rfc3339(token["timeout_at"]),
    }
    return _with_tags(answer, token)


def _with_tags(answer: dict[str, Any], token: Row) -> dict[str, Any]:
    tags = loads(token["tags"])
    if tags:
        answer["tags"] = tags
    return answer | {"metadata": loads(token["metadata"])}


def _refuse_unless_pending(core: Core, token: Row) -> None:
    if token["status"] == "cancelled":
        raise ApiError(409, "token cancelled", "token_cancelled")
    if token["status"] == "expired" or token["timeout_at"] <= core.clock.now():
        raise ApiError(410, "token expired", "token_expired")


def _wake(core: Core, token_id: str, outcome: dict[str, Any]) -> None:
    for run in runs.waiting_for(core, "token", token_id):
        runs.resolve_wait(core, run, outcome)

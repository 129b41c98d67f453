"""Public access tokens: the right to one stream of one session without an API key (section 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import hashed, new_secret, uuid7

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

SECRET_PREFIX = "hlmr_pat_"  # noqa: S105 - what secrets begin with
INPUT_SEND = "session.input.send"
OUTPUT_READ = "session.output.read"


class Grant(NamedTuple):
    """What a token allows."""

    type: str
    session_id: str
    stream: str
    correlation_id: str | None


def mint(core: Core, environment_id: str, grant: Grant, expires_at: int, max_uses: int | None) -> dict[str, Any]:
    """Make a token and return it as the API answers it, the only response with its secret."""
    secret = new_secret(SECRET_PREFIX)
    now = core.clock.now()
    token_id = uuid7(now)
    core.db.insert(
        "public_access_tokens",
        id=token_id,
        environment_id=environment_id,
        hash=hashed(secret),
        max_uses=max_uses,
        expires_at=expires_at,
        created_at=now,
        **grant._asdict(),
    )
    scope: dict[str, Any] = {
        "type": grant.type,
        "session": {"type": "id", "id": grant.session_id},
        "stream": grant.stream,
    }
    if grant.correlation_id is not None:
        scope["correlation_id"] = grant.correlation_id
    minted: dict[str, Any] = {
        "id": token_id,
        "public_access_token": secret,
        "scope": scope,
        "expires_at": rfc3339(expires_at),
    }
    if max_uses is not None:
        minted["max_uses"] = max_uses
    return minted | {"created_at": rfc3339(now)}


def by_secret(core: Core, secret: str | None) -> Row:
    """Return the token that a bearer is.

    :raises ApiError: 401 if it is none, 410 if its time is over.
    """
    row = None
    if secret is not None and secret.startswith(SECRET_PREFIX):
        row = core.db.one("SELECT * FROM public_access_tokens WHERE hash = ?", hashed(secret))
    if row is None:
        raise denied(401)
    if row["expires_at"] <= core.clock.now():
        raise ApiError(410, "token expired", "token_expired")
    return row


def require(token: Row, grant: Grant) -> None:
    """Refuse what the token does not allow, or allows no more.

    :raises ApiError: 403.
    """
    held = Grant(token["type"], token["session_id"], token["stream"], token["correlation_id"])
    wanted = grant if held.correlation_id is not None else grant._replace(correlation_id=None)
    if held != wanted or (token["max_uses"] is not None and token["uses"] >= token["max_uses"]):
        raise denied(403)


def use(core: Core, token: Row) -> None:
    """Count an accepted call."""
    core.db.execute("UPDATE public_access_tokens SET uses = uses + 1 WHERE id = ?", token["id"])


def denied(status: int) -> ApiError:
    """Build the refusal of a public access token."""
    return ApiError(status, "token scope denied", "token_scope_denied")

"""API keys: one environment and a set of scopes each. The database holds their hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from helmr_provider.local._core import DEFAULT_ENVIRONMENT
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import hashed, new_secret, stable_uuid
from helmr_provider.local.common.jsontext import dumps, loads
from helmr_provider.local.state import schedules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from helmr_provider.local._core import Core

API_KEY_PREFIX = "hlmr_sk_"
SCOPES = (
    "runs:create",
    "runs:read",
    "runs:manage",
    "session-streams:read",
    "session-input:send",
    "session-output:append",
    "tokens:create",
    "tokens:read",
    "tokens:complete",
    "tokens:cancel",
    "workspace-lifecycle:manage",
    "workspace-files:read",
    "workspace-files:write",
    "workspace-versions:read",
    "workspace-versions:capture",
    "workspace-versions:restore",
    "workspace-versions:diff",
    "workspace-exec:create",
    "workspace-exec:read",
    "workspace-exec:manage",
    "workspace-pty:create",
    "workspace-pty:read",
    "workspace-pty:manage",
    "workspace-ports:expose",
    "workspace-ports:read",
    "workspace-ports:close",
    "secrets:write",
    "tasks:deploy",
)


class Caller(NamedTuple):
    """The caller of a request: its environment and scopes."""

    environment_id: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Refuse a caller without the scope.

        :raises ApiError: 403.
        """
        if scope not in self.scopes:
            raise ApiError(403, "permission is required")

    def require_any(self, scopes: Iterable[str]) -> None:
        """Refuse a caller with none of the scopes.

        :raises ApiError: 403.
        """
        if self.scopes.isdisjoint(scopes):
            raise ApiError(403, "permission is required")


def create_key(
    core: Core,
    *,
    scopes: Iterable[str] | None = None,
    environment: str = DEFAULT_ENVIRONMENT,
    key: str | None = None,
) -> str:
    """Create a key, or register an existing one, and return it.

    :param scopes: what it may do; everything if absent.
    :param environment: the name of its environment, made at its first use.
    :param key: the key itself; a new one if absent.
    :raises ValueError: for an unknown scope or a key without the prefix of API keys.
    """
    allowed = list(SCOPES if scopes is None else scopes)
    unknown = sorted(set(allowed) - set(SCOPES))
    if unknown:
        raise ValueError(f"unknown scopes {', '.join(unknown)}; known are {', '.join(SCOPES)}")
    secret = new_secret(API_KEY_PREFIX) if key is None else key
    if not secret.startswith(API_KEY_PREFIX):
        raise ValueError(f"an API key begins with {API_KEY_PREFIX}")
    owner = environment_id(core, environment)
    core.db.execute(
        "INSERT OR REPLACE INTO api_keys (hash, environment_id, scopes) VALUES (?, ?, ?)",
        hashed(secret),
        owner,
        dumps(allowed),
    )
    return secret


def bearer(authorization: str | None) -> str | None:
    """Return the bearer of an Authorization header, or None."""
    scheme, _, credential = (authorization or "").partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


def authenticate(core: Core, authorization: str | None) -> Caller:
    """Find out who an API key belongs to.

    :raises ApiError: 401.
    """
    secret = bearer(authorization)
    if secret is not None and secret.startswith(API_KEY_PREFIX):
        row = core.db.one("SELECT environment_id, scopes FROM api_keys WHERE hash = ?", hashed(secret))
        if row is not None:
            return Caller(row["environment_id"], frozenset(loads(row["scopes"])))
    raise ApiError(401, "authentication is required")


def environment_id(core: Core, name: str) -> str:
    """Return the id of an environment, made at its first use."""
    row = core.db.one("SELECT id FROM environments WHERE name = ?", name)
    if row is not None:
        return str(row["id"])
    new = stable_uuid("environment", name)
    core.db.insert("environments", id=new, project_id=stable_uuid("project"), name=name)
    schedules.declare(core, new)
    return new

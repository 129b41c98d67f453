"""Identifiers and secrets that the control plane mints."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import uuid

_UUID_LENGTH = 36
_previous = 0


def uuid7(instant: int) -> str:
    """Mint a version 7 UUID for an instant in microseconds; two from one process never compare equal or backwards."""
    global _previous  # noqa: PLW0603 - ids of one microsecond must still sort in the order of their making
    _previous = max(instant, _previous + 1)
    millis, micros = divmod(_previous, 1000)
    value = (millis & (1 << 48) - 1) << 80 | 7 << 76 | (micros * 4096 // 1000) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def is_uuid(text: str) -> bool:
    """Tell whether a text is a hyphenated UUID."""
    if len(text) != _UUID_LENGTH:
        return False
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return text[8] == text[13] == text[18] == text[23] == "-"


def stable_uuid(*names: str) -> str:
    """Make the same UUID from the same names, for things that a deployment declares."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("helmr-local", *names))))


def trace_id() -> str:
    """Mint 32 hex digits."""
    return secrets.token_hex(16)


def span_id() -> str:
    """Mint 16 hex digits."""
    return secrets.token_hex(8)


def derived_secret(installation_key: bytes, prefix: str, name: str) -> str:
    """Make a secret that only this installation can make again: `prefix` and 43 base64url characters.

    Secrets are derived instead of stored, since an idempotent repeat must show them again while the database holds
    only their hashes.
    """
    digest = hmac.new(installation_key, f"{prefix}:{name}".encode(), hashlib.sha256).digest()
    return prefix + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def new_secret(prefix: str) -> str:
    """Mint a random secret: `prefix` and 43 base64url characters."""
    return prefix + secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    """Return what the database keeps of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

"""JSON as it is stored and compared: PostgreSQL's `jsonb` order, one text per value."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def dumps(value: object) -> str:
    """Write a value compactly, members in the order given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def jsonb(value: object) -> str:
    """Write a value as the database gives it back: members ordered by the length of their name, then by its bytes."""
    return dumps(_ordered(value))


def loads(text: str) -> Any:
    """Read what :func:`dumps` or :func:`jsonb` wrote."""
    return json.loads(text)


def fingerprint(value: object) -> str:
    """Hash a value so that key order and spacing do not matter; `1` and `1.0` differ, as they do on the server."""
    return hashlib.sha256(jsonb(value).encode("utf-8", "surrogatepass")).hexdigest()


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        names = sorted(value, key=_jsonb_key)
        return {name: _ordered(value[name]) for name in names}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value


def _jsonb_key(name: str) -> tuple[int, bytes]:
    encoded = name.encode("utf-8", "surrogatepass")
    return len(encoded), encoded

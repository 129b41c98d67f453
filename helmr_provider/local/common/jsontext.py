"""JSON as it is stored and compared: PostgreSQL's `jsonb` order, one text per value."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def as_object(value: object) -> dict[str, Any] | None:
    """Return a value that is a JSON object as one, None for any other."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> Sequence[Any] | None:
    """Return a value that is a JSON list as one, None for any other."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else None


def _ordered(value: object) -> object:
    members, items = as_object(value), as_list(value)
    if members is not None:
        return {name: _ordered(members[name]) for name in sorted(members, key=_jsonb_key)}
    return value if items is None else [_ordered(item) for item in items]


def _jsonb_key(name: str) -> tuple[int, bytes]:
    encoded = name.encode("utf-8", "surrogatepass")
    return len(encoded), encoded

"""Idempotency keys of session starts (contract/behaviour.md section 3.2)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key of one session start.

    :param value: what travels: lower-case hex SHA-256 of the parts.
    :param parts: what it was made from.
    :param scope: the only scope there is.
    """

    value: str
    parts: tuple[str, ...]
    scope: Literal["global"] = "global"


def idempotency_key(*parts: str) -> IdempotencyKey:
    """Build the key that names one session start.

    :param parts: one or more texts; one text and a list of that text are the same key.
    :raises ValueError: no part.
    :raises TypeError: a part is not text.
    """
    if not parts:
        raise ValueError("An idempotency key needs at least one part.")
    if not all(isinstance(part, str) for part in parts):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError("The parts of an idempotency key are text.")
    text = json.dumps({"scope": "global", "key": list(parts)}, separators=(",", ":"), ensure_ascii=False)
    return IdempotencyKey(hashlib.sha256(text.encode()).hexdigest(), parts)


def session_key_value(key: str | Sequence[str] | IdempotencyKey) -> str:
    """Return the wire value of a key given as text, list of texts, or ready made."""
    if isinstance(key, IdempotencyKey):
        return key.value
    return idempotency_key(*((key,) if isinstance(key, str) else key)).value

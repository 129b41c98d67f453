"""Retry policies: how one is read, and how long an attempt waits."""

from __future__ import annotations

import random
from typing import Any

from helmr_provider.local.common.jsontext import as_object

DISABLED: dict[str, Any] = {"enabled": False}

_MAX_ATTEMPTS = 10
_MIN_MS = 1000
_MAX_MS = 30_000
_FACTOR = 2.0


def read_policy(value: object) -> dict[str, Any]:
    """Check a retry policy and return it as the server stores it.

    :param value: the policy as sent, camelCase (contract/behaviour.md section 6).
    :raises ValueError: with the control plane's text.
    """
    members = as_object(value)
    if members is None:
        raise ValueError("retry must be an object")
    unknown = [name for name in members if name not in ("enabled", "maxAttempts", "backoff")]
    if unknown:
        raise ValueError(f"retry.{unknown[0]} is not supported")
    enabled = members.get("enabled", True)
    if not isinstance(enabled, bool):
        raise ValueError("retry.enabled must be a boolean")  # noqa: TRY004 - one kind of refusal for all
    if not enabled:
        if len(members) > 1:
            raise ValueError("retry.enabled false must not be combined with other options")
        return dict(DISABLED)
    attempts = members.get("maxAttempts", 0)
    if not _whole(attempts) or not 1 <= attempts <= _MAX_ATTEMPTS:
        raise ValueError("retry.maxAttempts must be an integer between 1 and 10")
    policy: dict[str, Any] = {"enabled": True, "maxAttempts": attempts}
    if "backoff" in members:
        policy["backoff"] = _read_backoff(members["backoff"])
    return policy


def delay_ms(policy: dict[str, Any], attempt: int) -> int | None:
    """Return how long to wait after this attempt failed, in milliseconds; None if it was the last."""
    if not policy.get("enabled") or attempt >= policy["maxAttempts"]:
        return None
    backoff = policy.get("backoff", {})
    most = backoff.get("maxMs", max(_MAX_MS, backoff.get("minMs", 0)))
    delay = min(most, backoff.get("minMs", _MIN_MS) * backoff.get("factor", _FACTOR) ** (attempt - 1))
    if backoff.get("jitter") == "full":
        delay *= random.random()  # noqa: S311 - spreads retries, keeps no secret
    return int(delay)


def _read_backoff(value: object) -> dict[str, Any]:
    members = as_object(value)
    if members is None:
        raise ValueError("retry.backoff must be an object")
    for name, part in members.items():
        if name in ("minMs", "maxMs"):
            if not _whole(part) or part < 1:
                raise ValueError(f"retry.backoff.{name} must be a positive integer")
        elif name == "factor":
            if isinstance(part, bool) or not isinstance(part, int | float) or part <= 0:
                raise ValueError("retry.backoff.factor must be a positive number")
        elif name == "jitter":
            if part not in ("none", "full"):
                raise ValueError("retry.backoff.jitter must be none or full")
        else:
            raise ValueError(f"retry.backoff.{name} is not supported")
    return dict(members)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

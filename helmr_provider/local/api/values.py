"""Checks that several operations share, with the control plane's texts."""

from __future__ import annotations

import re
from typing import Any

from helmr_provider.local.common.errors import DOUBLE, NUL_IN_TEXT, TEXT, ApiError, StorageRefusal
from helmr_provider.local.common.jsontext import as_doubles, as_object

MAX_KEY = 512
_MAX_TAGS = 10
_MAX_TAG = 128
_STREAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,255}", re.ASCII)


def metadata(value: Any) -> dict[str, Any]:
    """Return metadata, its numbers rounded to doubles.

    :raises ApiError: 400 unless it is an object.
    :raises StorageRefusal: for a number that no double holds.
    """
    members = as_object(value)
    if members is None:
        raise ApiError(400, "metadata must be a JSON object")
    try:
        rounded: dict[str, Any] = as_doubles(members)
    except OverflowError as error:
        text = f"metadata decode failed: json: cannot unmarshal number {error} into Go value of type float64"
        raise StorageRefusal(DOUBLE, text) from None
    return rounded


def tags(values: list[str] | None) -> list[str]:
    """Return tags trimmed, each once, sorted.

    :raises ApiError: 400 for an empty, too long or eleventh tag.
    """
    trimmed = [value.strip() for value in values or []]
    if len(trimmed) > _MAX_TAGS:
        raise ApiError(400, "tags must contain at most 10 values")
    if "" in trimmed:
        raise ApiError(400, "tags must not contain empty values")
    if any(len(value.encode()) > _MAX_TAG for value in trimmed):
        raise ApiError(400, "tags must be 128 characters or less")
    return sorted({storable(value) for value in trimmed})


def storable(text: str) -> str:
    """Return a text that the database stores.

    :raises StorageRefusal: for one with a NUL character.
    """
    if "\0" in text:
        raise StorageRefusal(TEXT, NUL_IN_TEXT)
    return text


def idempotency_key(value: str | None) -> str | None:
    """Return a key trimmed; None if it is absent or blank.

    :raises ApiError: 400 over 512 bytes.
    """
    trimmed = (value or "").strip()
    if len(trimmed.encode()) > MAX_KEY:
        raise ApiError(400, "idempotency_key must be at most 512 characters")
    return trimmed or None


def external_id(value: str | None) -> str | None:
    """Return an external id trimmed; None if it is absent or blank.

    :raises ApiError: 400 over 512 bytes.
    """
    trimmed = (value or "").strip()
    if len(trimmed.encode()) > MAX_KEY:
        raise ApiError(400, "external_id must be at most 512 bytes")
    return trimmed or None


def stream_name(value: str) -> str:
    """Return a stream's name trimmed.

    :raises ApiError: 400 unless it is one.
    """
    trimmed = value.strip()
    if _STREAM_NAME.fullmatch(trimmed) is None:
        raise ApiError(400, "stream name must match ^[A-Za-z0-9][A-Za-z0-9._-]{0,255}$")
    return trimmed


def sequence(text: str, name: str) -> int:
    """Return a cursor.

    :raises ApiError: 400 unless it is a non-negative 64-bit integer.
    """
    if not text:
        return 0
    if text.isascii() and text.isdigit() and int(text) < 2**63:
        return int(text)
    raise ApiError(400, f"{name} must be a non-negative integer")

"""JSON values as they are read and written. Imports nothing heavy, so that a DAG file may use it."""

from __future__ import annotations

import json
import re
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, cast

from helmr_provider.client._schemas import dump_dataclass, plain_collection
from helmr_provider.client._secrets import Secret
from helmr_provider.client.errors import PayloadValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping


# A backslash before `u0000` is text. The control plane refuses NUL characters, mostly with 500.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def json_object(value: Any) -> dict[str, Any] | None:
    """Return a JSON value if it is an object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def encode(value: Any, what: str = "The body") -> bytes:
    """Render a JSON value. Pydantic models, dataclasses, mappings and sequences are rendered as JSON; nothing else is.

    :param what: subject of the error text.
    :raises PayloadValidationError: it is not JSON, or holds a NUL character; nothing is sent.
    """
    try:
        _check_keys(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_dump_model)
        encoded = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        if isinstance(error, UnicodeEncodeError):
            reason = "it holds text that is not Unicode"
    else:
        if _NUL.search(text) is None:
            return encoded
        raise PayloadValidationError(f"{what} contains a NUL character, which Helmr does not store.")
    raise PayloadValidationError(f"{what} is not JSON: {reason}.")


def join_members(members: Mapping[str, bytes]) -> bytes:
    """Return the JSON object whose members are encoded already."""
    return b"{" + b",".join(json.dumps(name).encode() + b":" + value for name, value in members.items()) + b"}"


def _check_keys(value: Any) -> None:
    # json.dumps turns 1 and None into texts, so two different payloads would be one on the wire.
    if isinstance(value, dict):
        for key, member in cast("dict[object, Any]", value).items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text")
            _check_keys(member)
    elif isinstance(value, (list, tuple)):
        for item in cast("list[Any]", value):
            _check_keys(item)


def _dump_model(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        # By alias, because that is the name under which the other side reads it.
        return dump(mode="json", by_alias=True)
    if is_dataclass(value) and not isinstance(value, type):
        return dump_dataclass(value)
    if isinstance(value, Secret):
        return value.reveal()
    if (plain := plain_collection(value)) is not None:
        _check_keys(plain)
        return plain
    raise TypeError(f"a {type(value).__name__} cannot be rendered")

"""Request bodies, decoded into typed members with the control plane's errors for wrong fields.

Users see the errors for fields. The real control plane describes malformed JSON with the texts of its own scanner;
this one describes it in its own words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import parse_rfc3339
from helmr_provider.local.common.json_bodies import DecodeError
from helmr_provider.local.common.jsontext import Number, as_list, as_object, dumps, without_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INT32 = range(-(2**31), 2**31)
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Struct:
    """The members of a JSON object and the readers of their values.

    :param name: its name in error texts, for example `api.CreateTokenRequest`.
    :param fields: a reader for each member, by JSON name.
    :param strict: refuse members of unknown name.
    """

    name: str
    fields: Mapping[str, Callable[[Any, str], Any]] = field(repr=False)
    strict: bool = True

    def read(self, value: Any, path: str | None = None) -> dict[str, Any]:
        """Decode an object's members, in its order; the first error wins.

        :raises DecodeError: if it is no object, or a member is unknown or has another type.
        """
        if value is None:
            return {}
        members = as_object(value)
        if members is None:
            kind = _kind(value)
            where = f"value of type {self.name}" if path is None else f"struct field {path} of type {self.name}"
            raise DecodeError(f"json: cannot unmarshal {kind} into Go {where}")
        short = self.name.rpartition(".")[2]
        result: dict[str, Any] = {}
        for name, item in members.items():
            known = name if name in self.fields else name.casefold()
            reader = self.fields.get(known)
            if reader is not None:
                result[known] = reader(item, f"{path or short}.{known}")
            elif self.strict:
                raise DecodeError(f'json: unknown field "{without_surrogates(name)}"')
        return result


def raw(value: Any, path: str) -> Any:
    """Take any value, null included."""
    del path
    return value


def string(value: Any, path: str) -> str | None:
    """Take a string; null leaves the member unset."""
    if value is None:
        return None
    if isinstance(value, str):
        # As Go's decoder does; a `raw` value reaches the database as it was sent.
        return str(without_surrogates(value))
    raise _mistyped(value, path, "string")


def boolean(value: Any, path: str) -> bool | None:
    """Take a boolean; null leaves the member unset."""
    if value is None or isinstance(value, bool):
        return value
    raise _mistyped(value, path, "bool")


def int32(value: Any, path: str) -> int | None:
    """Take a 32-bit integer; null leaves the member unset."""
    if isinstance(value, bool) or not isinstance(value, int | None) or (value is not None and value not in INT32):
        raise _mistyped(value, path, "int32")
    return value


def int64(value: Any, path: str) -> int | None:
    """Take a 64-bit integer; null leaves the member unset."""
    if isinstance(value, bool) or not isinstance(value, int | None) or (value is not None and value not in INT64):
        raise _mistyped(value, path, "int64")
    return value


def string_map(value: Any, path: str) -> dict[str, str] | None:
    """Take an object whose members are strings; null leaves the member unset."""
    members = as_object(value)
    if members is not None:
        return {without_surrogates(name): string(item, path) or "" for name, item in members.items()}
    if value is None:
        return None
    raise _mistyped(value, path, "map[string]string")


def strings(value: Any, path: str) -> list[str] | None:
    """Take a list of strings; null leaves the member unset."""
    items = as_list(value)
    if items is not None:
        return [string(item, path) or "" for item in items]
    if value is None:
        return None
    raise _mistyped(value, path, "[]string")


def instant(value: Any, path: str) -> int | None:
    """Take an RFC 3339 timestamp, in microseconds; null leaves the member unset."""
    del path
    if value is None:
        return None
    if not isinstance(value, str):
        raise DecodeError("Time.UnmarshalJSON: input is not a JSON string")
    try:
        return parse_rfc3339(value)
    except ValueError as error:
        raise DecodeError(str(error)) from None


def _mistyped(value: Any, path: str, go_type: str) -> DecodeError:
    return DecodeError(f"json: cannot unmarshal {_kind(value)} into Go struct field {path} of type {go_type}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float | Number):
        return f"number {dumps(value)}"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"

"""Values and the types that callers expect of them.

A schema is anything that a pydantic ``TypeAdapter`` takes: a model, a dataclass, ``list[int]``; or a ready adapter, for
types that ``type[T]`` cannot express, such as unions. pydantic is loaded at the first check, not where a schema is
named, so that tasks and streams may be declared where a DAG is parsed.
"""

from __future__ import annotations

import json
from collections import UserString
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from typing_extensions import TypeVar

from helmr_provider.client.errors import PayloadValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import TypeAdapter

T = TypeVar("T")

if TYPE_CHECKING:
    Schema: TypeAlias = type[T] | TypeAdapter[T]


def validate(schema: Schema[Any], value: Any, what: str) -> None:
    """Check a value before it is sent. The original is sent, not the validated value.

    :param schema: type or adapter.
    :param value: what the caller gave.
    :param what: subject of the error text.
    :raises PayloadValidationError: it does not fit.
    """
    try:
        given = _with_plain_collections(value)
    except RecursionError:
        raise PayloadValidationError(f"{what} is nested too deeply.") from None
    _validate(lambda adapter: adapter.validate_python(given), schema, what, "")


def parse(schema: Schema[T], value: Any, what: str, advice: str = "") -> T:
    """Turn a JSON value that was received into the type that the caller expects.

    :param schema: type or adapter.
    :param value: the JSON value.
    :param what: subject of the error text.
    :param advice: what the caller can do when it does not fit.
    :raises PayloadValidationError: it does not fit.
    """
    # As JSON, because a strict type takes a date or an enum from text only there.
    text = json.dumps(value)
    return cast("T", _validate(lambda adapter: adapter.validate_json(text), schema, what, advice))


def plain_collection(value: Any) -> dict[Any, Any] | list[Any] | None:
    """Return a mapping as a dict and a sequence as a list; None for anything else, models and dataclasses included."""
    if (
        isinstance(value, (str, bytes, bytearray, memoryview, UserString))
        or hasattr(value, "model_dump")
        or is_dataclass(value)
    ):
        return None
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, Any]", value))
    return list(cast("Sequence[object]", value)) if isinstance(value, Sequence) else None


def _with_plain_collections(value: Any) -> Any:
    """Turn mappings and sequences into what pydantic takes for a model: other mappings than dicts are none to it."""
    if isinstance(value, (dict, list, tuple)) and type(cast("object", value)) not in {dict, list, tuple}:
        return cast("object", value)
    plain = plain_collection(value)
    if isinstance(plain, dict):
        return {key: _with_plain_collections(member) for key, member in plain.items()}
    if plain is None:
        return cast("object", value)
    items = [_with_plain_collections(item) for item in plain]
    return tuple(items) if isinstance(value, tuple) else items


def dump_dataclass(value: Any) -> Any:
    """Return the JSON value of a dataclass instance, dates and the like as text.

    :param value: the instance.
    """
    return _adapter(type(value)).dump_python(value, mode="json", by_alias=True)


def _validate(validate: Callable[[TypeAdapter[Any]], Any], schema: Schema[Any], what: str, advice: str) -> Any:
    from pydantic import ValidationError

    try:
        return validate(_adapter(schema))
    except ValidationError as error:
        issues: list[Any] = list(error.errors(include_url=False, include_input=False, include_context=False))
    # Behind the except clause: the context would hold the value itself.
    where = "; ".join(f"{'.'.join(str(p) for p in issue['loc']) or 'value'}: {issue['msg']}" for issue in issues)
    text = f"{what} does not fit {_name(schema)}: {where}."
    raise PayloadValidationError(f"{text} {advice}" if advice else text, issues=tuple(issues))


def _name(schema: Any) -> str:
    return schema.__name__ if isinstance(schema, type) else "its schema"


def _adapter(schema: Any) -> TypeAdapter[Any]:
    try:
        return _cached_adapter(schema)
    except TypeError:
        # An annotation with an unhashable part.
        return _build_adapter(schema)


def _build_adapter(schema: Schema[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return schema if isinstance(schema, TypeAdapter) else TypeAdapter(schema)


_cached_adapter = lru_cache(maxsize=256)(_build_adapter)

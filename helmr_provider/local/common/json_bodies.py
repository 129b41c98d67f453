"""Parse the one JSON value of a request body."""

from __future__ import annotations

import json
from typing import Any

from helmr_provider.local.common.jsontext import as_list, as_object, read_float, read_int

_WHITESPACE = " \t\r\n"
# The real control plane takes 10,000 levels. What handles a value here recurses.
_MAX_DEPTH = 256


class DecodeError(ValueError):
    """A request body that cannot be decoded."""


def parse(raw: bytes) -> Any:
    """Parse exactly one JSON value.

    :raises DecodeError: if the body is empty, malformed or nested too deeply, or holds more than one value.
    """
    text = raw.decode("utf-8", "replace")
    start = len(text) - len(text.lstrip(_WHITESPACE))
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise DecodeError(f"malformed JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        raise DecodeError(f"malformed JSON: {error}") from None
    if text[end:].strip(_WHITESPACE):
        raise DecodeError("request body must contain a single JSON value")
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            members, items = as_object(item), as_list(item)
            inner.extend(members.values() if members is not None else items or ())
        if not inner:
            return
        level = inner
    raise _too_deep()


def _too_deep() -> DecodeError:
    return DecodeError(f"JSON is nested too deeply: at most {_MAX_DEPTH} levels")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=read_float, parse_int=read_int)

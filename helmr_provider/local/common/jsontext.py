"""JSON text as the control plane stores, compares and sends it.

The control plane stores JSON as PostgreSQL's `jsonb`: ordered members, numbers of any length without an exponent, no
NUL character and no half of a surrogate pair. A number that Python's types do not hold exactly is a :class:`Number`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NoReturn, cast

from helmr_provider.local.common.errors import JSON, NUMBER, StorageRefusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Python converts no longer text to an int (sys.set_int_max_str_digits).
_MAX_INT_DIGITS = 4000
_MAX_DIGITS_BEFORE_POINT = 131_072
_MAX_DIGITS_AFTER_POINT = 16_383
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True)
class Number:
    """A JSON number that neither `int` nor `float` holds as it is written.

    :param text: the number as it is written.
    """

    text: str


def dumps(value: object) -> str:
    """Write a value compactly, members in their order.

    :raises ValueError: for a float that JSON cannot write.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_unwritable)
    except _HasNumber:
        return _written(value)


def jsonb(value: object) -> str:
    """Write a value as the database returns it: members ordered by the length and the bytes of their names.

    :raises StorageRefusal: for what the database does not store: NUL, half a surrogate pair, a number out of range.
    """
    text = dumps(_stored(value))
    if _NUL.search(text) is not None:
        raise StorageRefusal(JSON, "ERROR: unsupported Unicode escape sequence (SQLSTATE 22P05)")
    if _SURROGATE.search(text) is not None:
        raise StorageRefusal(JSON, "ERROR: invalid input syntax for type json (SQLSTATE 22P02)")
    return text


def loads(text: str) -> Any:
    """Read what :func:`dumps` or :func:`jsonb` wrote; each number keeps its text."""
    return json.loads(text, parse_float=read_float, parse_int=read_int)


def plain(value: object, *, out_of_range: Callable[[str], Any] = float) -> Any:
    """Return a value whose numbers are all Python's own, rounded where they must be.

    :param out_of_range: converts the text of a number that no double holds.
    """

    def read_rounded(text: str) -> Any:
        number = float(text)
        return out_of_range(text) if math.isinf(number) else number

    def read_whole(text: str) -> Any:
        return int(text) if len(text) <= _MAX_INT_DIGITS else read_rounded(text)

    return json.loads(dumps(value), parse_float=read_rounded, parse_int=read_whole)


def read_float(text: str) -> float | Number:
    """Return a number with a fraction or an exponent."""
    number = float(text)
    return number if repr(number) == text else Number(text)


def read_int(text: str) -> int | Number:
    """Return a number without fraction and exponent."""
    return int(text) if len(text) <= _MAX_INT_DIGITS else Number(text)


def as_doubles(value: object) -> Any:
    """Round every number to a double, as the control plane does in metadata, and replace halves of surrogate pairs.

    :raises OverflowError: with the text of a number that no double holds.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Number):
        return _double(value)
    if isinstance(value, str):
        return without_surrogates(value)
    members, items = as_object(value), as_list(value)
    if members is not None:
        return {without_surrogates(name): as_doubles(item) for name, item in members.items()}
    return value if items is None else [as_doubles(item) for item in items]


def without_surrogates(value: Any) -> Any:
    """Replace each half of a surrogate pair by U+FFFD, in texts at any depth: UTF-8 cannot carry it."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    members, items = as_object(value), as_list(value)
    if members is not None:
        return {without_surrogates(name): without_surrogates(item) for name, item in members.items()}
    return value if items is None else [without_surrogates(item) for item in items]


def fingerprint(value: object) -> str:
    """Hash a value so that key order and spacing do not matter; numbers are compared by their text."""
    return hashlib.sha256(dumps(_sorted(value)).encode("utf-8", "surrogatepass")).hexdigest()


def as_object(value: object) -> dict[str, Any] | None:
    """Return a value that is a JSON object as one, None for any other."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> Sequence[Any] | None:
    """Return a value that is a JSON list as one, None for any other."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else None


def _stored(value: object) -> object:
    members, items = as_object(value), as_list(value)
    if members is not None:
        return {name: _stored(members[name]) for name in sorted(members, key=_jsonb_key)}
    if items is not None:
        return [_stored(item) for item in items]
    if isinstance(value, float):
        text = repr(value)
        return Number(_numeric(text)) if "e" in text or text == "-0.0" else value
    return Number(_numeric(value.text)) if isinstance(value, Number) else value


def _sorted(value: object) -> object:
    members, items = as_object(value), as_list(value)
    if members is not None:
        return {name: _sorted(members[name]) for name in sorted(members, key=_jsonb_key)}
    return value if items is None else [_sorted(item) for item in items]


def _jsonb_key(name: str) -> tuple[int, bytes]:
    encoded = name.encode("utf-8", "surrogatepass")
    return len(encoded), encoded


def _numeric(text: str) -> str:
    """Write a number without an exponent, every digit kept."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"Out of range float values are not JSON compliant: {text}")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    after = max(0, len(fraction) - exponent)
    before = len(whole.lstrip("0")) + exponent
    is_zero = not (whole + fraction).strip("0")
    if after > _MAX_DIGITS_AFTER_POINT or (not is_zero and before > _MAX_DIGITS_BEFORE_POINT):
        raise StorageRefusal(NUMBER, "ERROR: value overflows numeric format (SQLSTATE 22003)")
    if is_zero:
        return f"0.{'0' * after}" if after else "0"
    return sign + format(Decimal(text.lstrip("-")), "f")


def _double(value: float | Number) -> Any:
    text = value.text if isinstance(value, Number) else repr(value)
    number = float(text)
    if math.isinf(number):
        raise OverflowError(text)
    return loads(_numeric(repr(number)).removesuffix(".0"))


class _HasNumber(TypeError):  # noqa: N818 - a signal, not an error
    """The value holds a :class:`Number`, which the standard encoder cannot write."""


def _unwritable(value: object) -> NoReturn:
    if isinstance(value, Number):
        raise _HasNumber
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _written(value: object) -> str:
    if isinstance(value, Number):
        return value.text
    members, items = as_object(value), as_list(value)
    if members is not None:
        written = (f"{encode_basestring(str(name))}:{_written(item)}" for name, item in members.items())
        return "{" + ",".join(written) + "}"
    if items is not None:
        return "[" + ",".join([_written(item) for item in items]) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_unwritable)

"""Session streams by name and type (contract/behaviour.md sections 5 and 17)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from helmr_provider.client._schemas import Schema

T = TypeVar("T", default=Any)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,255}")


@dataclass(frozen=True)
class _Stream(Generic[T]):
    name: str
    schema: Schema[T] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", stream_name(self.name))


class InputStream(_Stream[T]):
    """A stream that a session reads.

    :param name: as the task declares it; trimmed.
    :param schema: type that records must fit, or a ready pydantic ``TypeAdapter``; None takes any JSON value.
    :raises ValueError: the name is not one of a stream.
    """

    direction: ClassVar[Literal["input"]] = "input"


class OutputStream(_Stream[T]):
    """A stream that a session writes.

    :param name: as the task declares it; trimmed.
    :param schema: type that records are parsed to, or a ready pydantic ``TypeAdapter``; None takes any JSON value.
    :raises ValueError: the name is not one of a stream.
    """

    direction: ClassVar[Literal["output"]] = "output"


def input_stream(stream: str | InputStream[T]) -> InputStream[T]:
    """Return the definition that a caller means.

    :raises ValueError: the name is not one of a stream, or the definition is one of an output.
    """
    if isinstance(stream, str):
        return InputStream(stream)
    if stream.direction != "input":  # pyright: ignore[reportUnnecessaryComparison]
        raise ValueError(f"{stream.name} is an output stream.")
    return stream


def output_stream(stream: str | OutputStream[T]) -> OutputStream[T]:
    """Return the definition that a caller means.

    :raises ValueError: the name is not one of a stream, or the definition is one of an input.
    """
    if isinstance(stream, str):
        return OutputStream(stream)
    if stream.direction != "output":  # pyright: ignore[reportUnnecessaryComparison]
        raise ValueError(f"{stream.name} is an input stream.")
    return stream


def stream_name(name: str) -> str:
    """Return the name as it is sent: trimmed.

    :raises ValueError: the server would refuse it.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ValueError(
            "A stream name is 1 to 256 letters, digits, '.', '_' or '-', and starts with a letter or digit."
        )
    return name

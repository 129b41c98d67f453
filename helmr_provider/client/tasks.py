"""Typed start targets (contract/behaviour.md section 17)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self

from typing_extensions import TypeVar

from helmr_provider.client._schemas import validate
from helmr_provider.client.durations import whole_seconds

if TYPE_CHECKING:
    from datetime import timedelta

    from helmr_provider.client._schemas import Schema

# Without a type for it, a task takes no payload.
In = TypeVar("In", default=None)
Out = TypeVar("Out", default=Any)

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

# The limit a typed start sends when the task declares none. Part of the start's fingerprint: never change it.
_DEFAULT_MAX_DURATION = 900


@dataclass(frozen=True)
class Task(Generic[In, Out]):
    """A deployed task with the types of its payload and output.

    :param id: task id.
    :param payload: type the payload must fit, or a ready pydantic ``TypeAdapter``; None for a task that takes none.
    :param output: type that ``RunSnapshot.output_as`` makes of the output, or a ready ``TypeAdapter``.
    :param max_duration: how long a run may take, 5 s to a day; text, timedelta or seconds, a whole number of them.
        Default: 900 s.
    """

    id: str
    payload: Schema[In] | None = None
    output: Schema[Out] | None = None
    max_duration: timedelta | float | str | None = None

    def __str__(self) -> str:
        """Return the id: the text of a target names it."""
        return self.id

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself, being immutable; a ready adapter cannot be copied."""
        return self

    @property
    def max_duration_seconds(self) -> int:
        """The limit as it is sent."""
        if self.max_duration is None:
            return _DEFAULT_MAX_DURATION
        return whole_seconds("max_duration", self.max_duration)

    def validate(self, payload: Any) -> None:
        """Check a payload against the schema. The original is sent, not the validated value.

        :raises PayloadValidationError: it does not fit.
        """
        if self.payload is not None:
            validate(self.payload, payload, f"The payload of task {self.id}")


def check_task_id(task_id: str) -> str:
    """Return the task id.

    :raises ValueError: the server would refuse it.
    """
    if not _TASK_ID.fullmatch(task_id):
        raise ValueError("A task id is 1 to 128 letters, digits, '.', '_' or '-', and starts with a letter or digit.")
    return task_id

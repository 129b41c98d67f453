"""Records that stand in a member of their answer. No I/O."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from helmr_provider.client._wire.responses import json_object, read
from helmr_provider.client.errors import HelmrProtocolError

M = TypeVar("M", bound=BaseModel)


def read_member(model: type[M], value: Any, member: str, operation: str) -> M:
    """Read the model in one member of an answer; ``is_cached`` beside it becomes a member of the model.

    :raises HelmrProtocolError: there is no such member, or it does not fit.
    """
    envelope = json_object(value) or {}
    record = json_object(envelope.get(member))
    if record is None:
        raise HelmrProtocolError(f"{operation}: the answer has no object {member!r}.", operation=operation)
    if "is_cached" in envelope:
        record = record | {"is_cached": envelope["is_cached"]}
    return read(model, record, operation)

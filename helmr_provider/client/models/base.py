"""What all models that are read from the wire share."""

from __future__ import annotations

from base64 import b64decode
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PrivateAttr, model_validator

from helmr_provider.client.errors import HelmrProtocolError

if TYPE_CHECKING:
    from pydantic import ModelWrapValidatorHandler


class WireModel(BaseModel):
    """A frozen record as the server sent it.

    Reading is tolerant (contract/behaviour.md §18): unknown members are ignored, unknown enum values stay text, and
    null means absent except where null is a value.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    # Members whose null is a value of its own.
    nullable: ClassVar[frozenset[str]] = frozenset()

    # Not a factory, which would run for each model that is read.
    _raw: dict[str, Any] | None = PrivateAttr(default=None)

    @property
    def raw(self) -> dict[str, Any]:
        """The received object, unknown members included; empty if the model was not read from one."""
        return {} if self._raw is None else self._raw

    @model_validator(mode="wrap")
    @classmethod
    def _keep_raw(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        raw = cast("dict[str, Any]", value)
        present = raw
        if None in raw.values():
            present = {name: member for name, member in raw.items() if member is not None or name in cls.nullable}
        model = handler(present)
        # What `model._raw = raw` does, in a fifth of the time: a stream has many records.
        cast("dict[str, Any]", model.__pydantic_private__)["_raw"] = raw
        return model


def _blank_is_absent(value: Any) -> Any:
    return None if value == "" else value


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


Instant = Annotated[datetime, AfterValidator(_aware)]
"""An aware point in time. One without a zone counts as UTC, so that times can always be compared."""


def decode_base64(text: str) -> bytes:
    """Return the bytes that a text encodes.

    :raises HelmrProtocolError: it is not base64.
    """
    with suppress(ValueError):
        return b64decode(text, validate=True)
    raise HelmrProtocolError("A chunk of output is not base64.", raw=text[:200])


OptionalText = Annotated[str | None, BeforeValidator(_blank_is_absent)]
"""Text for which the server may send ``""`` to mean none."""

"""What all models that are read from the wire share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, PrivateAttr, model_validator

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

    _raw: dict[str, Any] = PrivateAttr(default_factory=dict[str, Any])

    @property
    def raw(self) -> dict[str, Any]:
        """The received object, unknown members included."""
        return self._raw

    @model_validator(mode="wrap")
    @classmethod
    def _keep_raw(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        raw = cast("dict[str, Any]", value)
        model = handler({name: member for name, member in raw.items() if member is not None or name in cls.nullable})
        return model._with_raw(raw)  # noqa: SLF001 - its own

    def _with_raw(self, raw: dict[str, Any]) -> Self:
        self._raw = raw
        return self


def _blank_is_absent(value: Any) -> Any:
    return None if value == "" else value


OptionalText = Annotated[str | None, BeforeValidator(_blank_is_absent)]
"""Text for which the server may send ``""`` to mean none."""

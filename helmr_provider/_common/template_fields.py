"""Template fields that hold text after native rendering, too.

With ``render_template_as_native_obj=True``, Airflow turns rendered text that reads like a Python literal into that
value: ``"{{ 20260106 }}"`` becomes a number, and so does the constant ``"20260106"``. These fields turn scalars back
into text as soon as they are set, by the constructor or by the rendering, and refuse values without a single text form.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload
from uuid import UUID

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

T = TypeVar("T")

_SCALARS = (bool, int, date, UUID)
_CONTAINERS = (list, tuple, set, frozenset, dict)


class TemplateField(Generic[T]):
    """An attribute that normalizes every value it is set to.

    :param normalize: function of the field's name and the value; returns the value to keep.
    """

    def __init__(self, normalize: Callable[[str, Any], Any]) -> None:
        self.normalize = normalize
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        try:
            return cast("T", vars(instance)[self._name])
        except KeyError:
            raise AttributeError(f"{type(instance).__name__!r} object has no attribute {self._name!r}") from None

    def __set__(self, instance: object, value: Any) -> None:
        # Airflow copies and stores operators by their __dict__.
        vars(instance)[self._name] = self.normalize(self._name, value)


def text(name: str, value: Any) -> Any:
    """Return a scalar as text. References to other tasks' results and ``None`` stay as they are.

    :param name: name of the parameter.
    :param value: as set by the author or by Airflow's rendering.
    :raises AirflowFailException: the value is a float, whose text may have differed (1.10 and 1.1), or no scalar.
    """
    if isinstance(value, float):
        raise AirflowFailException(
            f"{name} must be text, but is the float {value!r}. Native rendering cannot tell 1.10 from 1.1: add a "
            "character that is no part of a number, such as 'v1.10'."
        )
    return _as_text(name, value)


def texts(name: str, value: Any) -> Any:
    """Return a collection with its items as text, or one text. References and ``None`` stay as they are.

    :param name: name of the parameter.
    :param value: as set by the author or by Airflow's rendering.
    :raises AirflowFailException: the value is a mapping, or an item is no scalar.
    """
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("list[Any]", sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)
        return [_item(f"{name}[{index}]", item) for index, item in enumerate(items)]
    return _as_text(name, value)


def text_mapping(name: str, value: Any) -> Any:
    """Return a mapping with its keys and values as text. References and ``None`` stay as they are.

    :param name: name of the parameter.
    :param value: as set by the author or by Airflow's rendering.
    :raises AirflowFailException: a key or a value is no scalar.
    """
    if isinstance(value, Mapping):
        return {_item(f"a name in {name}", key): _item(f"{name}[{key!r}]", item) for key, item in value.items()}
    return value


def _item(name: str, value: Any) -> Any:
    if value is None:
        raise AirflowFailException(f"{name} must be text, but is None.")
    return _as_text(name, value)


def _as_text(name: str, value: Any) -> Any:
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, (*_SCALARS, float)):
        return str(value)
    if isinstance(value, _CONTAINERS) or _is_undefined(value):
        shown = type(cast("object", value)).__name__
        raise AirflowFailException(
            f"{name} must be text, but is of type {shown}. With render_template_as_native_obj=True, text that reads "
            "like a Python literal becomes that literal."
        )
    return value


def _is_undefined(value: object) -> bool:
    # Without an import of Jinja, which parsing a DAG file need not do.
    return any(base.__name__ == "Undefined" and base.__module__ == "jinja2.runtime" for base in type(value).__mro__)

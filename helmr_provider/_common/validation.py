"""Check parameters of operators, sensors and the notifier after rendering."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider.client.durations import seconds

T = TypeVar("T")


def require_id(name: str, value: object) -> str:
    """Return the id from a template or an XCom.

    :param name: the operator's parameter.
    :param value: what it was rendered to; ``None``, also as text, is what a task that pushed nothing gives.
    :raises AirflowFailException: there is no id in it.
    """
    if isinstance(value, str) and value.strip() not in {"", "None"}:
        return value
    raise AirflowFailException(f"{name} must be an id, but is {value!r}: has the task that gives it pushed one?")


def require_bool(name: str, value: object) -> bool:
    """Return a yes or no from a template.

    :param name: the operator's parameter.
    :param value: as rendered: a boolean, or text such as ``"True"``.
    :raises AirflowFailException: it is neither true nor false.
    """
    text = str(value).strip().lower()
    if text not in {"true", "false"}:
        raise AirflowFailException(f"{name} must be true or false, but is {value!r}.")
    return text == "true"


def require_age(name: str, value: timedelta | float | str) -> timedelta:
    """Return an age from a template.

    :param name: the operator's parameter.
    :param value: as rendered: a timedelta, seconds, or text such as ``"90m"``.
    :raises AirflowFailException: it is no duration, or negative.
    """
    try:
        age = timedelta(seconds=seconds(value, name))
    except (TypeError, ValueError, OverflowError) as error:
        raise AirflowFailException(str(error)) from None
    if age < timedelta(0):
        raise AirflowFailException(f"{name} must not be negative, but is {value!r}.")
    return age


def renamed(name: str, value: T, former_name: str, former_value: T | None) -> T:
    """Return the value of a parameter that may have been set by its former name, with a deprecation warning.

    :param name: the operator's parameter.
    :param value: as set by this name.
    :param former_name: what the parameter was called.
    :param former_value: as set by the former name; ``None`` if it was not used.
    """
    if former_value is None:
        return value
    from airflow.exceptions import AirflowProviderDeprecationWarning

    # The callers are the constructor, Airflow's wrapper around it, and the DAG file.
    message = f"The parameter {former_name} is now called {name}."
    warnings.warn(message, AirflowProviderDeprecationWarning, stacklevel=4)
    return former_value


def check_session_ref(session_id: object, external_id: object) -> None:
    """Refuse a DAG that names no session, or two.

    :param session_id: as the author gave it; a template counts.
    :param external_id: as the author gave it.
    :raises ValueError: none or both are set.
    """
    if (session_id is None) == (external_id is None):
        raise ValueError("Give either session_id or external_id.")


def address(session_id: object, external_id: object) -> dict[str, str]:
    """Return the session as the client's ``sessions.open`` takes it.

    :param session_id: as rendered.
    :param external_id: as rendered.
    :raises AirflowFailException: the upstream task pushed no id.
    """
    if external_id is not None:
        return {"external_id": require_id("external_id", external_id)}
    return {"session": require_id("session_id", session_id)}


def shown(session_id: object, external_id: object) -> str:
    """Name the session for people.

    :param session_id: as rendered.
    :param external_id: as rendered.
    """
    return f"Helmr session {session_id if external_id is None else external_id}"


def stream_name(name: str, value: object) -> str:
    """Return the name of a stream as it is sent.

    :param name: of the parameter.
    :param value: as rendered.
    :raises AirflowFailException: no stream has such a name.
    """
    from helmr_provider.client.streams import stream_name as checked

    try:
        return checked(str(value))
    except ValueError as error:
        raise AirflowFailException(f"{name} is {value!r}. {error}") from None


def sequence(name: str, value: object) -> int:
    """Return the sequence of a record from a template or an XCom.

    :param name: of the parameter.
    :param value: as rendered; text, unless Jinja renders native objects.
    :raises AirflowFailException: it is not a whole number from 0 on.
    """
    text = str(value).strip()
    if text.isascii() and text.isdigit():
        return int(text)
    raise AirflowFailException(f"{name} must be the sequence of a record, a whole number, but is {value!r}.")

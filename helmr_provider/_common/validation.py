"""Which session an operator, sensor or notifier means: by its id, or by its external id."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowFailException


def require_id(name: str, value: object) -> str:
    """Return the id from a template or an XCom.

    :param name: the operator's parameter.
    :param value: what it was rendered to; ``None``, also as text, is what a task that pushed nothing gives.
    :raises AirflowFailException: there is no id in it.
    """
    if isinstance(value, str) and value.strip() not in {"", "None"}:
        return value
    raise AirflowFailException(f"{name} must be an id, but is {value!r}: has the task that gives it pushed one?")


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

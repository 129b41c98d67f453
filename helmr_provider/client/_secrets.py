"""Credentials: held so that they do not show, and removed from text of foreign origin."""

from __future__ import annotations

import re
import weakref
from typing import Any, Final, cast


class Secret:
    """Hold a credential so that no repr, log line, pickle or traceback local shows it.

    While it exists, :func:`scrub` removes its value from every text, in each of its forms.

    :param value: the text to hide.
    :param source: where it comes from, in the words of the person who configured it.
    """

    __slots__ = ("__weakref__", "_value", "source")

    def __init__(self, value: str, source: str = "") -> None:
        self._value: Final = value
        self.source = source
        if len(value) >= _SHORTEST:
            _known[id(self)] = self

    def reveal(self) -> str:
        """Return the text; for the one place that puts it on the wire."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("A secret is not pickled")


# Shorter values are words: to remove them would make texts unreadable.
_SHORTEST: Final = 8
_known: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()


def hide(value: str | Secret, source: str = "") -> Secret:
    """Wrap a text, leave a wrapped one alone."""
    return value if isinstance(value, Secret) else Secret(value, source)


# The underscores may be escaped for a URL or for JSON.
_BAR = r"(?:_|%5[fF]|\\+u005[fF])"
_CREDENTIALS = re.compile(rf"hlmr{_BAR}(sk|pat|public{_BAR}access|callback){_BAR}[A-Za-z0-9_%\\-]+")


def scrub(text: str) -> str:
    """Return a text of foreign origin, such as an error page that echoes the request, without the credentials in it.

    Removed are the values of all live :class:`Secret` objects, and everything that has the form of a Helmr credential.
    """
    # Not ``values()``, whose iteration fails when another thread makes a secret.
    for reference in _known.valuerefs():
        secret = reference()
        if secret is not None and (value := secret.reveal()) in text:
            text = text.replace(value, "***")
    return _CREDENTIALS.sub(r"hlmr_\1_***", text)


def scrub_value(value: Any) -> Any:
    """Return a JSON value without the credentials in its texts and keys.

    Call it on parsed values: escapes in JSON text would hide a credential from :func:`scrub`.
    """
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {scrub_value(name): scrub_value(member) for name, member in members.items()}
    if isinstance(value, list):
        return [scrub_value(item) for item in cast("list[object]", value)]
    return value

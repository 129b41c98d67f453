"""A text that does not show itself."""

from __future__ import annotations

import re
from typing import Final


class Secret:
    """Hold a credential so that no repr, log line, pickle or traceback local shows it.

    :param value: the text to hide.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value: Final = value

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


def hide(value: str | Secret) -> Secret:
    """Wrap a text, leave a wrapped one alone."""
    return value if isinstance(value, Secret) else Secret(value)


_CREDENTIALS = re.compile(r"hlmr_(sk|pat|public_access|callback)_[A-Za-z0-9_-]+")


def scrub(text: str) -> str:
    """Return foreign text, such as an error page that echoes the request, without the credentials in it."""
    return _CREDENTIALS.sub(r"hlmr_\1_***", text)

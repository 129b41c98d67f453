"""A reference to a session: its id or its external id. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

MAX_EXTERNAL_ID: Final = 512


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class SessionRef:
    """The id or the external id of a session, never both.

    :param id: session id.
    :param external_id: external id, trimmed.
    """

    id: str | None = None
    external_id: str | None = None

    @classmethod
    def of(cls, session: str | _HasId | None, external_id: str | None) -> SessionRef:
        """Read what a caller passed. A plain text is always an id; a snapshot means its id.

        :raises ValueError: both or neither are passed, or it is blank.
        """
        if (session is None) == (external_id is None):
            raise ValueError("Give either a session or external_id=.")
        if external_id is not None:
            return cls(external_id=external_id_text(external_id))
        session_id = session if isinstance(session, str) or session is None else session.id
        if not (session_id or "").strip():
            raise ValueError("The session id must not be blank.")
        return cls(id=session_id)

    def operation(self, operation: str) -> str:
        """Return the form of an operation that fits this address."""
        return operation if self.external_id is None else f"{operation}ByExternalId"

    @property
    def path(self) -> dict[str, str]:
        """Path parts."""
        return {} if self.id is None else {"session_id": self.id}

    @property
    def query(self) -> dict[str, str]:
        """Query members."""
        return {} if self.external_id is None else {"external_id": self.external_id}

    def __str__(self) -> str:
        return f"id={self.id!r}" if self.external_id is None else f"external_id={self.external_id!r}"


def external_id_text(external_id: str) -> str:
    """Return the external id as it is sent: trimmed.

    :raises ValueError: blank, longer than 512 bytes, or with a NUL.
    """
    text = external_id.strip()
    if not text:
        raise ValueError("external_id must not be blank.")
    if len(text.encode(errors="surrogatepass")) > MAX_EXTERNAL_ID or "\0" in text:
        raise ValueError(f"external_id has at most {MAX_EXTERNAL_ID} bytes of UTF-8 and no NUL.")
    return text

"""Public access tokens: what they allow, and how the server shows them (contract/behaviour.md section 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from pydantic import Field, model_validator

from helmr_provider.client._session_ref import SessionRef
from helmr_provider.client.models.base import Instant, OptionalText, WireModel
from helmr_provider.client.streams import input_stream, output_stream

if TYPE_CHECKING:
    from helmr_provider.client.models.sessions import SessionSnapshot
    from helmr_provider.client.streams import InputStream, OutputStream


class _SessionHandle(Protocol):
    @property
    def address(self) -> SessionRef: ...


class ScopeSession(WireModel):
    """The session of a scope (schema SessionRef).

    :param type: id or external_id; id in answers.
    """

    type: str
    id: OptionalText = None
    external_id: OptionalText = None

    @model_validator(mode="after")
    def _names_a_session(self) -> Self:
        if not (self.id or "").strip() and not (self.external_id or "").strip():
            raise ValueError("names no session")
        return self


class PublicScope(WireModel):
    """What a public access token allows: one stream of one session (schema PublicAccessTokenScope).

    Build it with :meth:`input` or :meth:`output`.

    :param type: session.input.send or session.output.read.
    :param session: which session.
    :param stream: name of the stream.
    :param correlation_id: if set, the bearer must use exactly this one.
    """

    type: str
    session: ScopeSession
    stream: str
    correlation_id: OptionalText = None

    @classmethod
    def input(
        cls,
        session: str | SessionSnapshot | _SessionHandle,
        stream: str | InputStream[Any],
        *,
        correlation_id: str | None = None,
    ) -> PublicScope:
        """Allow to send records to one input stream.

        :param session: session id, snapshot, or handle; of a handle that was opened by external id, that id.
        :param stream: name or definition.
        :param correlation_id: the only one the bearer may use.
        :raises ValueError: the name is not one of a stream, or the stream is an output.
        """
        return cls._of("session.input.send", session, input_stream(stream).name, correlation_id)

    @classmethod
    def output(
        cls,
        session: str | SessionSnapshot | _SessionHandle,
        stream: str | OutputStream[Any],
        *,
        correlation_id: str | None = None,
    ) -> PublicScope:
        """Allow to read the records of one output stream.

        :param session: session id, snapshot, or handle; of a handle that was opened by external id, that id.
        :param stream: name or definition.
        :param correlation_id: the only one the bearer may use.
        :raises ValueError: the name is not one of a stream, or the stream is an input.
        """
        return cls._of("session.output.read", session, output_stream(stream).name, correlation_id)

    @classmethod
    def _of(
        cls,
        scope_type: str,
        session: str | SessionSnapshot | _SessionHandle,
        stream: str,
        correlation_id: str | None,
    ) -> PublicScope:
        ref = getattr(session, "address", None)
        address = ref if isinstance(ref, SessionRef) else SessionRef.of(session, None)  # type: ignore[arg-type]
        kind = "id" if address.external_id is None else "external_id"
        named = ScopeSession(type=kind, id=address.id, external_id=address.external_id)
        return cls(type=scope_type, session=named, stream=stream, correlation_id=correlation_id)


class PublicAccessToken(WireModel):
    """A credential for users without an API key (schema PublicAccessToken). It can be neither listed nor revoked.

    :param public_access_token: the bearer value; shown this once.
    :param scope: what it allows; its session is always named by id.
    :param max_uses: how many calls it allows, repeats and empty reads included; None for any number.
    """

    id: str
    public_access_token: OptionalText = Field(default=None, repr=False)
    scope: PublicScope
    expires_at: Instant
    max_uses: int | None = None
    created_at: Instant

"""A request as an operation's handler sees it, and how its parts are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import is_uuid
from helmr_provider.local.common.json_bodies import DecodeError, parse
from helmr_provider.local.common.jsontext import dumps, plain, without_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope

    from helmr_provider.local._core import Core
    from helmr_provider.local.api.request_body import Struct
    from helmr_provider.local.state.api_keys import Caller
    from helmr_provider.local.state.starting import Starter

SCOPE_WITH_KEY = "project_id and environment_id are not accepted with API keys"
TOO_LARGE = "request body is too large"

Handler = Callable[["ApiRequest"], Awaitable[ASGIApp]]


@dataclass
class ApiRequest:
    """One request.

    :param core: the control plane's state.
    :param starter: starts sessions.
    :param scope: the ASGI scope.
    :param content: the body, or why it was refused. It is read before the handler begins, so that nothing changes
        between what a handler looks up and what it does with it.
    :param params: values of the path's placeholders.
    :param caller: the caller; on public routes a caller without environment and scopes.
    :param note_body: tells the journal the parsed body.
    """

    core: Core
    starter: Starter
    scope: Scope
    content: bytes | ApiError
    params: Mapping[str, str]
    caller: Caller
    note_body: Callable[[Any], None]

    def __post_init__(self) -> None:
        self.headers = Headers(scope=self.scope)
        # Of a repeated member the first counts.
        items = QueryParams(self.scope["query_string"]).multi_items()
        self.query = QueryParams(dict(reversed(items)))

    @property
    def environment_id(self) -> str:
        """The caller's environment."""
        return self.caller.environment_id

    @property
    def follows(self) -> bool:
        """Whether a stream is requested instead of a page."""
        return wants_stream(self.headers, self.query)

    def uuid(self, name: str, shown_as: str | None = None) -> str:
        """Return a path's id.

        :param name: the placeholder.
        :param shown_as: what the server calls it in its refusal.
        :raises ApiError: 400 unless it is a UUID.
        """
        value = self.params[name]
        if not is_uuid(value):
            raise ApiError(400, f"{shown_as or name} must be a UUID")
        return value.lower()

    def limit(self, default: int, most: int) -> int:
        """Return the `limit` of a list.

        :raises ApiError: 400 unless it is a whole number from 1 to `most`.
        """
        text = self.query.get("limit", "")
        if not text:
            return default
        if text.isascii() and text.isdigit() and 1 <= int(text) <= most:
            return int(text)
        raise ApiError(400, f"limit must be an integer between 1 and {most}")

    def limit_at_most(self, default: int, most: int, refusal: str = "limit must be at most {}") -> int:
        """Return the `limit` of a list whose texts differ from those of :meth:`limit`.

        :raises ApiError: 400 unless it is a whole number from 1 to `most`.
        """
        text = self.query.get("limit", "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise ApiError(400, "limit must be a positive integer")
        if int(text) > most:
            raise ApiError(400, refusal.format(most))
        return int(text)

    def text(self, name: str) -> str | None:
        """Return a query member, trimmed; None if it is absent or empty."""
        return self.query.get(name, "").strip() or None

    def refuse_project_query(self) -> None:
        """Refuse the query members that only user sessions may send.

        :raises ApiError: 400.
        """
        if self.query.get("project_id") or self.query.get("environment_id"):
            raise ApiError(400, SCOPE_WITH_KEY)

    def defect(self, failure: ApiError, refusal: ApiError) -> ApiError:
        """Return what the real control plane answers where it should refuse, or the refusal if quirks are off."""
        return failure if self.core.settings.quirks else refusal

    def body(self, what: str, struct: Struct, *, confidential: bool = False) -> dict[str, Any]:
        """Read and decode the JSON body.

        :param what: what error texts call it.
        :param struct: the Go struct that it is decoded into.
        :param confidential: do not tell the journal.
        :raises ApiError: 400 or 413.
        """
        try:
            value = parse(self.raw_body())
            if not confidential:
                self.note_body(without_surrogates(plain(value, out_of_range=str)))
            return struct.read(value)
        except DecodeError as error:
            raise ApiError(400, f"invalid {what} JSON: {error}") from None

    def raw_body(self) -> bytes:
        """Return the body.

        :raises ApiError: 413 past the limit.
        """
        if isinstance(self.content, ApiError):
            raise self.content
        return self.content


async def received(receive: Receive, most: int) -> bytes | ApiError:
    """Read a body; return the refusal if it is too large, since not every operation reads its body.

    :param most: the limit in bytes.
    """
    content = bytearray()
    while True:
        message = await receive()
        content += message.get("body", b"")
        if len(content) > most:
            return ApiError(413, TOO_LARGE, headers={"connection": "close"})
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return bytes(content)


def wants_stream(headers: Headers, query: QueryParams) -> bool:
    """Say whether a stream is requested, by `follow=1` or by the Accept header."""
    return query.get("follow") == "1" or "text/event-stream" in headers.get("accept", "")


def answer(body: object, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(dumps(body).encode("utf-8", "replace"), status, media_type="application/json")


def refused(error: ApiError) -> Response:
    """Answer with an error."""
    return JSONResponse(error.body(), error.status, headers=error.headers)

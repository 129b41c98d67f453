"""The API as an ASGI application, with the checks of every request in the server's order.

Body size, API version, path and method, credentials, scope, then the operation itself.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from helmr_provider.local._core import API_VERSION
from helmr_provider.local.api.operations import OPERATIONS, PUBLIC, Router
from helmr_provider.local.api.request import TOO_LARGE, ApiRequest, received, refused, wants_stream
from helmr_provider.local.api.storage_errors import storage_error
from helmr_provider.local.common.errors import ApiError, StorageRefusal
from helmr_provider.local.state.api_keys import Caller, authenticate
from helmr_provider.local.state.starting import Starter
from helmr_provider.local.testing.fault_middleware import with_fault
from helmr_provider.local.testing.journal import Journal, JournalEntry
from helmr_provider.local.testing.request_environment import environment_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from helmr_provider.local._core import Core
    from helmr_provider.local.api.operations import Match, Operation
    from helmr_provider.local.testing.fault_middleware import Connections
    from helmr_provider.local.testing.faults import FaultBook

_log = logging.getLogger(__name__)

_SCOPED = "/api/projects/"
_ME = "/api/me"
_PUBLIC = "/api/v1/"
_PREFLIGHT = (
    (b"access-control-allow-headers", b"authorization, content-type, Helmr-API-Version"),
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-max-age", b"600"),
)
_ANONYMOUS = Caller("", frozenset())


class Api:
    """Answers everything below `/api`.

    :param core: the control plane's state.
    :param connections: the open connections, for faults that cut them.
    :param faults: the planted faults.
    :param journal: records every request.
    """

    def __init__(self, core: Core, connections: Connections, faults: FaultBook, journal: Journal) -> None:
        self._core = core
        self._connections = connections
        self._faults = faults
        self._journal = journal
        self._router = Router(OPERATIONS)
        self._starter = Starter(core)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = _IncomingRequest.read(scope, self._router)
        environment = environment_of(self._core, request.headers, {} if request.match is None else request.match.params)
        slot = self._journal.open(request.entry(environment))
        too_large = request.declared_size > self._core.settings.max_body

        async def versioned(message: Message) -> None:
            if message["type"] == "http.response.start":
                Journal.amend(slot, status=message["status"])
                # The limit on bodies is checked before the API: only its refusal names no version.
                added = [] if too_large else [(b"helmr-api-version", API_VERSION.encode()), *self._cors(request)]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                application = await self._application(request, receive, slot)
            except ApiError as error:
                application = refused(error)
            except StorageRefusal as error:
                application = refused(storage_error(self._core, request.operation, error))
            except Exception:  # noqa: BLE001 - with any error, the caller gets an answer and the log the traceback
                _log.exception("%s failed", request.operation.name if request.operation is not None else "a request")
                application = refused(ApiError(500, "internal error of the local control plane"))
            await application(scope, receive, send)

        fault = None
        if request.operation is not None:
            streaming = wants_stream(request.headers, request.query)
            fault = self._faults.take(request.operation.name, streaming=streaming, environment=environment)
        if fault is None:
            await respond(scope, receive, versioned)
        else:
            Journal.amend(slot, fault=fault.kind)
            await with_fault(fault, self._connections, respond)(scope, receive, versioned)

    async def _application(self, request: _IncomingRequest, receive: Receive, slot: list[JournalEntry]) -> ASGIApp:
        if request.declared_size > self._core.settings.max_body:
            raise ApiError(413, TOO_LARGE, headers={"connection": "close"})
        version = request.headers.get("helmr-api-version", "").strip()
        if version not in ("", API_VERSION):
            quoted = json.dumps(version, ensure_ascii=False)
            raise ApiError(400, f"unsupported Helmr-API-Version {quoted}; current version is {API_VERSION}")
        if request.path.startswith(_SCOPED) or request.path == _ME:
            authenticate(self._core, request.headers.get("authorization"))
            raise ApiError(401, "session authentication is required")
        if request.match is None:
            raise ApiError(404, "not found")
        if request.is_preflight:
            return Response(status_code=204)
        if request.operation is None:
            return Response(status_code=405, headers={"allow": ", ".join(request.match.methods)})
        caller = self._admitted(request.operation, request.headers)

        def note_body(value: Any) -> None:
            Journal.amend(slot, body=value)

        content = b"" if request.scope["method"] == "GET" else await received(receive, self._core.settings.max_body)
        return await request.operation.handler(
            ApiRequest(self._core, self._starter, request.scope, content, request.match.params, caller, note_body)
        )

    def _cors(self, request: _IncomingRequest) -> list[tuple[bytes, bytes]]:
        """Return the CORS headers of public routes, which allow only the console's own origin."""
        origin = request.headers.get("origin")
        if origin is None or not request.path.startswith(_PUBLIC) or origin != self._core.public_url:
            return []
        allowed = [(b"access-control-allow-origin", origin.encode()), (b"vary", b"origin")]
        if request.is_preflight:
            allowed += _PREFLIGHT
        return allowed

    def _admitted(self, operation: Operation, headers: Headers) -> Caller:
        if operation.scope == PUBLIC:
            return _ANONYMOUS
        caller = authenticate(self._core, headers.get("authorization"))
        if operation.scope is not None:
            caller.require(operation.scope)
        return caller


@dataclass(frozen=True)
class _IncomingRequest:
    """A request before anything is decided about it."""

    scope: Scope
    path: str
    headers: Headers
    query: QueryParams
    match: Match | None

    @classmethod
    def read(cls, scope: Scope, router: Router) -> _IncomingRequest:
        path = scope["raw_path"].decode("ascii", "replace")
        return cls(
            scope, path, Headers(scope=scope), QueryParams(scope["query_string"]), router.match(scope["method"], path)
        )

    @property
    def operation(self) -> Operation | None:
        return None if self.match is None else self.match.operation

    @property
    def declared_size(self) -> int:
        size = self.headers.get("content-length", "")
        return int(size) if size.isdigit() else 0

    @property
    def is_preflight(self) -> bool:
        return self.scope["method"] == "OPTIONS" and self.path.startswith(_PUBLIC)

    def entry(self, environment: str | None) -> JournalEntry:
        return JournalEntry(
            method=self.scope["method"],
            path=self.path,
            query=dict(self.query),
            operation=None if self.operation is None else self.operation.name,
            last_event_id=self.headers.get("last-event-id"),
            environment=environment,
        )

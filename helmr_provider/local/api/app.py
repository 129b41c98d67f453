"""The API as an ASGI application: what every request passes, in the server's order.

Body size, API version, path and method, credentials, scope, then the operation itself.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from helmr_provider.local.api.request import TOO_LARGE, ApiRequest, refused, wants_stream
from helmr_provider.local.auth import Caller, authenticate
from helmr_provider.local.core import API_VERSION, Core
from helmr_provider.local.errors import ApiError
from helmr_provider.local.faulty import Connections, misbehave
from helmr_provider.local.journal import Journal, JournalEntry
from helmr_provider.local.operations import OPERATIONS, PUBLIC, Match, Operation, Router
from helmr_provider.local.state.starting import Starter

_SCOPED = "/api/projects/"
_NOBODY = Caller("", frozenset())


class Api:
    """Answers everything below `/api`.

    :param core: the control plane's state.
    :param connections: the open connections, for faults that cut them.
    """

    def __init__(self, core: Core, connections: Connections) -> None:
        self._core = core
        self._connections = connections
        self._router = Router(OPERATIONS)
        self._starter = Starter(core)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["raw_path"].decode("ascii", "replace")
        headers = Headers(scope=scope)
        match = self._router.match(scope["method"], path)
        operation = match.operation if match is not None else None
        slot = self._core.journal.open(
            JournalEntry(
                method=scope["method"],
                path=path,
                query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
                operation=operation.name if operation is not None else None,
                last_event_id=headers.get("last-event-id"),
            )
        )
        size = headers.get("content-length", "0")
        declared_too_large = size.isdigit() and int(size) > self._core.settings.max_body

        async def versioned(message: Message) -> None:
            if message["type"] == "http.response.start":
                Journal.amend(slot, status=message["status"])
                if not declared_too_large:
                    version = (b"helmr-api-version", API_VERSION.encode())
                    message = {**message, "headers": [*message.get("headers", ()), version]}
            await send(message)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                if declared_too_large:
                    raise ApiError(413, TOO_LARGE, headers={"connection": "close"})
                application = await self._respond(scope, receive, headers, path, match, slot)
            except ApiError as error:
                application = refused(error)
            await application(scope, receive, send)

        fault = None
        if operation is not None:
            streaming = wants_stream(headers, QueryParams(scope["query_string"]))
            fault = self._core.faults.take(operation.name, streaming=streaming)
        if fault is None:
            await respond(scope, receive, versioned)
        else:
            Journal.amend(slot, fault=fault.kind)
            await misbehave(fault, self._connections, respond, scope, receive, versioned)

    async def _respond(
        self, scope: Scope, receive: Receive, headers: Headers, path: str, match: Match | None, slot: list[JournalEntry]
    ) -> ASGIApp:
        version = headers.get("helmr-api-version", "").strip()
        if version not in ("", API_VERSION):
            quoted = json.dumps(version, ensure_ascii=False)
            raise ApiError(400, f"unsupported Helmr-API-Version {quoted}; current version is {API_VERSION}")
        if path.startswith(_SCOPED):
            authenticate(self._core, headers.get("authorization"))
            raise ApiError(401, "session authentication is required")
        if match is None:
            raise ApiError(404, "not found")
        if match.operation is None:
            return Response(status_code=405, headers={"allow": ", ".join(match.methods)})
        caller = self._admitted(match.operation, headers)
        if match.operation.handler is None:
            text = f"{match.operation.name} is not part of the local control plane yet"
            raise ApiError(501, text)

        def note_body(value: Any) -> None:
            Journal.amend(slot, body=value)

        request = ApiRequest(self._core, self._starter, scope, receive, match.params, caller, note_body)
        return await match.operation.handler(request)

    def _admitted(self, operation: Operation, headers: Headers) -> Caller:
        if operation.scope == PUBLIC:
            return _NOBODY
        caller = authenticate(self._core, headers.get("authorization"))
        if operation.scope is not None:
            caller.require(operation.scope)
        return caller

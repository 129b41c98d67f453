"""Every operation of the API: its name, where it is, what it takes and what does it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from helmr_provider.local.api import public_tokens, runs, sessions, starts, streams, tokens
from helmr_provider.local.api.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from helmr_provider.local.api.request import Handler

PUBLIC = "public"
BY_EXTERNAL_ID = "ByExternalId"


@dataclass(frozen=True)
class Operation:
    """One operation.

    :param name: its operationId.
    :param method: the HTTP method.
    :param path: the path with placeholders.
    :param scope: the scope that an API key needs; `public` for routes without API keys; None for any key.
    :param handler: what does it.
    """

    name: str
    method: str
    path: str
    scope: str | None
    handler: Handler


class Match(NamedTuple):
    """What a path leads to: an operation or none, the placeholders' values, and the methods that the path has."""

    operation: Operation | None
    params: Mapping[str, str]
    methods: list[str]


class Router:
    """Finds the operation of a request.

    :param operations: all of them; where two paths fit, the one with fewer placeholders wins.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        ordered = sorted(operations, key=lambda operation: operation.path.count("{"))
        self._routes = [(_pattern(operation.path), operation) for operation in ordered]

    def match(self, method: str, raw_path: str) -> Match | None:
        """Find the operation of a method and a path as it was sent; None if there is no such path."""
        path: str | None = None
        methods: list[str] = []
        for pattern, operation in self._routes:
            found = pattern.fullmatch(raw_path)
            if found is None or path not in (None, operation.path):
                continue
            if operation.method == method:
                params = {name: unquote(value) for name, value in found.groupdict().items()}
                return Match(operation, params, [method])
            path = operation.path
            methods.append(operation.method)
        return Match(None, {}, methods) if methods else None


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def _session(name: str, method: str, tail: str, scope: str, handler: Handler) -> tuple[Operation, Operation]:
    return (
        Operation(name, method, f"/api/sessions/{{session_id}}{tail}", scope, handler),
        Operation(f"{name}{BY_EXTERNAL_ID}", method, f"/api/sessions/by-external-id{tail}", scope, handler),
    )


def _public(name: str, method: str, tail: str, handler: Handler) -> tuple[Operation, Operation]:
    return (
        Operation(name, method, f"/api/v1/sessions/{{session_id}}{tail}", PUBLIC, handler),
        Operation(f"{name}{BY_EXTERNAL_ID}", method, f"/api/v1/sessions/by-external-id{tail}", PUBLIC, handler),
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation("startSession", "POST", "/api/sessions", "runs:create", starts.start_session),
    Operation("listSessions", "GET", "/api/sessions", "runs:read", sessions.list_sessions),
    Operation(
        "startSessionAndWait", "POST", "/api/sessions/start-and-wait", "runs:create", starts.start_session_and_wait
    ),
    *_session("getSession", "GET", "", "runs:read", sessions.get_session),
    *_session("patchSession", "PATCH", "", "runs:manage", sessions.patch_session),
    *_session("closeSession", "POST", "/close", "runs:manage", sessions.close_session),
    *_session("cancelSession", "POST", "/cancel", "runs:manage", sessions.cancel_session),
    *_session("listSessionRuns", "GET", "/runs", "runs:read", sessions.list_session_runs),
    *_session("listSessionStreams", "GET", "/streams", "session-streams:read", streams.list_session_streams),
    *_session("appendSessionInput", "POST", "/inputs/{stream}", "session-input:send", streams.append_session_input),
    *_session(
        "listSessionInputRecords", "GET", "/inputs/{stream}", "session-streams:read", streams.list_session_input_records
    ),
    *_session(
        "appendSessionOutput", "POST", "/outputs/{stream}", "session-output:append", streams.append_session_output
    ),
    *_session(
        "listSessionOutputRecords",
        "GET",
        "/outputs/{stream}",
        "session-streams:read",
        streams.list_session_output_records,
    ),
    *_session(
        "readSessionOutputRecord",
        "GET",
        "/outputs/{stream}/read",
        "session-streams:read",
        streams.read_session_output_record,
    ),
    Operation("listRuns", "GET", "/api/runs", "runs:read", runs.list_runs),
    Operation("countRuns", "GET", "/api/runs/counts", "runs:read", runs.count_runs),
    Operation("getRun", "GET", "/api/runs/{run_id}", "runs:read", runs.get_run),
    Operation("cancelRun", "POST", "/api/runs/{run_id}/cancel", "runs:manage", runs.cancel_run),
    Operation("getRunEvents", "GET", "/api/runs/{run_id}/events", "runs:read", runs.get_run_events),
    Operation("getRunLogs", "GET", "/api/runs/{run_id}/logs", "runs:read", runs.get_run_logs),
    Operation("createToken", "POST", "/api/tokens", "tokens:create", tokens.create_token),
    Operation("listTokens", "GET", "/api/tokens", "tokens:read", tokens.list_tokens),
    Operation("getToken", "GET", "/api/tokens/{token_id}", "tokens:read", tokens.get_token),
    Operation("completeToken", "POST", "/api/tokens/{token_id}/complete", "tokens:complete", tokens.complete_token),
    Operation("cancelToken", "POST", "/api/tokens/{token_id}/cancel", "tokens:cancel", tokens.cancel_token),
    Operation(
        "publicCompleteToken", "POST", "/api/v1/tokens/{token_id}/complete", PUBLIC, tokens.public_complete_token
    ),
    Operation(
        "callbackCompleteToken",
        "POST",
        "/api/v1/tokens/{token_id}/callback/{callback_secret}",
        PUBLIC,
        tokens.callback_complete_token,
    ),
    *_public("publicAppendSessionInput", "POST", "/inputs/{stream}", public_tokens.public_append_session_input),
    *_public("publicReadSessionOutput", "GET", "/outputs/{stream}/read", public_tokens.public_read_session_output),
    *(Operation(*row) for row in TABLE),
)

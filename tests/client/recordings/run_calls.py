"""Client calls for the recorded exchanges of sessions, runs, tokens and health."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helmr_provider.client import (
    HelmrAuthError,
    HelmrConflictError,
    HelmrGoneError,
    HelmrNotFoundError,
    HelmrPermissionError,
    IdempotencyKey,
)
from tests.client.recordings.recorded import recordings

if TYPE_CHECKING:
    from tests.client.recordings.recorded import Recording


OPERATIONS = (
    "startSession",
    "startSessionAndWait",
    "listSessions",
    "getSession",
    "patchSession",
    "closeSession",
    "cancelSession",
    "listSessionRuns",
    "listRuns",
    "countRuns",
    "getRun",
    "cancelRun",
    "getRunEvents",
    "getRunLogs",
    "createToken",
    "listTokens",
    "getToken",
    "completeToken",
    "publicCompleteToken",
    "callbackCompleteToken",
    "cancelToken",
    "healthz",
)
ERRORS = {
    401: HelmrAuthError,
    403: HelmrPermissionError,
    404: HelmrNotFoundError,
    409: HelmrConflictError,
    410: HelmrGoneError,
}
Call = Callable[[Any], Any]


def json_answers() -> list[Recording]:
    """All but streams, bodies that are not one JSON object, and the 202 that is repeated (test_transport.py)."""
    return [
        found
        for found in recordings(*OPERATIONS)
        if found.frames is None
        and found.status != 202
        and ("body_text" not in found.request or isinstance(found.body, dict))
    ]


def start_call(found: Recording) -> Call | None:
    body = dict(found.body)
    if not isinstance(body.get("task_id"), str):
        return None
    options: dict[str, Any] = {}
    for wire, option in (("queue", "queue"), ("idempotency_key", "idempotency_key")):
        if wire in body:
            given = body.pop(wire)
            if wire == "queue" and not (isinstance(given, dict) and set(given) == {"name"}):
                return None
            options[option] = given["name"] if wire == "queue" else IdempotencyKey(given, ())
    if "max_duration_seconds" in body:
        options["max_duration"] = body.pop("max_duration_seconds")
    task_id = body.pop("task_id")
    payload = {"payload": body.pop("payload")} if "payload" in body else {}
    known = {
        "external_id", "idempotency_key_ttl", "concurrency_key", "priority", "ttl", "retry", "metadata", "tags",
        "expires_at", "workspace_id",
    }  # fmt: skip
    # None is how an option is left out, so a null cannot be asked for.
    if set(body) - known or None in body.values():
        return None
    if "idempotency_key_ttl" in body and "idempotency_key" not in options:
        return None
    return lambda client: client.sessions.start(task_id, **payload, **options, **body)


def session_of(found: Recording) -> dict[str, str]:
    return {"session": found.path["session_id"]} if found.path else {"external_id": found.query["external_id"]}


def simple_call(method: Callable[[Any], Callable[..., Any]], found: Recording, *args: Any, **known: str) -> Call | None:
    """Pass the query, else the body, as options of the same name."""
    given = dict(found.query) if found.endpoint.method == "GET" else dict(found.body)
    if set(given) - set(known) or None in given.values():
        return None
    options = {known[name]: value for name, value in given.items()}
    return lambda client: method(client)(*args, **options)


def patch_call(found: Recording) -> Call | None:
    # An update that changes nothing is refused here, though the server answers it.
    if not found.body or set(found.body) - {"metadata", "tags", "expires_at"} or None in found.body.values():
        return None
    return lambda client: client.sessions.update(**session_of(found), **found.body)


def complete_call(found: Recording) -> Call | None:
    # Leaving the data out is the same as null for the server; ours always says it.
    if not isinstance(found.body, dict) or set(found.body) != {"data"}:
        return None
    data = found.body["data"]
    if found.endpoint.operation == "completeToken":
        return lambda client: client.tokens.complete(found.path["token_id"], data)
    if found.endpoint.operation == "publicCompleteToken":
        return lambda client: client.tokens.complete(
            found.path["token_id"], data, public_access_token="hlmr_public_access_x"
        )
    return lambda client: client.tokens.complete_callback(client.url + found.request["path"], data)


def list_sessions_call(found: Recording) -> Call | None:
    # There is no "all" on the server, and the client does not send it.
    if found.query.get("status") == "all":
        return None
    known = {name: name for name in ("status", "task_id", "external_id", "limit")}
    return simple_call(lambda client: client.sessions.list, found, **known)


def create_token_call(found: Recording) -> Call | None:
    # A bare number is milliseconds on the wire and seconds here; the object form is not offered.
    if not isinstance(found.body.get("timeout", ""), str):
        return None
    known = {name: name for name in ("timeout", "idempotency_key", "tags", "metadata")}
    return simple_call(lambda client: client.tokens.create, found, **known)


def close_call(found: Recording) -> Call | None:
    return simple_call(lambda client: client.sessions.open(**session_of(found)).close, found, reason="reason")


def list_runs_call(found: Recording) -> Call | None:
    known = {name: name for name in ("status", "limit", "session_id")}
    return simple_call(lambda client: client.runs.list, found, **known)


def cancel_run_call(found: Recording) -> Call | None:
    known = {name: name for name in ("reason", "force", "idempotency_key")}
    return simple_call(lambda client: client.runs.cancel, found, found.path["run_id"], **known)


def events_call(found: Recording) -> Call | None:
    known = {"cursor": "cursor", "limit": "page_size"}
    return simple_call(lambda client: client.runs.events.records, found, found.path["run_id"], **known)


def list_tokens_call(found: Recording) -> Call | None:
    known = {name: name for name in ("status", "cursor", "limit")}
    return simple_call(lambda client: client.tokens.list_page, found, **known)


PUBLIC_CALLS: dict[str, Callable[[Recording], Call | None]] = {
    "startSession": start_call,
    "listSessions": list_sessions_call,
    "getSession": lambda found: lambda client: client.sessions.retrieve(**session_of(found)),
    "patchSession": patch_call,
    "closeSession": close_call,
    "listSessionRuns": lambda found: lambda client: client.sessions.open(**session_of(found)).runs(),
    "listRuns": list_runs_call,
    "countRuns": lambda _: lambda client: client.runs.count(),
    "getRun": lambda found: lambda client: client.runs.retrieve(found.path["run_id"]),
    "cancelRun": cancel_run_call,
    "getRunEvents": events_call,
    "getRunLogs": lambda found: lambda client: client.runs.logs.retrieve(found.path["run_id"]),
    "createToken": create_token_call,
    "listTokens": list_tokens_call,
    "getToken": lambda found: lambda client: client.tokens.retrieve(found.path["token_id"]),
    "completeToken": complete_call,
    "publicCompleteToken": complete_call,
    "callbackCompleteToken": complete_call,
    "cancelToken": lambda found: lambda client: client.tokens.cancel(found.path["token_id"]),
    "healthz": lambda _: lambda client: client.health(),
}


def public_call(found: Recording) -> Call | None:
    """Turn a recorded request into the public call that sends it; None when no call of ours does."""
    operation = found.endpoint.operation.removesuffix("ByExternalId")
    if found.endpoint.sends and not isinstance(found.body, dict):
        return None
    if set(found.query) - set(found.endpoint.query):
        return None
    if operation != found.endpoint.operation and "external_id" not in found.query:
        return None
    return PUBLIC_CALLS[operation](found) if operation in PUBLIC_CALLS else None


def public_calls() -> list[Recording]:
    return [found for found in json_answers() if public_call(found) is not None]


def received(result: Any) -> Any:
    """The object that the results were made from."""
    if isinstance(result, list | tuple):
        return [received(item) for item in result]
    return result.raw


def streams(operation: str) -> list[Recording]:
    return [found for found in recordings(operation) if found.frames is not None]

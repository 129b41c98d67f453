"""One recorded exchange, driven through a public call of the real client: what was sent, and what was made of it."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from helmr_provider.client import (
    EventRecord,
    HelmrApiError,
    HelmrAuthError,
    HelmrConflictError,
    HelmrGoneError,
    HelmrNotFoundError,
    HelmrPermissionError,
)
from tests.client.scripted_server import NOTHING, ScriptedServer, drive

if TYPE_CHECKING:
    from tests.client.recordings.recorded import Recording
    from tests.client.scripted_server import ReceivedRequest, Reply

Call = Callable[[Any], Any]

ERRORS = {
    401: HelmrAuthError,
    403: HelmrPermissionError,
    404: HelmrNotFoundError,
    409: HelmrConflictError,
    410: HelmrGoneError,
}
# Go's zero time, and text that means none.
ABSENT = ("0001-01-01T00:00:00Z", "", None)


@dataclass
class Outcome:
    """What one call did."""

    requests: list[ReceivedRequest]
    result: Any
    error: Exception | None


def reply_of(found: Recording) -> Reply:
    """The recorded answer; header values in raw UTF-8, as the server sends them."""
    reply = found.reply
    headers = {name: value.encode().decode("latin-1") for name, value in reply.headers.items()}
    if "body_base64" in found.response:
        return dataclasses.replace(reply, body=base64.b64decode(found.response["body_base64"]), headers=headers)
    return dataclasses.replace(reply, headers=headers)


def replay(found: Recording, variant: str, call: Call) -> Outcome:
    """Make the call against a server that gives the recorded answer."""
    result: Any = None
    error: Exception | None = None
    with ScriptedServer(reply_of(found)) as wire:
        try:
            result = drive(variant, lambda client: call(client._single_shot()), url=wire.url)
        except (HelmrApiError, ValueError, TypeError) as raised:
            error = raised
    return Outcome(wire.requests, result, error)


def was_refused_here(outcome: Outcome) -> bool:
    """Whether the call was refused before any request."""
    return outcome.error is not None and not isinstance(outcome.error, HelmrApiError) and not outcome.requests


def assert_as_recorded(found: Recording, variant: str, call: Call, member: str | None) -> Any:
    """Make the call and hold it to the recording.

    :param member: member of the answer that the call returns; None for all of it.
    :returns: what the call returned; None when it was refused, here or there.
    """
    outcome = replay(found, variant, call)
    if was_refused_here(outcome):
        assert found.status >= 400, outcome.error
        return None
    assert_sent_as_recorded(found, outcome)
    if found.status >= 300:
        assert_error_as_recorded(found, outcome.error)
        return None
    assert outcome.error is None
    # A handle keeps what its creation was answered.
    result = getattr(outcome.result, "initial", outcome.result)
    if found.endpoint.reads == "bytes":
        assert result == reply_of(found).body
    elif found.endpoint.reads == "nothing":
        assert result is None
    else:
        assert_read(result, answer_of(found, member))
    return outcome.result


def assert_sent_as_recorded(found: Recording, outcome: Outcome) -> None:
    """Method, path, query and body are the recorded ones, and the credential is of the right kind."""
    (request,) = outcome.requests
    assert (request.method, request.path) == (found.request["method"], found.request["path"])
    # Ours always says where files are read from.
    usual = {"source": "current"} if "source" in found.endpoint.query else {}
    assert request.query == usual | found.query
    if found.endpoint.sends:
        assert meaning(request.json) == meaning(found.body)
    else:
        assert request.body == b""
    kind = {"client": "Bearer hlmr_sk_", "public": "Bearer hlmr_pat_"}[found.endpoint.credential]
    assert request.headers["authorization"].startswith(kind)


def meaning(body: Any) -> Any:
    """Instants are compared as such: ours are written in UTC with milliseconds."""
    if isinstance(body.get("expires_at"), str):
        return body | {"expires_at": datetime.fromisoformat(body["expires_at"])}
    return body


def assert_error_as_recorded(found: Recording, error: Exception | None) -> None:
    """The error is of the class of its status, and says what the server said."""
    body = found.response.get("json", {})
    assert isinstance(error, HelmrApiError)
    conflict = body.get("code") == "idempotency_fingerprint_mismatch"
    assert type(error) is (HelmrConflictError if conflict else ERRORS.get(found.status, HelmrApiError))
    assert (error.status, error.code, error.operation) == (found.status, body.get("code"), found.endpoint.operation)
    assert error.message == body["error"]


def answer_of(found: Recording, member: str | None) -> Any:
    """The part of the recorded answer that the call returns."""
    answer = found.response.get("json", NOTHING)
    if member is None:
        return answer
    part = answer.get(member, [] if member.endswith("s") else None)
    if isinstance(part, dict) and "is_cached" in answer:
        return part | {"is_cached": answer["is_cached"]}
    return part


def assert_read(value: Any, answer: Any) -> None:
    """Every member of the answer is found in the model, with its meaning; nothing of it is lost."""
    if isinstance(value, EventRecord):
        # Its traces are not for the reader, but they are kept.
        assert value.raw == answer
    elif isinstance(value, BaseModel):
        assert isinstance(answer, dict)
        named = {field.alias or name: name for name, field in type(value).model_fields.items()}
        assert set(answer) <= set(named), set(answer) - set(named)
        for name, member in answer.items():
            assert_read(getattr(value, named[name]), member)
    elif isinstance(value, list | tuple):
        assert isinstance(answer, list)
        assert len(value) == len(answer)
        for item, member in zip(value, answer, strict=True):
            assert_read(item, member)
    elif isinstance(value, datetime):
        assert value == datetime.fromisoformat(answer)
    elif value is None:
        assert answer in ABSENT
    else:
        assert value == answer

"""What an HTTP answer means: a model, or an error. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from helmr_provider.client._retry import LONGEST_RETRY_AFTER
from helmr_provider.client._secrets import scrub_value
from helmr_provider.client._wire.json_values import json_object
from helmr_provider.client.errors import HelmrProtocolError, api_error_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._wire.endpoints import Endpoint
    from helmr_provider.client._wire.start_request import StartRequest
    from helmr_provider.client.errors import HelmrApiError
    from helmr_provider.client.models.sessions import SessionStart

# An error page of a proxy can be anything: enough of it to see what it is.
MAX_ERROR_BODY = 64 * 1024
MAX_RAW = 2000

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class RawResponse:
    """One HTTP answer.

    :param status: HTTP status.
    :param headers: lower-case names.
    :param body: the bytes; of an error, the beginning only.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | bytearray = field(repr=False)


def parse_response(endpoint: Endpoint, answer: RawResponse, now: float, credential: Secret | None = None) -> Any:
    """Return the JSON value of a success (None where nothing is read), the bytes of a file, or raise.

    :param endpoint: the requested operation.
    :param answer: what came.
    :param now: seconds since the epoch, for a ``Retry-After`` that is a date.
    :param credential: what the request carried.
    :raises HelmrApiError: not a success; also a 202, which asks for the same request again.
    :raises HelmrProtocolError: a success whose body is not JSON.
    """
    if not 200 <= answer.status < 300 or answer.status == 202:
        raise error_from(endpoint, answer, now, credential)
    if endpoint.reads == "nothing":
        return None
    if endpoint.reads == "bytes":
        return bytes(answer.body)
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        pass
    raise HelmrProtocolError(
        f"{endpoint.operation} was answered {answer.status} with something that is not JSON, so this is not a Helmr "
        "control plane. Check the address, and any proxy in between.",
        operation=endpoint.operation,
        raw=bytes(answer.body[:MAX_RAW]).decode(errors="replace"),
    )


def error_from(endpoint: Endpoint, answer: RawResponse, now: float, credential: Secret | None = None) -> HelmrApiError:
    """Build the error for an answer that is not a success.

    :param credential: what the request carried.
    """
    text = answer.body.decode(errors="replace").strip()
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        body = text[:MAX_RAW]
    members = json_object(body) or {}
    explanation, code = _explanation(members), members.get("code")
    if 300 <= answer.status < 400:
        explanation = (
            "redirects are not followed, because the request carries a credential; "
            "use the address that the control plane is really at"
        )
    elif explanation is None and _is_html(answer, text):
        explanation = "a web page, not an answer of a Helmr control plane; check the address, and any proxy in between"
    elif explanation is None:
        explanation = text[:200] if text and not members else f"no explanation (HTTP {answer.status})"
    # For exec and pty the server reports this conflict as a 500 (contract/behaviour.md section 21.6).
    kind = 409 if code == "idempotency_fingerprint_mismatch" else answer.status
    return api_error_class(kind)(
        explanation,
        operation=endpoint.operation,
        status=answer.status,
        code=code if isinstance(code, str) else None,
        body=body,
        retry_after=retry_after(answer.headers.get("retry-after"), now),
        credential=credential.source if credential is not None else "",
    )


def _explanation(members: dict[str, Any]) -> str | None:
    """Return what an error body says, also one of a proxy or gateway with members of its own."""
    for name in ("error", "message", "detail", "title"):
        value = members.get(name)
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get("message")
        if isinstance(value, str) and value.strip():
            return value
    return None


def _is_html(answer: RawResponse, text: str) -> bool:
    return "html" in answer.headers.get("content-type", "").lower() or text[:1] == "<"


def retry_after(value: str | None, now: float) -> float | None:
    """Read a ``Retry-After`` header: positive seconds (fractions count) or an HTTP date ahead; else None.

    A longer pause than :data:`LONGEST_RETRY_AFTER` counts as that, here and therefore everywhere.
    """
    if value is None:
        return None
    try:
        delay = float(value)
    except ValueError:
        try:
            delay = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(delay, LONGEST_RETRY_AFTER) if 0 < delay < float("inf") else None


def read(model: type[M], value: Any, operation: str, *, cursor: str | None = None) -> M:
    """Read a model from a JSON value.

    :raises HelmrProtocolError: a member that the client needs is missing or of the wrong type.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=False)
    where = ", ".join(sorted({".".join(str(part) for part in issue["loc"]) for issue in issues}))
    # The answer may hold a token's secrets: what the traceback of this frame shows of it is without them.
    value = json.dumps(scrub_value(value))[:MAX_RAW]
    raise HelmrProtocolError(
        f"{operation}: the answer does not fit the contract ({model.__name__}: {where or 'not an object'}).",
        operation=operation,
        cursor=cursor,
        raw=value,
    )


def read_list(model: type[M], value: Any, member: str, operation: str) -> list[M]:
    """Read the models in one member of an answer.

    :raises HelmrProtocolError: the member is not a list, or an item does not fit.
    """
    answer = json_object(value)
    # A list that is nothing is null on this server.
    items: list[Any] | None = None if answer is None else answer.get(member)
    if answer is not None and items is None:
        items = []
    if not isinstance(items, list):
        raise HelmrProtocolError(f"{operation}: the answer has no list {member!r}.", operation=operation)
    return [read(model, item, operation) for item in items]


def read_member(model: type[M], value: Any, member: str, operation: str) -> M:
    """Read the model in one member of an answer; ``is_cached`` beside it becomes a member of the model.

    :raises HelmrProtocolError: there is no such member, or it does not fit.
    """
    envelope = json_object(value) or {}
    record = json_object(envelope.get(member))
    if record is None:
        raise HelmrProtocolError(f"{operation}: the answer has no object {member!r}.", operation=operation)
    if "is_cached" in envelope:
        record = record | {"is_cached": envelope["is_cached"]}
    return read(model, record, operation)


def same_id(received: str, requested: str, operation: str) -> None:
    """Make sure that an answer is about the requested resource.

    :raises HelmrProtocolError: it is not, for example because a cache in between mixed them up.
    """
    if received.lower() != requested.lower():
        raise HelmrProtocolError(
            f"{operation}: asked for {requested}, but the answer is about {received}.", operation=operation
        )


def check_start(started: SessionStart, request: StartRequest) -> None:
    """Make sure that an answer is about the start that was sent.

    :raises HelmrProtocolError: it is not, for example because something in between mixed answers up.
    """
    session, run = started.session, started.run
    same_id(session.task_id, request.task_id, "startSession")
    same_id(run.task_id, request.task_id, "startSession")
    same_id(run.session_id, session.id, "startSession")
    if request.external_id is not None:
        same_id(session.external_id or "", request.external_id.strip(), "startSession")

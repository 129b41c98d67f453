"""Client calls for the recorded exchanges of session streams and public access tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.client import PublicScope
from tests.client.recordings.recorded import recordings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.recordings.recorded import Recording


# operation -> member of the answer that the call returns; None for all of it
OPERATIONS: dict[str, str | None] = {
    "listSessionStreams": "streams",
    "appendSessionInput": None,
    "publicAppendSessionInput": None,
    "listSessionInputRecords": "records",
    "appendSessionOutput": None,
    "listSessionOutputRecords": "records",
    "readSessionOutputRecord": "record",
    "publicReadSessionOutput": "record",
    "createPublicAccessToken": None,
}
NO_CALL = {
    247: "ours always says the data, null included",
    252: "unknown member",
    253: "no body",
    258: "unknown query member",
    276: "unknown query member",
    508: "a session address without a type",
    1109: "refused before it is sent: half a surrogate pair",
    1115: "refused before it is sent: a number beyond doubles",
    513: "an environment in the body beside an API key",
}
FOUND = recordings(*OPERATIONS)


def number(found: Recording) -> int:
    return int(found.name.partition("-")[0])


def handle(client: Any, found: Recording) -> Any:
    if "session_id" in found.path:
        return client.sessions.open(found.path["session_id"])
    return client.sessions.open(external_id=found.query["external_id"])


def page(found: Recording) -> dict[str, Any]:
    names = {"after_sequence": "after", "limit": "limit", "correlation_id": "correlation_id"}
    given = {names[name]: value for name, value in found.query.items() if name != "external_id"}
    return {name: value if name == "correlation_id" else int(value) for name, value in given.items()}


def scope_of(client: Any, wanted: dict[str, Any]) -> PublicScope:
    session = wanted["session"]
    address = session["id"] if session["type"] == "id" else client.sessions.open(external_id=session["external_id"])
    build = {"session.input.send": PublicScope.input, "session.output.read": PublicScope.output}.get(wanted["type"])
    if build is None:
        return PublicScope.model_validate(wanted)
    return build(address, wanted["stream"], correlation_id=wanted.get("correlation_id"))


def read(client: Any, found: Recording, **more: Any) -> Any:
    return handle(client, found).output(found.path["stream"]).read(**page(found), **more)


def send(client: Any, found: Recording, **more: Any) -> Any:
    return handle(client, found).input(found.path["stream"]).send(**found.body, **more)


CALLS: dict[str, Callable[[Any, Recording], Any]] = {
    "listSessionStreams": lambda c, found: handle(c, found).streams(),
    "appendSessionInput": send,
    "publicAppendSessionInput": lambda c, found: send(c, found, public_access_token="hlmr_pat_x"),
    "listSessionInputRecords": lambda c, found: handle(c, found).input(found.path["stream"]).list(**page(found)),
    "appendSessionOutput": lambda c, found: handle(c, found).output(found.path["stream"]).append(**found.body),
    "listSessionOutputRecords": lambda c, found: handle(c, found).output(found.path["stream"]).list(**page(found)),
    "readSessionOutputRecord": read,
    "publicReadSessionOutput": lambda c, found: read(c, found, public_access_token="hlmr_pat_x"),
    "createPublicAccessToken": lambda c, found: c.auth.create_public_token(
        **found.body | {"scope": scope_of(c, found.body["scope"])}
    ),
}

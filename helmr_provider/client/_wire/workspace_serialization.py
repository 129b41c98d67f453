"""What requests of workspaces carry, strictly (contract/behaviour.md sections 13, 14, 16). No I/O.

Checked here is what the server would answer with a 500 (section 21.5): identifiers, labels, lifetimes and paths.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from helmr_provider.client._session_ref import external_id_text
from helmr_provider.client._wire.serialization import NOT_GIVEN, NotGiven, labels
from helmr_provider.client.durations import duration_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

_SOURCES = ("current", "version", "live")
_DAYS = re.compile(r"\d+d")
_LARGEST_OFFSET: Final = 2**53 - 1
_MAX_WRITE: Final = 1024 * 1024


def create_workspace_body(
    sandbox_id: str,
    *,
    deployment_id: str | None,
    external_id: str | None,
    metadata: Mapping[str, Any] | None,
    tags: Sequence[str] | None,
    idempotency_key: str | None,
    idempotency_key_ttl: timedelta | float | str | None,
) -> dict[str, Any]:
    """Build the body of createWorkspace.

    :raises ValueError: an option does not fit.
    """
    if not sandbox_id.strip():
        raise ValueError("sandbox_id must not be blank.")
    body: dict[str, Any] = {"sandbox_id": sandbox_id}
    if deployment_id is not None:
        body["deployment_id"] = uuid_text("deployment_id", deployment_id)
    if external_id is not None:
        body["external_id"] = external_id_text(external_id)
    return body | labels(metadata, tags) | key_members(idempotency_key, idempotency_key_ttl)


def key_members(idempotency_key: str | None, idempotency_key_ttl: timedelta | float | str | None) -> dict[str, Any]:
    """Build the members of an idempotency key with its lifetime, as creating and stopping a workspace take them.

    :raises ValueError: the lifetime does not fit.
    """
    if idempotency_key is None:
        return {}
    body: dict[str, Any] = {"idempotency_key": idempotency_key}
    if idempotency_key_ttl is not None:
        text = duration_text("idempotency_key_ttl", idempotency_key_ttl)
        # These operations read no days (contract/behaviour.md section 10).
        body["idempotency_key_ttl"] = f"{int(text[:-1]) * 24}h" if _DAYS.fullmatch(text) else text
    return body


def update_workspace_body(metadata: Mapping[str, Any] | NotGiven, tags: Sequence[str] | NotGiven) -> dict[str, Any]:
    """Build the body of patchWorkspace.

    :raises ValueError: nothing to change, or a value does not fit.
    """
    values: tuple[Any, ...] = (metadata, tags)
    if None in values:
        raise ValueError("None is no value for metadata or tags; leave out members that stay.")
    body = labels(
        None if isinstance(metadata, NotGiven) else metadata,
        None if isinstance(tags, NotGiven) else tags,
    )
    if values == (NOT_GIVEN, NOT_GIVEN):
        raise ValueError("Nothing to change: give metadata or tags.")
    return body


def source_query(source: str, version_id: str | None, materialization_id: str | None) -> dict[str, str | None]:
    """Build the query members that say where files are read from; the source is always sent.

    :raises ValueError: the source is unknown, or the ids do not belong to it.
    """
    if source not in _SOURCES:
        raise ValueError("source must be 'current', 'version' or 'live'.")
    if (version_id is not None) != (source == "version"):
        raise ValueError("version_id goes with source='version', and only with it.")
    if materialization_id is not None and source == "current":
        raise ValueError("materialization_id does not go with source='current'.")
    if version_id is not None:
        uuid_text("version_id", version_id)
    return {"source": source, "version_id": version_id, "materialization_id": materialization_id}


def file_path(path: str) -> str:
    """Return the path of a file as it is sent: trimmed.

    :raises ValueError: blank, absolute, or with a ``..`` part.
    """
    path = path.strip()
    if not path:
        raise ValueError("The path must not be blank.")
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("The path must be relative to the root of the workspace, without '..'.")
    return path


def exec_body(
    command: Sequence[str],
    *,
    cwd: str | None,
    env: Mapping[str, str] | None,
    detached: bool | None,
    idempotency_key: str | None,
) -> dict[str, Any]:
    """Build the body of createWorkspaceExec.

    :raises ValueError: the command is empty.
    :raises TypeError: the command is not a list of text, or the environment does not map text to text.
    """
    if isinstance(command, str) or not all(isinstance(part, str) for part in command):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError("command must be a list of text: ['sh', '-c', '…'] runs a line through a shell.")
    if not command:
        raise ValueError("command must not be empty.")
    if env is not None and not all(isinstance(part, str) for pair in env.items() for part in pair):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError("env must map text to text.")
    options = {
        "cwd": cwd,
        "env": None if env is None else dict(env),
        "detached": detached,
        "idempotency_key": idempotency_key,
    }
    return {"command": list(command)} | {name: value for name, value in options.items() if value is not None}


def write_body(data: bytes | str, offset: int) -> dict[str, Any]:
    """Build the body of writeWorkspaceExecStdin and writeWorkspacePtyInput.

    :raises ValueError: nothing or more than 1 MiB to write, or the offset is out of range.
    :raises TypeError: the offset is not a whole number.
    """
    if type(offset) is not int:
        raise TypeError("offset must be a whole number.")
    if not 0 <= offset <= _LARGEST_OFFSET:
        raise ValueError("offset must be 0 or more, and below 2 to the power of 53.")
    content = data.encode() if isinstance(data, str) else bytes(data)
    if not 1 <= len(content) <= _MAX_WRITE:
        raise ValueError("One write takes 1 byte to 1 MiB.")
    return {"offset": offset, "data": b64encode(content).decode()}


def uuid_text(name: str, value: str) -> str:
    """Return an id that the server takes only as a UUID.

    :raises ValueError: it is none.
    """
    try:
        UUID(value)
    except ValueError:
        raise ValueError(f"{name} must be a UUID.") from None
    return value

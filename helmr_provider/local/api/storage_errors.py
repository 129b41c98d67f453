"""Responses to requests with values that the real control plane's database refuses (contract/behaviour.md section 22).

Most operations answer 500 with the database's own text: a defect of the real control plane, which is a plain 400 when
quirks are off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.local.api.operations import BY_EXTERNAL_ID
from helmr_provider.local.common.errors import DOUBLE, JSON, NUMBER, TEXT, ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.local._core import Core
    from helmr_provider.local.api.operations import Operation
    from helmr_provider.local.common.errors import StorageRefusal

# The status and the text for each kind of value; without a text, the database's own.
_DEFAULT: Mapping[str, tuple[int, str | None]] = {
    JSON: (500, None),
    TEXT: (500, None),
    NUMBER: (500, None),
    DOUBLE: (400, None),
}
_START: Mapping[str, tuple[int, str | None]] = {
    JSON: (400, None),
    TEXT: (400, None),
    NUMBER: (500, "start task"),
    DOUBLE: (500, "start task"),
}
_BY_OPERATION: Mapping[str, Mapping[str, tuple[int, str | None]]] = {
    "startSession": _START,
    "startSessionAndWait": _START,
    "patchSession": {**dict.fromkeys(_DEFAULT, (500, "patch session")), DOUBLE: (400, None)},
    "closeSession": dict.fromkeys(_DEFAULT, (500, "close session")),
    "cancelSession": dict.fromkeys(_DEFAULT, (500, "cancel session run")),
    "cancelRun": dict.fromkeys(_DEFAULT, (500, "cancel run")),
    "createWorkspace": dict.fromkeys(_DEFAULT, (500, "create workspace")),
    "patchWorkspace": dict.fromkeys(_DEFAULT, (500, "patch workspace")),
    "listSessionInputRecords": dict.fromkeys(_DEFAULT, (500, "list stream records")),
    "listSessionOutputRecords": dict.fromkeys(_DEFAULT, (500, "list stream records")),
}


def storage_error(core: Core, operation: Operation | None, refusal: StorageRefusal) -> ApiError:
    """Return the response to a value that the database refuses."""
    name = "" if operation is None else operation.name.removesuffix(BY_EXTERNAL_ID)
    status, text = _BY_OPERATION.get(name, _DEFAULT)[refusal.kind]
    if not core.settings.quirks:
        return ApiError(400, str(refusal))
    return ApiError(status, text or str(refusal))

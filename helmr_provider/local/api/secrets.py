"""Secrets over HTTP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response

from helmr_provider.local.api import request_body
from helmr_provider.local.api.request import SCOPE_WITH_KEY, answer
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.state import secrets

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_SET = request_body.Struct(
    "api.SetSecretRequest",
    {"project_id": request_body.string, "environment_id": request_body.string, "value": request_body.string},
)


async def list_secrets(request: ApiRequest) -> ASGIApp:
    """List secrets without their values (listSecrets)."""
    request.refuse_project_query()
    rows = secrets.listed(request.core, request.environment_id)
    return answer({"secrets": [secrets.rendered(request.core, row) for row in rows]})


async def get_secret(request: ApiRequest) -> ASGIApp:
    """Retrieve a secret without its value (getSecret)."""
    row = secrets.find(request.core, request.environment_id, _name(request))
    return answer(secrets.rendered(request.core, row))


async def set_secret(request: ApiRequest) -> ASGIApp:
    """Set a secret (setSecret); the journal does not see the value either."""
    name = _name(request)
    members = request.body("secret request", _SET, confidential=True)
    if members.get("project_id") or members.get("environment_id"):
        raise ApiError(400, SCOPE_WITH_KEY)
    return answer(secrets.rendered(request.core, secrets.put(request.core, request.environment_id, name)))


async def delete_secret(request: ApiRequest) -> ASGIApp:
    """Delete a secret (deleteSecret)."""
    secrets.delete(request.core, secrets.find(request.core, request.environment_id, _name(request)))
    return Response(status_code=204)


def _name(request: ApiRequest) -> str:
    name = request.params["name"]
    if _NAME.fullmatch(name) is None:
        raise ApiError(400, f'secret name "{name}" must match ^{_NAME.pattern}$')
    return name

"""Resolve the environment of a request from its credentials, for the journal and for planted faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.local.common.ids import hashed
from helmr_provider.local.state.api_keys import API_KEY_PREFIX, bearer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers

    from helmr_provider.local._core import Core

_BY_API_KEY = "SELECT environment_id FROM api_keys WHERE hash = ?"
_BY_PUBLIC_BEARER = (
    "SELECT environment_id FROM (SELECT environment_id, public_hash AS hash FROM tokens"
    " UNION ALL SELECT environment_id, hash FROM public_access_tokens) WHERE hash = ?"
)
_BY_CALLBACK = "SELECT environment_id FROM tokens WHERE id = ? AND callback_hash = ?"


def environment_of(core: Core, headers: Headers, params: Mapping[str, str]) -> str | None:
    """Return the id of the environment that a request's credentials open, if they open any.

    :param headers: the request's headers.
    :param params: the values of the path's placeholders, which include the secret of a callback URL.
    """
    secret = bearer(headers.get("authorization"))
    if secret is not None:
        sql = _BY_API_KEY if secret.startswith(API_KEY_PREFIX) else _BY_PUBLIC_BEARER
        row = core.db.one(sql, hashed(secret))
    elif "callback_secret" in params:
        row = core.db.one(_BY_CALLBACK, params["token_id"], hashed(params["callback_secret"]))
    else:
        return None
    return None if row is None else str(row["environment_id"])

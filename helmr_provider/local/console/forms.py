"""The form that completes a token, and what it does."""

from __future__ import annotations

import hmac
import json
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.responses import RedirectResponse

from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import derived_secret
from helmr_provider.local.common.jsontext import as_object, loads
from helmr_provider.local.console.layout import copy_button, missing, moment, page, run_link, short
from helmr_provider.local.state import runs, tokens

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_MOST = 1024 * 1024
_APPROVAL = '{"approved": true}'


def question(token: Row) -> dict[str, Any]:
    """Return the question in a token's metadata, or nothing; the text is not trusted."""
    metadata = as_object(loads(token["metadata"])) or {}
    return as_object(metadata.get("approval")) or {}


def subject(token: Row) -> str:
    """Return what a token asks, in one line of text; nothing if its metadata do not say."""
    subject = question(token).get("subject")
    return subject if isinstance(subject, str) else ""


def waiting_for(core: Core, token: Row) -> str:
    """Return what waits for a token, as HTML: runs, and the task that created it in Airflow; nothing if none does."""
    waiting = [
        f"{escape(run['task_id'])} {run_link(run['session_id'], run['id'])}"
        for run in runs.waiting_for(core, "token", token["id"])
    ]
    stamp = as_object((as_object(loads(token["metadata"])) or {}).get("airflow")) or {}
    dag_id, task_id = stamp.get("dag_id"), stamp.get("task_id")
    if token["status"] == "pending" and isinstance(dag_id, str) and isinstance(task_id, str):
        waiting.append(f"Airflow task {escape(dag_id)}.{escape(task_id)}")
    return ", ".join(waiting)


def form(core: Core, token: Row, data: str = _APPROVAL, error: str = "") -> str:
    """Return the form that completes a token, as HTML."""
    token_id = escape(token["id"])
    waiting = waiting_for(core, token)
    message = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    return (
        f'<form method="post" action="/tokens/{token_id}/complete">'
        f"{f'<div class=question>{escape(subject(token))}</div>' if subject(token) else ''}"
        f"<div>{f'Waiting: {waiting}' if waiting else 'No run waits for it.'}</div>"
        f'<div class="soft">Token <a href="/tokens/{token_id}">{short(token["id"])}</a>{copy_button(token["id"])},'
        f" expires {moment(core, token['timeout_at'])}</div>{message}"
        f'<input type="hidden" name="proof" value="{_proof(core, token["id"])}">'
        f'<label for="data-{token_id}">Data for the run, as JSON</label>'
        f'<textarea id="data-{token_id}" name="data" rows="2" spellcheck="false">{escape(data)}</textarea>'
        f"<button>Complete</button></form>"
    )


async def complete(core: Core, request: Request) -> Response:
    """Complete a token with what the form brings, and show the run that waited for it, or else the token."""
    token = tokens.by_id(core, request.path_params["token_id"])
    if token is None:
        return missing("token")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > _MOST:
            return page("Too much", "<p>A completion from this page has at most 1 MiB.</p>", status=413)
    fields = parse_qs(content.decode("utf-8", "replace"), keep_blank_values=True)
    if not hmac.compare_digest(fields.get("proof", [""])[0].encode(), _proof(core, token["id"]).encode()):
        return page("Not from here", "<p>This form is not one of this control plane's pages.</p>", status=403)
    text = fields.get("data", [""])[0]
    waiting = runs.waiting_for(core, "token", token["id"])
    try:
        tokens.complete(core, token, json.loads(text, parse_constant=_refuse))
    except ApiError as error:
        return page("Not completed", f"<p>{escape(error.message)}</p>", status=error.status)
    except ValueError as error:
        again = form(core, token, text, f"This is not JSON: {error}")
        return page("Not completed", f"<section>{again}</section>", status=400)
    ended = f"/tokens/{token['id']}"
    target = f"/sessions/{waiting[0]['session_id']}/runs/{waiting[0]['id']}" if waiting else ended
    return RedirectResponse(target, status_code=303)


def _proof(core: Core, token_id: str) -> str:
    return derived_secret(core.installation_key, "form-", token_id)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")

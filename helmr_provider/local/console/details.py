"""The pages of a session, a run and a token."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.jsontext import as_object, dumps, loads, plain
from helmr_provider.local.console.forms import form
from helmr_provider.local.console.layout import facts, moment, page, run_link, section, status, table
from helmr_provider.local.console.listings import session_link
from helmr_provider.local.console.phases import bar
from helmr_provider.local.console.workspaces import link
from helmr_provider.local.state import events, logs, runs, sessions, tokens

if TYPE_CHECKING:
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_LOG_BYTES = 64 * 1024
_EVENTS = 500
_LINE_BYTES = 4096
_LOGS = ("log.stdout", "log.stderr")
_TONES = {"run.completed": "good", "run.failed": "bad", "run.execution_lost": "bad", "run.cancelled": "wait"}


def session(core: Core, row: Row) -> Response:
    """Return a session's page."""
    shown = sessions.rendered(core, row)
    workspace = core.db.one("SELECT * FROM workspaces WHERE id = ?", row["workspace_id"])
    where = "" if workspace is None else f"<p>Workspace {link(workspace)}</p>"
    names = ("status", "activity", "task_id", "external_id", "id", "created_at", "updated_at", "expires_at")
    cells = (
        (
            str(run["turn_index"]),
            status(run["status"]),
            bar(core, run),
            moment(core, run["created_at"]),
            run_link(row["id"], run["id"]),
        )
        for run in sessions.run_rows(core, row["id"])
    )
    return page(
        f"Session {row['external_id'] or row['id']}",
        section("facts", "Session", facts(shown, names) + where)
        + _airflow(shown["metadata"])
        + section("runs", "Runs", table(("Turn", "Status", "Phases", "Created", "Run"), cells, "There is none.")),
        live=shown["activity"] != "idle",
    )


def run(core: Core, row: Row, *, may_complete: bool) -> Response:
    """Return a run's page.

    :param may_complete: whether it offers the form for the token that the run waits for.
    """
    session_row = sessions.find(core, row["environment_id"], row["session_id"])
    shown = runs.rendered(core, row)
    if shown.get("output") is not None:
        shown["output"] = dumps(shown["output"])
    names = ("status", "task_id", "id", "attempt_number", "exit_code", "output", "created_at", "updated_at")
    texts = "".join(
        f"<h3>{stream}</h3><pre>{escape(content.decode('utf-8', 'replace'))}</pre>"
        for stream in ("stdout", "stderr")
        if (content := logs.tail(core, row["id"], stream, _LOG_BYTES))
    )
    body = (
        f"<p>Session {session_link(row['session_id'], session_row['external_id'])}</p>"
        + section("facts", "Run", facts(shown, names))
        + section("phases", "Phases", bar(core, row, legend=True))
        + section("wait", "Waiting", _wait(core, row, may_complete=may_complete))
        + section("timeline", "Events", _timeline(core, row))
        + section("log", "Log", texts or '<p class="none">Nothing was written.</p>')
    )
    return page(f"{row['task_id']}, turn {row['turn_index']}", body, live=row["status"] in runs.LIVE)


def _airflow(metadata: dict[str, Any]) -> str:
    """Return the task instance in the session's metadata, if there is one; the text is not trusted."""
    stamp = as_object(metadata.get("airflow"))
    if stamp is None:
        return ""
    body = facts(stamp, ("dag_id", "run_id", "task_id", "map_index", "try_number"))
    url = stamp.get("url")
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        body += f'<p><a href="{escape(url)}" rel="noreferrer">Task instance in Airflow</a></p>'
    return section("airflow", "Started by Airflow", body)


def token(core: Core, row: Row, *, may_complete: bool) -> Response:
    """Return a token's page.

    :param may_complete: whether it offers the form that completes the token.
    """
    shown = tokens.rendered(row)
    for member in ("data", "tags"):
        if member in shown:
            shown[member] = dumps(shown[member])
    pending = row["status"] == "pending"
    metadata = json.dumps(plain(shown["metadata"]), indent=2, ensure_ascii=False)
    body = section("facts", "Token", facts(shown, ("status", "timeout_at", "tags", "data")))
    body += _question(shown["metadata"])
    if pending and may_complete:
        body += section("tokens", "Waiting", form(core, row))
    body += _airflow(shown["metadata"])
    body += section("metadata", "Metadata", f"<pre>{escape(metadata)}</pre>")
    return page(f"Token {row['id']}", body, live=pending)


def _question(metadata: dict[str, Any]) -> str:
    """Return the question of a token, if its metadata has one; the text is not trusted."""
    asked = as_object(metadata.get("approval"))
    if asked is None:
        return ""
    shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items()}
    return section("question", "Question", facts(shown, ("subject", "body", "options", "defaults")))


def _wait(core: Core, row: Row, *, may_complete: bool) -> str:
    if row["status"] != "waiting":
        return '<p class="none">This run is not waiting.</p>'
    if row["wait_kind"] == "token":
        token = tokens.by_id(core, row["wait_ref"])
        if token is not None and may_complete:
            return form(core, token)
    until = "" if row["wait_due"] is None else f", due {moment(core, row['wait_due'])}"
    return f"<p>For a {escape(row['wait_kind'])}{until}.</p>"


def _timeline(core: Core, row: Row) -> str:
    """Return the events of a run, with the text of each piece of output at its place."""
    written = iter(logs.after(core, row["id"], 0, _EVENTS))
    items = ""
    for event in events.after(core, row["id"], 0, _EVENTS):
        record = loads(event["record"])
        head = (
            f'<li class="{_TONES.get(event["kind"], "")}"><time datetime="{record["at"]}" title="{record["at"]}">'
            f"{record['at'][11:19]}</time>"
        )
        if event["kind"] in _LOGS and (chunk := next(written, None)) is not None:
            text = escape(chunk["content"][:_LINE_BYTES].decode("utf-8", "replace").rstrip("\n"))
            items += (
                f'{head}<span class="soft">{chunk["stream"]}</span><pre class="{chunk["stream"]}">{text}</pre></li>'
            )
            continue
        attributes: dict[str, Any] = {} if "redacted" in record["attributes"] else record["attributes"]
        text = json.dumps(plain(attributes, out_of_range=str), indent=2, ensure_ascii=False)
        more = f"<details><summary>attributes</summary><pre>{escape(text)}</pre></details>" if attributes else ""
        attempt = f' <span class="soft">attempt {record["attempt_number"]}</span>' if row["attempt_number"] > 1 else ""
        items += f"{head}{escape(event['kind'])}{attempt}{more}</li>"
    return f'<ol class="timeline">{items}</ol>'

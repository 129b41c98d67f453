"""The pages of a session, a run and a token."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.jsontext import as_list, as_object, dumps, loads, plain
from helmr_provider.local.console.forms import form, question, subject
from helmr_provider.local.console.layout import (
    code,
    facts,
    moment,
    page,
    run_link,
    section,
    status,
    table,
    tags,
    whole_id,
)
from helmr_provider.local.console.links import name_of, session_path, task_link, workspace_link
from helmr_provider.local.console.phases import bar
from helmr_provider.local.console.timeline import failure, timeline
from helmr_provider.local.state import logs, runs, sessions, tokens

if TYPE_CHECKING:
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_LOG_BYTES = 64 * 1024
_SESSIONS = ("Sessions", "/sessions")


def session(core: Core, row: Row) -> Response:
    """Return a session's page."""
    shown = sessions.rendered(core, row)
    workspace = core.db.one("SELECT * FROM workspaces WHERE id = ?", row["workspace_id"])
    others = {name: value for name, value in shown["metadata"].items() if name != "airflow"}
    cells = (
        (
            str(run["turn_index"]),
            status(run["status"]) + attempt(run),
            bar(core, run),
            moment(core, run["created_at"]),
            run_link(row["id"], run["id"]),
        )
        for run in reversed(sessions.run_rows(core, row["id"]))
    )
    members = facts(
        (
            ("Status", status(row["status"])),
            ("Activity", status(shown["activity"])),
            ("Task", task_link(row["task_id"])),
            ("External id", code(row["external_id"])),
            ("Id", whole_id(row["id"])),
            ("Workspace", "" if workspace is None else workspace_link(workspace)),
            ("Tags", tags(loads(row["tags"]))),
            ("Created", moment(core, row["created_at"], exact=True)),
            ("Updated", moment(core, row["updated_at"], exact=True)),
            ("Expires", moment(core, row["expires_at"], exact=True)),
        )
    )
    return page(
        f"Session {name_of(row)}",
        section("facts", "Session", members)
        + section("runs", "Runs", table(("Turn", "Status", "Phases", "Created", "Run"), cells, "There are no runs."))
        + _airflow(shown["metadata"])
        + section("metadata", "Metadata", _pretty(others) if others else ""),
        above=(_SESSIONS,),
        live=shown["activity"] != "idle",
    )


def run(core: Core, row: Row, *, may_complete: bool) -> Response:
    """Return a run's page.

    :param may_complete: whether it offers the form for the token that the run waits for.
    """
    session_row = sessions.find(core, row["environment_id"], row["session_id"])
    texts = "".join(
        f"<h3>{stream}</h3><pre>{escape(content.decode('utf-8', 'replace'))}</pre>"
        for stream in ("stdout", "stderr")
        if (content := logs.tail(core, row["id"], stream, _LOG_BYTES))
    )
    live = row["status"] in runs.LIVE
    members = facts(
        (
            ("Status", status(row["status"]) + attempt(row)),
            ("Failure", failure(core, row)),
            ("Output", "" if row["output"] is None else code(dumps(loads(row["output"])))),
            ("Exit code", code(row["exit_code"])),
            ("Task", task_link(row["task_id"])),
            ("Id", whole_id(row["id"])),
            ("Created", moment(core, row["created_at"], exact=True)),
            ("Ended" if not live else "Updated", moment(core, row["ended_at"] or row["updated_at"], exact=True)),
        )
    )
    body = (
        section("facts", "Run", members)
        + section("phases", "Phases", bar(core, row, legend=True))
        + section("wait", "Waiting", _wait(core, row, may_complete=may_complete))
        + section("timeline", "Timeline", timeline(core, row))
        + section("log", "Output by stream", texts)
    )
    return page(
        f"{row['task_id']}, turn {row['turn_index']}",
        body,
        above=(_SESSIONS, (name_of(session_row), session_path(session_row["id"]))),
        live=live,
    )


def attempt(run_row: Row) -> str:
    """Return which attempt of a run it is; nothing for the first."""
    return f" (attempt {run_row['attempt_number']})" if run_row["attempt_number"] > 1 else ""


def token(core: Core, row: Row, *, may_complete: bool) -> Response:
    """Return a token's page.

    :param may_complete: whether it offers the form that completes the token.
    """
    pending = row["status"] == "pending"
    metadata = tokens.rendered(row)["metadata"]
    members = facts(
        (
            ("Status", status(row["status"])),
            ("Data", "" if row["data"] is None else code(dumps(loads(row["data"])))),
            ("Id", whole_id(row["id"])),
            ("Tags", tags(loads(row["tags"]))),
            ("Created", moment(core, row["created_at"], exact=True)),
            ("Expires" if pending else "", moment(core, row["timeout_at"], exact=True) if pending else ""),
        )
    )
    asked = facts(
        (name.capitalize(), f'<span class="text">{escape(_worded(value))}</span>')
        for name in ("subject", "body", "options", "defaults")
        if (value := question(row).get(name)) is not None
    )
    body = (
        section("facts", "Token", members)
        + section("question", "Question", asked)
        + section("tokens", "Answer", form(core, row) if pending and may_complete else "")
        + _airflow(metadata)
        + section("metadata", "Metadata", _pretty(metadata) if metadata else "")
    )
    return page(subject(row) or f"Token {row['id']}", body, above=(("Tokens", "/tokens"),), live=pending)


def _airflow(metadata: dict[str, Any]) -> str:
    """Return the task instance in the metadata, if there is one; the text is not trusted."""
    stamp = as_object(metadata.get("airflow"))
    if stamp is None:
        return ""
    names = {"dag_id": "DAG", "run_id": "DAG run", "task_id": "Task", "map_index": "Map index", "try_number": "Try"}
    body = facts((text, code(stamp.get(name))) for name, text in names.items())
    url = stamp.get("url")
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        body += f'<p><a href="{escape(url)}" rel="noreferrer">Task instance in Airflow</a></p>'
    return section("airflow", "Started by Airflow", body)


def _wait(core: Core, row: Row, *, may_complete: bool) -> str:
    if row["status"] != "waiting":
        return ""
    if row["wait_kind"] == "token":
        waited = tokens.by_id(core, row["wait_ref"])
        if waited is not None and may_complete:
            return form(core, waited)
    until = "" if row["wait_due"] is None else f", due {moment(core, row['wait_due'])}"
    return f"<p>For a {escape(row['wait_kind'])}{until}.</p>"


def _worded(value: object) -> str:
    """Return a text, texts separated by commas, or any other value as JSON."""
    texts = [value] if isinstance(value, str) else as_list(value)
    if texts is not None and all(isinstance(text, str) for text in texts):
        return ", ".join(texts)
    return json.dumps(plain(value), ensure_ascii=False)


def _pretty(value: object) -> str:
    return f"<pre>{escape(json.dumps(plain(value), indent=2, ensure_ascii=False))}</pre>"

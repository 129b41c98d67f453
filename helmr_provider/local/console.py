"""Pages for the addresses that links to a session or a run lead to. Plain HTML, made here, no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse
from starlette.routing import Route

from helmr_provider.local.clock import rfc3339
from helmr_provider.local.state import events, logs, runs, sessions

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from helmr_provider.local.core import Core
    from helmr_provider.local.database import Row

_LOG_BYTES = 64 * 1024
_EVENTS = 500
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1d2329 }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }
pre { background: #f3f5f7; padding: .8rem; overflow-x: auto } code { overflow-wrap: anywhere }
"""


def routes(core: Core) -> list[Route]:
    """Return the routes of the pages."""

    async def session_page(request: Request) -> Response:
        session = core.db.one("SELECT * FROM sessions WHERE id = ?", request.path_params["session_id"])
        return _missing("session") if session is None else _session(core, session)

    async def run_page(request: Request) -> Response:
        run = core.db.one(
            "SELECT * FROM runs WHERE id = ? AND session_id = ?",
            request.path_params["run_id"],
            request.path_params["session_id"],
        )
        return _missing("run") if run is None else _run(core, run)

    return [
        Route("/sessions/{session_id}", session_page),
        Route("/sessions/{session_id}/runs/{run_id}", run_page),
    ]


def _session(core: Core, session: Row) -> Response:
    shown = sessions.rendered(core, session)
    facts = _facts(shown, ("status", "activity", "task_id", "external_id", "created_at", "updated_at", "expires_at"))
    rows = "".join(
        f'<tr><td>{run["turn_index"]}</td><td><a href="/sessions/{escape(session["id"])}/runs/{escape(run["id"])}">'
        f"<code>{escape(run['id'])}</code></a></td><td>{escape(run['status'])}</td>"
        f"<td>{rfc3339(run['created_at'])}</td></tr>"
        for run in sessions.run_rows(core, session["id"])
    )
    head = "<tr><th>Turn</th><th>Run</th><th>Status</th><th>Created</th></tr>"
    return _page(
        f"Session {session['external_id'] or session['id']}",
        f"{facts}<h2>Runs</h2><table>{head}{rows}</table>",
        live=shown["activity"] != "idle",
    )


def _run(core: Core, run: Row) -> Response:
    shown = runs.rendered(core, run)
    back = f'<p><a href="/sessions/{escape(run["session_id"])}">Session {escape(run["session_id"])}</a></p>'
    facts = _facts(shown, ("status", "task_id", "attempt_number", "exit_code", "output", "created_at", "updated_at"))
    rows = "".join(
        f"<tr><td>{row['sequence']}</td><td>{escape(row['kind'])}</td></tr>"
        for row in events.after(core, run["id"], 0, _EVENTS)
    )
    texts = "".join(
        f"<h2>{stream}</h2><pre>{escape(content.decode('utf-8', 'replace'))}</pre>"
        for stream in ("stdout", "stderr")
        if (content := logs.tail(core, run["id"], stream, _LOG_BYTES))
    )
    return _page(
        f"Run {run['id']}",
        f"{back}{facts}{texts}<h2>Events</h2><table>{rows}</table>",
        live=run["status"] in runs.LIVE,
    )


def _facts(shown: dict[str, object], names: tuple[str, ...]) -> str:
    rows = "".join(
        f"<tr><th>{name}</th><td><code>{escape(str(shown[name]))}</code></td></tr>"
        for name in names
        if shown.get(name) is not None
    )
    return f"<table>{rows}</table>"


def _missing(what: str) -> Response:
    return _page("Not found", f"<p>This control plane has no such {what}.</p>", live=False, status=404)


def _page(title: str, body: str, *, live: bool, status: int = 200) -> Response:
    refresh = '<meta http-equiv="refresh" content="2">' if live else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"{refresh}<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>",
        status,
    )

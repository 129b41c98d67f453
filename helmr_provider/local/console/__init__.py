"""The web pages: runs, sessions, tokens, workspaces and schedules, and a form to complete each pending token.

May import `state` and what lies below it, and the journal of `testing`; only the server imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from helmr_provider.local.console import details, forms, listings, overview, workspaces
from helmr_provider.local.console.layout import missing, page
from helmr_provider.local.network.listener import is_loopback, names_this_machine
from helmr_provider.local.state import tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.responses import Response

    from helmr_provider.local._core import Core
    from helmr_provider.local.testing.journal import Journal


def routes(core: Core, journal: Journal) -> list[Route]:
    """Return the routes of the pages.

    The pages of single sessions, runs, tokens and workspaces answer to everyone who knows the id. Lists and forms
    answer only to this machine.
    """

    async def overview_page(request: Request) -> Response:
        return overview.shown(core, journal) if _is_at_home(request) else _refusal()

    def listing(shown: Callable[[Core, QueryParams], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def list_page(request: Request) -> Response:
            return shown(core, request.query_params) if _is_at_home(request) else _refusal()

        return list_page

    async def session_page(request: Request) -> Response:
        session = core.db.one("SELECT * FROM sessions WHERE id = ?", request.path_params["session_id"])
        return missing("session") if session is None else details.session(core, session)

    async def run_page(request: Request) -> Response:
        run = core.db.one(
            "SELECT * FROM runs WHERE id = ? AND session_id = ?",
            request.path_params["run_id"],
            request.path_params["session_id"],
        )
        return missing("run") if run is None else details.run(core, run, may_complete=_is_at_home(request))

    async def token_page(request: Request) -> Response:
        token = tokens.by_id(core, request.path_params["token_id"])
        return missing("token") if token is None else details.token(core, token, may_complete=_is_at_home(request))

    async def workspace_page(request: Request) -> Response:
        workspace = core.db.one("SELECT * FROM workspaces WHERE id = ?", request.path_params["workspace_id"])
        return missing("workspace") if workspace is None else workspaces.workspace(core, workspace)

    async def complete(request: Request) -> Response:
        if not (_is_at_home(request) and _is_from_here(request)):
            return _refusal()
        return await forms.complete(core, request)

    return [
        Route("/", overview_page),
        Route("/runs", listing(listings.runs_page)),
        Route("/sessions", listing(listings.sessions_page)),
        Route("/tokens", listing(listings.tokens_page)),
        Route("/workspaces", listing(listings.workspaces_page)),
        Route("/schedules", listing(listings.schedules_page)),
        Route("/sessions/{session_id}", session_page),
        Route("/sessions/{session_id}/runs/{run_id}", run_page),
        Route("/tokens/{token_id}", token_page),
        Route("/workspaces/{workspace_id}", workspace_page),
        Route("/tokens/{token_id}/complete", complete, methods=["POST"]),
    ]


def _is_at_home(request: Request) -> bool:
    """Tell whether the browser is on this machine and knows it by its own name, not by one that leads here just now."""
    return (
        request.client is not None
        and is_loopback(request.client.host)
        and names_this_machine(request.headers.get("host", ""))
    )


def _is_from_here(request: Request) -> bool:
    """Tell whether a form is one of these pages': browsers say where each one comes from."""
    return request.headers.get("origin") == f"{request.url.scheme}://{request.headers.get('host', '')}"


def _refusal() -> Response:
    return page("Not from here", "<p>This page answers only to a browser on the same machine.</p>", status=403)

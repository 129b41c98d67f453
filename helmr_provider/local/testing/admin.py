"""Administration for tests and people beyond the API: faults, journal, keys, clock, pauses.

Its routes are under `/_local`, never under `/api`, and answer only to this machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from helmr_provider.local._core import DEFAULT_ENVIRONMENT
from helmr_provider.local.common.json_bodies import parse
from helmr_provider.local.common.jsontext import as_object, plain
from helmr_provider.local.network.listener import is_loopback, names_this_machine
from helmr_provider.local.state.api_keys import create_key
from helmr_provider.local.testing import time_control
from helmr_provider.local.testing.faults import Fault

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.execution.worker import Worker
    from helmr_provider.local.testing.faults import FaultBook
    from helmr_provider.local.testing.journal import Journal
    from helmr_provider.local.workspaces.worker import WorkspaceWorker

_MAX_BODY = 1024 * 1024

_Endpoint = Callable[[Request], Awaitable[Response]]


def routes(
    core: Core, worker: Worker, workspaces: WorkspaceWorker, *, faults: FaultBook, journal: Journal, api_key: str
) -> list[Route]:
    """Return the routes of the administration.

    - `GET /_local/health`
    - `GET`, `DELETE /_local/journal`
    - `GET`, `POST`, `DELETE /_local/faults`; a fault is planted as
      `{"operation": operationId or "*", "fault": {"kind": …}, "times": 1}`
    - `POST /_local/keys` with `{"scopes"?: […], "environment"?: name}`; `GET /_local/keys/default`, the key with all
      scopes of the default environment
    - `POST /_local/worker/pause`, `POST /_local/worker/resume`
    - `GET /_local/clock`, `PUT /_local/clock` with `{"mode": "real", "scaled" or "manual", "rate"?: number}`,
      `POST /_local/clock/advance` with `{"by": duration text or seconds}`
    - `POST /_local/workspaces/pause` with `{"what": "workspaces", "preparations", "commands" or null}`
    - `POST /_local/workspaces/{workspace_id}/lose`
    """

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "tasks": sorted(core.deployment.tasks)})

    async def read_journal(_: Request) -> Response:
        return JSONResponse({"requests": [entry.as_dict() for entry in journal.entries()]})

    async def clear_journal(_: Request) -> Response:
        journal.clear()
        return Response(status_code=204)

    async def read_faults(_: Request) -> Response:
        return JSONResponse({"faults": faults.pending()})

    async def plant_fault(request: Request) -> Response:
        body = await _object(request)
        fault = Fault.from_dict(body["fault"])
        faults.plant(str(body["operation"]), fault, int(body.get("times", 1)))
        return JSONResponse({"faults": faults.pending()}, 201)

    async def clear_faults(_: Request) -> Response:
        faults.clear()
        return Response(status_code=204)

    async def pause(_: Request) -> Response:
        worker.pause()
        return Response(status_code=204)

    async def resume(_: Request) -> Response:
        worker.resume()
        return Response(status_code=204)

    async def pause_workspaces(request: Request) -> Response:
        workspaces.pause((await _object(request))["what"])
        return Response(status_code=204)

    async def lose_workspace(request: Request) -> Response:
        await workspaces.lose(request.path_params["workspace_id"])
        return Response(status_code=204)

    table: list[tuple[str, str, _Endpoint]] = [
        ("GET", "health", health),
        ("GET", "journal", read_journal),
        ("DELETE", "journal", clear_journal),
        ("GET", "faults", read_faults),
        ("POST", "faults", plant_fault),
        ("DELETE", "faults", clear_faults),
        *_keys(core, api_key),
        ("POST", "worker/pause", pause),
        ("POST", "worker/resume", resume),
        *_clock(core),
        ("POST", "workspaces/pause", pause_workspaces),
        ("POST", "workspaces/{workspace_id}/lose", lose_workspace),
    ]
    return [Route(f"/_local/{path}", _guarded(endpoint), methods=[method]) for method, path, endpoint in table]


def _keys(core: Core, api_key: str) -> list[tuple[str, str, _Endpoint]]:
    async def add_key(request: Request) -> Response:
        body = await _object(request)
        key = create_key(core, scopes=body.get("scopes"), environment=str(body.get("environment", DEFAULT_ENVIRONMENT)))
        return JSONResponse({"key": key}, 201)

    async def default_key(_: Request) -> Response:
        return JSONResponse({"key": api_key})

    return [("POST", "keys", add_key), ("GET", "keys/default", default_key)]


def _clock(core: Core) -> list[tuple[str, str, _Endpoint]]:
    async def read_clock(_: Request) -> Response:
        return JSONResponse(time_control.shown(core))

    async def set_clock(request: Request) -> Response:
        body = await _object(request)
        time_control.set_mode(core, body["mode"], body.get("rate"))
        return JSONResponse(time_control.shown(core))

    async def advance_clock(request: Request) -> Response:
        await time_control.advance(core, (await _object(request))["by"])
        return JSONResponse(time_control.shown(core))

    return [("GET", "clock", read_clock), ("PUT", "clock", set_clock), ("POST", "clock/advance", advance_clock)]


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    async def respond(request: Request) -> Response:
        if request.client is None or not is_loopback(request.client.host) or not _is_trusted(request):
            return JSONResponse({"error": "the administration answers only to this machine, and to no web page"}, 403)
        try:
            return await endpoint(request)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)

    return respond


def _is_trusted(request: Request) -> bool:
    """Tell whether no web page but the control plane's own can have sent this request.

    A key made here can run commands on this machine, so a page of another local server is refused too. Browsers send
    an `Origin` or `Sec-Fetch-Site`; command-line tools send neither. The `Host` tells a foreign name that resolves to
    this machine.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    return (
        names_this_machine(host)
        and origin in (None, f"{request.url.scheme}://{host}")
        and request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    )


async def _object(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MAX_BODY:
            raise ValueError(f"the body is larger than {_MAX_BODY} bytes")
    body = as_object(plain(parse(bytes(content))))
    if body is None:
        raise TypeError("a JSON object is needed")
    return body

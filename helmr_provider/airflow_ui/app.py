"""The web application behind the tab: routes, who may use them, and the headers of every answer.

It is mounted into Airflow's API server, and shares its origin: a hole here is a hole in Airflow. So it only answers
GET, every route depends on Airflow's own check, and no HTML but ours ever leaves it.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from helmr_provider.airflow_ui import airflow_database
from helmr_provider.airflow_ui.assets import HEADERS, SCRIPT, STYLE
from helmr_provider.airflow_ui.connections import Connections
from helmr_provider.airflow_ui.markup import Markup, element
from helmr_provider.airflow_ui.pages import Rights, log_part, main, section, task_page
from helmr_provider.airflow_ui.reader import Reader
from helmr_provider.airflow_ui.run_page import dag_run_page
from helmr_provider.airflow_ui.service import BusyError, Service
from helmr_provider.airflow_ui.views import MissingError, TaskKey

log = logging.getLogger(__name__)

may_see_tasks = requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)
"""The dependency of every route: the user of the request may read task instances of the DAG in the path."""

# Without steps, ages would make every answer a new one.
_STEP_SECONDS: Final = 5
_WORDS: Final = {
    401: "You are not signed in. Reload the page to sign in.",
    403: "You may not see the task instances of this DAG.",
    404: "There is no such page.",
    405: "These pages can only be read.",
    422: "There is no such page.",
    500: "Something went wrong while this page was made. The log of Airflow's API server has the details.",
    503: "Many pages are being read right now. This one is tried again in a few seconds.",
}


def rights_of(dag_id: str, user: GetUserDep) -> Rights:
    """Ask Airflow's auth manager what the user may read of a DAG.

    :param dag_id: of the path.
    :param user: of the request.
    """
    team = airflow_database.team_of(dag_id)
    details = DagDetails(id=dag_id) if team is None else DagDetails(id=dag_id, team_name=team)  # type: ignore[call-arg, unused-ignore]

    def may(entity: DagAccessEntity) -> bool:
        return bool(
            get_auth_manager().is_authorized_dag(method="GET", access_entity=entity, details=details, user=user)
        )

    return Rights(
        xcoms=may(DagAccessEntity.XCOM),
        logs=may(DagAccessEntity.TASK_LOGS),
        questions=may(DagAccessEntity.HITL_DETAIL),
    )


RightsDep = Annotated[Rights, Depends(rights_of)]
router = APIRouter(dependencies=[Depends(may_see_tasks)], default_response_class=HTMLResponse)


@router.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}")
async def task_instance(  # noqa: PLR0917 - FastAPI passes all by name
    request: Request,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: str,
    rights: RightsDep,
    part: Literal["page", "live", "log"] = "page",
) -> Response:
    """Answer with the page of a task instance, or with a part of it.

    :param request: the request.
    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param task_id: the task.
    :param map_index: a number; Airflow leaves the placeholder as it is for a task that is not mapped.
    :param rights: of the user.
    :param part: all of it, what changes, or the output.
    """
    service: Service = request.app.state.service
    key = TaskKey(dag_id, run_id, task_id, _map_index(map_index))
    if part == "log":
        if not rights.logs or not rights.xcoms:
            raise HTTPException(403)
        return _html(log_part(await service.log(key)))
    return _page(request, task_page(await service.task(key), rights, _now()), part)


@router.get("/dags/{dag_id}/runs/{run_id}")
async def dag_run(
    request: Request, dag_id: str, run_id: str, rights: RightsDep, part: Literal["page", "live"] = "page"
) -> Response:
    """Answer with the page of a DAG run, or with what changes of it.

    :param request: the request.
    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param rights: of the user.
    :param part: all of it, or what changes.
    """
    service: Service = request.app.state.service
    return _page(request, dag_run_page(await service.dag_run(dag_id, run_id), rights, _now()), part)


def create_app(service: Service | None = None) -> FastAPI:
    """Build the application.

    :param service: reads what the pages show; by default from Airflow's database and the connections' control planes.
    """
    app = FastAPI(title="Helmr", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service or _service()
    app.include_router(router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(MissingError, _missing)
    app.add_exception_handler(Exception, _broken)
    return app


def _service() -> Service:
    connections = Connections(airflow_database.read_connection, clock=time.monotonic, now=lambda: datetime.now(UTC))
    reader = Reader(
        connections, read_task=airflow_database.read_task, read_run=airflow_database.read_run, clock=time.monotonic
    )
    return Service(reader, clock=time.monotonic)


def _map_index(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1


def _now() -> datetime:
    return datetime.fromtimestamp(math.ceil(time.time() / _STEP_SECONDS) * _STEP_SECONDS, UTC)


def _page(request: Request, content: Markup, part: str) -> Response:
    tag = f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers={**HEADERS, **headers})
    return _html(content if part == "live" else document(content, tag), headers=headers)


def _html(content: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return HTMLResponse(content, status, headers={**HEADERS, **(headers or {})})


def document(content: Markup, tag: str | None = None) -> str:
    """Return a whole page.

    :param content: its changing part, a ``main`` element.
    :param tag: entity tag of that part, so that the first poll can already be answered with "not modified".
    """
    marked = content if tag is None else content.replace("<main", f"<main {_attribute(tag)}", 1)
    head = "".join(
        (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Helmr</title><style>{STYLE}</style>",
        )
    )
    away = element("p", id="away", class_="notice bad", role="status")
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{away}{marked}<script>{SCRIPT}</script></body></html>'
    )


def _attribute(tag: str) -> str:
    return 'data-tag="' + tag.replace('"', "&quot;") + '"'


def _status_page(status: int, *, refresh: int = 0, headers: dict[str, str] | None = None) -> Response:
    words = _WORDS.get(status, _WORDS[500])
    content = main(
        [section("problem", element("div", element("p", words), class_="notice bad", role="status"))], refresh
    )
    return _html(document(content), status, headers)


def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 422
    headers = dict(getattr(error, "headers", None) or {})
    return _status_page(status, headers={name: value for name, value in headers.items() if name.lower() == "allow"})


def _busy(_: Request, __: Exception) -> Response:
    return _status_page(503, refresh=5, headers={"Retry-After": "5"})


def _missing(_: Request, __: Exception) -> Response:
    return _status_page(404)


def _broken(_: Request, error: Exception) -> Response:
    log.error("A page of the Helmr tab could not be made: %s", type(error).__name__, exc_info=error)
    return _status_page(500)

"""The server: the parts of a control plane, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from helmr_provider.local import console
from helmr_provider.local._core import Core
from helmr_provider.local.api.app import Api
from helmr_provider.local.execution.sweeper import sweep_forever
from helmr_provider.local.execution.worker import Worker
from helmr_provider.local.network.listener import Listener, is_loopback, server_context
from helmr_provider.local.state import schedules
from helmr_provider.local.state.api_keys import create_key
from helmr_provider.local.testing import admin
from helmr_provider.local.testing.faults import FaultBook
from helmr_provider.local.testing.journal import Journal
from helmr_provider.local.workspaces.worker import WorkspaceWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from helmr_provider.local.common.clock import Clock
    from helmr_provider.local.common.settings import Settings
    from helmr_provider.local.definitions.tasks import TaskDefinition

_log = logging.getLogger(__name__)


class Server:
    """One control plane.

    :param tasks: the deployed tasks.
    :param db: the database file, or None for memory.
    :param host: the address to bind; only this machine's own unless `allow_remote`.
    :param port: the port, 0 for a free one.
    :param api_key: a key with all scopes, in place of the one that the database brings.
    :param settings: times and sizes.
    :param clock: the source of the present time.
    :param allow_remote: allow an address that others can reach. Everyone who reaches it can run the deployed tasks.
    :param certificate: files of the certificate chain and its private key, in PEM, to serve https.
    :raises ValueError: for a host that others can reach, without `allow_remote`.
    """

    def __init__(
        self,
        tasks: Iterable[TaskDefinition],
        *,
        db: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        allow_remote: bool = False,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        if not allow_remote and not is_loopback(host):
            raise ValueError(f"{host} is not a loopback address; everyone who reaches it could run the deployed tasks")
        # Before the database is opened, which a refusal would have to close.
        tls = None if certificate is None else server_context(*certificate)
        self.journal = Journal()
        self.faults = FaultBook()
        self.core = Core(
            tasks,
            db,
            settings,
            clock,
            executor=self._make_worker,
            workspaces=self._make_workspaces,
            executes=is_loopback(host),
        )
        try:
            self.api_key = create_key(self.core, key=api_key or self.core.default_api_key())
        except BaseException:
            self.core.close()
            raise
        self.listener = Listener(
            self._answer,
            host,
            port,
            tls=tls,
            request_seconds=self.core.settings.request_seconds,
        )
        self._api = Api(self.core, self.listener, self.faults, self.journal)
        self._site: ASGIApp = Starlette(
            routes=[
                Route("/healthz", _health("ok")),
                Route("/readyz", _health("ready")),
                *console.routes(self.core, self.journal),
                *admin.routes(
                    self.core,
                    self.worker,
                    self.workspaces,
                    faults=self.faults,
                    journal=self.journal,
                    api_key=self.api_key,
                ),
            ]
        )
        self._background: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL."""
        host = f"[{self.listener.host}]" if ":" in self.listener.host else self.listener.host
        return f"{self.listener.scheme}://{host}:{self.listener.port}"

    async def start(self) -> None:
        """Recover the state of an earlier process, then serve.

        :raises OSError: if the port is taken; everything is stopped and closed then.
        """
        try:
            schedules.declare_everywhere(self.core)
            self.worker.recover()
            self.workspaces.recover()
            await self.listener.open()
        except BaseException:
            await self.stop()
            raise
        self.core.public_url = self.url
        for work in (self.worker.dispatch(), self.workspaces.tend(), sweep_forever(self.core)):
            self._in_background(work)

    async def stop(self) -> None:
        """Stop serving, drop what runs, close the database.

        The database is closed after everything that uses it: first requests end, then the loops that start runs and
        workspaces, then the runs, then the workspaces. A task that ignores its cancellation outlives the stop; its
        context refuses every call.
        """
        async with contextlib.AsyncExitStack() as rest:
            # In reverse order. An error in one step does not skip the others.
            rest.callback(self.core.close)
            rest.push_async_callback(self.workspaces.stop)
            rest.push_async_callback(self.worker.stop)
            rest.push_async_callback(self._stop_background)
            await self.listener.close()

    async def _stop_background(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _make_worker(self, core: Core) -> Worker:
        self.worker = Worker(core)
        return self.worker

    def _make_workspaces(self, core: Core) -> WorkspaceWorker:
        self.workspaces = WorkspaceWorker(core)
        return self.workspaces

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_report)
        self._background.add(task)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        application = self._api if path == "/api" or path.startswith("/api/") else self._site
        await application(scope, receive, send)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("This control plane continues without %s.", task.get_coro(), exc_info=error)


def _health(status: str) -> Callable[[Request], Response]:
    return lambda _: JSONResponse({"status": status})

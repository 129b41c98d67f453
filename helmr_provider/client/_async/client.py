"""The client: one set of connections, and the namespaces on it."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Self

from helmr_provider.client._async.auth import AsyncAuth
from helmr_provider.client._async.deployed import AsyncSandboxes, AsyncTasks
from helmr_provider.client._async.deployments import AsyncDeployments
from helmr_provider.client._async.runs import AsyncRuns
from helmr_provider.client._async.schedules import AsyncSchedules
from helmr_provider.client._async.secrets import AsyncSecrets
from helmr_provider.client._async.sessions import AsyncSessions
from helmr_provider.client._async.tokens import AsyncTokens
from helmr_provider.client._async.transport import AsyncTransport
from helmr_provider.client._async.workspaces import AsyncWorkspaces
from helmr_provider.client._config import MAX_STREAMS, check_scope, resolve_api_key, resolve_settings
from helmr_provider.client._http import AsyncHttp
from helmr_provider.client._retry import ONCE
from helmr_provider.client._secrets import hide
from helmr_provider.client._shim import build_async_waiter
from helmr_provider.client._waiting.stream_slots import StreamSlots
from helmr_provider.client._wire.json_values import json_object
from helmr_provider.client._wire.requests import Context
from helmr_provider.client._wire.responses import read
from helmr_provider.client.errors import HelmrApiError
from helmr_provider.client.models.health import Health

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from types import TracebackType

    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._waiting.async_waiter import AsyncWaiter


class AsyncHelmrClient:
    """Speak to a Helmr control plane.

    :param url: base URL, https (http only to this machine); a path prefix is kept. ``HELMR_API_URL`` when left out.
    :param api_key: API key; ``HELMR_API_KEY`` when left out.
    :param project_id: default project, for user-session credentials only; an API key refuses it.
    :param environment_id: default environment; goes with ``project_id``.
    :param timeout: seconds (or timedelta) that a call may be silent.
    :param connect_timeout: seconds (or timedelta) for a connection to stand.
    :param verify: false, or the path of a CA bundle, to check certificates otherwise than the system does.
    :param proxy: proxy URL; the proxy variables of the environment when left out.
    :param headers: more request headers.
    :param max_streams: event streams that waits may hold at once; 0 makes waits poll.
    :raises HelmrConfigError: an option does not fit (contract/behaviour.md section 16).
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        api_key: str | Secret | None = None,
        project_id: str | None = None,
        environment_id: str | None = None,
        timeout: timedelta | float = 30.0,
        connect_timeout: timedelta | float = 5.0,
        verify: bool | str = True,
        proxy: str | Secret | None = None,
        headers: Mapping[str, str] | None = None,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        # Wrapped first: should anything below fail, the traceback of this frame does not show the secrets.
        api_key = None if api_key is None else hide(api_key)
        proxy = None if proxy is None else hide(proxy)
        settings = resolve_settings(
            url,
            timeout=timeout,
            connect_timeout=connect_timeout,
            verify=verify,
            proxy=proxy,
            headers=headers,
            max_streams=max_streams,
        )
        check_scope(project_id, environment_id)
        context = Context(
            settings.base_url, resolve_api_key(api_key), project_id, environment_id, headers=settings.headers
        )
        self._owns_connections = True
        self._set_up(AsyncTransport(AsyncHttp(settings), context), StreamSlots(settings.max_streams))

    def _set_up(self, transport: AsyncTransport, slots: StreamSlots) -> None:
        self.transport = transport
        self.stream_slots = slots
        self._waiter: AsyncWaiter | None = None

    def _view(self, context: Context) -> Self:
        view = object.__new__(type(self))
        view._owns_connections = False
        view._set_up(AsyncTransport(self.transport.http, context), self.stream_slots)
        return view

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return self.transport.context.base_url

    @property
    def max_streams(self) -> int:
        """Event streams that waits may hold at once."""
        return self.stream_slots.budget

    @cached_property
    def sessions(self) -> AsyncSessions:
        """Sessions."""
        return AsyncSessions(self)

    @cached_property
    def runs(self) -> AsyncRuns:
        """Runs."""
        return AsyncRuns(self)

    @cached_property
    def tokens(self) -> AsyncTokens:
        """Tokens."""
        return AsyncTokens(self)

    @cached_property
    def auth(self) -> AsyncAuth:
        """Public access tokens."""
        return AsyncAuth(self)

    @cached_property
    def workspaces(self) -> AsyncWorkspaces:
        """Workspaces."""
        return AsyncWorkspaces(self)

    @cached_property
    def schedules(self) -> AsyncSchedules:
        """Schedules."""
        return AsyncSchedules(self)

    @cached_property
    def tasks(self) -> AsyncTasks:
        """Deployed tasks."""
        return AsyncTasks(self)

    @cached_property
    def sandboxes(self) -> AsyncSandboxes:
        """Deployed sandboxes."""
        return AsyncSandboxes(self)

    @cached_property
    def deployments(self) -> AsyncDeployments:
        """Deployments."""
        return AsyncDeployments(self)

    @cached_property
    def secrets(self) -> AsyncSecrets:
        """Secrets of the environment."""
        return AsyncSecrets(self)

    @property
    def waiter(self) -> AsyncWaiter:
        """What all waits of this client share; built by the first."""
        if self._waiter is None:
            self._waiter = build_async_waiter(self)
        return self._waiter

    def scoped(self, *, project_id: str | None = None, environment_id: str | None = None) -> Self:
        """Return a view of this client for another environment; it shares the connections, which stay this client's.

        :param project_id: project id or slug; for user-session credentials only.
        :param environment_id: environment id or slug.
        :raises HelmrConfigError: only one of them is given.
        """
        check_scope(project_id, environment_id)
        context = self.transport.context
        return self._view(dataclasses.replace(context, project_id=project_id, environment_id=environment_id))

    def single_shot(self, *, silence: float | None = None) -> Self:
        """Return a view of this client that repeats no call after a failure, for callers with a rhythm of their own.

        :param silence: seconds that its calls and streams may be silent, if less than this client's own limits.
        """
        return self._view(dataclasses.replace(self.transport.context, backoff=ONCE, silence=silence))

    async def health(self) -> Health:
        """Ask whether the control plane is up (healthz); needs no credential."""
        return read(Health, await self.transport.call("healthz"), "healthz")

    async def ready(self) -> Health:
        """Ask whether the control plane is ready (readyz); needs no credential.

        ``not_ready`` is returned, not raised.
        """
        try:
            value = await self.single_shot().transport.call("readyz")
        except HelmrApiError as error:
            value = json_object(error.body)
            if error.status != 503 or value is None or "status" not in value:
                raise
        return read(Health, value, "readyz")

    async def aclose(self) -> None:
        """Stop the waits and close the connections. Runs go on; a view closes its own waits only."""
        if self._waiter is not None:
            await self._waiter.aclose()
        if self._owns_connections:
            await self.transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        # A debugger may ask while the constructor is still at work.
        transport: AsyncTransport | None = vars(self).get("transport")
        return f"{type(self).__name__}(url={transport and transport.context.base_url!r})"

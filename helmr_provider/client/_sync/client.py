# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""The client: one set of connections, and the namespaces on it."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Self

from helmr_provider.client._config import (
    CALL_TIMEOUT,
    MAX_STREAMS,
    check_scope,
    resolve_api_key,
    resolve_settings,
)
from helmr_provider.client._http import Http
from helmr_provider.client._internals import transport_of
from helmr_provider.client._retry import ONCE
from helmr_provider.client._secrets import hide
from helmr_provider.client._sync.auth import Auth
from helmr_provider.client._sync.deployments import Deployments
from helmr_provider.client._sync.runs import Runs
from helmr_provider.client._sync.schedules import Schedules
from helmr_provider.client._sync.secrets import Secrets
from helmr_provider.client._sync.sessions import Sessions
from helmr_provider.client._sync.tasks_and_sandboxes import Sandboxes, Tasks
from helmr_provider.client._sync.tokens import Tokens
from helmr_provider.client._sync.transport import Transport
from helmr_provider.client._sync.workspaces import Workspaces
from helmr_provider.client._unasync_pairs import build_waiter
from helmr_provider.client._waiting.stream_slots import StreamSlots
from helmr_provider.client._wire.json_values import json_object
from helmr_provider.client._wire.requests import Context
from helmr_provider.client._wire.responses import read
from helmr_provider.client.errors import HelmrApiError, HelmrConfigError
from helmr_provider.client.models.health import Health

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from types import TracebackType

    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._waiting.sync_waiter import Waiter
    from helmr_provider.client.durations import Duration


class HelmrClient:
    """Speak to a Helmr control plane.

    :param url: base URL, https (http only to this machine); a path prefix is kept. ``HELMR_API_URL`` when left out.
    :param api_key: API key; ``HELMR_API_KEY`` when left out.
    :param project_id: default project, for user-session credentials only; an API key refuses it.
    :param environment_id: default environment; goes with ``project_id``.
    :param timeout: seconds (or timedelta) that a whole call may take, repeats included. Streams have no such limit;
        they end after 65 s of silence, or after ``timeout`` if that is more.
    :param connect_timeout: seconds (or timedelta) that connecting may take.
    :param verify: false, or the path of a CA bundle, to check certificates otherwise than the system does.
    :param cert: path of a client certificate with its key, or the paths of certificate and key.
    :param proxy: proxy URL; the proxy variables of the environment when left out.
    :param headers: more request headers.
    :param max_streams: event streams that waits may hold at the same time; 0 makes waits poll.
    :raises HelmrConfigError: an option does not fit (contract/behaviour.md section 16).
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        api_key: str | Secret | None = None,
        project_id: str | None = None,
        environment_id: str | None = None,
        timeout: timedelta | float | str = CALL_TIMEOUT,
        connect_timeout: timedelta | float | str = 5.0,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
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
            cert=cert,
            proxy=proxy,
            headers=headers,
            max_streams=max_streams,
        )
        check_scope(project_id, environment_id)
        context = Context(
            settings.base_url,
            resolve_api_key(api_key),
            project_id,
            environment_id,
            headers=settings.headers,
            timeout=settings.timeout,
            stream_silence=settings.stream_silence,
        )
        self._owns_connections = True
        self._set_up(Transport(Http(settings), context), StreamSlots(settings.max_streams))

    def _set_up(self, transport: Transport, slots: StreamSlots) -> None:
        self._transport = transport
        self._stream_slots = slots

    @property
    def _built_waiter(self) -> Waiter | None:
        waiter: Waiter | None = vars(self).get("_shared_waiter")
        return waiter

    def _view(self, context: Context) -> Self:
        view = object.__new__(type(self))
        view._owns_connections = False
        view._set_up(Transport(self._transport.http, context), self._stream_slots)
        return view

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return self._transport.context.base_url

    @property
    def max_streams(self) -> int:
        """Event streams that waits may hold at the same time."""
        return self._stream_slots.budget

    @cached_property
    def sessions(self) -> Sessions:
        """Sessions."""
        return Sessions(self)

    @cached_property
    def runs(self) -> Runs:
        """Runs."""
        return Runs(self)

    @cached_property
    def tokens(self) -> Tokens:
        """Tokens."""
        return Tokens(self)

    @cached_property
    def auth(self) -> Auth:
        """Public access tokens."""
        return Auth(self)

    @cached_property
    def workspaces(self) -> Workspaces:
        """Workspaces."""
        return Workspaces(self)

    @cached_property
    def schedules(self) -> Schedules:
        """Schedules."""
        return Schedules(self)

    @cached_property
    def tasks(self) -> Tasks:
        """Deployed tasks."""
        return Tasks(self)

    @cached_property
    def sandboxes(self) -> Sandboxes:
        """Deployed sandboxes."""
        return Sandboxes(self)

    @cached_property
    def deployments(self) -> Deployments:
        """Deployments."""
        return Deployments(self)

    @cached_property
    def secrets(self) -> Secrets:
        """Secrets of the environment."""
        return Secrets(self)

    @property
    def _waiter(self) -> Waiter:
        """What all waits of this client share; built by the first.

        :raises HelmrError: the client is closed, or belongs to another event loop.
        """
        self._transport.http.check_owner("wait")
        # One waiter also if two threads come first at the same time: setdefault is atomic.
        return self._built_waiter or vars(self).setdefault("_shared_waiter", build_waiter(self))

    def scoped(self, *, project_id: str | None = None, environment_id: str | None = None) -> Self:
        """Return a view of this client for another environment; it shares the connections, which stay this client's.

        :param project_id: project id or slug; for user-session credentials only.
        :param environment_id: environment id or slug.
        :raises HelmrConfigError: only one of them is set.
        """
        check_scope(project_id, environment_id)
        context = self._transport.context
        return self._view(dataclasses.replace(context, project_id=project_id, environment_id=environment_id))

    def with_options(self, *, timeout: Duration | None = None, max_retries: int | None = None) -> Self:
        """Return a view of this client with other limits: ``client.with_options(max_retries=0).runs.retrieve(run_id)``.

        Most methods also take ``timeout=`` themselves.

        :param timeout: seconds (or timedelta) that a whole call may take; None leaves it as it is.
        :param max_retries: how often a call that failed is sent again, where that is safe; None leaves it as it is.
        :raises HelmrConfigError: an option is out of range.
        """
        context = self._transport.context.with_timeout(timeout)
        if max_retries is not None:
            if max_retries < 0:
                raise HelmrConfigError("max_retries must not be negative.")
            backoff = dataclasses.replace(context.backoff, attempts=max_retries + 1)
            context = dataclasses.replace(context, backoff=backoff)
        return self._view(context)

    def _single_shot(self, *, silence: float | None = None) -> Self:
        """Return a view of this client that repeats no call after a failure, for callers with a rhythm of their own.

        :param silence: seconds that its calls may take and its streams may be silent, if less than this client's own
            limits.
        """
        return self._view(dataclasses.replace(self._transport.context, backoff=ONCE, silence=silence))

    def health(self, *, timeout: Duration | None = None) -> Health:
        """Ask whether the control plane is up (healthz); needs no credential.

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        return read(Health, self._transport.call("healthz", timeout=timeout), "healthz")

    def ready(self, *, timeout: Duration | None = None) -> Health:
        """Ask whether the control plane is ready (readyz); needs no credential.

        ``not_ready`` is returned, not raised.

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        try:
            value = transport_of(self._single_shot()).call("readyz", timeout=timeout)
        except HelmrApiError as error:
            value = json_object(error.body)
            if error.status != 503 or value is None or "status" not in value:
                raise
        return read(Health, value, "readyz")

    def close(self) -> None:
        """Stop the waits and close the connections. Runs continue; a view closes its own waits only."""
        if self._built_waiter is not None:
            self._built_waiter.close()
        if self._owns_connections:
            self._transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        # A debugger may ask while the constructor is still at work.
        transport: Transport | None = vars(self).get("_transport")
        return f"{type(self).__name__}(url={transport and transport.context.base_url!r})"

"""Clients of the connections that pages need, one for each, and a circuit breaker. All of it blocks."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import mask_secret

from helmr_provider.client._internals import single_shot, transport_of
from helmr_provider.client.errors import HelmrConfigError
from helmr_provider.hooks.connection import HelmrSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from helmr_provider.airflow_ui.views import Problem
    from helmr_provider.client import HelmrClient

RENEW_SECONDS: Final = 60.0
DOWN_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 3.0
CONNECT_SECONDS: Final = 2.0

_CONN_TYPE: Final = "helmr"


class ConnectionProblemError(Exception):
    """A connection that cannot be used now.

    :param problem: why.
    :param note: text for people; never a secret.
    :param since: when the control plane was first found down.
    """

    def __init__(self, problem: Problem, note: str = "", since: datetime | None = None) -> None:
        super().__init__(problem)
        self.problem: Problem = problem
        self.note = note
        self.since = since


@dataclass
class Connected:
    """A usable connection.

    :param settings: as parsed.
    :param client: sends each request once, without event streams.
    """

    settings: HelmrSettings
    client: HelmrClient
    fetched: float
    dropped: bool = False


@dataclass
class _Breaker:
    since: datetime | None = None
    until: float = 0.0


class Connections:
    """Hand out clients, and none while a control plane does not answer.

    :param fetch: returns the Airflow connection of an id, as a DAG sees it; ``None`` if there is none.
    :param clock: seconds, never going back.
    :param now: the time, for people.
    """

    def __init__(
        self,
        fetch: Callable[[str, str], Any],
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._connected: dict[tuple[str, str], Connected] = {}
        self._breakers: dict[str, _Breaker] = {}

    def get(self, conn_id: str, dag_id: str) -> Connected:
        """Return a usable connection; its settings are fetched again after a minute.

        :param conn_id: its id.
        :param dag_id: the DAG that uses it.
        :raises ConnectionProblemError: it is unknown, malformed, or switched off for the tab.
        """
        place = (conn_id, dag_id)
        known = self._connected.get(place)
        if known is not None and not known.dropped and self._clock() - known.fetched < RENEW_SECONDS:
            return known
        connection = self._fetch(conn_id, dag_id)
        if connection is None:
            raise ConnectionProblemError("no_connection", conn_id)
        if connection.conn_type != _CONN_TYPE:
            raise ConnectionProblemError("bad_connection", f"Connection {conn_id!r} is not of type {_CONN_TYPE!r}.")
        try:
            settings = HelmrSettings.parse(connection)
            if settings.airflow_tab == "off":
                raise ConnectionProblemError("off", conn_id)
            if known is not None and not known.dropped and known.settings == settings:
                known.fetched = self._clock()
                return known
            for secret in settings.secrets():
                mask_secret(secret)
            fresh = Connected(settings, _client(settings), self._clock())
        except HelmrConfigError as error:
            raise ConnectionProblemError("bad_connection", str(error)) from None
        with self._lock:
            # A few connections are normal; DAGs without end are not.
            while len(self._connected) >= 100:
                del self._connected[next(iter(self._connected))]
            self._connected[place] = fresh
        return fresh

    def check(self, connected: Connected) -> None:
        """Let a request pass; while the control plane is down, only one every ten seconds.

        :param connected: as returned by :meth:`get`.
        :raises ConnectionProblemError: the control plane is down.
        """
        with self._lock:
            breaker = self._breakers.get(connected.settings.url)
            if breaker is None or breaker.since is None:
                return
            if self._clock() < breaker.until:
                raise ConnectionProblemError("down", since=breaker.since)
            breaker.until = self._clock() + DOWN_SECONDS

    def answered(self, connected: Connected) -> None:
        """Note that the control plane answered.

        :param connected: as returned by :meth:`get`.
        """
        with self._lock:
            self._breakers.pop(connected.settings.url, None)

    def failed(self, connected: Connected) -> ConnectionProblemError:
        """Note that the control plane did not answer; return what to raise.

        :param connected: as returned by :meth:`get`.
        """
        with self._lock:
            breaker = self._breakers.setdefault(connected.settings.url, _Breaker())
            breaker.since = breaker.since or self._now()
            breaker.until = self._clock() + DOWN_SECONDS
            return ConnectionProblemError("down", since=breaker.since)

    def refused(self, connected: Connected) -> None:
        """Note that the key was refused: the next use fetches the connection again.

        :param connected: as returned by :meth:`get`.
        """
        connected.dropped = True


def _client(settings: HelmrSettings) -> HelmrClient:
    quick = dataclasses.replace(
        settings,
        timeout=min(settings.timeout, SILENCE_SECONDS),
        connect_timeout=min(settings.connect_timeout, CONNECT_SECONDS),
    )
    client = quick.client(max_streams=0)
    once = single_shot(client, silence=SILENCE_SECONDS)
    # Other threads may still use a client that was replaced. It is closed when the last of them drops it.
    transport_of(client).http.close_when_collected()
    return once

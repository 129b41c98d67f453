"""Which control planes the behaviour is looked at: always the local one, and the one that the environment names.

`HELMR_API_URL` and `HELMR_API_KEY` name another. What needs a worker runs there only if `HELMR_CONFORMANCE_TASKS` names
deployed tasks, as `role=task id` separated by commas. The roles are those of the local control plane's example tasks:

- `echo` returns its payload,
- `fail` fails,
- `work` takes `seconds`,
- `retry-once` fails its first attempt and succeeds with the second,
- `wait-for-input` takes one record of its input stream `messages`, and echoes it on its output stream `messages`.

Every test names its own things; sessions that it started are cancelled when it ends.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrClient, HelmrError
from helmr_provider.local import LocalControlPlane
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from helmr_provider.client import RunSnapshot, SessionSnapshot, SessionStart

PATIENCE = 60.0
ROLES = ("echo", "fail", "work", "retry-once", "wait-for-input")
NAMED = bool(os.environ.get("HELMR_API_URL") and os.environ.get("HELMR_API_KEY"))


class Plane:
    """A control plane as its client sees it.

    :param client: the client.
    :param tasks: the deployed task of each role.
    """

    def __init__(self, client: HelmrClient, tasks: Mapping[str, str]) -> None:
        self.client = client
        self._tasks = tasks
        self._sessions: list[SessionSnapshot] = []

    def task(self, role: str) -> str:
        """Return the id of the deployed task with this role, or skip the test."""
        if role not in self._tasks:
            pytest.skip(f"HELMR_CONFORMANCE_TASKS names no task that can {role}")
        return self._tasks[role]

    def needs_worker(self) -> None:
        """Skip the test where no worker prepares workspaces."""
        if not self._tasks:
            pytest.skip("HELMR_CONFORMANCE_TASKS names no tasks, so there may be no worker")

    def name(self) -> str:
        """Return a new name."""
        return f"conformance.{uuid.uuid4()}"

    def start(self, role: str, payload: Any = None, **options: Any) -> SessionStart:
        """Start a session of the role's task; it is cancelled when the test ends."""
        started = self.client.sessions.start(self.task(role), {} if payload is None else payload, **options)
        self._sessions.append(started.session)
        return started

    def finished(self, role: str, payload: Any = None, **options: Any) -> tuple[SessionStart, RunSnapshot]:
        """Start a session and wait for its run."""
        started = self.start(role, payload, **options)
        return started, self.client.runs.wait(started.run, timeout=PATIENCE)

    def reached(self, run: Any, status: str) -> RunSnapshot:
        """Wait until a run has a status that it does not leave by itself."""
        return until(lambda: self._with_status(run, status), every=0.05)

    def leave(self) -> None:
        """Cancel what this test started."""
        for session in self._sessions:
            with contextlib.suppress(HelmrError):
                self.client.sessions.open(session).cancel(reason="the test is over")

    def _with_status(self, run: Any, status: str) -> RunSnapshot | None:
        found = self.client.runs.retrieve(run)
        return found if found.status == status else None


def named_tasks() -> dict[str, str]:
    pairs = filter(None, os.environ.get("HELMR_CONFORMANCE_TASKS", "").split(","))
    return {role.strip(): task_id.strip() for role, _, task_id in (pair.partition("=") for pair in pairs)}


@pytest.fixture(scope="session", params=["local", *(["named by the environment"] if NAMED else [])])
def connected(request: pytest.FixtureRequest) -> Iterator[tuple[HelmrClient, Mapping[str, str]]]:
    if request.param == "local":
        with (
            LocalControlPlane() as server,
            HelmrClient(url=server.url, api_key=server.api_key) as client,
        ):
            yield client, {role: role for role in ROLES}
    else:
        with HelmrClient() as client:
            yield client, named_tasks()


@pytest.fixture
def plane(connected: tuple[HelmrClient, Mapping[str, str]]) -> Iterator[Plane]:
    found = Plane(*connected)
    yield found
    found.leave()


@pytest.fixture
def client(plane: Plane) -> HelmrClient:
    return plane.client

"""One environment of a local control plane as a test sees it: its own keys, faults, journal and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local.execution.tasks import task
from helmr_provider.local.testing.faults import status as status_fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from helmr_provider.local._control_plane import LocalControlPlane
    from helmr_provider.local.definitions.tasks import TaskDefinition
    from helmr_provider.local.execution.context import TaskContext
    from helmr_provider.local.testing.faults import Fault
    from helmr_provider.local.testing.journal import JournalEntry


class LocalEnvironment:
    """One environment. Made by :meth:`LocalControlPlane.environment`.

    Requests to other environments of the same control plane are not seen here, and no fault planted here meets them.

    :param server: the control plane.
    :param name: the environment's name; it is made at its first use.
    """

    def __init__(self, server: LocalControlPlane, name: str) -> None:
        self.control_plane = server
        self.name = name
        self.api_key = server.create_key(environment=name)
        self.id = server.environment_id(name)
        self._earlier: dict[str, TaskDefinition | None] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.url!r}, name={self.name!r})"

    @property
    def url(self) -> str:
        """The base URL of the control plane."""
        return self.control_plane.url

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that a client reads."""
        return {"HELMR_API_URL": self.url, "HELMR_API_KEY": self.api_key}

    @property
    def journal(self) -> list[JournalEntry]:
        """The requests of this environment since its first use or the last :meth:`clear_journal`, secrets removed.

        A request whose credentials open nothing belongs to no environment.
        """
        return self.control_plane.running.journal.entries(self.id)

    @property
    def pending_faults(self) -> list[dict[str, Any]]:
        """The faults planted here that have not fired."""
        return self.control_plane.running.faults.pending(self.id)

    def create_key(self, scopes: Iterable[str] | None = None) -> str:
        """Make an API key of this environment.

        :param scopes: what it may do; everything if absent.
        :raises ValueError: for an unknown scope.
        """
        return self.control_plane.create_key(scopes, environment=self.name)

    def clear_journal(self) -> None:
        """Forget this environment's requests seen so far."""
        self.control_plane.running.journal.clear(self.id)

    def fail_next(self, operation: str, fault: Fault | int, times: int = 1) -> None:
        """Plant a fault for the next requests of an operation that this environment's credentials make.

        :param operation: its operationId, or `*` for any.
        :param fault: what goes wrong, made by :mod:`helmr_provider.local.faults`; a number is an answer's status.
        :param times: how many requests meet it, one after the other.
        """
        planted = status_fault(fault) if isinstance(fault, int) else fault
        self.control_plane.running.faults.plant(operation, planted, times, environment=self.id)

    def clear_faults(self) -> None:
        """Forget this environment's faults that have not fired."""
        self.control_plane.running.faults.clear(self.id)

    def task(
        self, task_id: str, **options: Any
    ) -> Callable[[Callable[[TaskContext, Any], Awaitable[Any]]], TaskDefinition]:
        """Make a coroutine function a task and deploy it until :meth:`end`.

        :param task_id: its id. The deployment belongs to the control plane: every environment sees the task until then.
        :param options: those of :func:`helmr_provider.local.task`.
        :raises ValueError: if the id or an option is malformed.
        """

        def define(function: Callable[[TaskContext, Any], Awaitable[Any]]) -> TaskDefinition:
            definition = task(task_id, **options)(function)
            self.deploy(definition)
            return definition

        return define

    def deploy(self, *definitions: TaskDefinition) -> None:
        """Deploy tasks, in place of those with the same ids, until :meth:`end`."""
        for definition in definitions:
            earlier = self.control_plane.deploy(definition)
            self._earlier.setdefault(definition.id, earlier)

    def end(self) -> None:
        """Cancel the live runs of this environment, and remove its planted faults and deployed tasks.

        The clock, which all environments share, is real again after the last environment has ended.
        """
        self.control_plane.cancel_runs(self.id)
        self.clear_faults()
        for task_id, earlier in self._earlier.items():
            self.control_plane.restore(task_id, earlier)
        self._earlier.clear()
        self.control_plane.environment_ended(self)

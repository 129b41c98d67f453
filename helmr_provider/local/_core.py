"""The state that every part of one control plane shares."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Protocol

from helmr_provider.local.common.clock import Clock
from helmr_provider.local.common.event_slots import EventSlots
from helmr_provider.local.common.ids import derived_secret, stable_uuid
from helmr_provider.local.common.notifier import Notifier
from helmr_provider.local.common.settings import Settings
from helmr_provider.local.definitions.queues import limits
from helmr_provider.local.storage.database import Database
from helmr_provider.local.storage.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from helmr_provider.local.definitions.tasks import TaskDefinition
    from helmr_provider.local.storage.database import Row

API_VERSION = "2026-06-06"
DEFAULT_ENVIRONMENT = "production"


class RunExecutor(Protocol):
    """Executes runs."""

    def cancel(self, run_id: str) -> None:
        """Stop the execution of a run, if it is executing."""
        ...


class LiveWorkspaces(Protocol):
    """Holds the live workspaces."""

    def acquire(self, run: Row) -> bool:
        """Reserve the workspace of a run's session for the run; tell whether it was free."""
        ...

    def release(self, run_id: str) -> None:
        """Release the workspace that a run held."""
        ...

    async def directory(self, run: Row) -> Path:
        """Return the directory of the workspace that a run holds."""
        ...

    async def commit(self, run: Row, *, changed: bool) -> None:
        """Store the workspace of a run that has succeeded as the current version.

        :param changed: store the directory; else the content stays that of the version before.
        :raises TaskFailure: if the workspace was stopped under the run.
        """
        ...

    def require_held(self, run: Row) -> None:
        """Refuse a run whose workspace was stopped under it.

        :raises TaskFailure: if it was.
        """
        ...


class Core:
    """The state of one control plane: database, clock, deployment, and the hosts of runs and workspaces.

    :param tasks: the deployed tasks.
    :param db: the database file, or None for memory.
    :param settings: times and sizes.
    :param clock: the source of the present time.
    :param executor: creates the executor of runs, which takes this state.
    :param workspaces: creates the host of live workspaces, which takes this state.
    :param executes: run the commands of execs and terminals, unless the settings forbid it.
    """

    def __init__(
        self,
        tasks: Iterable[TaskDefinition],
        db: Path | None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        *,
        executor: Callable[[Core], RunExecutor],
        workspaces: Callable[[Core], LiveWorkspaces],
        executes: bool = False,
    ) -> None:
        self.settings = settings or Settings()
        self.clock = clock or Clock()
        self.notifier = Notifier()
        slots = self.settings.event_slots
        self.event_slots = None if slots is None else EventSlots(slots)
        self.deployment = Deployment(tasks)
        # After all that may be refused: nothing is open then.
        self.db = Database(db)
        self.files = Files(db)
        self.executes = self.settings.execute and executes
        self.public_url = ""
        self.installation_key = self._installation_key()
        self.executor = executor(self)
        self.workspaces = workspaces(self)

    def close(self) -> None:
        """Close the database and remove files that were only for this process."""
        self.db.close()
        self.files.close()

    def default_api_key(self) -> str:
        """Return the key that this database always has, the same after every restart."""
        return derived_secret(self.installation_key, "hlmr_sk_", "default")

    def project_id(self, environment_id: str) -> str | None:
        """Return the project of an environment."""
        row = self.db.one("SELECT project_id FROM environments WHERE id = ?", environment_id)
        return None if row is None else str(row["project_id"])

    def _installation_key(self) -> bytes:
        row = self.db.one("SELECT value FROM meta WHERE name = 'installation_key'")
        if row is not None:
            return bytes(row["value"])
        key = secrets.token_bytes(32)
        self.db.insert("meta", name="installation_key", value=key)
        return key


class Deployment:
    """The deployed tasks and the streams that they declare.

    :param tasks: definitions with distinct ids.
    """

    id = stable_uuid("deployment")
    version = "20260101.1"
    build_version = "0.9.0"

    def __init__(self, tasks: Iterable[TaskDefinition]) -> None:
        self.tasks: dict[str, TaskDefinition] = {}
        for definition in tasks:
            if definition.id in self.tasks:
                raise ValueError(f"two tasks have the id {definition.id!r}")
            self.tasks[definition.id] = definition
        self._collect(self.tasks)

    def replace(self, task_id: str, definition: TaskDefinition | None) -> TaskDefinition | None:
        """Deploy a task in place of the one with this id, or none in its place; return the former one.

        :raises ValueError: if it declares a queue with another limit than another task does.
        """
        earlier = self.tasks.get(task_id)
        others = {id_: other for id_, other in self.tasks.items() if id_ != task_id}
        self._collect(others if definition is None else others | {task_id: definition})
        return earlier

    def _collect(self, tasks: dict[str, TaskDefinition]) -> None:
        self.queues = limits(queue for definition in tasks.values() for queue in definition.queues)
        self.tasks = tasks
        self.streams = {
            "input": sorted({name for definition in self.tasks.values() for name in definition.inputs}),
            "output": sorted({name for definition in self.tasks.values() for name in definition.outputs}),
        }
        self.sandboxes = {definition.sandbox for definition in self.tasks.values()}

    def declares(self, direction: str, name: str) -> bool:
        """Tell whether a stream exists in this direction."""
        return name in self.streams[direction]

"""The local control plane as tests and examples use it: a context manager around a real socket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

from helmr_provider.local._core import DEFAULT_ENVIRONMENT
from helmr_provider.local._environment import LocalEnvironment
from helmr_provider.local._server import Server
from helmr_provider.local._server_thread import NOT_RUNNING, ServerThread
from helmr_provider.local.example_tasks import EXAMPLE_TASKS
from helmr_provider.local.execution.sweeper import sweep
from helmr_provider.local.execution.tasks import load_tasks
from helmr_provider.local.state import runs, schedules
from helmr_provider.local.state.api_keys import create_key, environment_id
from helmr_provider.local.testing import time_control
from helmr_provider.local.testing.faults import status as status_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from datetime import timedelta
    from types import TracebackType

    from helmr_provider.local.common.clock import Clock
    from helmr_provider.local.common.settings import Settings
    from helmr_provider.local.definitions.tasks import TaskDefinition
    from helmr_provider.local.testing.faults import Fault
    from helmr_provider.local.testing.journal import JournalEntry
    from helmr_provider.local.testing.time_control import Mode
    from helmr_provider.local.workspaces.worker import Pause

_Result = TypeVar("_Result")


class LocalControlPlane:
    """A control plane on this machine, in a thread of its own, as long as the `with` block lasts.

    ``with LocalControlPlane() as server: …`` gives `server.url`, `server.api_key` and `server.env`.

    :param tasks: the deployed tasks, or a Python file that defines them; the example tasks if absent.
    :param db: the database file; in memory if absent. State survives in a file, also a `kill -9`.
    :param port: the port, 0 for a free one.
    :param host: the address to bind, one of this machine's own.
    :param api_key: the key with all scopes, beginning with `hlmr_sk_`; one that the database keeps if absent.
    :param settings: times and sizes that a test shortens.
    :param clock: the source of the present time, for a test that moves it.
    """

    def __init__(
        self,
        tasks: Iterable[TaskDefinition] | str | Path | None = None,
        db: str | Path | None = None,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        api_key: str | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        if tasks is None:
            tasks = EXAMPLE_TASKS
        elif isinstance(tasks, str | Path):
            tasks = load_tasks(Path(tasks))
        self._make: Callable[[], Server] = lambda: Server(
            tasks,
            db=None if db is None else Path(db),
            host=host,
            port=port,
            api_key=api_key,
            settings=settings,
            clock=clock,
        )
        self._thread: ServerThread | None = None
        self._open_environments: WeakSet[LocalEnvironment] = WeakSet()

    def __enter__(self) -> Self:
        """Start it; return once it answers."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start it; return once it answers.

        :raises OSError: if the port is taken.
        :raises DatabaseError: if the database file cannot be used.
        :raises TimeoutError: if it does not answer within 10 seconds; it is stopped then.
        """
        if self._thread is not None:
            return
        thread = ServerThread(self._make)
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Stop it. Runs are left as the end of a process would leave them; pending calls of other threads fail.

        :raises TimeoutError: if that takes more than 10 seconds, because a task blocks the event loop for example. The
            stop is completed when the loop is free.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    @property
    def url(self) -> str:
        """The base URL."""
        return self.running.url

    @property
    def api_key(self) -> str:
        """An API key with all scopes, of the default environment."""
        return self.running.api_key

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that a client reads."""
        return {"HELMR_API_URL": self.url, "HELMR_API_KEY": self.api_key}

    @property
    def journal(self) -> list[JournalEntry]:
        """The requests below `/api` since the start or the last :meth:`clear_journal`, with secrets removed."""
        return self.running.journal.entries()

    @property
    def pending_faults(self) -> list[dict[str, Any]]:
        """The planted faults that have not fired."""
        return self.running.faults.pending()

    def create_key(self, scopes: Iterable[str] | None = None, *, environment: str = DEFAULT_ENVIRONMENT) -> str:
        """Make an API key.

        :param scopes: what it may do; everything if absent.
        :param environment: the name of its environment, made at its first use.
        :raises ValueError: for an unknown scope.
        """

        async def create() -> str:
            return create_key(self.running.core, scopes=scopes, environment=environment)

        return self._run(create())

    def environment(self, name: str) -> LocalEnvironment:
        """Return an environment with a key of its own; tests that have one each do not see each other.

        :param name: its name; the environment is made at its first use.
        """
        environment = LocalEnvironment(self, name)
        self._open_environments.add(environment)
        return environment

    def environment_ended(self, environment: LocalEnvironment) -> None:
        """Show real time again if no other environment is in use."""
        self._open_environments.discard(environment)
        if not self._open_environments:
            self.set_clock("real")

    def environment_id(self, name: str) -> str:
        """Return the id of an environment, made at its first use."""
        return self._call(lambda: environment_id(self.running.core, name))

    def deploy(self, definition: TaskDefinition) -> TaskDefinition | None:
        """Deploy a task, in place of the one with its id; return that one."""
        return self.restore(definition.id, definition)

    def restore(self, task_id: str, definition: TaskDefinition | None) -> TaskDefinition | None:
        """Deploy a task under an id, or none; return the former one."""

        def replace() -> TaskDefinition | None:
            earlier = self.running.core.deployment.replace(task_id, definition)
            schedules.declare_everywhere(self.running.core)
            return earlier

        return self._call(replace)

    def cancel_runs(self, environment: str) -> None:
        """Cancel every live run of an environment.

        :param environment: its id.
        """

        def cancel() -> None:
            core = self.running.core
            for run in runs.listed(core, environment, runs.LIVE, None, -1):
                runs.cancel(core, run, "the environment's time is over", force=True)

        self._call(cancel)

    def clear_journal(self) -> None:
        """Forget the requests seen so far."""
        self.running.journal.clear()

    def fail_next(self, operation: str, fault: Fault | int, times: int = 1) -> None:
        """Plant a fault for the next requests of an operation.

        :param operation: its operationId, or `*` for any.
        :param fault: what goes wrong, made by :mod:`helmr_provider.local.faults`; a number is an answer's status.
        :param times: how many requests meet it, one after the other.
        """
        planted = status_fault(fault) if isinstance(fault, int) else fault
        self.running.faults.plant(operation, planted, times)

    def clear_faults(self) -> None:
        """Forget the faults that have not fired."""
        self.running.faults.clear()

    def stop_listening(self) -> None:
        """Refuse connections and reset the open ones; runs continue."""
        self._run(self.running.listener.close(hold_port=True))

    def listen_again(self) -> None:
        """Listen at the same port again."""
        self._run(self.running.listener.open())

    def pause_worker(self) -> None:
        """Execute nothing more: new, retried and resumed runs stay `queued`."""
        self._call(self.running.worker.pause)

    def resume_worker(self) -> None:
        """Execute again."""
        self._call(self.running.worker.resume)

    def pause_workspaces(self, what: Pause | None = "workspaces") -> None:
        """Pause one kind of work in workspaces, so that a test can check the state before it.

        :param what: `workspaces` for nothing at all, `preparations` or `commands` for those only; None to continue.
        """
        self._call(lambda: self.running.workspaces.pause(what))

    def lose_workspace(self, workspace_id: str) -> None:
        """Let a live workspace's machine die: its execs and terminals are `lost`."""
        self._run(self.running.workspaces.lose(workspace_id))

    def set_clock(self, mode: Mode, rate: float | None = None) -> None:
        """Change how this control plane's time passes; timeouts of connections stay real.

        :param mode: `real`: the present time of this machine again; `scaled`: from now on `rate` times as fast;
            `manual`: not at all, until :meth:`advance`.
        :param rate: for `scaled`, more than 0.
        :raises ValueError: for another mode, or a rate that does not belong to it.
        """
        self._call(lambda: time_control.set_mode(self.running.core, mode, rate))

    def advance(self, by: str | float | timedelta) -> None:
        """Let time jump; everything that comes due on the way happens at its own moment.

        :param by: duration text (`"1h"`, `"90s"`, `"2d"`), seconds or a timedelta.
        :raises ValueError: unless it is positive.
        """
        # Without a limit: a day with a schedule of every minute has 1,440 moments.
        self._run(time_control.advance(self.running.core, by), limited=False)

    def sweep(self) -> None:
        """Process everything that is due without waiting for the next sweep."""
        self._call(lambda: sweep(self.running.core))

    @property
    def running(self) -> Server:
        """The control plane's parts; they belong to its own thread.

        :raises RuntimeError: while it is not running.
        """
        server = None if self._thread is None else self._thread.server
        if server is None:
            raise RuntimeError(NOT_RUNNING)
        return server

    def _call(self, function: Callable[[], _Result]) -> _Result:
        async def call() -> _Result:
            return function()

        return self._run(call())

    def _run(self, work: Coroutine[Any, Any, _Result], *, limited: bool = True) -> _Result:
        if self._thread is None:
            work.close()
            raise RuntimeError(NOT_RUNNING)
        return self._thread.run(work, limited=limited)

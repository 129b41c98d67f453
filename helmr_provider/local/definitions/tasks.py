"""Tasks of the local control plane: Python coroutines with an id."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from helmr_provider.local.definitions.cron import parse
from helmr_provider.local.definitions.queues import DEFAULT, declared
from helmr_provider.local.definitions.retry_policy import read_policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from helmr_provider.local.definitions.queues import Queue
    from helmr_provider.local.execution.context import TaskContext

TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
DEFAULT_MAX_DURATION = 900.0
DEFAULT_SANDBOX = "local"


class TaskFailure(Exception):  # noqa: N818 - what the task raises to say that it failed
    """Fail the present attempt with a chosen kind, exit code and detail.

    Any other exception that a task lets out is a `task_failed` with exit code 1, as of a process that died of it.

    :param message: what goes into the failure's detail.
    :param failure_kind: the `failure_kind` of the `run.failed` event (behaviour.md section 7.1).
    :param exit_code: the run's exit code; None when no process ended, as for `worker_failed`.
    :param detail: the whole detail, in place of one made from the message.
    """

    def __init__(
        self,
        message: str = "",
        *,
        failure_kind: str = "worker_failed",
        exit_code: int | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure_kind = failure_kind
        self.exit_code = exit_code
        self.detail = dict(detail) if detail is not None else {"message": message}


class DeclaredSchedule(NamedTuple):
    """A schedule that comes and goes with its task.

    :param id: its id; `{task id}.{id}` is the external id of what it starts.
    :param cron: five fields (behaviour.md section 15).
    :param timezone: IANA name.
    """

    id: str
    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True)
class TaskDefinition:
    """A deployed task.

    :param id: the task id.
    :param function: the coroutine function; it is given the context and the payload, its result is the run's output.
    :param retry: the retry policy of runs that bring none, camelCase as on the wire; None means no retry.
    :param max_duration: seconds that an attempt may run, waits not counted, for runs that bring no limit.
    :param inputs: the input streams that this task declares.
    :param outputs: the output streams that this task declares.
    :param queues: its own queue, and further ones that a start may name.
    :param sandbox: the sandbox that it runs in; workspaces of another one are refused.
    :param schedules: its declared schedules.
    """

    id: str
    function: Callable[[TaskContext, Any], Awaitable[Any]] = field(repr=False)
    retry: Mapping[str, Any] | None = None
    max_duration: float = DEFAULT_MAX_DURATION
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    queues: tuple[Queue, ...] = (DEFAULT,)
    sandbox: str = DEFAULT_SANDBOX
    schedules: tuple[DeclaredSchedule, ...] = ()


def task(
    task_id: str,
    *,
    retry: Mapping[str, Any] | None = None,
    max_duration: float = DEFAULT_MAX_DURATION,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    queue: str | Queue = DEFAULT,
    queues: Iterable[str | Queue] = (),
    sandbox: str = DEFAULT_SANDBOX,
    schedules: Iterable[DeclaredSchedule] = (),
) -> Callable[[Callable[[TaskContext, Any], Awaitable[Any]]], TaskDefinition]:
    """Make a coroutine function a task.

    :param task_id: its id, `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`.
    :param retry: the retry policy of runs that bring none, for example `{"maxAttempts": 3}`.
    :param max_duration: seconds that an attempt may run, waits not counted.
    :param inputs: names of input streams.
    :param outputs: names of output streams.
    :param queue: the queue of runs whose start names none; `Queue("reviews", concurrency_limit=2)` bounds how many of
        them execute at once.
    :param queues: further queues that a start may ask for.
    :param sandbox: the sandbox that it runs in: a name that its workspaces carry.
    :param schedules: schedules that exist as long as the task is deployed.
    :raises ValueError: if the id, the policy, a queue or a schedule is malformed.
    """
    if TASK_ID.fullmatch(task_id) is None:
        raise ValueError(f"task id {task_id!r} must match ^{TASK_ID.pattern}$")
    if retry is not None:
        read_policy(dict(retry))
    lines = tuple(declared(line) for line in (queue, *queues))
    timed = tuple(schedules)
    for schedule in timed:
        parse(schedule.cron)
        ZoneInfo(schedule.timezone)

    def define(function: Callable[[TaskContext, Any], Awaitable[Any]]) -> TaskDefinition:
        return TaskDefinition(
            task_id,
            function,
            retry,
            max_duration,
            tuple(inputs),
            tuple(outputs),
            lines,
            sandbox,
            timed,
        )

    return define


def load_tasks(path: Path) -> list[TaskDefinition]:
    """Import a Python file and return the tasks that it defines.

    :raises ValueError: if it defines none.
    """
    spec = importlib.util.spec_from_file_location(f"helmr_local_tasks_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    definitions = {id(value): value for value in vars(module).values() if isinstance(value, TaskDefinition)}
    if not definitions:
        raise ValueError(f"{path} defines no task")
    return list(definitions.values())

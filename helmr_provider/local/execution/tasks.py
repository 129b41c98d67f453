"""Make coroutine functions tasks, and load the tasks that a file defines."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from helmr_provider.local.definitions.cron import parse
from helmr_provider.local.definitions.queues import DEFAULT, declared
from helmr_provider.local.definitions.retry_policy import read_policy
from helmr_provider.local.definitions.tasks import DEFAULT_MAX_DURATION, DEFAULT_SANDBOX, TASK_ID, TaskDefinition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from helmr_provider.local.definitions.queues import Queue
    from helmr_provider.local.definitions.tasks import DeclaredSchedule
    from helmr_provider.local.execution.context import TaskContext


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
        them execute at the same time.
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

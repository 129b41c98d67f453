"""Tasks of the local control plane: Python coroutines with an id."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from helmr_provider.local.definitions.queues import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from helmr_provider.local.definitions.queues import Queue

TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
DEFAULT_MAX_DURATION = 900.0
DEFAULT_SANDBOX = "local"


class TaskFailure(Exception):  # noqa: N818 - what the task raises to say that it failed
    """Fail the present attempt with a chosen kind, exit code and detail.

    Any other exception that a task lets out is a `task_failed` with exit code 1, as of a process that died of it.

    :param message: what goes into the failure's detail.
    :param failure_kind: the `failure_kind` of the `run.failed` event (contract/behaviour.md section 7.1).
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
    :param cron: five fields (contract/behaviour.md section 15).
    :param timezone: IANA name.
    """

    id: str
    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True)
class TaskDefinition:
    """A deployed task.

    :param id: the task id.
    :param function: the coroutine function. It takes the context and the payload; its result is the run's output.
    :param retry: the retry policy of runs that bring none, camelCase as on the wire; None means no retry.
    :param max_duration: seconds that an attempt may run, waits not counted, for runs that bring no limit.
    :param inputs: the input streams that this task declares.
    :param outputs: the output streams that this task declares.
    :param queues: its own queue, and further ones that a start may name.
    :param sandbox: the sandbox that it runs in; workspaces of another one are refused.
    :param schedules: its declared schedules.
    """

    id: str
    function: Callable[[Any, Any], Awaitable[Any]] = field(repr=False)
    retry: Mapping[str, Any] | None = None
    max_duration: float = DEFAULT_MAX_DURATION
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    queues: tuple[Queue, ...] = (DEFAULT,)
    sandbox: str = DEFAULT_SANDBOX
    schedules: tuple[DeclaredSchedule, ...] = ()

"""What requests of schedules carry, strictly (contract/behaviour.md section 15). No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helmr_provider.client.durations import duration_text, whole_seconds
from helmr_provider.client.tasks import Task, check_task_id

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ScheduleRunOptions:
    """How the runs of a schedule are started; as for ``sessions.start``.

    :param queue: name of a declared queue.
    :param concurrency_key: runs with the same key take turns, as the queue says.
    :param priority: higher runs first.
    :param ttl: how long a run may stay queued; text, timedelta or seconds.
    :param max_duration: how long a run may take, 5 s to a day; text, timedelta or seconds, a whole number of them.
    """

    queue: str | None = None
    concurrency_key: str | None = None
    priority: int | None = None
    ttl: timedelta | float | str | None = None
    max_duration: timedelta | float | str | None = None

    def body(self) -> dict[str, Any]:
        """Return the wire form.

        :raises ValueError: an option does not fit.
        """
        limit = None if self.max_duration is None else whole_seconds("max_duration", self.max_duration)
        if limit is not None and not 5 <= limit <= 86400:
            raise ValueError("max_duration must be between 5 seconds and a day.")
        options = {
            "queue": None if self.queue is None else {"name": self.queue},
            "concurrency_key": self.concurrency_key,
            "priority": self.priority,
            "ttl": None if self.ttl is None else duration_text("ttl", self.ttl),
            "max_duration_seconds": limit,
        }
        return {name: value for name, value in options.items() if value is not None}


def schedule_body(
    task: str | Task[Any, Any],
    cron: str,
    *,
    deduplication_key: str | None = None,
    external_id: str | None,
    timezone: str | None,
    active: bool | None,
    options: ScheduleRunOptions | None,
) -> dict[str, Any]:
    """Build the body of createSchedule and updateSchedule.

    :raises ValueError: an option does not fit.
    """
    members = {
        "deduplication_key": deduplication_key,
        "task": check_task_id(task.id if isinstance(task, Task) else task),
        "cron": cron,
        "external_id": external_id,
        "timezone": timezone,
        "active": active,
        "options": None if options is None else options.body(),
    }
    return {name: value for name, value in members.items() if value is not None}

# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""Schedules (contract/behaviour.md section 15). They have no scoped form: API keys only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from helmr_provider.client._internals import transport_of
from helmr_provider.client._wire.responses import read, read_list, same_id
from helmr_provider.client._wire.schedule_serialization import schedule_body
from helmr_provider.client.models.schedules import Schedule

if TYPE_CHECKING:
    import builtins

    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client._wire.schedule_serialization import ScheduleRunOptions
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.tasks import Task


class ScheduleHandle(Schedule):
    """A schedule, and what can be done with it."""

    _schedules: Schedules = PrivateAttr()

    def _bound_to(self, schedules: Schedules) -> ScheduleHandle:
        """Set the namespace that the methods below use."""
        self._schedules = schedules
        return self

    def refresh(self, *, timeout: Duration | None = None) -> ScheduleHandle:
        """Return the schedule as it is now (getSchedule).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        found = self._schedules.retrieve(self, timeout=timeout)
        return read(ScheduleHandle, found.raw, "getSchedule")._bound_to(self._schedules)  # noqa: SLF001

    def update(
        self,
        *,
        task: str | Task[Any, Any],
        cron: str,
        external_id: str | None = None,
        timezone: str | None = None,
        active: bool | None = None,
        options: ScheduleRunOptions | None = None,
        timeout: Duration | None = None,
    ) -> Schedule:
        """Replace the schedule; see :meth:`Schedules.update`."""
        return self._schedules.update(
            self,
            task=task,
            cron=cron,
            external_id=external_id,
            timezone=timezone,
            active=active,
            options=options,
            timeout=timeout,
        )

    def activate(self, *, timeout: Duration | None = None) -> Schedule:
        """Let it fire; see :meth:`Schedules.activate`."""
        return self._schedules.activate(self, timeout=timeout)

    def deactivate(self, *, timeout: Duration | None = None) -> Schedule:
        """Keep it from firing; see :meth:`Schedules.deactivate`."""
        return self._schedules.deactivate(self, timeout=timeout)

    def delete(self, *, timeout: Duration | None = None) -> None:
        """Delete it; see :meth:`Schedules.delete`."""
        self._schedules.delete(self, timeout=timeout)


class Schedules:
    """The schedules of the client's environment.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._transport = transport_of(client)

    def create(
        self,
        *,
        deduplication_key: str,
        task: str | Task[Any, Any],
        cron: str,
        external_id: str | None = None,
        timezone: str | None = None,
        active: bool | None = None,
        options: ScheduleRunOptions | None = None,
        timeout: Duration | None = None,
    ) -> ScheduleHandle:
        """Create a schedule, or replace the one with this key, which keeps its id (createSchedule).

        :param deduplication_key: names the schedule in its project; cannot be changed later.
        :param task: task id, or a typed task. It must be deployed; each fire starts a session of it.
        :param cron: five fields: minute, hour, day of month, month, day of week.
        :param external_id: free text that is passed on to the runs.
        :param timezone: IANA name; UTC when left out.
        :param active: whether it fires; true when left out.
        :param options: how its runs are started.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: an option does not fit; nothing was sent.
        :raises HelmrApiError: 400 for a cron or time zone that is not one; 500 for a cron that never fires.
        """
        body = schedule_body(
            task,
            cron,
            deduplication_key=deduplication_key,
            external_id=external_id,
            timezone=timezone,
            active=active,
            options=options,
        )
        value = self._transport.call("createSchedule", body=body, timeout=timeout)
        handle = read(ScheduleHandle, value, "createSchedule")
        return handle._bound_to(self)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def update(
        self,
        schedule: str | Schedule,
        *,
        task: str | Task[Any, Any],
        cron: str,
        external_id: str | None = None,
        timezone: str | None = None,
        active: bool | None = None,
        options: ScheduleRunOptions | None = None,
        timeout: Duration | None = None,
    ) -> Schedule:
        """Replace a schedule (updateSchedule). Omitted options are reset, except ``active``, which stays as it is.

        :param schedule: schedule id, or a schedule.
        :param task: task id, or a typed task.
        :param cron: five fields: minute, hour, day of month, month, day of week.
        :param external_id: free text that is passed on to the runs; none when left out.
        :param timezone: IANA name; UTC when left out.
        :param active: whether it fires.
        :param options: how its runs are started; none when left out.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises ValueError: an option does not fit; nothing was sent.
        :raises HelmrNotFoundError: no such schedule in this environment.
        :raises HelmrApiError: 400 for one that is declared in the source of a task.
        """
        body = schedule_body(task, cron, external_id=external_id, timezone=timezone, active=active, options=options)
        return self._schedule("updateSchedule", schedule, body, timeout=timeout)

    def list(self, *, timeout: Duration | None = None) -> builtins.list[Schedule]:
        """List schedules, newest first and 200 at most, declared ones included (listSchedules).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        return read_list(Schedule, self._transport.call("listSchedules", timeout=timeout), "schedules", "listSchedules")

    def retrieve(self, schedule: str | Schedule, *, timeout: Duration | None = None) -> Schedule:
        """Retrieve a schedule (getSchedule).

        :param schedule: schedule id, or a schedule.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such schedule in this environment.
        """
        return self._schedule("getSchedule", schedule, timeout=timeout)

    def activate(self, schedule: str | Schedule, *, timeout: Duration | None = None) -> Schedule:
        """Let a schedule fire (activateSchedule); repeating it does no harm.

        :param schedule: schedule id, or a schedule.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrApiError: 400 for one that is declared in the source of a task.
        """
        return self._schedule("activateSchedule", schedule, timeout=timeout)

    def deactivate(self, schedule: str | Schedule, *, timeout: Duration | None = None) -> Schedule:
        """Keep a schedule from firing (deactivateSchedule); repeating it does no harm.

        :param schedule: schedule id, or a schedule.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrApiError: 400 for one that is declared in the source of a task.
        """
        return self._schedule("deactivateSchedule", schedule, timeout=timeout)

    def delete(self, schedule: str | Schedule, *, timeout: Duration | None = None) -> None:
        """Delete a schedule (deleteSchedule). Sessions that it started continue.

        :param schedule: schedule id, or a schedule.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such schedule in this environment.
        :raises HelmrApiError: 400 for one that is declared in the source of a task.
        """
        self._transport.call("deleteSchedule", path={"schedule_id": _id_of(schedule)}, timeout=timeout)

    def _schedule(
        self,
        operation: str,
        schedule: str | Schedule,
        body: dict[str, Any] | None = None,
        *,
        timeout: Duration | None,
    ) -> Schedule:
        schedule_id = _id_of(schedule)
        found = read(
            Schedule,
            self._transport.call(operation, path={"schedule_id": schedule_id}, body=body, timeout=timeout),
            operation,
        )
        same_id(found.id, schedule_id, operation)
        return found


def _id_of(schedule: str | Schedule) -> str:
    return schedule if isinstance(schedule, str) else schedule.id

"""Create, switch and delete single schedules of Helmr tasks."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import require_id
from helmr_provider.client.errors import HelmrNotFoundError
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client import Task
    from helmr_provider.client.models.schedules import Schedule
    from helmr_provider.schedules._check import DeclaredSchedule


class HelmrCreateScheduleOperator(HelmrOperator):
    """Create a schedule, or replace the one with the same deduplication key, and return its id.

    It can be repeated. A replacement resets every omitted option, including ``active``: the schedule then
    fires. A cron expression, time zone or option that Helmr would refuse fails the task permanently before anything is
    sent.

    Needs the scope ``runs:create`` (operation createSchedule).

    .. seealso:: Guide: :doc:`/how-to/schedules`

    :param deduplication_key: names the schedule in its project, forever; 1 to 128 letters, digits, ``.``, ``_`` or
        ``-``. (templated)
    :param task: id of a deployed task, or a typed task; each fire starts a session of it. (templated)
    :param cron: five fields: minute, hour, day of month, month, day of week. Sunday is 0, and 7 is refused. With both
        day fields restricted, either one fires. (templated)
    :param timezone: IANA name. Default: UTC. (templated)
    :param external_id: text that is passed to the runs. (templated)
    :param active: whether it fires. Default: true.
    :param helmr_queue: queue of the runs, declared by the deployment; ``queue`` is Airflow's. (templated)
    :param concurrency_key: runs with the same key share the queue's concurrency limit. (templated)
    :param priority: whole number; higher ones run first. (templated)
    :param ttl: how long a run may stay queued; timedelta, seconds, or text such as ``"5m"``. (templated)
    :param max_duration: how long a run may take, 5 seconds to a day; timedelta, seconds, or text such as ``"1h"``, a
        whole number of seconds. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: It is no schedule, its task is not deployed, or its queue is not declared.
    """

    deduplication_key = TemplateField[str](text)
    task = TemplateField["str | Task[Any, Any]"](text)
    cron = TemplateField[str](text)
    timezone = TemplateField[str | None](text)
    external_id = TemplateField[str | None](text)
    helmr_queue = TemplateField[str | None](text)
    concurrency_key = TemplateField[str | None](text)

    template_fields = (
        "deduplication_key",
        "task",
        "cron",
        "timezone",
        "external_id",
        "helmr_queue",
        "concurrency_key",
        "priority",
        "ttl",
        "max_duration",
        "helmr_conn_id",
    )
    ui_color = "#e4e9f7"

    def __init__(
        self,
        *,
        deduplication_key: str,
        task: str | Task[Any, Any],
        cron: str,
        timezone: str | None = None,
        external_id: str | None = None,
        active: bool | None = None,
        helmr_queue: str | None = None,
        concurrency_key: str | None = None,
        priority: int | str | None = None,
        ttl: timedelta | float | str | None = None,
        max_duration: timedelta | float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deduplication_key = deduplication_key
        self.task = task
        self.cron = cron
        self.timezone = timezone
        self.external_id = external_id
        self.active = active
        self.helmr_queue = helmr_queue
        self.concurrency_key = concurrency_key
        self.priority = priority
        self.ttl = ttl
        self.max_duration = max_duration

    def execute(self, context: Context) -> str:
        """Create or replace the schedule.

        :param context: of the task instance.
        :return: Id of the schedule.
        """
        declared = self._declared()
        with closing(self.hook), self._translate_errors(f"create the schedule {declared.key}"):
            schedule = self.hook.client.schedules.create(
                deduplication_key=declared.key,
                task=declared.task,
                cron=declared.cron.text,
                timezone=declared.timezone,
                external_id=declared.external_id,
                active=declared.active,
                options=declared.run_options,
            )
        self.log.info("Schedule %s (%s) is %s.", declared.key, schedule.id, schedule.status)
        if schedule.active:
            for fire in islice(declared.fires(schedule.updated_at), 3):
                self.log.info("It fires on %s.", fire.format("ddd YYYY-MM-DD HH:mm zz"))
        return schedule.id

    def _declared(self) -> DeclaredSchedule:
        from helmr_provider.client._wire.schedule_serialization import ScheduleRunOptions
        from helmr_provider.schedules._check import DeclarationError, HelmrSchedule, check_one

        options: dict[str, Any] = {
            "queue": self.helmr_queue,
            "concurrency_key": self.concurrency_key,
            "priority": _number(self.priority),
            "ttl": self.ttl,
            "max_duration": self.max_duration,
        }
        schedule = HelmrSchedule(
            deduplication_key=self.deduplication_key,
            task=self.task,
            cron=self.cron,
            timezone=self.timezone,
            external_id=self.external_id,
            active=self.active,
            options=ScheduleRunOptions(**options),
        )
        try:
            return check_one(schedule, source="the schedule")
        except DeclarationError as error:
            raise AirflowFailException(str(error)) from None


class _ScheduleOperator(HelmrOperator):
    """Do something with a schedule that is there.

    :param schedule_id: Id of the schedule. (templated)
    :param deduplication_key: Its key, instead. (templated)
    """

    schedule_id = TemplateField[str | None](text)
    deduplication_key = TemplateField[str | None](text)

    template_fields = ("schedule_id", "deduplication_key", "helmr_conn_id")
    ui_color = "#e4e9f7"

    def __init__(self, *, schedule_id: str | None = None, deduplication_key: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if (schedule_id is None) == (deduplication_key is None):
            raise ValueError("Give either schedule_id or deduplication_key.")
        self.schedule_id = schedule_id
        self.deduplication_key = deduplication_key

    @property
    def _named(self) -> str:
        return f"the schedule {self.deduplication_key or self.schedule_id}"

    def _find(self) -> str | None:
        """Return the id, ``None`` if no schedule has the key."""
        from helmr_provider.schedules._plan import LIST_CAP

        if self.deduplication_key is None:
            return require_id("schedule_id", self.schedule_id)
        key = require_id("deduplication_key", self.deduplication_key)
        present = self.hook.client.schedules.list()
        for schedule in present:
            if schedule.type == "imperative" and schedule.deduplication_key == key:
                return schedule.id
        if len(present) >= LIST_CAP:
            raise AirflowFailException(
                f"The schedule {key} is not among the newest {LIST_CAP}, which is all that the control plane lists. "
                "Give its schedule_id."
            )
        return None


class _SwitchScheduleOperator(_ScheduleOperator):
    def _switch(self, schedule_id: str) -> Schedule:
        raise NotImplementedError

    def execute(self, context: Context) -> str:
        """Switch the schedule.

        :param context: of the task instance.
        :return: Id of the schedule.
        """
        with closing(self.hook), self._translate_errors(f"switch {self._named}"):
            schedule_id = self._find()
            if schedule_id is None:
                raise AirflowFailException(f"There is no schedule with the key {self.deduplication_key}.")
            schedule = self._switch(schedule_id)
        self.log.info("Schedule %s (%s) is %s.", schedule.deduplication_key, schedule.id, schedule.status)
        return schedule.id


class HelmrActivateScheduleOperator(_SwitchScheduleOperator):
    """Let a schedule fire, and return its id. It also clears the error of a last fire that failed.

    It can be repeated. Fires that were missed while the schedule was inactive are not made up for.

    Needs the scopes ``runs:create`` (operation activateSchedule) and, with a key, ``runs:read`` (listSchedules).

    .. seealso:: Guide: :doc:`/how-to/schedules`

    :param schedule_id: id of the schedule. (templated)
    :param deduplication_key: its deduplication key instead. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: There is no such schedule, or it is declared in the source of a task.
    """

    def _switch(self, schedule_id: str) -> Schedule:
        return self.hook.client.schedules.activate(schedule_id)


class HelmrDeactivateScheduleOperator(_SwitchScheduleOperator):
    """Stop a schedule from firing, and return its id. Sessions that it started continue.

    It can be repeated.

    Needs the scopes ``runs:create`` (operation deactivateSchedule) and, with a key, ``runs:read`` (listSchedules).

    .. seealso:: Guide: :doc:`/how-to/schedules`

    :param schedule_id: id of the schedule. (templated)
    :param deduplication_key: its deduplication key instead. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: There is no such schedule, or it is declared in the source of a task.
    """

    def _switch(self, schedule_id: str) -> Schedule:
        return self.hook.client.schedules.deactivate(schedule_id)


class HelmrDeleteScheduleOperator(_ScheduleOperator):
    """Delete a schedule. Sessions that it started continue.

    A schedule that is not there counts as deleted, so that a retry succeeds.

    Needs the scopes ``runs:create`` (operation deleteSchedule) and, with a key, ``runs:read`` (listSchedules).

    .. seealso:: Guide: :doc:`/how-to/schedules`

    :param schedule_id: id of the schedule. (templated)
    :param deduplication_key: its deduplication key instead. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: It is declared in the source of a task.
    """

    def execute(self, context: Context) -> str | None:
        """Delete the schedule.

        :param context: of the task instance.
        :return: Id of the deleted schedule; ``None`` when there was none.
        """
        with closing(self.hook), self._translate_errors(f"delete {self._named}"):
            schedule_id = self._find()
            if schedule_id is not None:
                try:
                    self.hook.client.schedules.delete(schedule_id)
                except HelmrNotFoundError:
                    schedule_id = None
        self.log.info("Deleted %s." if schedule_id else "%s was not there.", self._named)
        return schedule_id


def _number(value: Any) -> Any:
    """Return the number that a template was rendered to."""
    return int(value) if isinstance(value, str) and value.strip().lstrip("-").isdecimal() else value

"""Declared schedules: the format, and a check that reports all problems together. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from helmr_provider.client._wire.schedule_serialization import ScheduleRunOptions
from helmr_provider.client.tasks import Task, check_task_id
from helmr_provider.schedules._cron import Cron, CronError, zone_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pendulum import DateTime, Timezone

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_INT32: Final = range(-(2**31), 2**31)
_MOST_CHARACTERS: Final = 512


SEPARATORS: Final = (".", "-", "_")
"""What can end an owned prefix. One that ends otherwise is followed by a dot."""


def owns(prefix: str, key: str) -> bool:
    """Return whether a deduplication key belongs to an owned prefix.

    A prefix ends at a separator, so that ``acme`` owns ``acme`` and ``acme.nightly``, but neither ``acme2.nightly`` nor
    ``acme-x.daily``; ``acme-`` owns the latter.

    :param prefix: the prefix.
    :param key: the deduplication key.
    """
    return key == prefix or key.startswith(prefix if prefix.endswith(SEPARATORS) else f"{prefix}.")


class DeclarationError(ValueError):
    """Schedules that cannot be; the text names everything that is wrong with them.

    :param problems: one line for each.
    """

    def __init__(self, problems: list[str]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{count} in the declared schedules, nothing was changed:", *problems]))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class HelmrSchedule:
    """A schedule as it is declared; in a file, or as a dictionary, it has the same members.

    :param deduplication_key: Names the schedule in its project, for ever: 1 to 128 letters, digits, ``.``, ``_`` or
        ``-``.
    :param task: Id of a deployed task, or a typed task.
    :param cron: Five fields: minute, hour, day of month, month, day of week; Sunday is 0.
    :param timezone: IANA name.
    :param external_id: Text that is passed on to the runs.
    :param active: Whether it fires. ``None`` leaves it as it is; a new schedule is active.
    :param options: How its runs are started: ``queue``, ``concurrency_key``, ``priority``, ``ttl`` and ``max_duration``
        (seconds), as of :class:`~helmr_provider.client.ScheduleRunOptions`. ``None`` leaves them alone, until another
        change replaces the schedule as a whole; an empty one means none.
    """

    deduplication_key: str
    task: str | Task[Any, Any]
    cron: str
    timezone: str | None = None
    external_id: str | None = None
    active: bool | None = None
    options: ScheduleRunOptions | Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DeclaredSchedule:
    """A declaration that was found good, in the form that the control plane shows.

    :param options: as they are sent; ``None`` when none are declared.
    """

    key: str
    task: str
    cron: Cron
    timezone: str
    external_id: str | None
    active: bool | None
    run_options: ScheduleRunOptions | None
    options: dict[str, Any] | None

    @property
    def zone(self) -> Timezone:
        """The time zone that the schedule's clock hangs in."""
        return zone_of(self.timezone)

    def fires(self, after: datetime) -> Iterator[DateTime]:
        """Yield the times that it fires at while it is active.

        :param after: an aware datetime.
        """
        return self.cron.fires(after, self.zone)


def check(items: Any, *, source: str, prefix: str | None = None) -> list[DeclaredSchedule]:
    """Check declarations, all of them and completely.

    :param items: mappings or :class:`HelmrSchedule` objects.
    :param source: where they stand, for people.
    :param prefix: prefix that must own every key; see :func:`owns`.
    :raises DeclarationError: some are wrong.
    """
    if not isinstance(items, (list, tuple)):
        raise DeclarationError([f"{source}: a list of schedules is needed, not {_kind(items)}"])
    problems: list[str] = []
    found: list[DeclaredSchedule] = []
    first: dict[str, str] = {}
    for index, item in enumerate(items):
        where = f"{source}[{index}]"
        reader = _Reader(item, where)
        declared = reader.read()
        if reader.key and prefix and not owns(prefix, reader.key):
            start = prefix if prefix.endswith(SEPARATORS) else f"{prefix}."
            reader.complain(
                f"deduplication_key does not belong to owned_prefix {prefix!r}: it must start with {start!r}"
                + ("" if start == prefix else "; for another separator, end the prefix with it")
            )
        if reader.key and reader.key in first:
            reader.complain(f"deduplication_key is declared at {first[reader.key]} already")
        first.setdefault(reader.key, where)
        problems += reader.problems
        if declared is not None:
            found.append(declared)
    if problems:
        raise DeclarationError(problems)
    return found


def check_one(item: HelmrSchedule, *, source: str) -> DeclaredSchedule:
    """Check one declaration.

    :param item: the declaration.
    :param source: where it stands, for people.
    :raises DeclarationError: it is wrong.
    """
    reader = _Reader(item, source)
    declared = reader.read()
    if declared is None:
        raise DeclarationError(reader.problems)
    return declared


class _Reader:
    """Reads one declaration, and continues after a problem to find the others."""

    def __init__(self, item: Any, where: str) -> None:
        self.problems: list[str] = []
        self.key = ""  # once it is known to be one
        self._where = where
        self._members: dict[str, Any] = {}
        if isinstance(item, HelmrSchedule):
            self._members = {field.name: getattr(item, field.name) for field in fields(item)}
        elif isinstance(item, Mapping):
            self._members = {str(name): value for name, value in item.items()}
        else:
            self.complain(f"a mapping or a HelmrSchedule is needed, not {_kind(item)}")

    def complain(self, what: str) -> None:
        self.problems.append(f"{self._where}{f' ({self.key})' if self.key else ''}: {what}")

    def read(self) -> DeclaredSchedule | None:
        if self.problems:
            return None
        key = self._key()
        self._refuse_unknown(self._members, HelmrSchedule, "")
        task, cron, timezone = self._task(), self._cron(), self._timezone()
        active = self._members.get("active")
        if active is not None and not isinstance(active, bool):
            self.complain(f"active must be true or false, not {active!r}")
        external_id = self._text("external_id")
        run_options = self._options()
        body = self._body(run_options)
        if self.problems or key is None or task is None or cron is None:
            return None
        return DeclaredSchedule(key, task, cron, timezone, external_id, active, run_options, body)

    def _key(self) -> str | None:
        key = self._text("deduplication_key", needed=True)
        if key is not None and not _KEY.fullmatch(key):
            self.complain(
                f"deduplication_key {key!r} must be 1 to 128 letters, digits, '.', '_' or '-', and start with a letter "
                "or digit"
            )
            return None
        self.key = key or ""
        return key

    def _task(self) -> str | None:
        task = self._members.get("task")
        task_id = task.id if isinstance(task, Task) else self._text("task", needed=True)
        if task_id is not None:
            try:
                return check_task_id(task_id)
            except ValueError:
                self.complain(f"task {task_id!r} is not a task id")
        return None

    def _cron(self) -> Cron | None:
        text = self._text("cron", needed=True)
        if text is None:
            return None
        try:
            cron = Cron.parse(text)
        except CronError as error:
            self.complain(f"cron: {error}")
            return None
        if next(cron.fires(datetime.now(UTC), zone_of("UTC")), None) is None:
            self.complain(f"cron: {cron.text!r} never fires")
        return cron

    def _timezone(self) -> str:
        name = self._text("timezone") or "UTC"
        try:
            zone_of(name)
        except CronError as error:
            self.complain(f"timezone: {error}")
        return "UTC" if name.upper() == "UTC" else name

    def _options(self) -> ScheduleRunOptions | None:
        options = self._members.get("options")
        if options is None or isinstance(options, ScheduleRunOptions):
            return options
        if not isinstance(options, Mapping):
            self.complain(f"options must be a mapping, not {_kind(options)}")
            return None
        self._refuse_unknown(options, ScheduleRunOptions, "options.")
        known = {field.name for field in fields(ScheduleRunOptions)}
        return ScheduleRunOptions(**{str(name): value for name, value in options.items() if name in known})

    def _body(self, options: ScheduleRunOptions | None) -> dict[str, Any] | None:
        if options is None:
            return None
        for name in ("queue", "concurrency_key"):
            value = getattr(options, name)
            if value is not None and not (isinstance(value, str) and 0 < len(value.strip()) <= _MOST_CHARACTERS):
                self.complain(f"options.{name} must be text of 1 to {_MOST_CHARACTERS} characters, not {value!r}")
        priority: Any = options.priority
        if priority is not None and (type(priority) is not int or priority not in _INT32):
            self.complain(f"options.priority must be a whole number of 32 bits, not {priority!r}")
        try:
            return options.body()
        except (TypeError, ValueError) as error:
            self.complain(f"options.{error}")
            return None

    def _text(self, name: str, *, needed: bool = False) -> str | None:
        value = self._members.get(name)
        if isinstance(value, str):
            if value.strip() or not needed:
                return value.strip() or None
        elif value is not None:
            self.complain(f"{name} must be text, not {_kind(value)}; quote it in a file")
            return None
        if needed:
            self.complain(f"{name} is missing")
        return None

    def _refuse_unknown(
        self, options: Mapping[Any, Any], shape: type[HelmrSchedule | ScheduleRunOptions], path: str
    ) -> None:
        names = [field.name for field in fields(shape)]
        for name in options:
            if name not in names:
                near = get_close_matches(str(name), names, 1)
                self.complain(f"{path}{name} is not a member{f'; did you mean {near[0]}?' if near else ''}")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"

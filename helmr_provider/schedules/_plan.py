"""Compute the changes that make the schedules on the control plane match the declared ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

from helmr_provider.schedules._check import owns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from helmr_provider.client.models.schedules import Schedule
    from helmr_provider.schedules._check import DeclaredSchedule

LIST_CAP: Final = 200
"""A list of schedules holds no more, and there is no way to read on (contract/behaviour.md section 15)."""
NOT_SHOWN: Final = "(not shown by the API)"

Action = Literal["create", "update", "activate", "deactivate", "delete", "keep"]
ACTIONS: Final[tuple[Action, ...]] = ("create", "update", "activate", "deactivate", "delete", "keep")


class PlanError(ValueError):
    """The declared schedules cannot be reached."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a sync knows of a schedule that the control plane does not show.

    :param id: of the schedule.
    :param updated_at: when it was changed last. Each change moves it, and no fire does, so that as long as it stands
        the options have not changed either.
    :param options: run options that it had then, as sent; ``None`` when they are not known.
    """

    id: str
    updated_at: str
    options: dict[str, Any] | None

    @classmethod
    def of(cls, schedule: Schedule, options: dict[str, Any] | None) -> Memory:
        """Remember a schedule as it was answered.

        :param schedule: the answer.
        :param options: as they were sent; ``None`` when they are not known.
        """
        return cls(schedule.id, schedule.updated_at.isoformat(), options)

    @classmethod
    def read(cls, stored: Any) -> dict[str, Memory]:
        """Return what an earlier sync has stored, by key; what it did not store in this form is forgotten.

        :param stored: as of :meth:`stored`, or anything else.
        """
        if not isinstance(stored, dict):
            return {}
        names = {"id", "updated_at", "options"}
        return {key: cls(**each) for key, each in stored.items() if isinstance(each, dict) and set(each) == names}

    def stored(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"id": self.id, "updated_at": self.updated_at, "options": self.options}

    def options_of(self, schedule: Schedule) -> dict[str, Any] | None:
        """Return the options of a schedule, if it is still as it was.

        :param schedule: as it is now.
        """
        is_same = (self.id, self.updated_at) == (schedule.id, schedule.updated_at.isoformat())
        return self.options if is_same else None


@dataclass(frozen=True, slots=True)
class Change:
    """One schedule, and the action that it needs.

    :param present: as it is on the control plane; ``None`` when it is not there.
    :param declared: as it should be; ``None`` when it should not be there.
    :param fields: what differs: from, to.
    :param options: run options as they are known to be now; ``None`` when they are not known.
    """

    action: Action
    key: str
    present: Schedule | None = None
    declared: DeclaredSchedule | None = None
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    options: dict[str, Any] | None = None

    def fires(self, after: datetime, count: int) -> list[Any]:
        """Return the next times that the schedule fires at when the change is made; none while it is inactive.

        :param after: an aware datetime.
        :param count: how many at most.
        """
        if self.declared is None or not self.will_be_active:
            return []
        return list(islice(self.declared.fires(after), count))

    @property
    def will_be_active(self) -> bool:
        """Whether it fires when the change is made."""
        if self.declared is None:
            return False
        if self.declared.active is not None:
            return self.declared.active
        return self.present is None or self.present.active

    def as_data(self, after: datetime, count: int) -> dict[str, Any]:
        """Return the change as JSON.

        :param after: see :meth:`fires`.
        :param count: see :meth:`fires`.
        """
        return {
            "action": self.action,
            "deduplication_key": self.key,
            "schedule_id": None if self.present is None else self.present.id,
            "fields": {name: list(pair) for name, pair in self.fields.items()},
            "next_fires": [fire.isoformat() for fire in self.fires(after, count)],
        }


def plan(
    declared: Iterable[DeclaredSchedule],
    present: Sequence[Schedule],
    memory: Mapping[str, Memory],
    *,
    prune_prefix: str | None = None,
    allow_empty: bool = False,
    max_deletes: int | None = None,
    is_complete: bool = True,
) -> list[Change]:
    """Compare, and return one change for each schedule that is declared or to be deleted, deletions last.

    :param declared: what should be there.
    :param present: the existing schedules; those from the source of tasks are ignored.
    :param memory: what the last sync knew, by key.
    :param prune_prefix: prefix whose schedules are deleted if they are not declared; ``None`` deletes nothing.
    :param allow_empty: whether pruning may delete everything because nothing is declared.
    :param max_deletes: how many schedules may be deleted; ``None`` for any number.
    :param is_complete: whether ``present`` holds every schedule.
    :raises PlanError: the plan would delete unlisted schedules, all schedules, or too many.
    """
    declared = list(declared)
    if prune_prefix is not None and not is_complete:
        raise PlanError(
            f"This environment has {LIST_CAP} schedules or more, and the control plane lists no more than that: which "
            f"others belong to {prune_prefix!r} is unknown, so they cannot be pruned. Nothing was changed. Delete "
            "schedules that are not needed, or set prune=False."
        )
    if prune_prefix is not None and not declared and not allow_empty:
        raise PlanError(
            f"No schedules are declared, so pruning would delete every schedule of {prune_prefix!r}. Nothing was "
            "changed. Set allow_empty=True if that is intended."
        )
    by_key = {each.deduplication_key: each for each in present if each.type == "imperative" and each.deduplication_key}
    changes = [_change(each, by_key.pop(each.key, None), memory.get(each.key)) for each in declared]
    if prune_prefix is not None:
        deletes = [
            Change("delete", key, schedule, fields={"cron": (schedule.cron, None), "task": (schedule.task, None)})
            for key, schedule in sorted(by_key.items())
            if owns(prune_prefix, key)
        ]
        if max_deletes is not None and len(deletes) > max_deletes:
            raise PlanError(
                f"Pruning would delete {len(deletes)} schedules, more than max_deletes={max_deletes}: "
                f"{', '.join(change.key for change in deletes)}. Nothing was changed."
            )
        changes += deletes
    return changes


def _change(declared: DeclaredSchedule, present: Schedule | None, memory: Memory | None) -> Change:
    wanted = {
        "task": declared.task,
        "cron": declared.cron.text,
        "timezone": declared.timezone,
        "external_id": declared.external_id,
    }
    if present is None:
        members = {**wanted, "active": declared.active, "options": declared.options}
        new = {name: (None, value) for name, value in members.items() if value is not None}
        return Change("create", declared.key, declared=declared, fields=new)
    shown = {
        "task": present.task,
        "cron": " ".join(present.cron.split()),
        "timezone": present.timezone,
        "external_id": present.external_id,
    }
    fields: dict[str, tuple[Any, Any]] = {
        name: (shown[name], wanted[name]) for name in wanted if shown[name] != wanted[name]
    }
    known = None if memory is None else memory.options_of(present)
    # A replacement also resets options that are not declared, which the plan must show.
    aim = (declared.options or {}) if declared.options is not None or fields else known
    if aim != known:
        fields["options"] = (NOT_SHOWN if known is None else known, aim)
    turned = declared.active is not None and declared.active != present.active
    action: Action = "keep"
    if fields:
        action = "update"
    elif turned:
        action = "activate" if declared.active else "deactivate"
    if turned:
        fields["active"] = (present.active, declared.active)
    return Change(action, declared.key, present, declared, fields, known)

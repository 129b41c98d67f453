"""Makes planned changes of schedules, one by one, and knows what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from helmr_provider._common.errors import is_permanent, one_line
from helmr_provider.client.errors import HelmrApiError, HelmrError, HelmrNotFoundError
from helmr_provider.schedules._plan import Memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from helmr_provider.client._sync.schedules import Schedules
    from helmr_provider.client.models.schedules import Schedule
    from helmr_provider.schedules._plan import Change

# Refusals of one schedule, which say nothing of the others; the latter two go away when things are compared again.
_OF_ONE: Final = frozenset({400, 404, 409})
_PASSING: Final = frozenset({404, 409})


class FailedApply(NamedTuple):
    """Why not everything was made.

    :param may_pass: whether trying again can help.
    """

    text: str
    may_pass: bool


class Sync:
    """Makes changes.

    :param schedules: of the client.
    :param memory: what the last sync knew, by key.
    :param log: of the task; gets one line for each change.
    """

    def __init__(self, schedules: Schedules, memory: Mapping[str, Memory], log: Any) -> None:
        self._schedules = schedules
        self._log = log
        self._memory = dict(memory)
        self._known: dict[str, Memory] = {}
        self._wanted: list[Change] = []
        self._made: set[str] = set()
        self._failed: dict[str, HelmrError] = {}

    def make(self, changes: Sequence[Change]) -> None:
        """Make the changes; one that is refused does not keep the others from being made.

        :param changes: the plan.
        """
        self._wanted = [change for change in changes if change.action != "keep"]
        keys = {change.key for change in changes}
        self._known = {key: memory for key, memory in self._memory.items() if key in keys}
        for change in changes:
            try:
                schedule = self._make(change)
            except HelmrError as error:
                self._failed[change.key] = error
                if isinstance(error, HelmrApiError) and error.status in _OF_ONE:
                    continue
                # The others would fare no better: the control plane cannot be asked, or not with this key.
                break
            if change.action != "keep":
                self._made.add(change.key)
                self._log.info("Done: %s %s", change.action, change.key)
            if schedule is not None:
                self._known[change.key] = Memory.of(schedule, _options_after(change))
        if not self._failed:
            self._log.info("All of it was done." if self._wanted else "There was nothing to do.")

    def stored(self) -> dict[str, Any]:
        """Return what the next sync has to know, as JSON."""
        return {key: memory.stored() for key, memory in self._known.items()}

    def failure(self) -> FailedApply | None:
        """List the changes made and those not made; ``None`` if all were made."""
        if not self._failed:
            return None
        lines = [f"{len(self._made)} of {len(self._wanted)} changes were made; the next run continues from there."]
        lines += [f"  done: {change.action} {change.key}" for change in self._wanted if change.key in self._made]
        for change in self._wanted:
            if error := self._failed.get(change.key):
                lines.append(f"  failed: {change.action} {change.key}: {one_line(error)}")
        done = self._made | set(self._failed)
        lines += [f"  not tried: {change.action} {change.key}" for change in self._wanted if change.key not in done]
        may_pass = any(not is_permanent(error) or _status(error) in _PASSING for error in self._failed.values())
        return FailedApply("\n".join(lines), may_pass)

    def _make(self, change: Change) -> Schedule | None:
        wanted, present = change.declared, change.present
        if wanted is None:
            if present is not None:
                self._delete(present)
            return None
        if present is None:
            return self._schedules.create(
                deduplication_key=wanted.key,
                task=wanted.task,
                cron=wanted.cron.text,
                timezone=wanted.timezone,
                external_id=wanted.external_id,
                active=wanted.active,
                options=wanted.run_options,
            )
        match change.action:
            case "update":
                return self._schedules.update(
                    present,
                    task=wanted.task,
                    cron=wanted.cron.text,
                    timezone=wanted.timezone,
                    external_id=wanted.external_id,
                    active=wanted.active,
                    options=wanted.run_options,
                )
            case "activate":
                return self._schedules.activate(present)
            case "deactivate":
                return self._schedules.deactivate(present)
        return present

    def _delete(self, schedule: Schedule) -> None:
        try:
            self._schedules.delete(schedule)
        except HelmrNotFoundError:
            self._log.info("%s had already been deleted.", schedule.deduplication_key)


def _status(error: HelmrError) -> int:
    return error.status if isinstance(error, HelmrApiError) else 0


def _options_after(change: Change) -> dict[str, Any] | None:
    if change.action in {"create", "update"} and change.declared is not None:
        return change.declared.options or {}
    return change.options

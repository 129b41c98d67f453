"""Schedules, and what they give to the runs they start (contract/behaviour.md section 15)."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field

from helmr_provider.client._schemas import parse
from helmr_provider.client.models.base import Instant, OptionalText, WireModel


class Schedule(WireModel):
    """A schedule at one moment (schema Schedule). Its run options are not shown.

    :param type: imperative, or declarative for one from the source of a task, which can only be read.
    :param deduplication_key: what names it; of imperative ones only.
    :param external_id: passed on to its runs.
    :param cron: five fields.
    :param status: active, inactive, or errored while the last fire has failed.
    :param next_fire_at: None while inactive.
    """

    id: str
    type: str = ""
    project_id: str
    environment_id: str
    task: str
    deduplication_key: OptionalText = None
    external_id: OptionalText = None
    cron: str
    timezone: str = "UTC"
    active: bool
    status: str = ""
    last_error: OptionalText = None
    next_fire_at: Instant | None = None
    last_fire_at: Instant | None = None
    created_at: Instant
    updated_at: Instant


class ScheduledRunPayload(WireModel):
    """The payload of a run that a schedule started (schema ScheduledRunPayload).

    :param timestamp: the slot that fired.
    :param last_timestamp: the fire before it; None for the first.
    :param schedule_type: imperative or declarative.
    :param upcoming: the next slots, up to five.
    """

    timestamp: Instant
    last_timestamp: Instant | None = Field(default=None, alias="lastTimestamp")
    timezone: str
    schedule_id: str = Field(alias="scheduleId")
    schedule_type: str = Field(alias="scheduleType")
    external_id: OptionalText = Field(default=None, alias="externalId")
    upcoming: tuple[Instant, ...]

    @classmethod
    def parse(cls, payload: Any) -> Self:
        """Read the payload of a scheduled run.

        :param payload: the JSON object, as the task received it.
        :raises PayloadValidationError: it is not one of a scheduled run.
        """
        return parse(cls, payload, "The payload")

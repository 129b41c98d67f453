"""Run events, recorded and made up, and the timeline that they make."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from helmr_provider.airflow_ui.timeline import Timeline
from helmr_provider.client.models.events import EventRecord
from tests.conftest import CONTRACT

BEGAN = datetime(2026, 11, 28, 12, tzinfo=UTC)


def recorded(number: int) -> list[EventRecord]:
    [path] = (CONTRACT / "recordings").glob(f"{number}-*.json")
    events = json.loads(path.read_text())["response"]["json"]["events"]
    return [EventRecord.model_validate(event) for event in events]


def event(number: int, kind: str, seconds: float = 0, attempt: int | None = 1, /, **attributes: Any) -> EventRecord:
    at = BEGAN + timedelta(seconds=seconds)
    members = {"id": str(number), "kind": kind, "message": kind, "at": at, "attempt_number": attempt}
    return EventRecord.model_validate({**members, "attributes": attributes or None})


def read(*events: EventRecord) -> Timeline:
    timeline = Timeline()
    timeline.add(events)
    return timeline

"""Schedules (contract/behaviour.md section 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helmr_provider.client import HelmrApiError, HelmrNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import HelmrClient, ScheduleHandle
    from tests.conformance.conftest import Plane


@pytest.fixture
def schedule(plane: Plane, client: HelmrClient) -> Iterator[ScheduleHandle]:
    task_id = plane.task("echo")
    # Once in four years: it must not fire during the test.
    made = client.schedules.create(deduplication_key=plane.name(), task=task_id, cron="0 3 29 2 *", external_id="x")
    yield made
    client.schedules.delete(made)


def test_a_schedule_knows_when_it_fires(schedule: ScheduleHandle, client: HelmrClient) -> None:
    assert (schedule.active, schedule.status, schedule.timezone) == (True, "active", "UTC")
    assert schedule.next_fire_at is not None
    assert (schedule.next_fire_at.month, schedule.next_fire_at.day, schedule.next_fire_at.hour) == (2, 29, 3)
    assert schedule.id in {found.id for found in client.schedules.list()}


def test_the_same_deduplication_key_replaces(plane: Plane, schedule: ScheduleHandle, client: HelmrClient) -> None:
    client.schedules.deactivate(schedule)
    again = client.schedules.create(
        deduplication_key=str(schedule.deduplication_key),
        task=plane.task("echo"),
        cron="0 4 29 2 *",
        timezone="Europe/Amsterdam",
    )
    assert (again.id, again.cron, again.timezone) == (schedule.id, "0 4 29 2 *", "Europe/Amsterdam")
    assert (again.active, again.external_id) == (True, None)


def test_an_update_replaces_all_but_whether_it_is_active(
    plane: Plane, schedule: ScheduleHandle, client: HelmrClient
) -> None:
    client.schedules.deactivate(schedule)
    updated = client.schedules.update(schedule, task=plane.task("echo"), cron="0 5 29 2 *")
    assert (updated.cron, updated.timezone, updated.external_id, updated.active) == ("0 5 29 2 *", "UTC", None, False)


def test_a_schedule_is_switched_off_and_on(schedule: ScheduleHandle, client: HelmrClient) -> None:
    off = client.schedules.deactivate(schedule)
    assert (off.active, off.status, off.next_fire_at) == (False, "inactive", None)
    on = client.schedules.activate(schedule)
    assert (on.active, on.status, on.next_fire_at) == (True, "active", schedule.next_fire_at)


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [("* * * *", "UTC"), ("0 0 * * * *", "UTC"), ("@hourly", "UTC"), ("0 0 * * 7", "UTC"), ("0 0 * * 1", "No/Where")],
)
def test_a_bad_rhythm_is_refused(plane: Plane, client: HelmrClient, cron: str, timezone: str) -> None:
    with pytest.raises(HelmrApiError) as caught:
        client.schedules.create(
            deduplication_key=plane.name(), task=plane.task("echo"), cron=cron, timezone=timezone, active=False
        )
    assert caught.value.status == 400


def test_a_deleted_schedule_is_gone(plane: Plane, client: HelmrClient) -> None:
    made = client.schedules.create(deduplication_key=plane.name(), task=plane.task("echo"), cron="0 3 29 2 *")
    client.schedules.delete(made)
    with pytest.raises(HelmrNotFoundError):
        client.schedules.retrieve(made)

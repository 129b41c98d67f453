"""Schedules fire on the control plane's clock: once per slot, none made up for, failures reported and tried again."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import DeclaredSchedule, LocalControlPlane, Settings, task
from tests.support.local.scenario import MovableClock
from tests.support.local.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from helmr_provider.local import TaskContext, TaskDefinition

BY_HAND = Settings(sweep=3600, schedule_jitter=0)
DAY = 24 * 3600


def reports(*schedules: DeclaredSchedule) -> TaskDefinition:
    @task("report", schedules=schedules, queues=("slow",))
    async def report(ctx: TaskContext, payload: Any) -> Any:
        del ctx
        return payload

    return report


class Place:
    """A control plane whose time a test moves."""

    def __init__(self, server: LocalControlPlane, clock: MovableClock) -> None:
        self.server = server
        self.clock = clock
        self.wire = Wire(server)

    def schedule(self, **members: Any) -> Any:
        body = {"deduplication_key": "key", "task": "report", "cron": "*/10 * * * *", **members}
        return self.wire.post("/api/schedules", body, 201)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.server.sweep()

    def started(self) -> list[Any]:
        """Return the sessions from the oldest to the newest."""
        return sorted(self.wire.get("/api/sessions")["sessions"], key=lambda session: str(session["created_at"]))

    def payloads(self) -> list[Any]:
        return [self.wire.ended(session["current_run_id"])["output"] for session in self.started()]

    def read(self, schedule: Any) -> Any:
        return self.wire.get(f"/api/schedules/{schedule['id']}")


@contextmanager
def place(
    *schedules: DeclaredSchedule,
    tasks: Sequence[TaskDefinition] | None = None,
    db: Path | None = None,
    settings: Settings = BY_HAND,
) -> Iterator[Place]:
    clock = MovableClock()
    deployed = [reports(*schedules)] if tasks is None else tasks
    with LocalControlPlane(deployed, db=db, settings=settings, clock=clock) as server:
        yield Place(server, clock)


def test_a_schedule_fires_once_per_slot_with_the_slot_in_its_payload() -> None:
    with place() as here:
        schedule = here.schedule(external_id="crm/1", timezone="Europe/Berlin")
        assert here.started() == []
        here.pass_time(600)
        here.server.sweep()
        first = here.read(schedule)
        here.pass_time(600)
        second = here.read(schedule)
        one, two = here.payloads()
        assert one == {
            "timestamp": schedule["next_fire_at"],
            "timezone": "Europe/Berlin",
            "scheduleId": schedule["id"],
            "scheduleType": "imperative",
            "externalId": "crm/1",
            "upcoming": one["upcoming"],
        }
        assert len(one["upcoming"]) == 5
        assert (one["upcoming"][0], two["timestamp"]) == (first["next_fire_at"], first["next_fire_at"])
        assert two["lastTimestamp"] == one["timestamp"] == first["last_fire_at"]
        assert (first["updated_at"], second["last_fire_at"]) == (schedule["updated_at"], two["timestamp"])
        assert "external_id" not in here.started()[0]


def test_slots_that_passed_unseen_are_not_made_up_for() -> None:
    with place() as here:
        schedule = here.schedule()
        here.pass_time(DAY)
        assert len(here.started()) == 1
        assert here.payloads()[0]["timestamp"] == schedule["next_fire_at"]
        assert here.read(schedule)["next_fire_at"] > here.started()[0]["created_at"]


def test_a_schedule_that_is_not_active_or_deleted_does_not_fire() -> None:
    with place() as here:
        idle = here.schedule(active=False)
        gone = here.schedule(deduplication_key="other")
        here.wire.request("DELETE", f"/api/schedules/{gone['id']}")
        here.pass_time(DAY)
        assert here.started() == []
        assert "next_fire_at" not in idle
        here.wire.post(f"/api/schedules/{idle['id']}/activate", {})
        here.pass_time(600)
        assert len(here.started()) == 1


def test_run_options_reach_the_run() -> None:
    with place() as here:
        here.server.pause_worker()
        here.schedule(options={"queue": {"name": "slow"}, "ttl": "5s", "max_duration_seconds": 60, "priority": 2})
        here.pass_time(600)
        run_id = here.started()[0]["current_run_id"]
        created = here.wire.get(f"/api/runs/{run_id}/events")["events"][0]
        assert created["attributes"]["max_duration_seconds"] == 60
        here.pass_time(6)
        assert here.wire.get(f"/api/runs/{run_id}")["status"] == "expired"


def test_a_start_that_fails_is_reported_and_tried_again_ever_later(tmp_path: Path) -> None:
    with place(db=tmp_path / "state.db") as here:
        schedule = here.schedule()
    other = task("other")(reports().function)
    with place(tasks=[other], db=tmp_path / "state.db") as here:
        here.pass_time(601)
        failed = here.read(schedule)
        assert (failed["status"], failed["last_error"], failed["active"]) == ("errored", "task_not_deployed", True)
        assert failed["next_fire_at"] == schedule["next_fire_at"]
    with place(db=tmp_path / "state.db") as here:
        here.clock.advance(630)
        here.server.sweep()
        assert here.started() == []
        here.pass_time(60)
        assert here.payloads()[0]["timestamp"] == schedule["next_fire_at"]
        mended = here.read(schedule)
        assert (mended["status"], "last_error" in mended) == ("active", False)


def test_each_schedule_is_late_by_its_own_share_of_the_jitter() -> None:
    with place(settings=Settings(sweep=3600, schedule_jitter=300)) as here:
        for number in range(20):
            here.schedule(deduplication_key=f"key-{number}", cron="0 0 1 1 *")
        slot = here.read(here.schedule(deduplication_key="key-0", cron="0 0 1 1 *"))["next_fire_at"]
        here.clock.advance(_seconds_until(here, slot) + 1)
        here.server.sweep()
        early = len(here.started())
        here.pass_time(300)
        assert early < 20
        assert len(here.started()) == 20


def test_declared_schedules_come_and_go_with_the_deployment_in_every_environment(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with place(DeclaredSchedule("nightly", "0 2 * * *", "Asia/Tokyo"), db=database) as here:
        staging = Wire(here.server, here.server.create_key(environment="staging"))
        for wire in (here.wire, staging):
            (declared,) = wire.get("/api/schedules")["schedules"]
            assert (declared["type"], declared["external_id"], declared["timezone"]) == (
                "declarative",
                "report.nightly",
                "Asia/Tokyo",
            )
        here.pass_time(DAY)
        assert here.payloads()[0]["scheduleType"] == "declarative"
    with place(DeclaredSchedule("hourly", "0 * * * *"), db=database) as here:
        names = [schedule["external_id"] for schedule in here.wire.get("/api/schedules")["schedules"]]
        assert names == ["report.hourly"]


@pytest.mark.parametrize("schedule", [DeclaredSchedule("x", "often"), DeclaredSchedule("x", "* * * * *", "Mars/Base")])
def test_a_malformed_declared_schedule_is_refused_where_it_is_written(schedule: DeclaredSchedule) -> None:
    with pytest.raises((ValueError, KeyError)):
        reports(schedule)


def test_schedules_of_one_environment_are_not_seen_in_another() -> None:
    with place() as here:
        schedule = here.schedule()
        staging = Wire(here.server, here.server.create_key(environment="staging"))
        assert staging.request("GET", f"/api/schedules/{schedule['id']}").status == 404
        same_key = staging.post(
            "/api/schedules", {"deduplication_key": "key", "task": "report", "cron": "0 0 * * *"}, 201
        )
        assert same_key["id"] != schedule["id"]


def test_an_update_keeps_whether_it_is_active_and_a_create_does_not() -> None:
    with place() as here:
        schedule = here.schedule(active=False)
        path = f"/api/schedules/{schedule['id']}"
        updated = here.wire.request("PUT", path, {"task": "report", "cron": "0 0 * * *"}).json
        assert (updated["active"], updated["cron"]) == (False, "0 0 * * *")
        assert here.schedule()["active"] is True


def _seconds_until(here: Place, slot: str) -> float:
    return datetime.fromisoformat(slot).timestamp() - here.clock.now() / 1_000_000

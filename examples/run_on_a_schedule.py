"""Start a task every night."""

from __future__ import annotations

from helmr_provider.client import ScheduleRunOptions, schedules

schedule = schedules.create(
    deduplication_key="nightly-summary",
    task="release-summary",
    cron="0 2 * * *",
    timezone="Europe/Zurich",
    options=ScheduleRunOptions(max_duration=600),
)
print(schedule.active, schedule.cron)  # -> True 0 2 * * *
print(schedule.deactivate().active)  # -> False

# An update replaces the schedule whole.
print(schedules.update(schedule, task="release-summary", cron="0 3 * * *").timezone)  # -> UTC
schedule.delete()
print(schedule.id in {each.id for each in schedules.list()})  # -> False

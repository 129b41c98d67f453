"""The table of a plan: aligned plain text in which nothing that changes is missing."""

from __future__ import annotations

from datetime import UTC, datetime

from helmr_provider.client.models.schedules import Schedule
from helmr_provider.schedules._check import check
from helmr_provider.schedules._plan import plan
from helmr_provider.schedules._show import summary, table

NOW = datetime(2026, 3, 27, 12, tzinfo=UTC)


def schedule(key: str, **members: object) -> Schedule:
    shown = {
        "id": f"id-{key}",
        "type": "imperative",
        "project_id": "p",
        "environment_id": "e",
        "deduplication_key": key,
        "task": "code-review",
        "cron": "0 6 * * *",
        "timezone": "UTC",
        "active": True,
        "status": "active",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }
    return Schedule.model_validate(shown | members)


DECLARED = check(
    [
        {"deduplication_key": "a.new", "task": "t", "cron": "30 2 * * *", "timezone": "Europe/Berlin"},
        {"deduplication_key": "a.changed", "task": "code-review", "cron": "0 7 * * *", "active": False},
        {"deduplication_key": "a.same", "task": "code-review", "cron": "0 6 * * *"},
    ],
    source="test",
)
PRESENT = [
    schedule("a.changed", external_id="x"),
    schedule("a.same", status="errored", last_error="task is gone"),
    schedule("a.old"),
]


def test_a_table_shows_every_change_and_the_next_fires_in_the_schedules_own_zone() -> None:
    changes = plan(DECLARED, PRESENT, {}, prune_prefix="a.")
    assert summary(changes) == "1 create, 1 update, 1 delete, 1 keep"
    assert table(changes, NOW, 2) == [
        "ACTION  DEDUPLICATION KEY  WHAT CHANGES                           NEXT FIRES",
        "create  a.new              task: t                                Sat 2026-03-28 02:30 CET",
        # The clocks skip half past two on the 29th.
        "                           cron: 30 2 * * *                       Mon 2026-03-30 02:30 CEST",
        "                           timezone: Europe/Berlin",
        "update  a.changed          cron: 0 6 * * * -> 0 7 * * *           inactive",
        "                           external_id: x -> (none)",
        "                           options: (not shown by the API) -> {}",
        "                           active: true -> false",
        "keep    a.same             (its last fire failed: task is gone)   Sat 2026-03-28 06:00 UTC",
        "                                                                  Sun 2026-03-29 06:00 UTC",
        "delete  a.old              cron: 0 6 * * *                        -",
        "                           task: code-review",
    ]


def test_no_fires_are_shown_if_none_are_wanted() -> None:
    lines = table(plan(DECLARED, PRESENT, {}), NOW, 0)
    assert "2026" not in "".join(lines)


def test_an_empty_plan_is_a_heading() -> None:
    assert summary([]) == "nothing declared"
    assert table([], NOW, 3) == ["ACTION  DEDUPLICATION KEY  WHAT CHANGES  NEXT FIRES"]

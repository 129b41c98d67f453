"""Plans: they cover every difference, touch nothing else, and are empty once they were carried out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.client.models.schedules import Schedule
from helmr_provider.schedules._check import check
from helmr_provider.schedules._plan import NOT_SHOWN, Memory, PlanError, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from helmr_provider.schedules._check import DeclaredSchedule
    from helmr_provider.schedules._plan import Change

PREFIX = "own."
KEYS = ["own.a", "own.b", "own.c", "own.d", "other.a", "own"]
START = datetime(2026, 11, 24, tzinfo=UTC)


class Simulated:
    """The control plane's rules for schedules (contract/behaviour.md section 15), without a socket."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._clock = count(1)

    def put(self, key: str, present: Schedule | None = None, /, **members: Any) -> Schedule:
        now = (START + timedelta(seconds=next(self._clock))).isoformat()
        old = self.rows.get(present.id) if present is not None else None
        active = members.pop("active", None)
        row: dict[str, Any] = {
            "id": old["id"] if old else f"id-{next(self._clock)}",
            "type": "imperative",
            "project_id": "p",
            "environment_id": "e",
            "created_at": now,
            "deduplication_key": key,
            "timezone": "UTC",
            **{name: value for name, value in members.items() if value is not None},
            "active": active if active is not None else (old["active"] if old else True),
            "updated_at": now,
        }
        row.setdefault("options", {})
        self.rows[row["id"]] = row
        return self.shown(row)

    def shown(self, row: dict[str, Any]) -> Schedule:
        status = "active" if row["active"] else "inactive"
        return Schedule.model_validate({name: row[name] for name in row if name != "options"} | {"status": status})

    def list(self) -> list[Schedule]:
        return [self.shown(row) for row in self.rows.values()]

    def carry_out(self, changes: Sequence[Change]) -> dict[str, Memory]:
        memory = {}
        for change in changes:
            wanted, present = change.declared, change.present
            options = change.options
            if wanted is None:
                assert present is not None
                del self.rows[present.id]
                continue
            if change.action in {"create", "update"}:
                members = {"task": wanted.task, "cron": wanted.cron.text, "timezone": wanted.timezone}
                options = wanted.options or {}
                present = self.put(
                    change.key,
                    present,
                    **members,
                    external_id=wanted.external_id,
                    active=wanted.active,
                    options=options,
                )
            elif change.action in {"activate", "deactivate"}:
                assert present is not None
                row = self.rows[present.id]
                row["active"] = change.action == "activate"
                row["updated_at"] = (START + timedelta(seconds=next(self._clock))).isoformat()
                present = self.shown(row)
            assert present is not None
            memory[change.key] = Memory.of(present, options)
        # What is remembered goes through an XCom.
        return Memory.read({key: each.stored() for key, each in memory.items()})


MEMBERS = st.fixed_dictionaries(
    {"task": st.sampled_from(["t1", "t2"]), "cron": st.sampled_from(["0 6 * * *", "0 7 * * *"])},
    optional={
        "timezone": st.sampled_from(["UTC", "Europe/Berlin"]),
        "external_id": st.sampled_from(["x", "y"]),
        "active": st.booleans(),
        "options": st.fixed_dictionaries({}, optional={"priority": st.integers(0, 2)}),
    },
)
DECLARATIONS = st.dictionaries(st.sampled_from(KEYS[:4]), MEMBERS)
PRESENT = st.dictionaries(st.sampled_from(KEYS), MEMBERS)


def declared(items: dict[str, dict[str, Any]]) -> list[DeclaredSchedule]:
    return check([{"deduplication_key": key, **members} for key, members in items.items()], source="test")


def simulated(items: dict[str, dict[str, Any]]) -> Simulated:
    server = Simulated()
    for key, members in items.items():
        server.put(key, **members)
    return server


def fits(row: dict[str, Any], wanted: DeclaredSchedule) -> bool:
    return (
        (row["task"], row["cron"], row["timezone"]) == (wanted.task, wanted.cron.text, wanted.timezone)
        and row.get("external_id") == wanted.external_id
        and wanted.active in {None, row["active"]}
        and wanted.options in (None, row["options"])
    )


@given(PRESENT, DECLARATIONS, st.booleans())
def test_carrying_out_a_plan_makes_everything_declared_true_and_a_second_plan_is_empty(
    present: dict[str, Any], wanted: dict[str, Any], prune: bool
) -> None:
    server, items = simulated(present), declared(wanted)
    foreign = {key: row for key, row in server.rows.items() if not row["deduplication_key"].startswith(PREFIX)}
    before = {row["deduplication_key"]: dict(row) for row in server.rows.values()}
    memory = server.carry_out(plan(items, server.list(), {}, prune_prefix=PREFIX if prune else None, allow_empty=True))

    by_key = {row["deduplication_key"]: row for row in server.rows.values()}
    assert all(fits(by_key[each.key], each) for each in items)
    assert all(server.rows[key] == row for key, row in foreign.items()), "what is not ours was touched"
    undeclared = set(before) - set(wanted)
    kept = {key for key in undeclared if not (prune and key.startswith(PREFIX))}
    assert {key for key in undeclared if key in by_key} == kept
    # Undeclared members stay unchanged: active or not.
    assert all(
        by_key[each.key]["active"] == before[each.key]["active"]
        for each in items
        if each.active is None and each.key in before
    )
    again = plan(items, server.list(), memory, prune_prefix=PREFIX if prune else None, allow_empty=True)
    assert {change.action for change in again} <= {"keep"}


@given(PRESENT, DECLARATIONS, DECLARATIONS)
def test_a_change_by_another_client_between_two_syncs_is_found_and_undone(
    present: dict[str, Any], wanted: dict[str, Any], meddled: dict[str, Any]
) -> None:
    server, items = simulated(present), declared(wanted)
    memory = server.carry_out(plan(items, server.list(), {}))
    for key, members in meddled.items():
        mine = next((each for each in server.list() if each.deduplication_key == key), None)
        server.put(key, mine, **members)
    server.carry_out(plan(items, server.list(), memory))
    by_key = {row["deduplication_key"]: row for row in server.rows.values()}
    assert all(fits(by_key[each.key], each) for each in items)


@given(PRESENT, DECLARATIONS)
def test_nothing_is_lost_without_standing_in_the_plan(present: dict[str, Any], wanted: dict[str, Any]) -> None:
    server = simulated(present)
    before = {row["deduplication_key"]: dict(row) for row in server.rows.values()}
    changes = {change.key: change for change in plan(declared(wanted), server.list(), {})}
    server.carry_out(list(changes.values()))
    for row in server.rows.values():
        key = row["deduplication_key"]
        for name in ("task", "cron", "timezone", "external_id", "active", "options"):
            if key in before and before[key].get(name) != row.get(name):
                assert name in changes[key].fields


def only(items: dict[str, Any], server: Simulated, memory: dict[str, Memory] | None = None) -> Change:
    (change,) = plan(declared(items), server.list(), memory or {})
    return change


NIGHTLY: dict[str, Any] = {"task": "t1", "cron": "0 6 * * *"}


def test_only_being_switched_is_no_replacement() -> None:
    server = simulated({"own.a": {**NIGHTLY, "active": False, "options": {"priority": 1}}})
    change = only({"own.a": {**NIGHTLY, "active": True}}, server)
    assert (change.action, change.fields) == ("activate", {"active": (False, True)})
    assert only({"own.a": NIGHTLY}, server).action == "keep"


def test_a_replacement_that_resets_unknown_options_says_so() -> None:
    server = simulated({"own.a": {**NIGHTLY, "options": {"priority": 1}}})
    change = only({"own.a": {**NIGHTLY, "cron": "0 7 * * *"}}, server)
    assert change.fields == {"cron": ("0 6 * * *", "0 7 * * *"), "options": (NOT_SHOWN, {})}


def test_remembered_options_are_compared_until_another_change_of_the_schedule() -> None:
    server = Simulated()
    memory = server.carry_out(plan(declared({"own.a": {**NIGHTLY, "options": {"priority": 1}}}), [], {}))
    assert only({"own.a": {**NIGHTLY, "options": {"priority": 1}}}, server, memory).action == "keep"
    change = only({"own.a": {**NIGHTLY, "options": {"priority": 2}}}, server, memory)
    assert change.fields == {"options": ({"priority": 1}, {"priority": 2})}
    server.put("own.a", server.list()[0], **NIGHTLY)
    change = only({"own.a": {**NIGHTLY, "options": {"priority": 1}}}, server, memory)
    assert (change.action, change.fields) == ("update", {"options": (NOT_SHOWN, {"priority": 1})})


def test_schedules_from_the_source_of_tasks_are_ignored() -> None:
    server = simulated({"own.a": NIGHTLY})
    (row,) = server.rows.values()
    row["type"] = "declarative"
    changes = plan(declared({"own.a": NIGHTLY}), server.list(), {}, prune_prefix=PREFIX)
    assert [change.action for change in changes] == ["create"]


def test_what_may_be_out_of_sight_is_not_pruned() -> None:
    with pytest.raises(PlanError, match="200 schedules or more"):
        plan([], [], {}, prune_prefix=PREFIX, is_complete=False)
    assert plan([], [], {}, is_complete=False) == []


@pytest.mark.parametrize(
    "stored", [None, "x", [], {"k": "x"}, {"k": {"id": "1"}}, {"k": {"id": 1, "options": {}, "x": 2}}]
)
def test_a_memory_of_another_form_is_no_memory(stored: Any) -> None:
    assert Memory.read(stored) == {}


def test_the_next_fires_are_of_what_will_be_active() -> None:
    server = simulated({"own.a": {**NIGHTLY, "active": False}})
    assert only({"own.a": NIGHTLY}, server).fires(START, 2) == []
    assert only({"own.a": {**NIGHTLY, "active": True}}, server).fires(START, 1)[0].isoformat() == (
        "2026-11-24T06:00:00+00:00"
    )
    assert only({"own.b": {**NIGHTLY, "timezone": "Asia/Tokyo"}}, server).as_data(START, 1) == {
        "action": "create",
        "deduplication_key": "own.b",
        "schedule_id": None,
        "fields": {"task": [None, "t1"], "cron": [None, "0 6 * * *"], "timezone": [None, "Asia/Tokyo"]},
        "next_fires": ["2026-11-25T06:00:00+09:00"],
    }

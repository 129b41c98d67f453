"""Declared schedules: the accepted forms, and all mistakes reported together with their places."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import Task
from helmr_provider.client._wire.schedule_serialization import ScheduleRunOptions
from helmr_provider.schedules._check import DeclarationError, HelmrSchedule, check, check_one

if TYPE_CHECKING:
    from helmr_provider.schedules._check import DeclaredSchedule

GOOD: dict[str, Any] = {"deduplication_key": "team.nightly", "task": "code-review", "cron": "0 6 * * 1-5"}


def one(**members: Any) -> DeclaredSchedule:
    (declared,) = check([{**GOOD, **members}], source="schedules.yaml")
    return declared


def problems(*items: Any, prefix: str | None = None) -> list[str]:
    with pytest.raises(DeclarationError) as refusal:
        check(list(items), source="schedules.yaml", prefix=prefix)
    return refusal.value.problems


def test_what_is_left_out_has_the_control_planes_defaults() -> None:
    declared = one()
    assert (declared.key, declared.task, declared.cron.text) == ("team.nightly", "code-review", "0 6 * * 1-5")
    assert (declared.timezone, declared.external_id, declared.active, declared.options) == ("UTC", None, None, None)


def test_texts_are_taken_as_the_control_plane_stores_them() -> None:
    declared = one(cron="  0  6 * *   1 ", timezone="utc", external_id="  ", task=" code-review ")
    assert (declared.cron.text, declared.timezone, declared.external_id) == ("0 6 * * 1", "UTC", None)
    assert declared.task == "code-review"


def test_options_become_what_is_sent() -> None:
    options = {"queue": "reviews", "concurrency_key": "crm", "priority": 3, "ttl": "5m", "max_duration": 300}
    assert one(options=options).options == {
        "queue": {"name": "reviews"},
        "concurrency_key": "crm",
        "priority": 3,
        "ttl": "5m",
        "max_duration_seconds": 300,
    }
    assert one(options={}).options == {}
    assert one(options=None).options is None


def test_objects_and_typed_tasks_are_declarations_too() -> None:
    task: Task[dict[str, Any], Any] = Task("code-review", payload=dict[str, Any])
    options = ScheduleRunOptions(ttl=timedelta(minutes=5))
    schedule = HelmrSchedule(deduplication_key="k", task=task, cron="0 6 * * *", active=False, options=options)
    assert check_one(schedule, source="here").task == "code-review"
    (declared,) = check((schedule,), source="here")
    assert (declared.active, declared.options, declared.run_options) == (False, {"ttl": "300s"}, options)


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"deduplication_key": None}, "deduplication_key is missing"),
        ({"deduplication_key": "-x"}, "deduplication_key '-x' must be"),
        ({"deduplication_key": "k" * 129}, "must be 1 to 128"),
        ({"deduplication_key": 7}, "deduplication_key must be text, not a int"),
        ({"task": ""}, "task is missing"),
        ({"task": "no such name"}, "task 'no such name' is not a task id"),
        ({"cron": None}, "cron is missing"),
        ({"cron": "0 6 * * 7"}, "cron: day of week: '7' is not within 0-6"),
        ({"cron": "0 0 30 2 *"}, "cron: '0 0 30 2 *' never fires"),
        ({"timezone": "Berlin"}, "timezone: 'Berlin' is not an IANA time zone"),
        ({"timezone": 1}, "timezone must be text"),
        ({"external_id": 123}, "external_id must be text, not a int; quote it in a file"),
        ({"active": "yes"}, "active must be true or false, not 'yes'"),
        ({"active": 1}, "active must be true or false"),
        ({"crom": "x"}, "crom is not a member; did you mean cron?"),
        ({"payload": {}}, "payload is not a member"),
        ({"options": ["x"]}, "options must be a mapping"),
        ({"options": {"time_to_live": "5m"}}, "options.time_to_live is not a member"),
        ({"options": {"prioritty": 1}}, "options.prioritty is not a member; did you mean priority?"),
        ({"options": {"priority": "high"}}, "options.priority must be a whole number of 32 bits, not 'high'"),
        ({"options": {"priority": True}}, "options.priority must be a whole number"),
        ({"options": {"priority": 2**31}}, "options.priority must be a whole number"),
        ({"options": {"queue": ""}}, "options.queue must be text"),
        ({"options": {"concurrency_key": "c" * 513}}, "options.concurrency_key must be text of 1 to 512"),
        ({"options": {"ttl": "soon"}}, "options.ttl must be a duration such as"),
        ({"options": {"max_duration": 1}}, "options.max_duration must be between 5 seconds and a day"),
        ({"options": {"max_duration": "soon"}}, "options.max_duration must be a duration such as"),
    ],
)
def test_one_mistake_is_one_line_that_says_where(members: dict[str, Any], complaint: str) -> None:
    [problem] = problems({**GOOD, **members})
    assert problem.startswith("schedules.yaml[0]")
    assert complaint in problem


def test_all_mistakes_come_together_with_their_places() -> None:
    found = problems(
        {**GOOD, "cron": "x", "timezone": "Mars/Olympus", "nmae": 1},
        {**GOOD, "deduplication_key": "other", "task": None},
        "not a mapping",
        None,
    )
    assert [problem.split(": ")[0] for problem in found] == [
        *["schedules.yaml[0] (team.nightly)"] * 3,
        "schedules.yaml[1] (other)",
        "schedules.yaml[2]",
        "schedules.yaml[3]",
    ]


def test_a_key_is_declared_once() -> None:
    [problem] = problems(GOOD, {**GOOD, "cron": "0 7 * * *"})
    assert problem == "schedules.yaml[1] (team.nightly): deduplication_key is declared at schedules.yaml[0] already"


def test_a_key_has_the_prefix_that_is_owned() -> None:
    [problem] = problems(GOOD, {**GOOD, "deduplication_key": "theirs"}, prefix="team.")
    assert problem == (
        "schedules.yaml[1] (theirs): deduplication_key does not belong to owned_prefix 'team.': "
        "it must start with 'team.'"
    )


@pytest.mark.parametrize("items", [None, GOOD, 7, "text"])
def test_what_is_no_list_is_refused(items: Any) -> None:
    with pytest.raises(DeclarationError, match="a list of schedules is needed"):
        check(items, source="schedules.yaml")


def test_nothing_declared_is_a_declaration() -> None:
    assert check([], source="schedules.yaml") == []

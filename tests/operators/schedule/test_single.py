"""Single schedules: created, replaced, switched and deleted, again and again, with clear refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from helmr_provider.operators.schedule import (
    HelmrActivateScheduleOperator,
    HelmrCreateScheduleOperator,
    HelmrDeactivateScheduleOperator,
    HelmrDeleteScheduleOperator,
)
from tests.support.task_attempts import TaskRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

NIGHTLY: dict[str, Any] = {"deduplication_key": "team.nightly", "task": "release-summary", "cron": "0 6 * * 1-5"}
UNKNOWN = "00000000-0000-7000-8000-000000000000"


def execute(operator: type[Any], **options: Any) -> Any:
    return TaskRun(lambda: operator(task_id="work", **options)).start().execute()


def create(**options: Any) -> str:
    return str(execute(HelmrCreateScheduleOperator, **{**NIGHTLY, **options}))


def test_a_schedule_is_created_with_what_was_asked_for(
    helmr_connection: str, client: HelmrClient, control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    schedule_id = create(
        timezone="Europe/Berlin",
        external_id="crm",
        concurrency_key="crm",
        priority="3",
        ttl="5m",
        max_duration="300",
    )
    schedule = client.schedules.retrieve(schedule_id)
    assert (schedule.cron, schedule.timezone, schedule.external_id) == ("0 6 * * 1-5", "Europe/Berlin", "crm")
    [request] = [entry for entry in control_plane.journal if entry.operation == "createSchedule"]
    assert request.body["options"] == {
        "concurrency_key": "crm",
        "priority": 3,
        "ttl": "5m",
        "max_duration_seconds": 300,
    }
    assert "06:00 CE" in task_log()


def test_creating_it_again_replaces_it_and_keeps_its_id(helmr_connection: str, client: HelmrClient) -> None:
    first = create(external_id="crm", active=False)
    assert create(cron="0 7 * * *") == first
    schedule = client.schedules.retrieve(first)
    assert (schedule.cron, schedule.external_id, schedule.active) == ("0 7 * * *", None, True)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"cron": "0 6 * * 7"}, "'7' is not within 0-6"),
        ({"cron": "0 0 30 2 *"}, "never fires"),
        ({"timezone": "Berlin"}, "IANA"),
        ({"deduplication_key": "no spaces"}, "deduplication_key"),
        ({"ttl": "soon"}, "ttl"),
        ({"priority": "high"}, "priority"),
        ({"max_duration": 1}, "max_duration"),
    ],
)
def test_what_helmr_would_refuse_is_not_sent(
    options: dict[str, Any], complaint: str, helmr_connection: str, control_plane: LocalControlPlane
) -> None:
    with pytest.raises(AirflowFailException, match=complaint):
        create(**options)
    assert control_plane.journal == []


@pytest.mark.parametrize("options", [{"task": "not-deployed"}, {"helmr_queue": "not-declared"}])
def test_a_refusal_of_the_control_plane_fails_for_good(options: dict[str, Any], helmr_connection: str) -> None:
    with pytest.raises(AirflowFailException, match=r"create the schedule team\.nightly"):
        create(**options)


def test_a_schedule_is_switched_by_id_and_by_key_as_often_as_one_likes(
    helmr_connection: str, client: HelmrClient
) -> None:
    schedule_id = create()
    for by in ({"schedule_id": schedule_id}, {"deduplication_key": "team.nightly"}):
        for _ in range(2):
            assert execute(HelmrDeactivateScheduleOperator, **by) == schedule_id
        assert not client.schedules.retrieve(schedule_id).active
        for _ in range(2):
            assert execute(HelmrActivateScheduleOperator, **by) == schedule_id
        assert client.schedules.retrieve(schedule_id).active


@pytest.mark.parametrize("operator", [HelmrActivateScheduleOperator, HelmrDeactivateScheduleOperator])
def test_what_is_not_there_cannot_be_switched(operator: Any, helmr_connection: str) -> None:
    with pytest.raises(AirflowFailException, match="no schedule with the key other"):
        execute(operator, deduplication_key="other")
    with pytest.raises(AirflowFailException, match="schedule not found"):
        execute(operator, schedule_id=UNKNOWN)


@pytest.mark.parametrize("by", ["schedule_id", "deduplication_key"])
def test_deleting_is_repeatable(by: str, helmr_connection: str, client: HelmrClient) -> None:
    schedule_id = create()
    named = {by: schedule_id if by == "schedule_id" else "team.nightly"}
    assert execute(HelmrDeleteScheduleOperator, **named) == schedule_id
    assert client.schedules.list() == []
    assert execute(HelmrDeleteScheduleOperator, **named) is None


def test_a_key_beyond_what_is_listed_is_not_taken_for_absent(helmr_connection: str, client: HelmrClient) -> None:
    create()
    for number in range(200):
        client.schedules.create(deduplication_key=f"newer-{number}", task="release-summary", cron="0 6 * * *")
    for operator in (HelmrDeleteScheduleOperator, HelmrActivateScheduleOperator):
        with pytest.raises(AirflowFailException, match="not among the newest 200"):
            execute(operator, deduplication_key="team.nightly")


@pytest.mark.parametrize("options", [{}, {"schedule_id": "x", "deduplication_key": "y"}])
def test_a_schedule_is_named_in_one_way(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either schedule_id or deduplication_key"):
        HelmrDeleteScheduleOperator(task_id="work", **options)


def test_an_id_that_a_template_did_not_give_fails_for_good(helmr_connection: str) -> None:
    with pytest.raises(AirflowFailException, match="schedule_id must be an id"):
        execute(HelmrDeleteScheduleOperator, schedule_id="None")


def test_an_outage_is_worth_another_try(helmr_connection: str, control_plane: LocalControlPlane) -> None:
    control_plane.stop_listening()
    with pytest.raises(AirflowException) as failure:
        create()
    assert not isinstance(failure.value, AirflowFailException)
    control_plane.listen_again()
    assert create()

"""Every recorded exchange of schedules, of what is deployed, and of secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import PayloadValidationError, ScheduledRunPayload, ScheduleRunOptions
from tests.client.recordings.recorded import recording, recordings
from tests.client.recordings.replay import assert_as_recorded, assert_read
from tests.client.scripted_server import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.recordings.recorded import Recording


# operation -> member of the answer that the call returns; None for all of it
OPERATIONS: dict[str, str | None] = {
    "createSchedule": None,
    "listSchedules": "schedules",
    "getSchedule": None,
    "updateSchedule": None,
    "deleteSchedule": None,
    "activateSchedule": None,
    "deactivateSchedule": None,
    "listTasks": "tasks",
    "getTask": None,
    "listSandboxes": "sandboxes",
    "getSandbox": None,
    "listDeployments": "deployments",
    "getCurrentDeployment": "deployment",
    "getDeployment": None,
    "getDeploymentEvents": "events",
    "listSecrets": "secrets",
    "getSecret": None,
    "setSecret": None,
    "deleteSecret": None,
}
NO_CALL = {
    776: "the deduplication key is needed",
    778: "the task is needed",
    780: "the cron is needed",
    789: "unknown member",
    790: "unknown option",
    791: "unknown option",
    799: "the deduplication key is not sent again",
    800: "the deduplication key is not sent again",
    801: "the task is needed",
    814: "unknown query member",
}
FOUND = recordings(*OPERATIONS)


def number(found: Recording) -> int:
    return int(found.name.partition("-")[0])


def schedule_options(found: Recording) -> dict[str, Any]:
    body = dict(found.body)
    if "options" not in body:
        return body
    given = dict(body.pop("options"))
    if "queue" in given:
        given["queue"] = given["queue"]["name"]
    if "max_duration_seconds" in given:
        given["max_duration"] = given.pop("max_duration_seconds")
    return body | {"options": ScheduleRunOptions(**given)}


CALLS: dict[str, Callable[[Any, Recording], Any]] = {
    "createSchedule": lambda c, found: c.schedules.create(**schedule_options(found)),
    "listSchedules": lambda c, found: c.schedules.list(),
    "getSchedule": lambda c, found: c.schedules.retrieve(found.path["schedule_id"]),
    "updateSchedule": lambda c, found: c.schedules.update(found.path["schedule_id"], **schedule_options(found)),
    "deleteSchedule": lambda c, found: c.schedules.delete(found.path["schedule_id"]),
    "activateSchedule": lambda c, found: c.schedules.activate(found.path["schedule_id"]),
    "deactivateSchedule": lambda c, found: c.schedules.deactivate(found.path["schedule_id"]),
    "listTasks": lambda c, found: c.tasks.list(),
    "getTask": lambda c, found: c.tasks.retrieve(found.path["task_id"]),
    "listSandboxes": lambda c, found: c.sandboxes.list(),
    "getSandbox": lambda c, found: c.sandboxes.retrieve(found.path["sandbox_id"]),
    "listDeployments": lambda c, found: c.deployments.list(),
    "getCurrentDeployment": lambda c, found: c.deployments.current(),
    "getDeployment": lambda c, found: c.deployments.retrieve(found.path["deployment_id"]),
    "getDeploymentEvents": lambda c, found: c.deployments.events(found.path["deployment_id"]),
    "listSecrets": lambda c, found: c.secrets.list(),
    "getSecret": lambda c, found: c.secrets.retrieve(found.path["name"]),
    "setSecret": lambda c, found: c.secrets.set(found.path["name"], found.body["value"]),
    "deleteSecret": lambda c, found: c.secrets.delete(found.path["name"]),
}


def called(found: Recording, variant: str) -> Any:
    operation = found.endpoint.operation
    return assert_as_recorded(found, variant, lambda client: CALLS[operation](client, found), OPERATIONS[operation])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("found", [f for f in FOUND if number(f) not in NO_CALL], ids=lambda found: found.name)
def test_a_call_sends_what_was_recorded_and_reads_what_was_answered(found: Recording, variant: str) -> None:
    called(found, variant)


def test_there_are_no_more_requests_without_a_call_than_the_listed_ones() -> None:
    assert set(NO_CALL) <= {number(found) for found in FOUND}
    assert len(FOUND) >= 69


def test_the_payload_of_a_scheduled_run_is_read_with_its_times() -> None:
    sent = recording(820).response["json"]["events"][0]["attributes"]["payload"]
    payload = ScheduledRunPayload.parse(sent)
    assert_read(payload, sent)
    assert payload.timestamp == datetime(2026, 11, 23, 17, 43, tzinfo=UTC)
    assert payload.last_timestamp is None
    assert payload.upcoming[0] == datetime(2026, 11, 23, 17, 44, tzinfo=UTC)
    assert ScheduledRunPayload.parse(sent | {"lastTimestamp": "2026-11-23T17:42:00Z"}).last_timestamp is not None


@pytest.mark.parametrize("missing", ["timestamp", "timezone", "scheduleId", "scheduleType", "upcoming"])
def test_what_a_schedule_did_not_give_is_not_read_as_its_payload(missing: str) -> None:
    sent = recording(820).response["json"]["events"][0]["attributes"]["payload"]
    with pytest.raises(PayloadValidationError, match=missing):
        ScheduledRunPayload.parse({name: value for name, value in sent.items() if name != missing})


def test_deployment_times_that_have_not_happened_are_none() -> None:
    deployment = called(recording(848), "blocking")
    assert deployment.failed_at is None
    assert deployment.deployed_at is not None

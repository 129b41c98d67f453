"""Client calls for the recorded exchanges of schedules, deployments and secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.client import ScheduleRunOptions
from tests.client.recordings.recorded import recordings

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

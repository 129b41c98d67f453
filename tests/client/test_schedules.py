"""Schedules, deployments and secrets beyond single calls."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrClient, HelmrError, ScheduleRunOptions, Task
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive
from tests.client.shown_errors import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.scripted_server import ReceivedRequest

both = pytest.mark.parametrize("variant", VARIANTS)
NOW = "2026-11-23T17:39:27.900891Z"


def schedule(**more: Any) -> dict[str, Any]:
    return {
        "id": "s",
        "type": "imperative",
        "project_id": "p",
        "environment_id": "e",
        "task": "nightly",
        "deduplication_key": "nightly",
        "cron": "30 2 * * *",
        "timezone": "UTC",
        "active": True,
        "status": "active",
        "created_at": NOW,
        "updated_at": NOW,
    } | more


def answered(request: ReceivedRequest) -> Reply:
    if request.method == "DELETE":
        return Reply(204)
    active = not request.path.endswith("/deactivate")
    return Reply(json=schedule(active=active, status="active" if active else "inactive"))


def test_a_handle_does_what_its_namespace_does() -> None:
    with ScriptedServer(answer=answered) as wire, HelmrClient(url=wire.url, api_key=API_KEY) as client:
        handle = client.schedules.create(deduplication_key="nightly", task="nightly", cron="30 2 * * *")
        assert not handle.deactivate().active
        assert handle.activate().active
        assert handle.update(task=Task("nightly"), cron="0 3 * * *", timezone="Europe/Berlin").id == "s"
        assert handle.refresh().refresh().deactivate().status == "inactive"
        handle.delete()
    assert [(request.method, request.path) for request in wire.requests] == [
        ("POST", "/api/schedules"),
        ("POST", "/api/schedules/s/deactivate"),
        ("POST", "/api/schedules/s/activate"),
        ("PUT", "/api/schedules/s"),
        ("GET", "/api/schedules/s"),
        ("GET", "/api/schedules/s"),
        ("POST", "/api/schedules/s/deactivate"),
        ("DELETE", "/api/schedules/s"),
    ]
    assert wire.requests[3].json == {"task": "nightly", "cron": "0 3 * * *", "timezone": "Europe/Berlin"}


async def test_a_handle_of_the_asynchronous_client_does_so_too() -> None:
    with ScriptedServer(answer=answered) as wire:
        async with AsyncHelmrClient(url=wire.url, api_key=API_KEY) as client:
            handle = await client.schedules.create(deduplication_key="nightly", task="nightly", cron="30 2 * * *")
            assert (await (await handle.refresh()).update(task="nightly", cron="0 3 * * *")).id == "s"
            assert not (await handle.deactivate()).active
            assert (await handle.activate()).active
            await handle.delete()
    assert [request.method for request in wire.requests] == ["POST", "GET", "PUT", "POST", "POST", "DELETE"]


@both
def test_run_options_are_rendered_as_for_a_start(variant: str) -> None:
    options = ScheduleRunOptions(
        queue="reviews", concurrency_key="crm", priority=0, ttl=timedelta(minutes=5), max_duration=300
    )
    with ScriptedServer(answer=answered) as wire:
        drive(
            variant,
            lambda c: c.schedules.update("s", task="nightly", cron="* * * * *", options=options, active=False),
            url=wire.url,
        )
    assert wire.requests[0].json["options"] == {
        "queue": {"name": "reviews"},
        "concurrency_key": "crm",
        "priority": 0,
        "ttl": "300s",
        "max_duration_seconds": 300,
    }
    assert wire.requests[0].json["active"] is False


@both
def test_no_options_are_an_empty_object(variant: str) -> None:
    with ScriptedServer(answer=answered) as wire:
        drive(
            variant,
            lambda c: c.schedules.update("s", task="nightly", cron="* * * * *", options=ScheduleRunOptions()),
            url=wire.url,
        )
    assert wire.requests[0].json == {"task": "nightly", "cron": "* * * * *", "options": {}}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (ScheduleRunOptions(max_duration=4), "max_duration"),
        (ScheduleRunOptions(max_duration=86401), "max_duration"),
        (ScheduleRunOptions(ttl="soon"), "ttl"),
    ],
)
def test_run_options_that_do_not_fit_are_refused_here(options: ScheduleRunOptions, complaint: str) -> None:
    with ScriptedServer(Reply(500)) as wire, HelmrClient(url=wire.url, api_key=API_KEY) as client:
        with pytest.raises(ValueError, match=complaint):
            client.schedules.update("s", task="nightly", cron="* * * * *", options=options)
        with pytest.raises(ValueError, match="task id"):
            client.schedules.update("s", task="a/b", cron="* * * * *")
    assert not wire.requests


@both
def test_nothing_promoted_yet_is_no_current_deployment(variant: str) -> None:
    with ScriptedServer(Reply(json={"deployment": None})) as wire:
        assert drive(variant, lambda c: c.deployments.current(), url=wire.url) is None


@both
def test_a_promotion_says_why(variant: str) -> None:
    deployment = {
        "id": "d",
        "version": "20261123.1",
        "project_id": "p",
        "environment_id": "e",
        "status": "deployed",
        "tasks": [],
        "created_at": NOW,
        "failed_at": "0001-01-01T00:00:00Z",
    }
    with ScriptedServer(Reply(json=deployment)) as wire:
        found = drive(variant, lambda c: c.deployments.promote("20261123.1", reason="rollback"), url=wire.url)
        drive(variant, lambda c: c.deployments.promote(found), url=wire.url)
    assert (found.status, found.failed_at, found.tasks) == ("deployed", None, ())
    assert [(request.path, request.json) for request in wire.requests] == [
        ("/api/deployments/20261123.1/promote", {"reason": "rollback"}),
        ("/api/deployments/d/promote", {}),
    ]


def event(number: int) -> dict[str, Any]:
    return {"id": str(number), "kind": "deployment.queued", "message": "Deployment queued", "at": NOW}


@both
def test_all_events_of_a_deployment_are_read_over_all_pages(variant: str) -> None:
    def answer(request: ReceivedRequest) -> Reply:
        after = int(request.query.get("cursor", 0))
        found = [event(number) for number in range(after + 1, min(after + 2, 5) + 1)]
        more = {"next_cursor": after + 2} if after + 2 < 5 else {}
        return Reply(json={"events": found, "cursor": after} | more)

    with ScriptedServer(answer=answer) as wire:
        records = drive(variant, lambda c: c.deployments.events("d", page_size=2), url=wire.url)
    assert [record.id for record in records] == ["1", "2", "3", "4", "5"]
    assert [request.query for request in wire.requests] == [
        {"limit": "2"},
        {"limit": "2", "cursor": "2"},
        {"limit": "2", "cursor": "4"},
    ]


@both
@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.schedules.create(deduplication_key="k", task="nightly", cron="0 0 30 2 *"),
        lambda c: c.schedules.delete("s"),
        lambda c: c.workspaces.open("w").pty.open("t").close(),
    ],
)
def test_a_500_for_a_mistake_of_the_caller_is_not_repeated(call: Callable[[Any], Any], variant: str) -> None:
    with (
        ScriptedServer(Reply(500, json={"error": "create schedule"})) as wire,
        pytest.raises(Exception, match="answered 500"),
    ):
        drive(variant, call, url=wire.url)
    assert len(wire.requests) == 1


@both
@pytest.mark.parametrize("reply", [Reply(500, json={"error": "set secret"}), Reply(json={"no": "contract"})])
def test_a_failure_to_set_a_secret_does_not_show_it(reply: Reply, variant: str) -> None:
    hidden = "hun" + "ter2"
    with ScriptedServer(reply) as wire, pytest.raises(HelmrError) as caught:
        drive(variant, lambda c: c.secrets.set("TOKEN", hidden), url=wire.url)
    assert wire.requests[0].json == {"value": hidden}
    assert hidden not in shown(caught.value)

"""Forms of the same value that the client accepts, and texts of its refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrProtocolError
from helmr_provider.client._wire.serialization import check_retry
from tests.client.run_json import snapshot
from tests.client.scripted_server import VARIANTS, Reply, ScriptedServer, drive, events

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.scripted_server import ReceivedRequest

both = pytest.mark.parametrize("variant", VARIANTS)

FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "events.list": lambda client, cursor: client.runs.events.list("r", cursor=cursor),
    "events.records": lambda client, cursor: client.runs.events.records("r", cursor=cursor),
    "events.subscribe": lambda client, cursor: client.runs.events.subscribe("r", cursor=cursor),
    "events.follow_records": lambda client, cursor: client.runs.events.follow_records("r", cursor=cursor),
    "logs.follow": lambda client, cursor: client.runs.logs.follow("r", cursor=cursor),
    "logs.stream": lambda client, cursor: client.runs.logs.stream("r", cursor=cursor),
    "deployments.events": lambda client, cursor: client.deployments.events("d", cursor=cursor),
}


def is_over(request: ReceivedRequest) -> Reply:
    if request.path.endswith("/runs/r"):
        return snapshot("r", "succeeded")
    if "text/event-stream" in request.headers.get("accept", ""):
        return events()
    return Reply(json={"events": []})


@both
@pytest.mark.parametrize("cursor", [7, "7"])
@pytest.mark.parametrize("form", FORMS)
def test_a_cursor_is_a_number_or_text(variant: str, form: str, cursor: int | str) -> None:
    with ScriptedServer(answer=is_over) as wire:
        assert drive(variant, lambda client: FORMS[form](client, cursor), url=wire.url) == []
    assert {request.query["cursor"] for request in wire.requests if "cursor" in request.query} == {"7"}


@both
@pytest.mark.parametrize("media_type", ["Text/Event-Stream", "TEXT/EVENT-STREAM; charset=utf-8"])
def test_a_media_type_has_no_case(variant: str, media_type: str) -> None:
    reply = Reply(frames=(": keep-alive\n\n",), headers={"content-type": media_type})
    with ScriptedServer(reply) as wire:
        assert drive(variant, lambda client: client.runs.logs.stream("r"), url=wire.url) == []


@both
def test_another_media_type_is_no_stream(variant: str) -> None:
    reply = Reply(frames=(": keep-alive\n\n",), headers={"content-type": "text/event-html"})
    with ScriptedServer(reply) as wire, pytest.raises(HelmrProtocolError):
        drive(variant, lambda client: client.runs.logs.stream("r"), url=wire.url)


@both
def test_a_schedule_without_type_or_status_is_read(variant: str) -> None:
    now = "2026-11-23T17:39:27.900891Z"
    row = {
        "id": "s",
        "project_id": "p",
        "environment_id": "e",
        "task": "nightly",
        "deduplication_key": "nightly",
        "cron": "30 2 * * *",
        "timezone": "UTC",
        "active": True,
        "created_at": now,
        "updated_at": now,
    }
    with ScriptedServer(Reply(json={"schedules": [row]})) as wire:
        [found] = drive(variant, lambda client: client.schedules.list(), url=wire.url)
    assert (found.id, found.type, found.status) == ("s", "", "")


@pytest.mark.parametrize(
    ("retry", "complaint"),
    [
        ({"attempts": 3}, r"retry has no member 'attempts'; it takes enabled, maxAttempts and backoff"),
        ({"enabled": False, "maxAttempts": 3}, r"retry\.enabled False turns retries off"),
        ({"enabled": "yes", "maxAttempts": 3}, r"retry\.enabled must be true or false"),
        ({"maxAttempts": 11}, r"retry\.maxAttempts must be a whole number from 1 to 10"),
        ({"enabled": True}, r"retry\.maxAttempts must be a whole number from 1 to 10"),
    ],
)
def test_the_error_about_retry_names_the_member(retry: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_retry(retry)

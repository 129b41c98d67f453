"""Every recorded exchange of schedules, of what is deployed, and of secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import PayloadValidationError, ScheduledRunPayload
from tests.client.recordings.recorded import recording
from tests.client.recordings.replay import assert_as_recorded, assert_read
from tests.client.recordings.schedule_calls import CALLS, FOUND, NO_CALL, OPERATIONS, number
from tests.client.scripted_server import VARIANTS

if TYPE_CHECKING:
    from tests.client.recordings.recorded import Recording


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

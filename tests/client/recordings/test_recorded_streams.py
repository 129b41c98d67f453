"""Every recorded exchange of session streams and public access tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.client.recordings.replay import assert_as_recorded
from tests.client.recordings.stream_calls import CALLS, FOUND, NO_CALL, OPERATIONS, number
from tests.client.scripted_server import VARIANTS

if TYPE_CHECKING:
    from tests.client.recordings.recorded import Recording


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("found", [f for f in FOUND if number(f) not in NO_CALL], ids=lambda found: found.name)
def test_a_call_sends_what_was_recorded_and_reads_what_was_answered(found: Recording, variant: str) -> None:
    operation = found.endpoint.operation.removesuffix("ByExternalId")
    assert_as_recorded(found, variant, lambda client: CALLS[operation](client, found), OPERATIONS[operation])


def test_there_are_no_more_requests_without_a_call_than_the_listed_ones() -> None:
    assert set(NO_CALL) <= {number(found) for found in FOUND}
    assert len(FOUND) >= 74

"""What a wait makes of the client's errors."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from helmr_provider.client._waiting.actions import RUN, Failure, WaitKey
from helmr_provider.client._waiting.failures import (
    failure_of,
    is_of_one,
    own_copy,
    raise_held_back,
    seconds_since_epoch,
    stream_failure_of,
    timeout_error,
)
from helmr_provider.client.errors import (
    HelmrApiError,
    HelmrAuthError,
    HelmrConnectionError,
    HelmrError,
    HelmrNotFoundError,
    HelmrPermissionError,
    HelmrProtocolError,
    HelmrTimeoutError,
)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (HelmrConnectionError("broke off"), Failure(retryable=True, outage=True)),
        (HelmrApiError("no", status=500), Failure(retryable=True)),
        (HelmrApiError("no", status=501), Failure(retryable=False)),
        (HelmrApiError("no", status=408), Failure(retryable=True)),
        (HelmrApiError("no", status=429, retry_after=7.0), Failure(retryable=True, outage=True, retry_after=7.0)),
        (HelmrApiError("no", status=503), Failure(retryable=True, outage=True)),
        (HelmrApiError("no", status=400), Failure(retryable=False)),
        (HelmrNotFoundError("no", status=404), Failure(retryable=False)),
        (HelmrAuthError("no", status=401), Failure(retryable=False, credential="all")),
        (HelmrPermissionError("no", status=403), Failure(retryable=False, credential="kind")),
        (HelmrProtocolError("not JSON"), Failure(retryable=False)),
    ],
)
def test_each_error_says_whether_to_continue_and_which_waits_it_concerns(error: HelmrError, failure: Failure) -> None:
    assert failure_of(error) == failure


def test_a_frame_that_cannot_be_read_is_no_reason_to_give_a_run_up() -> None:
    assert stream_failure_of(HelmrProtocolError("oversize", oversize=True)).retryable
    assert not stream_failure_of(HelmrNotFoundError("no", status=404)).retryable
    refused = HelmrAuthError("no", status=401)
    assert stream_failure_of(refused) == failure_of(refused) == Failure(retryable=False, credential="all")


def test_only_what_concerns_one_thing_is_held_back() -> None:
    assert is_of_one(HelmrNotFoundError("no", status=404))
    assert is_of_one(HelmrProtocolError("not JSON"))
    assert not is_of_one(HelmrAuthError("no", status=401))
    assert not is_of_one(HelmrPermissionError("no", status=403))
    assert not is_of_one(HelmrError("closed"))


def test_a_copy_of_an_error_keeps_all_but_the_traceback() -> None:
    try:
        raise HelmrNotFoundError("no", status=404, operation="getRun", body={"error": "no"}) from ValueError("why")
    except HelmrNotFoundError as error:
        copied = own_copy(error)
    assert isinstance(copied, HelmrNotFoundError)
    assert (copied.status, copied.operation, copied.body) == (404, "getRun", {"error": "no"})
    assert isinstance(copied.__cause__, ValueError)
    assert copied.__traceback__ is None


def test_the_first_error_is_raised_with_a_note_of_the_rest() -> None:
    raise_held_back([])
    first, second = HelmrError("first"), HelmrError("second")
    with pytest.raises(HelmrError, match="first") as caught:
        raise_held_back([first, second])
    assert caught.value.__notes__ == ["Also: second"]


def test_a_timeout_names_a_few_and_holds_all() -> None:
    error = timeout_error(1.5, [WaitKey(RUN, str(number)) for number in range(10)])
    assert isinstance(error, HelmrTimeoutError)
    assert error.pending == tuple(map(str, range(10)))
    assert "after 1.5 s: run 0, run 1, run 2 and 7 more" in str(error)


@pytest.mark.parametrize(
    ("count", "named"),
    [(1, "run 0."), (3, "run 0, run 1, run 2."), (4, "run 0, run 1, run 2 and 1 more.")],
)
def test_a_timeout_counts_only_those_that_it_does_not_name(count: int, named: str) -> None:
    error = timeout_error(None, [WaitKey(RUN, str(number)) for number in range(count)])
    assert f"Not over after 0 s: {named} Nothing was cancelled" in str(error)


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (None, None),
        (datetime(1970, 1, 1, 0, 1, tzinfo=UTC), 60.0),
        (datetime(1970, 1, 1, 0, 1), 60.0),  # noqa: DTZ001 - counts as UTC, whatever the machine's time zone
        (datetime(1970, 1, 1, 2, 1, tzinfo=timezone(timedelta(hours=2))), 60.0),
    ],
)
def test_a_moment_without_a_time_zone_counts_as_utc(
    moment: datetime | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert seconds_since_epoch(moment) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()

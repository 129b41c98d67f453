"""A run's events, recorded and made up, as attempts and rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from helmr_provider.airflow_ui.timeline import MAX_ROWS, MAX_TICKS
from tests.airflow_ui.run_events import BEGAN, event, read, recorded


def test_a_run_that_used_up_its_attempts_has_two_that_failed_and_a_pause_between_them() -> None:
    timeline = read(*recorded(1069))
    assert [(attempt.number, attempt.outcome) for attempt in timeline.attempts] == [(1, "failed"), (2, "failed")]
    first, second = timeline.attempts
    assert first.ended is not None
    assert second.began - first.ended >= timedelta(seconds=1)
    assert timeline.last_failure is not None
    assert "worker_failed" in timeline.last_failure.note


def test_an_attempt_that_was_only_scheduled_is_open() -> None:
    timeline = read(*recorded(1074))
    assert [attempt.ended is None for attempt in timeline.attempts] == [False, True]
    assert timeline.ended is None


def test_payload_metadata_and_secret_names_are_not_kept() -> None:
    created = event(
        1, "run.created", payload="p-secret", metadata={"a": "m-secret"}, secret_names=["n-secret"], reason="initial"
    )
    assert "secret" not in repr(read(created))


def test_output_events_are_counted_and_share_a_row() -> None:
    timeline = read(
        event(1, "run.created"),
        *(event(n, "log.stdout", n) for n in range(2, 1002)),
        event(1002, "run.completed", 1003),
    )
    assert [(row.kind, row.count) for row in timeline.rows] == [
        ("run.created", 1),
        ("output", 1000),
        ("run.completed", 1),
    ]
    assert timeline.outputs == 1000
    assert 0 < len(timeline.attempts[0].output) <= MAX_TICKS


def test_rows_are_bounded_and_the_first_is_kept() -> None:
    timeline = read(event(1, "run.created"), *(event(n, "run.metadata.updated", n) for n in range(2, 2000)))
    assert len(timeline.rows) == MAX_ROWS
    assert timeline.rows[0].kind == "run.created"
    assert timeline.left_out == 1999 - MAX_ROWS


def test_reading_continues_behind_the_cursor() -> None:
    timeline = read(event(1, "run.created"))
    assert timeline.cursor == "1"
    before = timeline.snapshot()
    assert timeline.add([event(2, "run.completed", 2)]) == 1
    assert (timeline.cursor, timeline.attempts[0].outcome) == ("2", "succeeded")
    assert before.attempts[0].outcome is None


def test_the_wait_that_the_server_describes_is_shown() -> None:
    wait = event(2, "run_wait.created", 5, kind="token", run_wait_id="w", params={"token_id": "tok"})
    timeline = read(event(1, "run.created"), wait)
    assert (timeline.waits_for, timeline.waits_for_token) == ("token", "tok")
    timeline.add([event(3, "run_wait.completed", 6, kind="token", run_wait_id="w")])
    assert timeline.waits_for is None


@pytest.mark.parametrize("delay", [True, -5, "soon", float("inf"), None])
def test_a_delay_that_is_none_makes_no_pause(delay: Any) -> None:
    timeline = read(
        event(1, "run.created"), event(2, "run.failed", 1), event(3, "run.retry_scheduled", 1, 2, delay_ms=delay)
    )
    assert timeline.attempts[1].began == timeline.attempts[0].ended


def test_a_first_event_that_is_output_is_the_begin_of_an_attempt() -> None:
    assert read(event(7, "log.stderr", 0, None)).attempts[0].output == [BEGAN]

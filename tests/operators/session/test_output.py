"""Reading what a session has written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider.local import LocalControlPlane
from helmr_provider.operators.session import HelmrReadOutputOperator
from tests.support.conversations import idle, session_of, talk
from tests.support.task_attempts import TaskRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import HelmrClient
    from tests.support.task_attempts import Try

pytestmark = pytest.mark.usefixtures("helmr_connection")


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane([talk]) as server:
        yield server


def a_read(**options: Any) -> Try:
    return TaskRun(lambda: HelmrReadOutputOperator(task_id="read", **{"stream": "answers", **options})).start()


@pytest.fixture
def written(client: HelmrClient) -> str:
    session_id = idle(client, session_of(client, ""))
    output = client.sessions.open(session_id).output("answers")
    for number in range(1, 6):
        output.append({"n": number}, correlation_id="odd" if number % 2 else "even")
    return session_id


def test_records_are_read_in_order_and_the_cursor_advances(written: str) -> None:
    attempt = a_read(session_id=written, limit=2)
    assert attempt.execute() == [{"n": 1}, {"n": 2}]
    assert attempt.xcoms["cursor"] == 2
    attempt = a_read(session_id=written, after=str(attempt.xcoms["cursor"]), limit=None)
    assert attempt.execute() == [{"n": 3}, {"n": 4}, {"n": 5}]
    assert attempt.xcoms["cursor"] == 5
    attempt = a_read(session_id=written, after=5)
    assert attempt.execute() == []
    assert attempt.xcoms["cursor"] == 5


def test_all_records_are_read_over_several_pages(client: HelmrClient, written: str) -> None:
    client.sessions.open(written).output("answers").extend(range(600))
    assert len(a_read(session_id=written, limit=None).execute()) == 605
    assert len(a_read(external_id="chat", limit=550).execute()) == 550


def test_records_are_chosen_by_their_correlation_id(written: str) -> None:
    assert a_read(session_id=written, correlation_id="even").execute() == [{"n": 2}, {"n": 4}]


def test_a_whole_record_can_be_returned(written: str) -> None:
    [record] = a_read(session_id=written, result="record", limit=1).execute()
    assert (record["sequence"], record["data"], record["correlation_id"]) == (1, {"n": 1}, "odd")
    assert record["created_at"].startswith("20")


@pytest.mark.parametrize("after", ["None", "", "-1", "1.5", None], ids=repr)
def test_a_cursor_that_is_none_fails_for_good(written: str, after: Any) -> None:
    with pytest.raises(AirflowFailException, match="after must be the sequence of a record"):
        a_read(session_id=written, after=after).execute()


def test_a_reading_over_the_limit_fails_for_good(written: str) -> None:
    with pytest.raises(AirflowFailException, match="max_result_bytes=20"):
        a_read(session_id=written, max_result_bytes=20).execute()


def test_an_unknown_stream_fails_for_good(written: str) -> None:
    with pytest.raises(AirflowFailException, match="stream_not_found"):
        a_read(session_id=written, stream="nope").execute()


@pytest.mark.parametrize("options", [{}, {"session_id": "a", "result": "x"}, {"session_id": "a", "limit": 0}])
def test_a_reading_that_makes_no_sense_is_refused_when_it_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"session_id|result|limit"):
        HelmrReadOutputOperator(task_id="read", stream="answers", **options)

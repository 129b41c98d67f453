"""What names a session or a record in a DAG."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider._common.validation import address, check_session_ref, sequence, shown, stream_name


def test_one_name_is_needed_and_one_is_enough() -> None:
    check_session_ref("s", None)
    check_session_ref(None, "e")
    for both_or_none in ((None, None), ("s", "e")):
        with pytest.raises(ValueError, match="either session_id or external_id"):
            check_session_ref(*both_or_none)


def test_the_client_gets_the_chosen_one() -> None:
    assert address("s", None) == {"session": "s"}
    assert address(None, "e") == {"external_id": "e"}
    assert shown("s", None) == "Helmr session s"
    assert shown(None, "e") == "Helmr session e"


@pytest.mark.parametrize(("session_id", "external_id", "name"), [("None", None, "session_id"), (None, " ", "external")])
def test_a_task_that_pushed_no_id_is_named_in_the_error(session_id: Any, external_id: Any, name: str) -> None:
    with pytest.raises(AirflowFailException, match=name):
        address(session_id, external_id)


def test_a_stream_s_name_is_trimmed_and_checked() -> None:
    assert stream_name("stream", " messages ") == "messages"
    with pytest.raises(AirflowFailException, match=r"stream is 'a b'\. A stream name"):
        stream_name("stream", "a b")


@pytest.mark.parametrize("value", [7, "7", " 7 "])
def test_a_sequence_may_be_rendered_text(value: Any) -> None:
    assert sequence("after", value) == 7


@pytest.mark.parametrize("value", [None, "None", "", "-1", -1, 1.5, "७", True], ids=repr)
def test_what_is_no_sequence_is_refused(value: Any) -> None:
    with pytest.raises(AirflowFailException, match="after"):
        sequence("after", value)

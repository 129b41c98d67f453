"""Asking a person both in Airflow and in Helmr: the first answer counts, and nothing is left behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    Param,
    TaskDeferred,
)

from helmr_provider._approvals.hitl import AVAILABLE
from helmr_provider.operators.approval import HelmrApprovalOperator
from tests.support.required_actions import RequiredActions
from tests.support.task_attempts import TaskRun, fire, overdue

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.tokens import Token
    from helmr_provider.local import LocalControlPlane
    from tests.support.task_attempts import Try

pytestmark = pytest.mark.usefixtures("helmr_connection", "required_actions")

in_airflow = pytest.mark.skipif(not AVAILABLE, reason="this version of Airflow has no Required Actions")


@pytest.fixture
def required_actions(monkeypatch: pytest.MonkeyPatch) -> RequiredActions | None:
    return RequiredActions.of(monkeypatch) if AVAILABLE else None


def a_question(**options: Any) -> TaskRun:
    return TaskRun(lambda: HelmrApprovalOperator(**{"task_id": "ask", "subject": "Publish?", **options}))


def defer(attempt: Try) -> TaskDeferred:
    deferral = attempt.execute()
    assert isinstance(deferral, TaskDeferred)
    return deferral


def token_of(client: HelmrClient, attempt: Try) -> Token:
    return client.tokens.retrieve(attempt.xcoms["token_id"])


# Asking


def test_the_token_says_what_is_asked_and_by_whom(client: HelmrClient) -> None:
    attempt = a_question(body="The **notes**.", tags=["release"], form={"channel": "stable"}).start()
    defer(attempt)
    token = token_of(client, attempt)
    assert token.is_pending
    assert token.tags == ("release",)
    assert token.metadata["approval"] == {
        "subject": "Publish?",
        "options": ["Approve", "Reject"],
        "rejections": ["Reject"],
        "body": "The **notes**.",
        "params": {"channel": {"value": "stable", "description": None, "schema": {}}},
    }
    stamp = token.metadata["airflow"]
    assert (stamp["dag_id"], stamp["task_id"]) == ("nightly", "ask")
    assert "try_number" not in stamp


@in_airflow
def test_airflow_shows_the_same_question(required_actions: RequiredActions) -> None:
    attempt = a_question(
        body="The **notes**.",
        options=("Yes", "No"),
        defaults="No",
        form={"channel": Param("stable", type="string", description="Where to", enum=["stable", "beta"])},
        assigned_users={"id": "ada", "name": "Ada"},
    ).start()
    defer(attempt)
    row = required_actions.row(attempt)
    assert (row["subject"], row["body"], row["options"], row["defaults"]) == (
        "Publish?",
        "The **notes**.",
        ["Yes", "No"],
        ["No"],
    )
    assert row["params"]["channel"]["schema"] == {"type": "string", "enum": ["stable", "beta"]}
    assert row["assigned_users"] == [{"id": "ada", "name": "Ada"}]


def test_the_button_and_the_log_lead_to_the_token(
    control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    attempt = a_question().start()
    defer(attempt)
    page = f"{control_plane.url}/tokens/{attempt.xcoms['token_id']}"
    assert attempt.xcoms["_link_HelmrApprovalLink"] == page
    said = task_log()
    assert page in said
    assert '{"chosen": ["Approve"], "by": "your name"}' in said


def test_the_token_outlives_the_deadline_a_little(client: HelmrClient) -> None:
    attempt = a_question(timeout=timedelta(hours=2), execution_timeout=timedelta(hours=1)).start()
    defer(attempt)
    until = token_of(client, attempt).timeout_at
    assert until is not None
    assert timedelta(hours=1) < until - datetime.now(UTC) < timedelta(hours=2)


def test_a_retry_waits_for_the_same_question_and_a_clear_asks_anew(client: HelmrClient) -> None:
    task = a_question()
    first, retry = task.start(), task.start()
    defer(first)
    defer(retry)
    assert retry.xcoms["token_id"] == first.xcoms["token_id"]
    task.clear()
    anew = task.start()
    defer(anew)
    assert anew.xcoms["token_id"] != first.xcoms["token_id"]
    assert len(client.tokens.list()) == 2


def test_a_clear_withdraws_what_was_asked_before_and_nothing_else(client: HelmrClient) -> None:
    task, sibling = a_question(), a_question()
    sibling.map_index = 1
    first, mapped, anew = task.start(), sibling.start(), None
    defer(first)
    defer(mapped)
    other = client.tokens.create(metadata={"airflow": token_of(client, first).metadata["airflow"]})
    task.clear()
    anew = task.start()
    defer(anew)
    assert token_of(client, first).status == "cancelled"
    assert token_of(client, mapped).is_pending
    assert token_of(client, anew).is_pending
    assert client.tokens.retrieve(other.id).is_pending


def test_a_process_that_was_given_up_before_a_clear_withdraws_no_later_question(client: HelmrClient) -> None:
    task = a_question()
    defer(task.start())
    frozen = task.start()
    task.clear()
    cleared = task.start()
    defer(cleared)
    with pytest.raises(AirflowException, match="belongs to a later try of this task, and this is try 2"):
        frozen.execute()
    assert [token.id for token in client.tokens.list(status="pending")] == [cleared.xcoms["token_id"]]


def test_a_task_that_was_cleared_with_fewer_retries_asks_anew(client: HelmrClient) -> None:
    task = a_question()
    task.retries = task.max_tries = 3
    first = task.start()
    defer(first)
    # The DAG run is still running, so that it keeps its start.
    task.retries = 0
    task.max_tries = task.try_number + task.retries
    cleared = task.start()
    defer(cleared)
    assert [token.id for token in client.tokens.list(status="pending")] == [cleared.xcoms["token_id"]]


def test_a_first_try_that_was_given_up_before_a_clear_asks_no_second_question(client: HelmrClient) -> None:
    task = a_question()
    frozen = task.start()
    frozen.ti.start_date -= timedelta(minutes=10)
    task.clear()
    cleared = task.start()
    defer(cleared)
    with pytest.raises(AirflowException, match="Airflow has given it up"):
        frozen.execute()
    assert [token.id for token in client.tokens.list(status="pending")] == [cleared.xcoms["token_id"]]


def test_installations_with_different_prefixes_leave_each_other_alone(
    control_plane: LocalControlPlane, connect: Callable[..., str], client: HelmrClient
) -> None:
    address = {"host": control_plane.url, "password": control_plane.api_key}
    for prefix in ("blue", "green"):
        connect(f"helmr_{prefix}", **address, extra={"session_prefix": prefix})
    blue, green = a_question(helmr_conn_id="helmr_blue"), a_question(helmr_conn_id="helmr_green")
    first = blue.start()
    defer(first)
    green.start()
    other = green.start()
    defer(other)
    assert token_of(client, first).is_pending
    assert token_of(client, other).id != token_of(client, first).id


def test_a_retry_asks_anew_when_the_question_was_withdrawn(client: HelmrClient) -> None:
    task = a_question()
    first, retry = task.start(), task.start()
    defer(first)
    client.tokens.cancel(first.xcoms["token_id"])
    defer(retry)
    assert token_of(client, retry).is_pending


def test_a_retry_that_asks_something_else_fails_for_good() -> None:
    task = a_question()
    defer(task.start())
    task.make = a_question(body="Another text.").make
    with pytest.raises(AirflowFailException, match="the same in every try"):
        task.start().execute()


@pytest.mark.parametrize(
    "options",
    [
        {"options": []},
        {"defaults": "Perhaps"},
        {"form": {"by": "x"}},
        {"on_reject": "cry"},
        {"timeout": 0},
        {"subject": ""},
    ],
    ids=repr,
)
def test_what_cannot_be_asked_is_refused_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        a_question(**options).make()


@pytest.mark.parametrize("options", ["{{ none }}", ["A", "{{ 1 }}", "A"]], ids=repr)
def test_options_of_a_template_are_checked_when_the_task_runs(options: Any, control_plane: LocalControlPlane) -> None:
    attempt = a_question(options=options).start()
    attempt.operator.options = []
    with pytest.raises(AirflowFailException, match="options must be"):
        attempt.execute()
    assert control_plane.journal == []


def test_neither_what_is_stored_nor_the_event_holds_a_secret(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    attempt = a_question(body="in the body").start()
    deferral = defer(attempt)
    client.tokens.complete(attempt.xcoms["token_id"], "Approve")
    _, kwargs = deferral.trigger.serialize()
    kept = json.dumps([kwargs, deferral.kwargs, fire(deferral), attempt.xcoms])
    assert "in the body" not in kept
    assert "hlmr_" not in kept.replace(attempt.xcoms["token_id"], "")
    assert set(kwargs) <= {"helmr_conn_id", "token_id", "owner", "ti_id", "deadline", "version"}


# The answer


def test_an_answer_in_helmr_is_returned(client: HelmrClient) -> None:
    attempt = a_question().start()
    deferral = defer(attempt)
    client.tokens.complete(attempt.xcoms["token_id"], {"approved": False, "by": "ada", "why": "Friday"})
    result = attempt.resume(deferral, fire(deferral))
    assert {**result, "at": ""} == {
        "chosen": ["Reject"],
        "params": {"why": "Friday"},
        "by": "ada",
        "via": "helmr",
        "at": "",
    }
    assert datetime.fromisoformat(result["at"]).tzinfo is not None


@in_airflow
def test_an_answer_in_helmr_closes_the_question_in_airflow(
    client: HelmrClient, required_actions: RequiredActions
) -> None:
    attempt = a_question().start()
    deferral = defer(attempt)
    client.tokens.complete(attempt.xcoms["token_id"], "approve")
    assert fire(deferral)["status"] == "ended"
    row = required_actions.row(attempt)
    assert (row["chosen_options"], row["responded_by"]) == (["Approve"], None)


@in_airflow
def test_an_answer_in_airflow_is_returned_and_completes_the_token(
    client: HelmrClient, required_actions: RequiredActions
) -> None:
    attempt = a_question().start()
    deferral = defer(attempt)
    result = attempt.resume(deferral, required_actions.answer(attempt, "Approve"))
    assert (result["chosen"], result["by"], result["via"]) == (["Approve"], "ada", "airflow")
    assert token_of(client, attempt).data == result


@in_airflow
def test_the_token_decides_between_two_simultaneous_answers(
    client: HelmrClient, required_actions: RequiredActions
) -> None:
    attempt = a_question().start()
    deferral = defer(attempt)
    event = required_actions.answer(attempt, "Approve")
    client.tokens.complete(attempt.xcoms["token_id"], "Reject")
    result = attempt.resume(deferral, event)
    assert (result["chosen"], result["via"]) == (["Reject"], "helmr")


@in_airflow
def test_an_answer_between_the_question_and_the_wait_is_found(
    client: HelmrClient, required_actions: RequiredActions
) -> None:
    attempt = a_question().start()
    deferral = defer(attempt)
    required_actions.answer(attempt, "Approve")
    result = attempt.resume(deferral, fire(deferral))
    assert (result["chosen"], result["by"], result["via"]) == (["Approve"], "ada", "airflow")
    assert token_of(client, attempt).data == result


@in_airflow
def test_an_answer_during_an_outage_completes_the_token_later(
    control_plane: LocalControlPlane, client: HelmrClient, required_actions: RequiredActions
) -> None:
    attempt = a_question().start()
    deferral = defer(attempt)
    event = required_actions.answer(attempt, "Approve")
    control_plane.stop_listening()
    again = attempt.resume(deferral, event)
    assert isinstance(again, TaskDeferred)
    control_plane.listen_again()
    result = attempt.resume(again, fire(again))
    assert (result["chosen"], result["via"]) == (["Approve"], "airflow")
    assert token_of(client, attempt).data == result


def test_a_retry_takes_an_answer_that_is_there_already(client: HelmrClient) -> None:
    task = a_question()
    first = task.start()
    defer(first)
    client.tokens.complete(first.xcoms["token_id"], "Approve")
    assert task.start().execute()["chosen"] == ["Approve"]


def test_the_form_is_checked_and_filled(client: HelmrClient) -> None:
    form = {"channel": Param("stable", type="string", enum=["stable", "beta"]), "copies": Param(type="integer")}
    attempt = a_question(form=form).start()
    deferral = defer(attempt)
    client.tokens.complete(attempt.xcoms["token_id"], {"chosen": "Approve", "params": {"copies": 2}})
    assert attempt.resume(deferral, fire(deferral))["params"] == {"channel": "stable", "copies": 2}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("Perhaps", "none of the options"),
        (None, "none of the options"),
        ({"chosen": "Approve", "params": {"channel": "nightly"}}, "'channel' is not valid"),
    ],
)
def test_what_is_no_answer_fails_the_task_for_good(client: HelmrClient, data: Any, why: str) -> None:
    attempt = a_question(form={"channel": Param("stable", type="string", enum=["stable", "beta"])}).start()
    deferral = defer(attempt)
    client.tokens.complete(attempt.xcoms["token_id"], data)
    event = fire(deferral)
    with pytest.raises(AirflowFailException, match=why):
        attempt.resume(deferral, event)


def test_a_no_can_skip_the_task_and_is_an_xcom_all_the_same(client: HelmrClient) -> None:
    attempt = a_question(on_reject="skip").start()
    deferral = defer(attempt)
    client.tokens.complete(attempt.xcoms["token_id"], "Reject")
    event = fire(deferral)
    with pytest.raises(AirflowSkipException, match="answered with Reject"):
        attempt.resume(deferral, event)
    assert attempt.xcoms["return_value"]["chosen"] == ["Reject"]


def test_a_no_can_fail_the_task(client: HelmrClient) -> None:
    attempt = a_question(on_reject="fail", options=["Go", "Stop", "Wait"], rejections=["Stop", "Wait"]).start()
    deferral = defer(attempt)
    client.tokens.complete(attempt.xcoms["token_id"], {"chosen": "wait", "by": "ada"})
    event = fire(deferral)
    with pytest.raises(AirflowFailException, match="answered with Wait by ada"):
        attempt.resume(deferral, event)


@pytest.mark.parametrize("on_reject", ["succeed", "skip", "fail"])
def test_a_yes_is_a_yes(client: HelmrClient, on_reject: str) -> None:
    attempt = a_question(on_reject=on_reject).start()
    deferral = defer(attempt)
    client.tokens.complete(attempt.xcoms["token_id"], True)
    assert attempt.resume(deferral, fire(deferral))["chosen"] == ["Approve"]


# No answer


def test_the_default_is_taken_at_the_deadline_on_both_sides(client: HelmrClient, required_actions: Any) -> None:
    attempt = a_question(defaults="Reject", timeout=60).start()
    deferral = overdue(defer(attempt))
    result = attempt.resume(deferral, fire(deferral))
    assert (result["chosen"], result["via"], result["by"]) == (["Reject"], "default", None)
    assert token_of(client, attempt).data == result
    if required_actions is not None:
        assert required_actions.row(attempt)["chosen_options"] == ["Reject"]


def test_without_a_default_the_token_is_cancelled_at_the_deadline(client: HelmrClient) -> None:
    attempt = a_question(timeout=60).start()
    deferral = overdue(defer(attempt))
    event = fire(deferral)
    assert event["status"] == "timeout"
    with pytest.raises(AirflowTaskTimeout, match="was cancelled"):
        attempt.resume(deferral, event)
    assert token_of(client, attempt).status == "cancelled"


def test_the_default_is_taken_when_the_trigger_is_lost_beyond_the_deadline(client: HelmrClient) -> None:
    attempt = a_question(defaults="Reject", timeout=60).start()
    defer(attempt)
    assert attempt.lose_trigger("Trigger timeout")["via"] == "default"
    assert token_of(client, attempt).status == "completed"


def test_a_default_during_an_outage_is_not_taken(control_plane: LocalControlPlane) -> None:
    # There may be an answer by now.
    attempt = a_question(defaults="Approve", timeout=60).start()
    deferral = overdue(defer(attempt))
    control_plane.stop_listening()
    with pytest.raises(AirflowException, match="Could not complete the token"):
        attempt.resume(deferral, {"schema": 1, "status": "timeout"})
    control_plane.listen_again()


@in_airflow
def test_an_answer_in_airflow_is_not_overruled_by_a_default_that_comes_later(
    control_plane: LocalControlPlane, required_actions: RequiredActions
) -> None:
    attempt = a_question(defaults="Approve", timeout=60).start()
    deferral = overdue(defer(attempt))
    event = required_actions.answer(attempt, "Reject")
    control_plane.stop_listening()
    with pytest.raises(AirflowException, match="There is an answer in Airflow"):
        attempt.resume(deferral, event)
    control_plane.listen_again()


@pytest.mark.parametrize("defaults", ["Reject", None])
def test_a_token_that_expires_is_the_default_or_a_failure(control_plane: LocalControlPlane, defaults: Any) -> None:
    control_plane.set_clock("manual")
    attempt = a_question(defaults=defaults).start()
    deferral = defer(attempt)
    control_plane.advance("169h")
    control_plane.sweep()
    event = fire(deferral)
    if defaults:
        assert attempt.resume(deferral, event)["via"] == "default"
    else:
        with pytest.raises(AirflowTaskTimeout, match="Nobody answered"):
            attempt.resume(deferral, event)


def test_a_token_that_another_client_cancels_fails_the_task_permanently(client: HelmrClient) -> None:
    attempt = a_question().start()
    deferral = defer(attempt)
    client.tokens.cancel(attempt.xcoms["token_id"])
    event = fire(deferral)
    with pytest.raises(AirflowFailException, match="cancelled by another client"):
        attempt.resume(deferral, event)


# Nothing is left behind


@pytest.mark.parametrize(("retried", "status"), [(True, "pending"), (False, "cancelled")])
def test_a_lost_trigger_withdraws_the_question_unless_a_retry_waits_for_it(
    client: HelmrClient, retried: bool, status: str
) -> None:
    task = a_question()
    task.max_tries = 1 if retried else 0
    attempt = task.start()
    defer(attempt)
    with pytest.raises(Exception, match="Trigger failure"):
        attempt.lose_trigger()
    assert token_of(client, attempt).status == status

"""Access for others: the token goes to the chosen place only."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException, redact

from helmr_provider.operators.token import HelmrCreatePublicTokenOperator
from tests.support.task_contexts import context

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

PAT = re.compile(r"hlmr_pat_[\w-]+")


@pytest.fixture
def session_id(client: HelmrClient, helmr_connection: str) -> str:
    return client.sessions.start("wait-for-input").session.id


def create(session_id: str, **options: Any) -> dict[str, Any]:
    operator = HelmrCreatePublicTokenOperator(
        **{"task_id": "invite", "session_id": session_id, "stream": "messages", "access": "send", **options}
    )
    try:
        return operator.execute(context())
    finally:
        operator.hook.close()


def test_the_token_goes_to_the_callable_and_works_and_what_is_returned_does_not_hold_it(
    client: HelmrClient, session_id: str, logged: Callable[[], str]
) -> None:
    got: list[str] = []
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)

    def deliver(token: str) -> dict[str, str]:
        got.append(token)
        return {"message": "m-1"}

    received = create(session_id, deliver=deliver, correlation_id="c-1", expires_at=until, max_uses=2)
    [token] = got
    assert PAT.fullmatch(token)
    assert {**received, "id": ""} == {
        "id": "",
        "session_id": session_id,
        "stream": "messages",
        "expires_at": until.isoformat(),
        "max_uses": 2,
        "variable": None,
        "delivered": {"message": "m-1"},
    }
    assert token not in json.dumps(received)
    assert token not in logged()
    assert token not in str(redact(f"see {token}"))
    messages = client.sessions.open(session_id).input("messages")
    messages.send("hello", correlation_id="c-1", public_access_token=token)
    [record] = client.sessions.open(session_id).input("messages").list()
    assert record.data == "hello"


def test_an_output_can_be_opened_for_reading(client: HelmrClient, session_id: str) -> None:
    got: list[str] = []
    create(session_id, stream="progress", access="read", deliver=got.append)
    progress = client.sessions.open(session_id).output("progress")
    assert progress.read(public_access_token=got[0]) is None


def test_a_variable_keeps_the_token_for_a_task_further_down(session_id: str, run_dag: Callable[..., Any]) -> None:
    with DAG("invites", schedule=None) as dag:
        HelmrCreatePublicTokenOperator(
            task_id="invite",
            session_id=session_id,
            stream="messages",
            access="send",
            variable="guest_token_{{ dag.dag_id }}",
        )
    run = run_dag(dag)
    assert str(run.state) == "success"
    [ti] = run.get_task_instances()
    received = ti.xcom_pull(task_ids="invite")
    assert received["variable"] == "guest_token_invites"
    assert not PAT.search(json.dumps(received))
    from airflow.models.variable import Variable as Stored

    assert PAT.fullmatch(Stored.get("guest_token_invites"))


def test_a_name_whose_value_airflow_would_show_is_refused_before_anything_is_sent(
    control_plane: LocalControlPlane, session_id: str
) -> None:
    control_plane.clear_journal()
    with pytest.raises(AirflowFailException, match="'guest'"):
        create(session_id, variable="guest")
    assert control_plane.journal == []


@pytest.mark.parametrize("wrap", [lambda token: token, lambda token: {"a": [f"see {token}!"]}], ids=["bare", "within"])
def test_a_callable_that_returns_the_token_fails_the_task(session_id: str, wrap: Callable[[str], Any]) -> None:
    with pytest.raises(AirflowFailException, match="XCom") as failed:
        create(session_id, deliver=wrap)
    assert not PAT.search(str(failed.value))


def test_a_callable_that_fails_does_not_spill_the_token(session_id: str, logged: Callable[[], str]) -> None:
    def deliver(token: str) -> None:
        raise RuntimeError(f"cannot post {token}")

    with pytest.raises(AirflowException, match="RuntimeError: cannot post") as failed:
        create(session_id, deliver=deliver)
    assert not PAT.search(str(failed.value))
    assert failed.value.__cause__ is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"stream": "no such stream"}, "stream"),
        ({"stream": ""}, "stream"),
        ({"session_id": "None"}, "session_id must be an id"),
        ({"max_uses": 0}, "max_uses"),
        ({"expires_at": "yesterday"}, "expires_at"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expire"),
    ],
)
def test_what_cannot_be_created_fails_for_good(session_id: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(AirflowFailException, match=why):
        create(options.pop("session_id", session_id), deliver=print, **options)


@pytest.mark.parametrize(
    "options", [{}, {"deliver": print, "variable": "a_token"}, {"deliver": print, "access": "own"}]
)
def test_what_makes_no_sense_is_refused_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"deliver|access"):
        HelmrCreatePublicTokenOperator(
            **{"task_id": "invite", "session_id": "s", "stream": "m", "access": "send", **options}
        )


def test_a_key_may_give_only_what_it_has(
    control_plane: LocalControlPlane, connect: Callable[..., str], session_id: str
) -> None:
    connect(host=control_plane.url, password=control_plane.create_key(scopes=["runs:read"]))
    with pytest.raises(AirflowFailException, match="scope"):
        create(session_id, deliver=print)

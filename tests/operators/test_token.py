"""Creating and completing tokens: once per task instance, ids only, and clear refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException, redact

from helmr_provider.client import HelmrClient
from helmr_provider.operators.token import (
    HelmrCancelTokenOperator,
    HelmrCompleteTokenOperator,
    HelmrCreateTokenOperator,
)
from helmr_provider.sensors.token import HelmrTokenSensor
from tests.support.task_contexts import context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from helmr_provider.local import LocalControlPlane


@pytest.fixture
def client(control_plane: LocalControlPlane) -> Iterator[HelmrClient]:
    with HelmrClient(url=control_plane.url, api_key=control_plane.api_key) as client:
        yield client


def create(where: Any = None, **options: Any) -> str:
    operator = HelmrCreateTokenOperator(task_id="ask", **options)
    try:
        return operator.execute(where or context())
    finally:
        operator.hook.client.close()


def complete(token_id: str, data: Any, **options: Any) -> str:
    operator = HelmrCompleteTokenOperator(task_id="answer", token_id=token_id, data=data, **options)
    try:
        return operator.execute(context())
    finally:
        operator.hook.client.close()


def test_a_token_is_created_with_what_was_asked_for(helmr_connection: str, client: HelmrClient) -> None:
    before = datetime.now(UTC)
    token = client.tokens.retrieve(
        create(
            timeout=timedelta(hours=1), tags=["approval", "web"], metadata={"pull": 12}, helmr_conn_id=helmr_connection
        )
    )
    assert token.is_pending
    assert token.timeout_at is not None
    assert timedelta(minutes=59) < token.timeout_at - before < timedelta(minutes=61)
    assert (set(token.tags), token.metadata) == ({"approval", "web"}, {"pull": 12, "airflow": ANY})


def test_a_retry_gives_the_same_token(helmr_connection: str, client: HelmrClient) -> None:
    first = create(context(try_number=1))
    assert create(context(try_number=2)) == first
    assert len(client.tokens.list()) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"max_tries": 5, "try_number": 3}, id="cleared task"),
        pytest.param({"start_date": datetime(2026, 11, 24, tzinfo=UTC)}, id="cleared DAG run"),
        pytest.param({"map_index": 0}, id="mapped sibling"),
        pytest.param({"task_id": "ask_again"}, id="another task"),
    ],
)
def test_another_task_instance_or_a_cleared_one_gets_a_token_of_its_own(
    other: dict[str, Any], helmr_connection: str
) -> None:
    assert create(context(**other)) != create(context())


def test_installations_with_different_prefixes_do_not_share_tokens(
    control_plane: LocalControlPlane, connect: Callable[..., str]
) -> None:
    address = {"host": control_plane.url, "password": control_plane.api_key}
    blue = connect("helmr_blue", **address, extra={"session_prefix": "blue"})
    green = connect("helmr_green", **address, extra={"session_prefix": "green"})
    assert create(helmr_conn_id=blue) != create(helmr_conn_id=green)


def test_a_key_of_the_authors_own_is_shared_by_all_who_use_it(helmr_connection: str) -> None:
    first = create(idempotency_key="release-42")
    assert create(context(task_id="elsewhere"), idempotency_key="release-42") == first


def test_the_key_names_nothing_readable_and_is_short(helmr_connection: str, control_plane: LocalControlPlane) -> None:
    create(context(task_id="t" * 240))
    [request] = [entry for entry in control_plane.journal if entry.operation == "createToken"]
    assert len(request.body["idempotency_key"]) < 100


def test_a_retry_that_asks_for_something_else_fails_for_good(helmr_connection: str) -> None:
    create(timeout="1h")
    with pytest.raises(AirflowFailException, match="idempotency_fingerprint_mismatch"):
        create(timeout="2h")


def test_the_secrets_are_masked_and_only_the_id_is_returned(
    helmr_connection: str, client: HelmrClient, logged: Callable[[], str]
) -> None:
    token_id = create(idempotency_key="shown-again")
    said = logged()
    assert token_id in said
    again = client.tokens.create(idempotency_key="shown-again")
    assert again.id == token_id
    secret, callback = again.public_access_token, again.callback_url
    assert secret
    assert callback
    for text in (secret, callback, callback.rsplit("/", 1)[-1]):
        assert text not in said
        assert text not in str(redact(f"see {text} there"))


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": "soon"},
        {"timeout": -5},
        {"timeout": 0},
        {"tags": "web"},
        {"tags": [""]},
        {"metadata": {"when": datetime(2026, 1, 1, tzinfo=UTC)}},
        {"metadata": ["no", "object"]},
    ],
)
def test_what_cannot_become_a_token_fails_for_good_before_anything_is_sent(
    options: dict[str, Any], helmr_connection: str, control_plane: LocalControlPlane
) -> None:
    with pytest.raises(AirflowFailException):
        create(**options)
    assert control_plane.journal == []


def test_a_wrong_key_fails_for_good_in_one_line(connect: Callable[..., str], control_plane: LocalControlPlane) -> None:
    connect(host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    with pytest.raises(AirflowFailException) as refused:
        create()
    assert "\n" not in str(refused.value)
    assert "API key" in str(refused.value)
    assert "hlmr_sk_" not in str(refused.value)


def test_a_missing_scope_fails_for_good(connect: Callable[..., str], control_plane: LocalControlPlane) -> None:
    connect(host=control_plane.url, password=control_plane.create_key(scopes=["tokens:read"]))
    with pytest.raises(AirflowFailException, match="scope"):
        create()


def test_an_unreachable_control_plane_is_worth_a_retry(connect: Callable[..., str]) -> None:
    connect(host="http://127.0.0.1:1", password="hlmr_sk_0123456789abcdef")
    with pytest.raises(AirflowException) as failed:
        create()
    assert not isinstance(failed.value, AirflowFailException)


def test_a_lost_answer_does_not_make_a_second_token(
    helmr_connection: str, control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    from helmr_provider.local import faults

    control_plane.fail_next("createToken", faults.lose_answer())
    token_id = create()
    assert [token.id for token in client.tokens.list()] == [token_id]


@pytest.mark.parametrize("data", [{"approved": True, "by": "dana"}, ["a", 1], "yes", 7, False, None])
def test_a_token_is_completed_with_any_json(data: Any, helmr_connection: str, client: HelmrClient) -> None:
    token_id = client.tokens.create().id
    assert complete(token_id, data) == token_id
    token = client.tokens.retrieve(token_id)
    assert (token.status, token.data) == ("completed", data)


def test_completing_again_with_the_same_data_is_success(helmr_connection: str, client: HelmrClient) -> None:
    token_id = client.tokens.create().id
    complete(token_id, {"a": 1, "b": 2})
    assert complete(token_id, {"b": 2, "a": 1}) == token_id


def test_completing_again_with_other_data_fails_for_good(helmr_connection: str, client: HelmrClient) -> None:
    token_id = client.tokens.create().id
    complete(token_id, {"approved": True})
    with pytest.raises(AirflowFailException, match="completed with other data"):
        complete(token_id, {"approved": False})
    assert client.tokens.retrieve(token_id).data == {"approved": True}


def test_a_cancelled_token_cannot_be_completed(helmr_connection: str, client: HelmrClient) -> None:
    token_id = client.tokens.create().id
    client.tokens.cancel(token_id)
    with pytest.raises(AirflowFailException, match="was cancelled"):
        complete(token_id, 1)


def test_an_expired_token_cannot_be_completed(helmr_connection: str, client: HelmrClient) -> None:
    token_id = client.tokens.create(timeout="1ms").id
    with pytest.raises(AirflowFailException, match="past its timeout"):
        complete(token_id, 1)


def test_an_unknown_token_cannot_be_completed(helmr_connection: str) -> None:
    with pytest.raises(AirflowFailException, match="token_not_found"):
        complete("00000000-0000-7000-8000-000000000000", 1)


@pytest.mark.parametrize("token_id", [None, "None", ""], ids=repr)
@pytest.mark.usefixtures("helmr_connection")
def test_a_missing_token_id_is_reported(token_id: Any) -> None:
    with pytest.raises(AirflowFailException, match="token_id must be an id"):
        complete(token_id, 1)


@pytest.mark.parametrize("data", [object(), {"x": {1, 2}}, float("nan"), {1: "a"}])
def test_data_that_are_not_json_are_refused_before_anything_is_sent(
    data: Any, helmr_connection: str, control_plane: LocalControlPlane
) -> None:
    with pytest.raises(AirflowFailException, match="not JSON"):
        complete("00000000-0000-7000-8000-000000000000", data)
    assert control_plane.journal == []


@pytest.mark.usefixtures("helmr_connection")
def test_in_a_dag_the_answer_travels_and_the_secrets_do_not(
    control_plane: LocalControlPlane,
    client: HelmrClient,
    run_dag: Callable[..., Any],
    airflow_db: Path,
    logged: Callable[[], str],
) -> None:
    with DAG("tokens", schedule=None) as dag:
        ask = HelmrCreateTokenOperator(task_id="ask", idempotency_key="in-a-dag", timeout="{{ 60 * 60 }}s")
        answer = HelmrCompleteTokenOperator(
            task_id="answer", token_id="{{ ti.xcom_pull('ask') }}", data={"approved": True, "of": "{{ dag.dag_id }}"}
        )
        wait = HelmrTokenSensor(
            task_id="wait", token_id="{{ ti.xcom_pull('ask') }}", deferrable=True, poke_interval=0.1
        )
        ask >> answer >> wait
    run = run_dag(dag)
    text = logged()
    assert run.state == "success"
    [ti] = [ti for ti in run.get_task_instances() if ti.task_id == "wait"]
    assert ti.xcom_pull(task_ids="wait") == {"approved": True, "of": "tokens"}
    token = client.tokens.create(idempotency_key="in-a-dag", timeout="3600s")
    assert ti.xcom_pull(task_ids="ask") == ti.xcom_pull(task_ids="answer") == token.id
    stored = b"".join(path.read_bytes() for path in airflow_db.parent.glob("airflow.db*"))
    assert token.id.encode() in stored
    secrets = (control_plane.api_key, token.public_access_token, (token.callback_url or "").rsplit("/", 1)[-1])
    for secret in secrets:
        assert secret
        assert secret.encode() not in stored
        # At the level of debugging, Airflow 3.0 itself logs the message by which a secret is to be masked.
        assert not [line for line in text.splitlines() if secret in line and "MaskSecret(value=" not in line]


# Cancelling


def cancel(token_id: str, **options: Any) -> str:
    operator = HelmrCancelTokenOperator(task_id="withdraw", token_id=token_id, **options)
    try:
        return operator.execute(context())
    finally:
        operator.hook.client.close()


def test_a_token_is_cancelled_and_a_retry_succeeds(helmr_connection: str, client: HelmrClient) -> None:
    token_id = client.tokens.create().id
    assert cancel(token_id) == "cancelled"
    assert client.tokens.retrieve(token_id).status == "cancelled"
    assert cancel(token_id) == "cancelled"


def test_an_expired_token_needs_no_cancelling(helmr_connection: str, client: HelmrClient) -> None:
    assert cancel(client.tokens.create(timeout="1ms").id) == "expired"


def test_a_completed_token_cannot_be_taken_back(helmr_connection: str, client: HelmrClient) -> None:
    token_id = client.tokens.create().id
    client.tokens.complete(token_id, 1)
    with pytest.raises(AirflowFailException, match="completed before"):
        cancel(token_id)
    assert cancel(token_id, completed_ok=True) == "completed"


def test_an_unknown_token_cannot_be_cancelled(helmr_connection: str) -> None:
    with pytest.raises(AirflowFailException, match="token_not_found"):
        cancel("00000000-0000-7000-8000-000000000000", completed_ok=True)


@pytest.mark.usefixtures("helmr_connection")
def test_cancelling_without_a_token_id_is_reported() -> None:
    with pytest.raises(AirflowFailException, match="token_id must be an id"):
        cancel("None")


def test_a_token_names_its_task_instance_and_the_log_and_the_link_lead_to_its_page(
    helmr_connection: str, client: HelmrClient, control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    pushed: dict[str, Any] = {}
    where = context()
    where["ti"].xcom_push = lambda key, value: pushed.update({key: value})
    token_id = create(where, metadata={"pull": 12})
    page = f"{control_plane.url}/tokens/{token_id}"
    assert pushed == {"_link_HelmrTokenLink": page}
    assert page in task_log()
    metadata = client.tokens.retrieve(token_id).metadata
    assert metadata["pull"] == 12
    assert {name: metadata["airflow"][name] for name in ("dag_id", "run_id", "task_id", "map_index")} == {
        "dag_id": "dag",
        "run_id": "manual__1",
        "task_id": "ask",
        "map_index": -1,
    }


def test_a_token_with_a_key_of_the_author_s_names_no_task(helmr_connection: str, client: HelmrClient) -> None:
    first = create(idempotency_key="mine")
    assert create(context(task_id="another"), idempotency_key="mine") == first
    assert client.tokens.retrieve(first).metadata == {}


def test_a_token_of_an_earlier_release_is_found_by_the_retry(helmr_connection: str, client: HelmrClient) -> None:
    key = HelmrCreateTokenOperator(task_id="ask")._once_key(context())
    earlier = client.tokens.create(metadata={"pull": 1}, idempotency_key=key).id
    assert create(context(try_number=2), metadata={"pull": 1}) == earlier

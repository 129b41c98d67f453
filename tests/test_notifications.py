"""Telling a session what has happened in Airflow: once for each event, from a worker or the triggerer."""

from __future__ import annotations

import inspect
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import DAG
from blockbuster import blockbuster_ctx

from helmr_provider.get_provider_info import get_provider_info
from helmr_provider.local import LocalControlPlane
from helmr_provider.notifications import HelmrNotifier
from tests.support.conversations import talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.client import HelmrClient

pytestmark = pytest.mark.usefixtures("helmr_connection")

MESSAGE = {"text": "{{ ti.task_id }} of {{ dag.dag_id }} is {{ ti.state }}", "tries": ["{{ ti.try_number }}"], "n": 1}
HAS_ASYNC = "context" in inspect.signature(BaseNotifier).parameters


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane([talk]) as server:
        yield server


@pytest.fixture
def session_id(client: HelmrClient) -> str:
    """A session that takes no messages by itself."""
    return client.sessions.start("talk", {"turns": [["take asides"]]}, external_id="on-call").session.id


def failed(**ti: Any) -> Any:
    """The context of a failure."""
    members = {
        "id": uuid.uuid4(),
        "dag_id": "nightly",
        "run_id": "manual",
        "task_id": "build",
        "map_index": -1,
        "try_number": 2,
        "state": "failed",
        **ti,
    }
    started = datetime(2026, 11, 24, tzinfo=UTC)
    dag_run = SimpleNamespace(dag_id="nightly", run_id="manual", start_date=started, state="running")
    instance = SimpleNamespace(**members)
    return {"dag": DAG("nightly", schedule=None), "ti": instance, "task_instance": instance, "dag_run": dag_run}


def a_notifier(**options: Any) -> HelmrNotifier:
    return HelmrNotifier(**{"external_id": "on-call", "stream": "messages", "message": MESSAGE, **options})


def sent(client: HelmrClient, session_id: str) -> list[Any]:
    return [record.data for record in client.sessions.open(session_id).input("messages").list()]


def test_the_message_is_rendered_and_sent(client: HelmrClient, session_id: str) -> None:
    a_notifier(correlation_id="{{ run_id }}", content_type="application/vnd.acme+json")(
        {**failed(), "run_id": "manual"}
    )
    [record] = client.sessions.open(session_id).input("messages").list()
    assert record.data == {"text": "build of nightly is failed", "tries": ["2"], "n": 1}
    assert (record.correlation_id, record.content_type) == ("manual", "application/vnd.acme+json")


def test_an_event_is_sent_once_however_often_airflow_calls(client: HelmrClient, session_id: str) -> None:
    for _ in range(3):
        a_notifier()(failed())
    assert len(sent(client, session_id)) == 1


@pytest.mark.parametrize(
    "other",
    [{"try_number": 3}, {"state": "up_for_retry"}, {"map_index": 1}, {"task_id": "test"}, {"run_id": "other"}],
    ids=str,
)
def test_another_event_is_sent_too(client: HelmrClient, session_id: str, other: dict[str, Any]) -> None:
    a_notifier(message="same")(failed())
    a_notifier(message="same")(failed(**other))
    assert len(sent(client, session_id)) == 2


def test_two_messages_of_one_event_are_both_sent(client: HelmrClient, session_id: str) -> None:
    a_notifier(message="one")(failed())
    a_notifier(message="two")(failed())
    assert sent(client, session_id) == ["one", "two"]


def test_a_dag_run_s_event_needs_no_task(client: HelmrClient, session_id: str) -> None:
    for reason in ("all_done", "all_done", "timed_out"):
        context = failed()
        a_notifier(message="dag")({"dag": context["dag"], "dag_run": context["dag_run"], "reason": reason})
    assert len(sent(client, session_id)) == 2


def test_without_an_event_to_name_each_call_is_sent(client: HelmrClient, session_id: str) -> None:
    for _ in range(2):
        a_notifier(message="hi")({"dag": DAG("nightly", schedule=None)})
    assert sent(client, session_id) == ["hi", "hi"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"external_id": "nobody"}, "session not found"),
        ({"external_id": None, "session_id": "None"}, "session_id must be an id"),
        ({"stream": "nope"}, "stream_not_found"),
        ({"stream": "a b"}, "A stream name"),
        ({"message": {1, 2}}, "JSON"),
        ({"helmr_conn_id": "nowhere"}, "nowhere"),
    ],
)
@pytest.mark.usefixtures("session_id")
async def test_what_can_not_be_sent_is_logged_and_fails_nothing(
    options: dict[str, Any], said: str, logged: Callable[[], str]
) -> None:
    notifier = a_notifier(**options)
    notifier.notify(failed())
    once = logged()
    assert "The notification was not sent" in once
    assert said in once
    await notifier.async_notify(failed())
    assert said in logged()


def test_a_rejected_key_is_not_shown(
    control_plane: LocalControlPlane, connect: Callable[..., str], logged: Callable[[], str]
) -> None:
    connect(host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    a_notifier().notify(failed())
    text = logged()
    assert "was not sent" in text
    assert "hlmr_sk_" not in text


def test_an_outage_is_logged(control_plane: LocalControlPlane, logged: Callable[[], str]) -> None:
    control_plane.stop_listening()
    a_notifier().notify(failed())
    assert "was not sent" in logged()
    control_plane.listen_again()


@pytest.mark.skipif(not HAS_ASYNC, reason="notifiers are awaited from Airflow 3.1 on")
async def test_a_missed_deadline_is_sent_once_without_blocking_the_loop(client: HelmrClient, session_id: str) -> None:
    context: Any = {
        "dag_run": {"dag_id": "nightly", "dag_run_id": "manual"},
        "deadline": {"id": "01a2-deadline", "deadline_time": datetime(2026, 11, 24, tzinfo=UTC)},
    }
    message = "{{ dag_run.dag_run_id }} is late: {{ deadline.deadline_time }}"
    with blockbuster_ctx(scanned_modules=["helmr_provider"], excluded_modules=["helmr_provider.local"]):
        for _ in range(2):
            await a_notifier(message=message, context=context)
    assert sent(client, session_id) == ["manual is late: 2026-11-24 00:00:00+00:00"]


def test_one_session_must_be_named() -> None:
    with pytest.raises(ValueError, match="either session_id or external_id"):
        HelmrNotifier(stream="messages", message="hi")


def test_airflow_knows_the_notifier() -> None:
    assert get_provider_info()["notifications"] == ["helmr_provider.notifications.HelmrNotifier"]


def test_a_failing_task_of_a_dag_is_reported(client: HelmrClient, session_id: str, run_dag: Callable[..., Any]) -> None:
    from airflow.providers.common.compat.sdk import BaseOperator

    class Fails(BaseOperator):  # type: ignore[misc,unused-ignore]
        def execute(self, context: Any) -> None:
            raise RuntimeError("no")

    with DAG("notifies", schedule=None) as dag:
        Fails(task_id="build", on_failure_callback=a_notifier(message="{{ ti.task_id }} failed"))
    run_dag(dag)
    assert sent(client, session_id) == ["build failed"]


class Plain:
    """Its text contains its address."""


def test_the_key_of_an_event_does_not_depend_on_addresses() -> None:
    def key(reason: Any, message: Any = "x") -> str | None:
        return a_notifier(message=message)._key({**failed(), "reason": reason})

    kept = [Plain(), Plain()]
    assert str(kept[0]) != str(kept[1])
    assert key(kept[0]) == key(kept[1])
    assert key("one") != key("other")
    assert key("one", {"a": 1}) != key("one", {"a": 2})


def test_a_message_that_is_not_json_is_logged_and_not_sent(
    client: HelmrClient, session_id: str, logged: Callable[[], str]
) -> None:
    a_notifier(message={"text": Plain()})(failed())
    assert "The message is not JSON" in logged()
    assert sent(client, session_id) == []

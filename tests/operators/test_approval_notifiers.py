"""Notifiers of a question: called when it can be answered, and harmless when they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import DAG

from helmr_provider._approvals.hitl import AVAILABLE
from helmr_provider.operators.approval import HelmrApprovalOperator
from tests.support.required_actions import RequiredActions
from tests.support.task_attempts import TaskRun, deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection", "required_actions")


@pytest.fixture
def required_actions(monkeypatch: pytest.MonkeyPatch) -> RequiredActions | None:
    return RequiredActions.of(monkeypatch) if AVAILABLE else None


def a_question(**options: Any) -> TaskRun:
    return TaskRun(lambda: HelmrApprovalOperator(task_id="ask", subject="Publish?", **options))


def test_notifiers_are_called_when_the_question_is_there_with_its_address(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    received: list[Any] = []

    class Notifier(BaseNotifier):
        template_fields = ("message",)

        def __init__(self) -> None:
            super().__init__()
            self.message = "{{ helmr_approval.subject }} {{ helmr_approval.url }}"

        def notify(self, context: Any) -> None:
            received.append((self.message, client.tokens.retrieve(context["helmr_approval"]["token_id"]).status))

    with DAG("nightly", schedule=None) as dag:
        pass
    attempt = a_question(notifiers=[Notifier(), lambda context: received.append(context["ti"].task_id)]).start()
    attempt.context["dag"] = dag
    deferred(attempt.execute())
    page = f"{control_plane.url}/tokens/{attempt.xcoms['token_id']}"
    assert received == [(f"Publish? {page}", "pending"), "ask"]


def test_a_notifier_that_fails_costs_only_a_log_line(client: HelmrClient, task_log: Callable[[], str]) -> None:
    received: list[str] = []

    def fails(context: Any) -> None:
        raise RuntimeError("the chat is down")

    attempt = a_question(notifiers=[fails, lambda context: received.append("later")]).start()
    deferred(attempt.execute())
    assert received == ["later"]
    assert client.tokens.retrieve(attempt.xcoms["token_id"]).is_pending
    assert "could not notify about 'Publish?'" in task_log()


def test_an_answered_question_notifies_no_one(client: HelmrClient) -> None:
    received: list[str] = []
    task = a_question(notifiers=[lambda context: received.append("called")])
    first = task.start()
    deferred(first.execute())
    client.tokens.complete(first.xcoms["token_id"], "Approve")
    assert task.start().execute()["chosen"] == ["Approve"]
    assert received == ["called"]

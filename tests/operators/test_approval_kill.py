"""Workers of approvals that are stopped: the question is withdrawn when nothing would wait for its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider._approvals.hitl import AVAILABLE
from helmr_provider.operators.approval import HelmrApprovalOperator
from tests.support.required_actions import RequiredActions
from tests.support.task_attempts import TaskRun, deferred
from tests.support.task_states import set_task_state

if TYPE_CHECKING:
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.tokens import Token
    from helmr_provider.local import LocalControlPlane
    from tests.support.task_attempts import Try

pytestmark = pytest.mark.usefixtures("helmr_connection", "required_actions")


@pytest.fixture
def required_actions(monkeypatch: pytest.MonkeyPatch) -> RequiredActions | None:
    return RequiredActions.of(monkeypatch) if AVAILABLE else None


def a_question(**options: Any) -> TaskRun:
    return TaskRun(lambda: HelmrApprovalOperator(**{"task_id": "ask", "subject": "Publish?", **options}))


def defer(attempt: Try) -> None:
    deferred(attempt.execute())


def token_of(client: HelmrClient, attempt: Try) -> Token:
    return client.tokens.retrieve(attempt.xcoms["token_id"])


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize(
    ("state", "status"), [("deferred", "pending"), ("running", "pending"), ("failed", "cancelled")]
)
def test_a_stopped_worker_withdraws_the_question_only_for_a_user(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, state: str, status: str, retries: int
) -> None:
    set_task_state(monkeypatch, state)
    task = a_question()
    task.max_tries = retries
    attempt = task.start()
    defer(attempt)
    attempt.operator.on_kill()
    assert token_of(client, attempt).status == status


def test_a_worker_that_is_stopped_before_it_defers_in_the_last_try_withdraws_the_question(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "running")
    task = a_question()
    task.max_tries = 0
    attempt = task.start()
    defer(attempt)
    attempt.operator._attempt.is_handed_over = False
    attempt.operator.on_kill()
    assert token_of(client, attempt).status == "cancelled"


def test_a_task_that_is_killed_cancels_only_a_token_of_its_own(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    task = a_question()
    task.max_tries = 0
    attempt = task.start()
    defer(attempt)
    other = client.tokens.create().id
    attempt.operator._ids["token_id"] = other
    attempt.operator.on_kill()
    assert client.tokens.retrieve(other).is_pending


def test_a_task_that_is_killed_before_it_has_asked_has_nothing_to_cancel(control_plane: LocalControlPlane) -> None:
    a_question().start().operator.on_kill()
    assert control_plane.journal == []

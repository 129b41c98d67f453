"""Waiting for a person in the triggerer: an answer on either side closes both; withdrawn questions."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx

from helmr_provider._approvals.hitl import AVAILABLE
from helmr_provider._approvals.question import Question
from helmr_provider.client import AsyncHelmrClient
from helmr_provider.triggers import approval
from helmr_provider.triggers.approval import HelmrApprovalTrigger
from tests.support import task_states
from tests.support.journal import requests_of
from tests.support.polling import until_async
from tests.support.required_actions import RequiredActions
from tests.support.task_attempts import stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from helmr_provider.client.models.tokens import Token
    from helmr_provider.local import LocalControlPlane

STORED = sorted((Path(__file__).parent / "stored").glob("approval-*.json"))
QUESTION = Question(subject="Publish?", options=("Approve", "Reject"), rejections=("Reject",))
in_airflow = pytest.mark.skipif(not AVAILABLE, reason="this version of Airflow has no Required Actions")


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
@pytest.mark.parametrize("form", ["smallest", "largest"])
def test_what_a_release_has_stored_can_be_resumed_by_every_later_one(path: Path, form: str) -> None:
    class_path, kwargs = json.loads(path.read_text())[form]
    trigger = HelmrApprovalTrigger(**kwargs)
    assert class_path == f"{HelmrApprovalTrigger.__module__}.{HelmrApprovalTrigger.__qualname__}"
    assert {name: getattr(trigger, name) for name in kwargs} == kwargs


@pytest.mark.parametrize("form", ["smallest", "largest"])
def test_this_release_stores_what_the_newest_file_says(form: str) -> None:
    class_path, kwargs = json.loads(STORED[-1].read_text())[form]
    assert HelmrApprovalTrigger(**kwargs).serialize() == (class_path, kwargs)


class PendingApproval:
    """A question whose operator has deferred, and its trigger."""

    def __init__(
        self, client: AsyncHelmrClient, token: Token, required_actions: RequiredActions | None, conn_id: str
    ) -> None:
        self.client = client
        self.token_id = token.id
        self.required_actions = required_actions
        self.ti: Any = SimpleNamespace(id=uuid.uuid4(), dag_id="d", run_id="r", task_id="t", map_index=-1)
        self.attempt: Any = SimpleNamespace(ti=self.ti)
        self.trigger = stored(
            HelmrApprovalTrigger(
                token_id=token.id,
                helmr_conn_id=conn_id,
                owner="me",
                ti_id=None if required_actions is None else str(self.ti.id),
            )
        )
        self.trigger.task_instance = self.ti
        if required_actions is not None:
            required_actions.rows[str(self.ti.id)] = {"responded_at": None, "responded_by": None, "params_input": {}}
            required_actions.rows[str(self.ti.id)]["chosen_options"] = None

    async def events(self) -> list[Any]:
        return [event.payload async for event in self.trigger.run()]

    async def token(self) -> Token:
        return await self.client.tokens.retrieve(self.token_id)

    async def until_polled(self, control_plane: LocalControlPlane) -> asyncio.Task[list[Any]]:
        """Start the trigger, and wait for its first poll."""
        control_plane.clear_journal()
        waiting = asyncio.create_task(self.events())
        await until_async(lambda: requests_of(control_plane, "getToken", "listTokens"))
        return waiting


@pytest.fixture
def required_actions(monkeypatch: pytest.MonkeyPatch) -> RequiredActions | None:
    return RequiredActions.of(monkeypatch) if AVAILABLE else None


@pytest.fixture
async def ask(
    control_plane: LocalControlPlane, helmr_connection: str, required_actions: RequiredActions | None
) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key) as client:

        async def ask(question: Question = QUESTION, **options: Any) -> PendingApproval:
            metadata = {"airflow": {"owner": "me"}, **question.metadata}
            pending = PendingApproval(
                client, await client.tokens.create(metadata=metadata), required_actions, helmr_connection
            )
            for name, value in options.items():
                setattr(pending.trigger, name, value)
            return pending

        yield ask


async def test_an_answer_in_helmr_ends_the_wait_and_is_shown_in_airflow(
    ask: Any, control_plane: LocalControlPlane, required_actions: Any
) -> None:
    pending = await ask()
    waiting = await pending.until_polled(control_plane)
    await pending.client.tokens.complete(pending.token_id, {"approved": True, "note": "fine"})
    assert await waiting == [{"schema": 1, "status": "ended", "token_id": pending.token_id}]
    if required_actions is not None:
        row = required_actions.row(pending.attempt)
        assert (row["chosen_options"], row["params_input"]) == (["Approve"], {"note": "fine"})


@in_airflow
async def test_an_answer_in_airflow_before_the_wait_completes_the_token(
    ask: Any, required_actions: RequiredActions
) -> None:
    pending = await ask()
    required_actions.answer(pending.attempt, "Reject", by="ada")
    [event] = await pending.events()
    assert event["status"] == "ended"
    data = (await pending.token()).data
    assert (data["chosen"], data["by"], data["via"]) == (["Reject"], "ada", "airflow")


@in_airflow
@pytest.mark.parametrize("side", ["airflow", "helmr"])
async def test_where_airflow_does_not_resume_the_task_itself_the_trigger_polls(
    ask: Any,
    control_plane: LocalControlPlane,
    required_actions: RequiredActions,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
) -> None:
    monkeypatch.setattr(approval, "AIRFLOW_V_3_3_PLUS", False)
    pending = await ask()
    waiting = await pending.until_polled(control_plane)
    if side == "airflow":
        required_actions.answer(pending.attempt, "Approve")
    else:
        await pending.client.tokens.complete(pending.token_id, "Approve")
    [event] = await waiting
    assert event["status"] == "ended"
    assert (await pending.token()).status == "completed"
    assert required_actions.row(pending.attempt)["chosen_options"] == ["Approve"]


@in_airflow
async def test_the_deadline_counts_where_the_trigger_polls_too(
    ask: Any, required_actions: RequiredActions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval, "AIRFLOW_V_3_3_PLUS", False)
    pending = await ask(deadline=time.time() + 0.2)
    assert (await pending.events())[0]["status"] == "timeout"


@in_airflow
async def test_an_airflow_that_cannot_be_asked_does_not_end_the_wait(
    ask: Any, control_plane: LocalControlPlane, required_actions: RequiredActions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval, "AIRFLOW_V_3_3_PLUS", False)
    pending = await ask()
    required_actions.down = True
    waiting = await pending.until_polled(control_plane)
    await pending.client.tokens.complete(pending.token_id, "Approve")
    [event] = await waiting
    assert event["status"] == "ended"


@in_airflow
@pytest.mark.parametrize("polls_both", [True, False])
async def test_in_a_terminal_the_trigger_makes_no_request_that_airflow_refuses(
    ask: Any,
    control_plane: LocalControlPlane,
    required_actions: RequiredActions,
    monkeypatch: pytest.MonkeyPatch,
    polls_both: bool,
) -> None:
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    requests: list[str] = []

    def serve(message: Any, *_: Any) -> None:
        requests.append(type(message).__name__)
        comms.messages.append(required_actions.send(message))

    # As `airflow dags test` runs triggers: it logs every request about a question as an error.
    supervisor: Any = SimpleNamespace(_handle_request=serve)
    comms = InProcessSupervisorComms(supervisor=supervisor)
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", comms)
    monkeypatch.setattr(approval, "AIRFLOW_V_3_3_PLUS", not polls_both)
    pending = await ask()
    waiting = await pending.until_polled(control_plane)
    await pending.client.tokens.complete(pending.token_id, "Approve")
    [event] = await waiting
    assert event["status"] == "ended"
    assert [request for request in requests if "HITL" in request] == []


@in_airflow
async def test_of_two_simultaneous_answers_the_token_is_first(ask: Any, required_actions: RequiredActions) -> None:
    pending = await ask()
    required_actions.answer(pending.attempt, "Approve")
    await pending.client.tokens.complete(pending.token_id, "Reject")
    [event] = await pending.events()
    assert event["status"] == "ended"
    assert (await pending.token()).data == "Reject"


@pytest.mark.parametrize("data", ["Perhaps", None], ids=repr)
async def test_what_is_no_answer_ends_the_wait_too(ask: Any, required_actions: Any, data: Any) -> None:
    pending = await ask()
    await pending.client.tokens.complete(pending.token_id, data)
    [event] = await pending.events()
    assert event["status"] == "ended"
    assert required_actions is None or required_actions.row(pending.attempt)["responded_at"] is None


# The deadline


@pytest.mark.parametrize("late_by", [-0.2, 60], ids=["in time", "long past"])
async def test_the_default_is_taken_on_both_sides(ask: Any, required_actions: Any, late_by: float) -> None:
    question = Question(subject="?", options=("A", "B"), defaults=("B",), params={"x": {"value": 1}})
    pending = await ask(question, deadline=time.time() - late_by)
    [event] = await pending.events()
    assert event["status"] == "ended"
    data = (await pending.token()).data
    assert (data["chosen"], data["params"], data["via"]) == (["B"], {"x": 1}, "default")
    assert required_actions is None or required_actions.row(pending.attempt)["chosen_options"] == ["B"]


async def test_an_answer_is_not_overruled_by_the_default(ask: Any, required_actions: Any) -> None:
    question = Question(subject="?", options=("A", "B"), defaults=("B",))
    pending = await ask(question, deadline=time.time() - 60)
    if required_actions is not None:
        required_actions.answer(pending.attempt, "A")
    else:
        await pending.client.tokens.complete(pending.token_id, "A")
    [event] = await pending.events()
    assert event["status"] == "ended"
    data = (await pending.token()).data
    assert (data if isinstance(data, str) else data["chosen"][0]) == "A"


async def test_without_a_default_the_worker_learns_of_the_deadline(ask: Any) -> None:
    pending = await ask(deadline=time.time() + 0.1)
    assert await pending.events() == [
        {"schema": 1, "status": "timeout", "deadline": pending.trigger.deadline, "token_id": pending.token_id}
    ]
    assert (await pending.token()).is_pending


async def test_at_the_deadline_a_control_plane_that_is_down_is_left_to_the_worker(
    ask: Any, control_plane: LocalControlPlane
) -> None:
    pending = await ask(deadline=time.time() - 1)
    await asyncio.to_thread(control_plane.stop_listening)
    assert (await pending.events())[0]["status"] == "timeout"
    await asyncio.to_thread(control_plane.listen_again)


# Being killed


@pytest.fixture
def set_task_state(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Let Airflow answer with a task state."""

    return partial(task_states.set_task_state, monkeypatch)


async def kill(waiting: asyncio.Task[Any], trigger: HelmrApprovalTrigger) -> None:
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await trigger.cleanup()
    await trigger.on_kill()


@pytest.mark.parametrize("state", ["failed", "success", None])
async def test_a_task_that_a_user_has_ended_withdraws_its_question(
    ask: Any, set_task_state: Any, control_plane: LocalControlPlane, state: str | None
) -> None:
    pending = await ask()
    set_task_state(state)
    await kill(await pending.until_polled(control_plane), pending.trigger)
    assert (await pending.token()).status == "cancelled"


async def test_a_trigger_that_only_moves_to_another_triggerer_withdraws_nothing(
    ask: Any, set_task_state: Any, control_plane: LocalControlPlane
) -> None:
    pending = await ask()
    set_task_state("deferred")
    await kill(await pending.until_polled(control_plane), pending.trigger)
    assert (await pending.token()).is_pending


async def test_a_token_with_another_stamp_is_left_alone(
    ask: Any, set_task_state: Any, control_plane: LocalControlPlane
) -> None:
    pending = await ask(owner="somebody else")
    set_task_state("failed")
    await kill(await pending.until_polled(control_plane), pending.trigger)
    assert (await pending.token()).is_pending


@in_airflow
async def test_an_answer_in_airflow_ends_the_trigger_but_not_the_token(
    ask: Any, set_task_state: Any, control_plane: LocalControlPlane, required_actions: RequiredActions
) -> None:
    pending = await ask()
    waiting = await pending.until_polled(control_plane)
    required_actions.answer(pending.attempt, "Approve")
    set_task_state("scheduled")
    await kill(waiting, pending.trigger)
    assert (await pending.token()).is_pending, "the task completes it"


@in_airflow
async def test_what_the_next_try_may_wait_for_is_left_to_it(
    ask: Any, set_task_state: Any, control_plane: LocalControlPlane, required_actions: RequiredActions
) -> None:
    pending = await ask()
    waiting = await pending.until_polled(control_plane)
    required_actions.clear(pending.attempt)
    set_task_state("scheduled")
    await kill(waiting, pending.trigger)
    assert (await pending.token()).is_pending


async def test_waiting_does_not_block_the_event_loop(
    ask: Any, control_plane: LocalControlPlane, required_actions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval, "AIRFLOW_V_3_3_PLUS", False)
    pending = await ask()
    # The control plane runs in this process, on a loop of its own; it may do as it likes.
    with blockbuster_ctx(scanned_modules=["helmr_provider"], excluded_modules=["helmr_provider.local"]):
        waiting = await pending.until_polled(control_plane)
        await pending.client.tokens.complete(pending.token_id, "Approve")
        [event] = await waiting
    assert event["status"] == "ended"

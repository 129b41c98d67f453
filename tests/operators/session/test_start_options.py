"""Typed targets: the payload is checked before anything is sent, and the task's id is what Airflow shows and stores."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from pydantic import BaseModel, TypeAdapter

from helmr_provider.client import Task
from helmr_provider.operators.session import HelmrStartSessionOperator
from tests.support.serialized_dags import stored_form
from tests.support.session_tasks import a_task, starts
from tests.support.task_attempts import both_ways, deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.local import LocalControlPlane


class Review(BaseModel):
    repository: str
    depth: int = 1


@dataclass
class Pair:
    left: int
    right: int


REVIEW = Task("echo", payload=Review, output=Review, max_duration=60)


@pytest.mark.usefixtures("helmr_connection")
@both_ways
def test_a_payload_that_fits_is_sent_with_the_task_s_time_limit(
    control_plane: LocalControlPlane, deferrable: bool
) -> None:
    payload = {"repository": "acme/web"}
    assert a_task(task=REVIEW, payload=payload, deferrable=deferrable).start().finish() == payload
    [start] = starts(control_plane)
    assert isinstance(start.body, dict)
    assert (start.body["task_id"], start.body["max_duration_seconds"]) == ("echo", 60)
    assert start.body["payload"] == payload


@pytest.mark.usefixtures("helmr_connection")
def test_the_operator_s_time_limit_goes_before_the_task_s(control_plane: LocalControlPlane) -> None:
    a_task(task=Task("echo"), wait_for_completion=False).start().execute()
    a_task(task=Task("echo"), max_duration=90, wait_for_completion=False, run_id="other").start().execute()
    limits = [start.body["max_duration_seconds"] for start in starts(control_plane) if isinstance(start.body, dict)]
    assert limits == [900, 90]


@pytest.mark.usefixtures("helmr_connection")
@pytest.mark.parametrize(
    ("target", "payload", "sent"),
    [
        (REVIEW, Review(repository="acme/web"), {"repository": "acme/web", "depth": 1}),
        (Task("echo", payload=Pair), Pair(1, 2), {"left": 1, "right": 2}),
        (Task("echo", payload=TypeAdapter(int | None)), None, None),
    ],
    ids=["a model", "a dataclass", "an adapter"],
)
def test_a_payload_may_be_an_instance_of_the_type(
    control_plane: LocalControlPlane, target: Any, payload: Any, sent: Any
) -> None:
    assert a_task(task=target, payload=payload).start().finish() == sent


@pytest.mark.usefixtures("helmr_connection")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": REVIEW, "payload": {"depth": 2}}, r"'echo'.*Review: repository"),
        ({"task": REVIEW, "payload": None}, "Review"),
        ({"task": REVIEW}, "needs a payload"),
        ({"task": Task("echo"), "payload": 1}, "takes no payload"),
        ({"task": Task("no such task")}, "task id"),
        ({"task": Task("echo", max_duration=1)}, "max_duration"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_request(
    control_plane: LocalControlPlane, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        a_task(**options).start().execute()
    assert control_plane.journal == []


@pytest.mark.usefixtures("helmr_connection")
def test_a_retry_adopts_the_run_of_a_typed_target(
    control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    control_plane.pause_worker()
    task = a_task(task=REVIEW, payload=Review(repository="acme/web"), deferrable=True)
    first = task.start()
    deferred(first.execute())
    task_log()
    second = task.start()
    deferred(second.execute())
    assert second.xcoms["run_id"] == first.xcoms["run_id"]
    assert "differs in" not in task_log()


def typed_dag() -> DAG:
    with DAG(dag_id="typed", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        HelmrStartSessionOperator(
            task_id="one",
            task=Task("echo", payload=TypeAdapter(dict[str, int])),
            payload={"n": 1},
        )
        HelmrStartSessionOperator.partial(task_id="many", task=REVIEW).expand(payload=[{"repository": "a"}])
        HelmrStartSessionOperator.partial(task_id="any", payload={"repository": "a"}).expand(task=[REVIEW, "echo"])
    return dag


def test_a_dag_with_typed_targets_is_stored_the_same_each_time_and_shows_ids() -> None:
    first, second = stored_form(typed_dag()), stored_form(typed_dag())
    assert first == second
    said = str(first)
    assert " at 0x" not in said
    assert "Review" not in said
    assert "echo" in said


def test_a_typed_target_stays_itself_when_an_operator_is_copied() -> None:
    operator: Any = typed_dag().get_task("one")
    assert copy.deepcopy(operator).task is operator.task


@pytest.mark.usefixtures("helmr_connection")
def test_mapped_tasks_take_typed_targets(run_dag: Callable[..., Any], control_plane: LocalControlPlane) -> None:
    with DAG(dag_id="typed_targets", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        HelmrStartSessionOperator(
            task_id="one", task=REVIEW, payload={"repository": "{{ dag.dag_id }}"}, deferrable=True
        )
        HelmrStartSessionOperator.partial(task_id="many", task=REVIEW).expand(
            payload=[{"repository": "a"}, {"repository": "b"}]
        )
        HelmrStartSessionOperator.partial(task_id="any", payload={"repository": "c"}).expand(task=[REVIEW, "echo"])
    assert run_dag(dag).state == "success"
    bodies = [entry.body for entry in starts(control_plane) if isinstance(entry.body, dict)]
    assert sorted(body["payload"]["repository"] for body in bodies) == ["a", "b", "c", "c", "typed_targets"]
    assert {body["task_id"] for body in bodies} == {"echo"}
    # The plain id brings no limit.
    assert sorted(body.get("max_duration_seconds", 0) for body in bodies) == [0, 60, 60, 60, 60]

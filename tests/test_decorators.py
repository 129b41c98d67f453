"""``@task.helmr_session``: the function makes the payload, the task is a session like any other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, task
from pydantic import BaseModel

from helmr_provider.client import Task
from helmr_provider.decorators import _HelmrSessionDecoratedOperator, helmr_session_task
from helmr_provider.get_provider_info import get_provider_info
from tests.support.serialized_dags import stored_form
from tests.support.session_tasks import starts
from tests.support.task_attempts import TaskRun, deferred, fire

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.local import LocalControlPlane

START = datetime(2026, 1, 1, tzinfo=UTC)


class Review(BaseModel):
    repository: str


REVIEW: Task[Review, Any] = Task("echo", payload=Review, max_duration=60)


def payloads(control_plane: LocalControlPlane) -> list[Any]:
    return [entry.body["payload"] for entry in starts(control_plane) if isinstance(entry.body, dict)]


def decorated(function: Callable[..., Any], **options: Any) -> TaskRun:
    """A task run of a decorated function, outside a DAG."""
    options = {"task": "echo", "task_id": "summary", **options}
    return TaskRun(lambda: _HelmrSessionDecoratedOperator(python_callable=function, **options))


def test_airflow_offers_it_under_its_name() -> None:
    [declared] = get_provider_info()["task-decorators"]
    assert declared["class-name"] == f"{helmr_session_task.__module__}.{helmr_session_task.__qualname__}"
    assert callable(getattr(task, declared["name"]))


@pytest.mark.usefixtures("helmr_connection")
@pytest.mark.parametrize("deferrable", [False, True], ids=["on workers", "deferred"])
def test_a_dag_runs_sessions_with_what_functions_return(
    run_dag: Callable[..., Any], control_plane: LocalControlPlane, deferrable: bool
) -> None:
    seen: list[Any] = []
    with DAG(dag_id=f"decorated_{deferrable}", schedule=None, start_date=START, params={"who": "Ada"}) as dag:

        @task.helmr_session(task="echo", deferrable=deferrable)
        def greet(word: str, params: Any = None) -> dict[str, Any]:
            return {word: params["who"], "kept": "{{ dag.dag_id }}"}

        @task.helmr_session(task=REVIEW, deferrable=deferrable)
        def review(repository: str, prefix: str) -> Review:
            return Review(repository=f"{prefix}/{repository}")

        @task
        def use(greeting: Any, reviews: Any, other: Any) -> None:
            seen.extend([greeting, list(reviews), other])

        reviews = review.partial(prefix="acme").expand(repository=["web", "api"])
        other = greet.override(task_id="other", result="snapshot")("bye")
        use(greet("{{ 'hel' ~ 'lo' }}"), reviews, other)

    assert run_dag(dag).state == "success"
    assert seen[0] == {"hello": "Ada", "kept": "{{ dag.dag_id }}"}
    assert seen[1] == [{"repository": "acme/web"}, {"repository": "acme/api"}]
    assert len(starts(control_plane)) == 4
    names = {
        start.body["external_id"].split(":", 1)[1] for start in starts(control_plane) if isinstance(start.body, dict)
    }
    assert {name.rsplit(":", 3)[1] for name in names} == {"greet", "review", "other"}
    assert {name.rsplit(":", 3)[2] for name in names if ":review:" in name} == {"0", "1"}


@pytest.mark.usefixtures("helmr_connection")
def test_the_function_is_called_once_however_often_the_task_defers() -> None:
    calls: list[int] = []

    def payload() -> int:
        calls.append(1)
        return len(calls)

    attempt = decorated(payload, deferrable=True).start()
    first = deferred(attempt.execute())
    fired = fire(first)
    assert attempt.resume(first, fired) == 1
    assert attempt.lose_trigger() == 1
    assert calls == [1]


@pytest.mark.usefixtures("helmr_connection")
def test_the_payload_of_an_adopted_run_wins(control_plane: LocalControlPlane, task_log: Callable[[], str]) -> None:
    control_plane.pause_worker()
    calls: list[int] = []

    def payload() -> int:
        calls.append(1)
        return len(calls)

    run = decorated(payload, deferrable=True)
    deferred(run.start().execute())
    retry = run.start()
    deferral = deferred(retry.execute())
    assert "differs in payload" in task_log()
    control_plane.resume_worker()
    assert retry.resume(deferral, fire(deferral)) == 1
    assert payloads(control_plane) == [1]


@pytest.mark.usefixtures("helmr_connection")
def test_a_task_that_takes_no_payload_is_started_without_one(control_plane: LocalControlPlane) -> None:
    decorated(lambda: None, task=Task("echo"), wait_for_completion=False).start().execute()
    [start] = starts(control_plane)
    assert isinstance(start.body, dict)
    assert "payload" not in start.body


@pytest.mark.usefixtures("helmr_connection")
def test_nothing_is_a_payload_too(control_plane: LocalControlPlane) -> None:
    assert decorated(lambda: None).start().finish() is None
    assert payloads(control_plane) == [None]


@pytest.mark.usefixtures("helmr_connection")
def test_a_payload_that_does_not_fit_fails_before_any_request(control_plane: LocalControlPlane) -> None:
    with pytest.raises(AirflowException, match=r"Review: repository"):
        decorated(lambda: {"n": 1}, task=REVIEW).start().execute()
    assert control_plane.journal == []


def test_a_function_that_fails_starts_nothing(control_plane: LocalControlPlane, helmr_connection: str) -> None:
    def payload() -> None:
        raise KeyError("no such customer")

    with pytest.raises(KeyError):
        decorated(payload).start().execute()
    assert control_plane.journal == []


def test_the_type_of_the_payload_is_not_taken_for_that_of_the_result() -> None:
    with DAG(dag_id="outputs", schedule=None, start_date=START):

        @task.helmr_session(task="echo")
        def payload() -> dict[str, int]:
            return {"n": 1}

        made: Any = payload()
    assert made.operator.multiple_outputs is False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"payload": 1}, "takes no payload"),
        ({"logs": "everything"}, "logs must be"),
    ],
)
def test_a_mistake_shows_when_the_dag_is_parsed(options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        decorated(lambda: 1, **options).make()


@pytest.mark.usefixtures("helmr_connection")
def test_an_asynchronous_function_makes_the_payload_too(control_plane: LocalControlPlane) -> None:
    async def payload() -> int:
        await asyncio.sleep(0)
        return 7

    assert decorated(payload).start().finish() == 7
    assert payloads(control_plane) == [7]


@pytest.mark.usefixtures("helmr_connection")
def test_a_function_that_forgets_to_return_is_warned_about(
    control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    def returns_nothing():  # type: ignore[no-untyped-def]
        pass

    def means_it() -> None:
        pass

    decorated(means_it).start().finish()
    assert "returned None" not in task_log()
    decorated(returns_nothing, task_id="other").start().finish()
    assert "returns_nothing returned None, so the payload is null" in task_log()
    assert payloads(control_plane) == [None, None]


def test_a_task_id_is_needed() -> None:
    with (
        DAG(dag_id="nameless", schedule=None, start_date=START),
        pytest.raises((TypeError, AirflowException), match="task"),
    ):
        task.helmr_session(lambda: 1)()


def test_a_decorated_dag_is_stored_the_same_each_time() -> None:
    def parse() -> Any:
        with DAG(dag_id="stored_decorated", schedule=None, start_date=START) as dag:

            @task.helmr_session(task=REVIEW)
            def review(repository: str) -> Review:
                return Review(repository=repository)

            review.expand(repository=["web", "api"])
        return dag

    assert stored_form(parse()) == stored_form(parse())

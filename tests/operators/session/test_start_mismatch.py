"""A session with an external id of the author's own is not mistaken for the result of other input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider.local import faults
from tests.support.session_tasks import LIVE, a_task, starts
from tests.support.task_attempts import deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")

SECRET = "do-not-show-7f3a"


def other_task(**options: Any) -> Any:
    """A task of the same name in another DAG run."""
    return a_task(run_id="another day", **options)


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        ({"payload": {"day": 1, "same": 0}}, {"payload": {"day": 2, "same": 0}}, "payload.day"),
        ({"payload": [1, {"a": SECRET}]}, {"payload": [1, {"a": "b"}]}, r"payload\[1\].a"),
        ({"payload": {"a": 1}}, {"payload": {"a": 1, "b c": SECRET}}, r'payload\["b c"\]'),
        ({"payload": {"a": SECRET}}, {}, "payload.a"),
        ({"payload": 1}, {"payload": True}, "payload"),
        ({"payload": 1}, {"payload": 1, "max_duration": 60}, "max_duration"),
        ({"payload": 1}, {"payload": 1, "task": "work"}, "task"),
        (
            {"payload": 1, "retry": {"maxAttempts": 2}},
            {"payload": 1, "retry": {"maxAttempts": 3}},
            "retry.maxAttempts",
        ),
    ],
)
def test_other_input_for_a_used_external_id_fails_and_says_what_differs_without_its_values(
    client: HelmrClient, first: dict[str, Any], second: dict[str, Any], differs: str
) -> None:
    attempt = a_task(**first, external_id="mine").start()
    attempt.finish()
    before = client.sessions.retrieve(external_id="mine").metadata
    with pytest.raises(AirflowFailException, match=rf"differs in {differs}\. .*template it.*on_mismatch") as refused:
        other_task(**second, external_id="mine").start().finish()
    assert SECRET not in str(refused.value)
    assert client.sessions.retrieve(external_id="mine").metadata == before


def test_the_session_of_a_live_run_with_other_input_keeps_its_owner(
    client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    first = a_task(**LIVE, external_id="mine", deferrable=True).start()
    deferred(first.execute())
    before = client.sessions.retrieve(external_id="mine").metadata
    with pytest.raises(AirflowFailException, match=r"payload\.seconds"):
        other_task(task="work", payload={**LIVE["payload"], "seconds": 1}, external_id="mine").start().execute()
    assert client.sessions.retrieve(external_id="mine").metadata == before
    assert client.runs.retrieve(first.xcoms["run_id"]).status not in {"cancelled", "failed"}


def test_mapped_tasks_of_one_name_do_not_all_return_the_first_result() -> None:
    results = []
    for index in range(3):
        try:
            results.append(a_task(payload=index, external_id="mine", map_index=index).start().finish())
        except AirflowFailException:
            results.append("failed")
    assert results == [0, "failed", "failed"]


def test_another_workspace_is_other_input(client: HelmrClient) -> None:
    a_task(payload=1, external_id="mine").start().finish()
    used = client.sessions.retrieve(external_id="mine").workspace_id
    assert other_task(payload=1, external_id="mine", workspace_id=used).start().finish() == 1
    with pytest.raises(AirflowFailException, match="differs in workspace_id"):
        other_task(payload=1, external_id="mine", workspace_id="01a20973-718e-7d61-9d0e-47b0f24857fa").start().finish()


def test_a_clear_with_other_input_fails_too() -> None:
    task = a_task(payload=1, external_id="mine")
    task.start().finish()
    task.make = a_task(payload=2, external_id="mine").make
    task.clear()
    with pytest.raises(AirflowFailException, match="differs in payload"):
        task.start().finish()


def test_a_retry_adopts_its_own_run_with_any_input(
    control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    task = a_task(payload={"try": 1}, external_id="mine")
    task.start().finish()
    task.make = a_task(payload={"try": 2}, external_id="mine").make
    assert task.start().finish() == {"try": 1}
    assert len(starts(control_plane)) == 1
    assert "differs in payload.try" in task_log()


def test_adopt_returns_the_existing_result_and_warns_of_a_run_that_has_ended(task_log: Callable[[], str]) -> None:
    a_task(payload=1, external_id="mine").start().finish()
    assert other_task(payload=2, external_id="mine", on_mismatch="adopt").start().finish() == 1
    assert "differs in payload" in task_log()


def test_a_result_taken_over_by_a_retry_is_warned_of_as_well(task_log: Callable[[], str]) -> None:
    task = a_task(payload={"try": 1})
    task.start().finish()
    task.make = a_task(payload={"try": 2}).make
    assert task.start().finish() == {"try": 1}
    assert "differs in payload.try" in task_log()


@pytest.mark.parametrize(
    "payload",
    [
        {"big": 12345678901234567890, "small": 1e-7, "whole": 1.0, "deep": [{"x": None}, True]},
        {"ü": "ü\u2028", "empty": {}, "list": []},
    ],
)
def test_the_same_input_is_recognised_as_events_show_it(payload: Any, task_log: Callable[[], str]) -> None:
    a_task(payload=payload, external_id="mine", tags=["a"]).start().finish()
    task_log()
    other_task(payload=payload, external_id="mine", tags=["a"]).start().finish()
    assert "differs" not in task_log()


def test_input_that_cannot_be_read_now_is_not_guessed(control_plane: LocalControlPlane) -> None:
    a_task(payload=1, external_id="mine").start().finish()
    control_plane.fail_next("getRunEvents", faults.status(403))
    with pytest.raises(AirflowFailException, match="Could not start"):
        other_task(payload=2, external_id="mine").start().finish()


def test_many_differences_are_shortened() -> None:
    a_task(payload={f"m{n}": 1 for n in range(50)}, external_id="mine").start().finish()
    with pytest.raises(AirflowFailException, match="and 40 more") as refused:
        other_task(payload={f"m{n}": 2 for n in range(50)}, external_id="mine").start().finish()
    assert len(str(refused.value)) < 1500


def test_only_known_policies_are_taken() -> None:
    with pytest.raises(ValueError, match="on_mismatch must be 'fail' or 'adopt'"):
        a_task(on_mismatch="ignore").start()

"""Orphans: active runs whose task instance is over or gone are cancelled; everything else is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from helmr_provider._sessions.identity import OWNERSHIP
from helmr_provider.operators.session import HelmrCancelOrphansOperator, orphans
from tests.support import task_states
from tests.support.session_tasks import LIVE, a_task, starts
from tests.support.task_attempts import TaskRun, deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")


def search(**options: Any) -> dict[str, Any]:
    """Run the operator; what was started just now is old enough."""
    task = TaskRun(lambda: HelmrCancelOrphansOperator(**{"task_id": "reap", "min_age": 0, **options}))
    found: dict[str, Any] = task.start().execute()
    return found


def started(**options: Any) -> Any:
    """Start a session and defer, as if its worker and its trigger were gone afterwards."""
    attempt = a_task(**{**LIVE, "deferrable": True, **options}).start()
    deferred(attempt.execute())
    return attempt


def status(client: HelmrClient, attempt: Any) -> str:
    return client.sessions.retrieve(attempt.xcoms["session_id"]).status


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "upstream_failed", "removed"])
def test_a_session_whose_task_is_over_is_cancelled_and_reported(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    task_states.set_task_state(monkeypatch, state)
    attempt = started()
    found = search()
    assert [(each["session_id"], each["state"]) for each in found["cancelled"]] == [
        (attempt.xcoms["session_id"], state)
    ]
    assert (found["out_of_reach"], found["preview_only"]) == (False, False)
    assert status(client, attempt) == "cancelled"
    run = client.runs.retrieve(attempt.xcoms["run_id"])
    assert run.status == "cancelled"


def test_a_session_whose_task_instance_is_gone_is_cancelled(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_states.set_no_task_instance(monkeypatch)
    attempt = started()
    assert [each["state"] for each in search()["cancelled"]] == ["gone"]
    assert status(client, attempt) == "cancelled"


@pytest.mark.parametrize("state", ["running", "deferred", "queued", "scheduled", "up_for_retry", "restarting", None])
def test_a_session_whose_task_may_still_use_it_is_left_alone(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    task_states.set_task_state(monkeypatch, state)
    attempt = started()
    assert search()["cancelled"] == []
    assert status(client, attempt) == "open"


@pytest.mark.parametrize(
    "options",
    [
        {"wait_for_completion": False},
        {"cancel_on_kill": False},
        {"cancel_on_timeout": False},
        {"external_id": "mine"},
    ],
)
def test_a_session_that_may_outlive_its_task_is_left_alone(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    task_states.set_task_state(monkeypatch, "success")
    attempt = a_task(**{**LIVE, "deferrable": True, **options}).start()
    attempt.execute()
    assert search()["cancelled"] == []
    assert status(client, attempt) == "open"


def test_a_session_of_an_earlier_release_another_prefix_or_no_owner_is_left_alone(
    client: HelmrClient, control_plane: LocalControlPlane, connect: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task_states.set_task_state(monkeypatch, "failed")
    attempt = started()
    session = client.sessions.retrieve(attempt.xcoms["session_id"])
    stamp = {**session.metadata[OWNERSHIP]}
    del stamp["ends_with_task"]
    client.sessions.update(session.id, metadata={OWNERSHIP: stamp})
    connect("elsewhere", host=control_plane.url, password=control_plane.api_key, extra={"session_prefix": "other"})
    other = started(helmr_conn_id="elsewhere")
    foreign = client.sessions.start("work", LIVE["payload"], external_id="airflow:a:b:c:-1:1")
    assert search()["cancelled"] == []
    assert [client.sessions.retrieve(each).status for each in (other.xcoms["session_id"], foreign.session.id)] == [
        "open",
        "open",
    ]


def test_a_session_of_another_airflow_with_the_same_prefix_is_left_alone(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_states.set_task_state(monkeypatch, "failed")
    attempt = started()
    session = client.sessions.retrieve(attempt.xcoms["session_id"])
    stamp = {**session.metadata[OWNERSHIP], "url": "http://another-airflow.example/dags/nightly"}
    client.sessions.update(session.id, metadata={OWNERSHIP: stamp})
    assert search()["cancelled"] == []


def test_a_preview_cancels_nothing(client: HelmrClient, monkeypatch: pytest.MonkeyPatch) -> None:
    task_states.set_task_state(monkeypatch, "failed")
    attempt = started()
    found = search(preview_only="True")
    assert [each["session_id"] for each in found["cancelled"]] == [attempt.xcoms["session_id"]]
    assert found["preview_only"] is True
    assert status(client, attempt) == "open"


def test_what_is_young_of_another_dag_or_too_many_is_left_to_another_run(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_states.set_task_state(monkeypatch, "failed")
    attempts = [started(map_index=index) for index in range(3)]
    assert search(min_age="1h")["cancelled"] == []
    assert search(only_dag_id="another")["cancelled"] == []
    assert len(search(max_cancelled=2)["cancelled"]) == 2
    assert [status(client, each) for each in attempts].count("open") == 1
    assert len(search(max_cancelled=2)["cancelled"]) == 1


def test_a_later_turn_is_no_orphan(client: HelmrClient, monkeypatch: pytest.MonkeyPatch) -> None:
    task_states.set_task_state(monkeypatch, "success")
    attempt = a_task(payload=1).start()
    attempt.execute()
    real = client.sessions.retrieve(attempt.xcoms["session_id"])
    session = real.model_copy(update={"activity": "running"})
    operator = HelmrCancelOrphansOperator(task_id="reap", min_age=0)
    listed = orphans._Search(operator, latest=a_year_after(session), host=None, preview_only=False)
    listed._cancel_if_orphaned(session)
    assert (listed.cancelled, listed.failed) == ([], [])


def a_year_after(session: Any) -> Any:
    """Return a moment after the session was created."""
    return session.created_at.replace(year=session.created_at.year + 1)


def test_full_lists_are_said_to_hide_orphans(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    monkeypatch.setattr(orphans, "_FULL_LIST", 2)
    task_states.set_task_state(monkeypatch, "failed")
    for index in range(3):
        started(map_index=index)
    found = search(preview_only=True)
    assert len(found["cancelled"]) == 2
    assert found["out_of_reach"] is True
    assert "out of reach" in task_log()


def test_a_state_that_airflow_does_not_say_is_reported_and_the_others_are_cancelled(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch, control_plane: LocalControlPlane
) -> None:
    kept, orphaned = started(map_index=1), started(map_index=2)
    assert len(starts(control_plane)) == 2

    def over(instance: Any) -> str:
        if instance.map_index == 1:
            raise RuntimeError("the API server is restarting")
        return "failed"

    monkeypatch.setattr(orphans, "is_over", over)
    with pytest.raises(AirflowException, match=r"Cancelled 1 orphans.*the API server is restarting"):
        search()
    assert (status(client, kept), status(client, orphaned)) == ("open", "cancelled")


def test_no_orphans_at_most_is_refused() -> None:
    with pytest.raises(ValueError, match="max_cancelled"):
        HelmrCancelOrphansOperator(task_id="reap", max_cancelled=0)

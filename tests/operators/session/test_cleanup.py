"""Closing sessions: ours, idle, old, and no others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from dev.stack import poll
from helmr_provider._sessions.identity import OwnershipMetadata
from helmr_provider.local import EXAMPLE_TASKS, SCOPES, LocalControlPlane, faults
from helmr_provider.local.common.clock import SECOND, Clock
from helmr_provider.operators.session import HelmrCleanupSessionsOperator, cleanup
from tests.support.task_attempts import TaskRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.client import HelmrClient

pytestmark = pytest.mark.usefixtures("helmr_connection")

LIVE: dict[str, Any] = {"seconds": 3600, "waiting": True}


@pytest.fixture
def clock() -> Clock:
    """The control plane lives four hours ago, so that what it does is old by now."""
    return _four_hours_ago()


@pytest.fixture
def control_plane(clock: Clock) -> Iterator[LocalControlPlane]:
    with LocalControlPlane(EXAMPLE_TASKS, clock=clock) as server:
        yield server


def _four_hours_ago() -> Clock:
    clock = Clock()
    clock.advance(-4 * 3600 * SECOND)
    return clock


def stamp(dag_id: str = "nightly") -> OwnershipMetadata:
    return OwnershipMetadata(
        owner="o", epoch="e", dag_id=dag_id, run_id="r", task_id="t", map_index=-1, try_number=1, url=None
    )


def ours(client: HelmrClient, name: str, *, task: str = "echo", dag_id: str = "nightly", payload: Any = None) -> str:
    """Start a session as a task instance would; returns its external id."""
    external_id = f"airflow:{dag_id}:r:{name}:-1:1"
    started = client.sessions.start(task, payload, external_id=external_id, metadata=stamp(dag_id).onto(None))
    if payload is not LIVE:
        ended(client, started.run.id)
    return external_id


def ended(client: HelmrClient, run_id: str) -> None:
    poll(lambda: client.runs.retrieve(run_id).is_terminal, seconds=20, waiting_for="the run", every=0.01)


def clean(**options: Any) -> dict[str, Any]:
    return dict(a_cleanup(**options).start().execute())


def a_cleanup(**options: Any) -> TaskRun:
    return TaskRun(lambda: HelmrCleanupSessionsOperator(task_id="clean", **{"older_than": "2h", **options}))


def closed(result: dict[str, Any]) -> list[str]:
    return sorted(entry["external_id"] for entry in result["closed"])


def still_open(client: HelmrClient) -> list[str]:
    return sorted(str(session.external_id) for session in client.sessions.list(status="open", limit=200))


def test_an_old_idle_session_of_ours_is_closed_and_reported(client: HelmrClient) -> None:
    name = ours(client, "a")
    result = clean(reason="tidy")
    session = client.sessions.retrieve(external_id=name)
    assert (session.status, session.terminal_reason["reason"]) == ("closed", "tidy")
    run = client.runs.retrieve(str(session.current_run_id))
    assert result == {
        "closed": [{"session_id": session.id, "external_id": name, "idle_since": run.updated_at.isoformat()}],
        "out_of_reach": False,
        "preview_only": False,
        "dry_run": False,
    }
    assert clean()["closed"] == []


def test_what_is_not_ours_is_never_touched(client: HelmrClient) -> None:
    mark = stamp().onto(None)
    for name, metadata in (
        ("acme/web#12", mark),
        ("airflow-b:nightly:r:t:-1:1", mark),
        ("airflow:looks like ours", None),
        ("airflow:nightly:r:t:-1:1", {"airflow": "not a stamp"}),
    ):
        ended(client, client.sessions.start("echo", 1, external_id=name, metadata=metadata).run.id)
    ended(client, client.sessions.start("echo", 1).run.id)
    assert clean()["closed"] == []
    assert len(still_open(client)) == 5


def test_the_connection_s_prefix_says_what_is_ours(
    client: HelmrClient, connect: Callable[..., str], control_plane: LocalControlPlane
) -> None:
    connect(host=control_plane.url, password=control_plane.api_key, extra={"session_prefix": "team-b"})
    name = "team-b:nightly:r:t:-1:1"
    started = client.sessions.start("echo", 1, external_id=name, metadata=stamp().onto(None))
    ended(client, started.run.id)
    ours(client, "a")
    assert closed(clean()) == [name]


def test_only_the_named_dag_s_sessions_are_closed(client: HelmrClient) -> None:
    names = {dag_id: ours(client, "a", dag_id=dag_id) for dag_id in ("nightly", "nightly2", "other")}
    assert closed(clean(only_dag_id="nightly")) == [names["nightly"]]


def test_what_is_active_is_left_alone(client: HelmrClient) -> None:
    ours(client, "a", task="work", payload=LIVE)
    assert clean(older_than=0)["closed"] == []


def test_the_end_of_the_run_counts_though_the_session_says_nothing_of_it(
    client: HelmrClient, clock: Clock, control_plane: LocalControlPlane
) -> None:
    started = client.sessions.start(
        "wait-for-input", external_id="airflow:nightly:r:t:-1:1", metadata=stamp().onto(None)
    )
    poll(lambda: client.runs.retrieve(started.run).is_waiting, seconds=20, waiting_for="the run", every=0.02)
    clock.advance(7 * 1800 * SECOND)
    client.sessions.open(started.session).input("messages").send(1)
    ended(client, started.run.id)
    session = client.sessions.retrieve(started.session.id)
    assert datetime.now(UTC) - session.updated_at > timedelta(hours=3)
    assert clean(older_than=timedelta(hours=2))["closed"] == []
    assert len(clean(older_than=timedelta(minutes=20))["closed"]) == 1


@pytest.mark.parametrize("age", [timedelta(hours=2), 7200, 7200.0, "7200", "120m", "1h60m", " 2h "], ids=repr)
def test_an_age_can_be_written_in_several_ways(client: HelmrClient, age: Any) -> None:
    ours(client, "a")
    assert len(clean(older_than=age, preview_only=True)["closed"]) == 1


@pytest.mark.parametrize("age", ["", "None", "soon", "2w", "-1", -1, float("nan"), "1e999", None], ids=repr)
def test_an_age_that_is_none_fails_for_good(age: Any) -> None:
    with pytest.raises(AirflowFailException, match="older_than must "):
        clean(older_than=age)


@pytest.mark.parametrize("value", [True, "True"])
def test_a_preview_says_what_would_be_closed_and_closes_nothing(client: HelmrClient, value: bool | str) -> None:
    name = ours(client, "a")
    result = clean(preview_only=value)
    assert (closed(result), result["preview_only"], result["dry_run"]) == ([name], True, True)
    assert still_open(client) == [name]
    assert closed(clean(preview_only="False")) == [name]
    assert still_open(client) == []


def test_no_more_are_closed_than_allowed_and_the_oldest_come_first(client: HelmrClient, clock: Clock) -> None:
    names = []
    for name in ("c", "a", "b"):
        names.append(ours(client, name))
        clock.advance(60 * SECOND)
    assert closed(clean(max_closed=2)) == sorted(names[:2])
    assert closed(clean(max_closed=2)) == names[2:]


# Lists that are full


@pytest.fixture
def lists_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "_FULL_LIST", 3)


def test_more_sessions_than_a_list_shows_are_closed_nevertheless(client: HelmrClient) -> None:
    names = [ours(client, str(number)) for number in range(205)]
    result = clean()
    assert closed(result) == sorted(names)
    assert not result["out_of_reach"]


@pytest.mark.usefixtures("lists_of_three")
def test_what_a_full_list_hides_is_found_in_its_task_s_list(client: HelmrClient) -> None:
    name = ours(client, "hidden", task="echo")
    for number in range(4):
        ours(client, f"live-{number}", task="work", payload=LIVE)
    result = clean()
    assert closed(result) == [name]
    assert result["out_of_reach"], "the list of the other task is full still"


@pytest.mark.usefixtures("lists_of_three")
def test_the_oldest_out_of_reach_are_reported_and_a_shorter_age_reaches_them(
    client: HelmrClient, clock: Clock, task_log: Callable[[], str]
) -> None:
    old = ours(client, "old")
    clock.advance(3 * 3600 * SECOND)
    young = [ours(client, f"young-{number}") for number in range(4)]
    result = clean()
    assert (result["closed"], result["out_of_reach"]) == ([], True)
    assert "older_than_when_full" in task_log()
    result = clean(older_than_when_full="10m")
    assert closed(result) == sorted([old, *young])
    assert not result["out_of_reach"]
    assert still_open(client) == []


# What goes wrong


def test_one_failure_does_not_stop_the_rest_and_is_reported(
    client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    ours(client, "a")
    ours(client, "b")
    control_plane.fail_next("closeSession", faults.status(500))
    with pytest.raises(AirflowException, match=r"Closed 1 Helmr sessions, but 1 could not be closed: .*500") as failed:
        clean()
    assert not isinstance(failed.value, AirflowFailException)
    assert len(still_open(client)) == 1
    assert len(clean()["closed"]) == 1


def test_a_session_that_another_client_has_just_ended_is_no_failure(
    client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    ours(client, "a")
    name = ours(client, "b")
    control_plane.fail_next("closeSession", faults.status(409, error_code="close_run_active"))
    assert closed(clean()) == [name]


def test_a_key_that_may_not_close_fails_for_good(
    client: HelmrClient, connect: Callable[..., str], control_plane: LocalControlPlane
) -> None:
    ours(client, "a")
    connect(host=control_plane.url, password=control_plane.create_key(set(SCOPES) - {"runs:manage"}))
    with pytest.raises(AirflowFailException, match="closeSession was answered 403"):
        clean()


def test_a_limit_must_allow_something() -> None:
    with pytest.raises(ValueError, match="max_closed"):
        HelmrCleanupSessionsOperator(task_id="clean", older_than=1, max_closed=0)

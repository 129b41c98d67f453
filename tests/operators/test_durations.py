"""Every duration of an operator or sensor is a timedelta, seconds, or text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider._common.deferrable import deadline_of
from helmr_provider.operators.approval import HelmrApprovalOperator
from helmr_provider.operators.schedule import HelmrCreateScheduleOperator
from helmr_provider.operators.session import (
    HelmrCancelRunOperator,
    HelmrCloseSessionOperator,
    HelmrSendInputOperator,
    HelmrStartSessionOperator,
)
from helmr_provider.operators.token import HelmrCreateTokenOperator
from helmr_provider.operators.workspace import (
    HelmrDeleteWorkspaceOperator,
    HelmrExecOperator,
    HelmrStopWorkspaceOperator,
)
from helmr_provider.sensors.run import HelmrRunSensor
from helmr_provider.sensors.session import HelmrSessionSensor
from helmr_provider.sensors.token import HelmrTokenSensor
from helmr_provider.sensors.workspace import HelmrWorkspaceSensor
from tests.support.session_tasks import a_task, starts
from tests.support.task_contexts import context

if TYPE_CHECKING:
    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

ONE_HOUR: list[Any] = [timedelta(hours=1), 3600, 3600.0, "1h", "60m", "3600", " 0.5h30m "]

WAITING: list[tuple[Any, dict[str, Any]]] = [
    (HelmrStartSessionOperator, {"task": "t"}),
    (HelmrSendInputOperator, {"session_id": "s", "stream": "i", "data": 1}),
    (HelmrCancelRunOperator, {"run_id": "r"}),
    (HelmrCloseSessionOperator, {"session_id": "s"}),
    (HelmrApprovalOperator, {"subject": "?"}),
    (HelmrExecOperator, {"workspace_id": "w", "command": "true"}),
    (HelmrStopWorkspaceOperator, {"workspace_id": "w"}),
    (HelmrDeleteWorkspaceOperator, {"workspace_id": "w"}),
]
SENSORS: list[tuple[Any, dict[str, Any]]] = [
    (HelmrRunSensor, {"run_id": "r"}),
    (HelmrSessionSensor, {"session_id": "s", "status": "closed"}),
    (HelmrTokenSensor, {"token_id": "t"}),
    (HelmrWorkspaceSensor, {"workspace_id": "w", "running": True}),
]


@pytest.mark.parametrize(("cls", "options"), WAITING, ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize("hour", ONE_HOUR)
def test_the_time_limit_of_an_operator(cls: Any, options: dict[str, Any], hour: Any) -> None:
    operator = cls(task_id="x", timeout=hour, **options)
    started = datetime(2026, 1, 1, tzinfo=UTC)
    deadline = deadline_of(SimpleNamespace(start_date=started), timeout=operator.timeout)
    assert deadline == started.timestamp() + 3600


@pytest.mark.parametrize(("cls", "options"), WAITING, ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize("wrong", ["soon", "", 0, -1, "0s", float("nan")])
def test_a_wrong_time_limit_is_refused_with_its_name_and_value(cls: Any, options: dict[str, Any], wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^timeout must be ") as refused:
        cls(task_id="x", timeout=wrong, **options)
    assert repr(wrong) in str(refused.value)


@pytest.mark.parametrize(("cls", "options"), SENSORS, ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize("hour", ONE_HOUR)
def test_the_time_limit_and_the_poll_interval_of_a_sensor(cls: Any, options: dict[str, Any], hour: Any) -> None:
    sensor = cls(task_id="x", timeout=hour, poke_interval=hour, **options)
    assert (sensor.timeout, sensor.poke_interval) == (3600, 3600)
    with pytest.raises(ValueError, match=r"^poke_interval must be a duration .*but is 'often'"):
        cls(task_id="x", poke_interval="often", **options)


@pytest.mark.parametrize("hour", ONE_HOUR)
def test_limits_that_are_sent(
    control_plane: LocalControlPlane, client: HelmrClient, helmr_connection: str, hour: Any
) -> None:
    a_task(payload=1, ttl=hour, max_duration=hour, wait_for_completion=False).start().execute()
    [start] = starts(control_plane)
    assert isinstance(start.body, dict)
    assert start.body["max_duration_seconds"] == 3600
    assert start.body["ttl"] in {"3600s", "1h", "60m", "0.5h30m"}
    client.sessions.start("echo", 1, ttl=hour, max_duration=hour)
    assert [entry.body for entry in starts(control_plane)][1] | {
        "external_id": None,
        "metadata": None,
    } == start.body | {
        "external_id": None,
        "metadata": None,
    }
    HelmrCreateScheduleOperator(
        task_id="s", deduplication_key="k", task="echo", cron="0 6 * * *", ttl=hour, max_duration=hour
    ).execute(context())
    HelmrCreateTokenOperator(task_id="t", timeout=hour).execute(context())
    [token] = [entry.body for entry in control_plane.journal if entry.operation == "createToken"]
    assert isinstance(token, dict)
    assert token["timeout"] == start.body["ttl"]


@pytest.mark.parametrize("name", ["ttl", "max_duration"])
def test_a_wrong_limit_of_a_run_is_refused_with_its_name_and_value(
    control_plane: LocalControlPlane, helmr_connection: str, name: str
) -> None:
    with pytest.raises(AirflowFailException, match=rf"{name} must be a duration .*but is 'soon'"):
        a_task(**{name: "soon"}).start().execute()
    assert starts(control_plane) == []


def test_one_status_is_no_collection_of_letters() -> None:
    for fail_on in ("failed", ["failed"]):
        assert HelmrStartSessionOperator(task_id="x", task="t", fail_on=fail_on).fail_on == ("failed",)
        assert HelmrRunSensor(task_id="x", run_id="r", fail_on=fail_on).fail_on == ("failed",)
    with pytest.raises(ValueError, match=r"but not 'fail'$"):
        HelmrRunSensor(task_id="x", run_id="r", fail_on="fail")
    assert HelmrApprovalOperator(task_id="x", subject="?", rejections="Reject").rejections == ("Reject",)

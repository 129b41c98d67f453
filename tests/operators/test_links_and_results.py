"""Links without XComs, and results that are written instead of returned."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider.operators.session import (
    HelmrCancelRunOperator,
    HelmrCancelSessionOperator,
    HelmrCloseSessionOperator,
    HelmrReadOutputOperator,
    HelmrSendInputOperator,
    HelmrStartSessionOperator,
)
from helmr_provider.operators.token import HelmrCreateTokenOperator
from helmr_provider.operators.workspace import (
    HelmrCreateWorkspaceOperator,
    HelmrDeleteWorkspaceOperator,
    HelmrExecOperator,
    HelmrListFilesOperator,
    HelmrReadFileOperator,
    HelmrStopWorkspaceOperator,
)
from helmr_provider.sensors.run import HelmrRunSensor
from helmr_provider.sensors.session import HelmrSessionOutputSensor, HelmrSessionSensor
from helmr_provider.sensors.token import HelmrTokenSensor
from helmr_provider.sensors.workspace import HelmrWorkspaceSensor
from tests.support.session_tasks import a_task, starts
from tests.support.task_attempts import TaskRun
from tests.support.workspace_tasks import a_workspace, an_exec

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")


def finish(cls: Any, **options: Any) -> Any:
    attempt = TaskRun(lambda: cls(task_id="x", **options)).start()
    attempt.finish()
    return attempt


# Links


def test_every_link_is_stored_without_xcoms(client: HelmrClient) -> None:
    run = client.sessions.start("echo", 1).run
    client.runs.wait(run.id, timeout=20)
    waiting = client.sessions.start("wait-for-input").session.id
    workspace, token = a_workspace(client), client.tokens.create()
    client.tokens.complete(token.id, 1)
    session = {"session_id": run.session_id}
    tasks: list[tuple[Any, dict[str, Any]]] = [
        (HelmrStartSessionOperator, {"task": "echo", "payload": 1}),
        (HelmrSendInputOperator, {"session_id": waiting, "stream": "messages", "data": 1, "wait_for": "run"}),
        (HelmrReadOutputOperator, {"session_id": waiting, "stream": "messages"}),
        (HelmrSessionOutputSensor, {"session_id": waiting, "stream": "messages"}),
        (HelmrRunSensor, {"run_id": run.id}),
        (HelmrCancelRunOperator, {"run_id": run.id}),
        (HelmrSessionSensor, {**session, "activity": "idle"}),
        (HelmrCloseSessionOperator, session),
        (HelmrCancelSessionOperator, session),
        (HelmrCreateTokenOperator, {}),
        (HelmrTokenSensor, {"token_id": token.id}),
        (HelmrCreateWorkspaceOperator, {"sandbox_id": client.workspaces.retrieve(workspace).sandbox_id}),
        (HelmrExecOperator, {"workspace_id": workspace, "command": "echo 1 > a"}),
        (HelmrStopWorkspaceOperator, {"workspace_id": workspace}),
        (HelmrReadFileOperator, {"workspace_id": workspace, "path": "a"}),
        (HelmrListFilesOperator, {"workspace_id": workspace}),
        (HelmrWorkspaceSensor, {"workspace_id": workspace, "state": "active"}),
        (HelmrDeleteWorkspaceOperator, {"workspace_id": workspace}),
    ]
    for cls, options in tasks:
        attempt = finish(cls, do_xcom_push=False, **options)
        wanted = {link.xcom_key for link in cls.operator_extra_links}
        assert wanted, cls
        assert set(attempt.xcoms) == wanted, cls


# Results


def test_a_large_result_is_written_and_its_address_returned(tmp_path: Path, control_plane: LocalControlPlane) -> None:
    large = {"text": "é" * 50_000}
    task = a_task(payload=large, result_to=f"file://{tmp_path}/out/")
    attempt = task.start()
    address = attempt.finish()
    assert address.endswith(f"/out/{attempt.xcoms['run_id']}.json")
    assert json.loads((tmp_path / "out" / address.rpartition("/")[2]).read_text()) == large
    assert len(starts(control_plane)) == 1


def test_a_write_that_fails_is_repeated_by_the_retry_without_a_second_run(
    tmp_path: Path, control_plane: LocalControlPlane
) -> None:
    (tmp_path / "out").write_text("not a directory")
    task = a_task(payload=1, result_to=f"file://{tmp_path}/out/result.json")
    with pytest.raises(OSError, match="out"):
        task.start().finish()
    (tmp_path / "out").unlink()
    assert task.start().finish().endswith("/out/result.json")
    assert (tmp_path / "out" / "result.json").read_text() == "1"
    assert len(starts(control_plane)) == 1


def test_an_address_that_renders_to_nothing_is_refused() -> None:
    with pytest.raises(AirflowFailException, match="result_to must be"):
        a_task(payload=1, result_to="None").start().finish()


def test_other_results_are_written_too(tmp_path: Path, client: HelmrClient) -> None:
    session = client.sessions.start("wait-for-input")
    session_id, to = session.session.id, f"file://{tmp_path}/"
    options: dict[str, Any] = {"session_id": session_id, "max_result_bytes": 1, "result_to": to}

    def written(cls: Any, **more: Any) -> Any:
        address = TaskRun(lambda: cls(task_id="x", **more)).start().finish()
        return (tmp_path / address.rpartition("/")[2]).read_text()

    sent = written(HelmrSendInputOperator, **options, stream="messages", data="hello", wait_for="run")
    assert json.loads(sent)["message"] == "hello"
    run = written(HelmrRunSensor, run_id=session.run.id, max_result_bytes=1, result_to=to)
    assert run == sent
    records = json.loads(written(HelmrReadOutputOperator, **options, stream="messages"))
    assert records
    assert json.loads(written(HelmrSessionOutputSensor, **options, stream="messages")) == records[0]
    workspace = a_workspace(client)
    text = {"result": "stdout", "max_result_bytes": 1, "result_to": to}
    assert written(HelmrExecOperator, workspace_id=workspace, command="printf 'a é'", **text) == "a é"
    with pytest.raises(ValueError, match="result_to writes stdout"):
        an_exec(workspace, ["true"], result_to=to).make()

"""Workspaces: who may write, what becomes a version, what the tasks of runs see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.local import LocalControlPlane, Settings, TaskFailure
from tests.support.journal import until_requested
from tests.support.local.settings import QUICK
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.local import TaskContext
    from tests.support.local.scripted_tasks import Director


def new(wire: Wire, **options: Any) -> str:
    body = {"sandbox_id": "local", **options}
    return f"/api/workspaces/{wire.post('/api/workspaces', body, 201)['workspace']['id']}"


def shown(wire: Wire, path: str) -> Any:
    return next(iter(wire.get(path).values()))


def stopped(wire: Wire, path: str) -> None:
    until(lambda: wire.post(f"{path}/stop", {})["state"] == "no_active_materialization")


def executed(wire: Wire, path: str, script: str) -> Any:
    created = wire.post(f"{path}/execs", {"command": ["sh", "-c", script]}, 201)["exec"]
    exec_path = f"{path}/execs/{created['id']}"
    until(lambda: shown(wire, exec_path)["state"] in ("exited", "failed", "lost"))
    return shown(wire, exec_path)


def names(wire: Wire, path: str, **query: str) -> list[str]:
    return [entry["path"] for entry in wire.get(f"{path}/files", **query)["entries"]]


def kinds(wire: Wire, path: str) -> list[str]:
    return [version["kind"] for version in wire.get(f"{path}/versions")["versions"]]


def session_path(wire: Wire, run_id: str) -> str:
    session = wire.get(f"/api/sessions/{wire.get(f'/api/runs/{run_id}')['session_id']}")
    return f"/api/workspaces/{session['workspace_id']}"


async def _writes(ctx: TaskContext) -> None:
    directory = await ctx.workspace()
    (directory / "report.md").write_text("done\n")


async def _does_nothing(ctx: TaskContext) -> None: ...


async def _looks(ctx: TaskContext) -> None:
    assert (await ctx.workspace() / "report.md").read_text() == "done\n"


def test_what_a_succeeding_task_wrote_becomes_a_version_of_the_session_workspace(
    wire: Wire, director: Director
) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    path = session_path(wire, run_id)
    assert names(wire, path) == []
    director.tell(run_id, _writes)
    director.end(run_id, lambda: None)
    wire.ended(run_id)
    assert names(wire, path) == ["report.md"]
    assert kinds(wire, path) == ["user", "system"]
    workspace = shown(wire, path)
    assert (workspace["dirty_state"], workspace["state"]) == ("clean", "active")
    until(lambda: wire.request("DELETE", path).status == 200)


def test_every_run_that_succeeds_makes_a_version(wire: Wire, director: Director) -> None:
    path = new(wire)
    for act in (_writes, _looks, _does_nothing):
        run_id = wire.start("scripted", workspace_id=path.rpartition("/")[2])["run"]["id"]
        director.tell(run_id, act)
        director.end(run_id, lambda: None)
        wire.ended(run_id)
    assert kinds(wire, path) == ["user", "user", "user", "system"]
    assert names(wire, path) == ["report.md"]


def test_what_a_failing_task_wrote_is_lost(wire: Wire, director: Director) -> None:
    def fails() -> None:
        raise TaskFailure("no")

    run_id = wire.start("scripted")["run"]["id"]
    path = session_path(wire, run_id)
    director.tell(run_id, _writes)
    director.end(run_id, fails)
    assert wire.ended(run_id)["status"] == "failed"
    stopped(wire, path)
    assert kinds(wire, path) == ["system"]


def test_a_later_turn_finds_what_the_one_before_left(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    director.tell(run_id, _writes)
    director.end(run_id, lambda: None)
    session_id = wire.ended(run_id)["session_id"]
    wire.post(f"/api/sessions/{session_id}/inputs/messages", {"data": 1}, 201)
    follow_up = wire.get(f"/api/sessions/{session_id}")["current_run_id"]
    found: list[str] = []

    async def reads(ctx: TaskContext) -> None:
        found.append(((await ctx.workspace()) / "report.md").read_text())

    director.tell(follow_up, reads)
    director.end(follow_up, lambda: None)
    wire.ended(follow_up)
    assert found == ["done\n"]


def test_a_run_waits_until_its_workspace_has_no_writer(
    server: LocalControlPlane, wire: Wire, director: Director
) -> None:
    path = new(wire)
    created = wire.post(f"{path}/execs", {"command": ["cat"]}, 201)["exec"]
    run_id = wire.start("scripted", workspace_id=path.rpartition("/")[2])["run"]["id"]
    director.end(run_id, lambda: "ran")
    until(lambda: shown(wire, f"{path}/execs/{created['id']}")["state"] == "running")
    server.sweep()
    assert wire.get(f"/api/runs/{run_id}")["status"] == "queued"
    wire.post(f"{path}/execs/{created['id']}/stdin/close", {})
    assert wire.ended(run_id)["output"] == "ran"


def test_two_sessions_on_one_workspace_take_turns(server: LocalControlPlane, wire: Wire, director: Director) -> None:
    workspace_id = new(wire).rpartition("/")[2]
    first = wire.start("scripted", workspace_id=workspace_id)["run"]["id"]
    wire.until(first, "running")
    second = wire.start("scripted", workspace_id=workspace_id)["run"]["id"]
    server.sweep()
    assert wire.get(f"/api/runs/{second}")["status"] == "queued"
    director.end(first, lambda: None)
    director.end(second, lambda: None)
    assert wire.ended(second)["status"] == "succeeded"


def test_a_waiting_run_lets_others_write_and_sees_it_afterwards(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    path = session_path(wire, run_id)
    director.tell(run_id, _writes)

    async def waits_and_looks(ctx: TaskContext) -> list[str]:
        await ctx.wait_for_input("messages")
        return sorted(entry.name for entry in (await ctx.workspace()).iterdir())

    director.tell(run_id, waits_and_looks)
    wire.until(run_id, "waiting")
    assert executed(wire, path, "ls report.md && touch looked")["exit_code"] == 0
    session_id = wire.get(f"/api/runs/{run_id}")["session_id"]
    wire.post(f"/api/sessions/{session_id}/inputs/messages", {"data": 1}, 201)
    director.end(run_id, lambda: None)
    wire.ended(run_id)
    assert director.results(run_id)[-1] == ["looked", "report.md"]


def test_a_stopped_workspace_comes_back_with_its_files_and_only_changes_make_versions(wire: Wire) -> None:
    path = new(wire)
    executed(wire, path, "mkdir -p a/b; printf x > a/b/c; chmod 600 a/b/c; ln -s a/b/c way")
    stopped(wire, path)
    assert names(wire, path) == ["a", "way"]
    assert (
        executed(wire, path, "test -x a/b && test $(cat way) = x && test $(stat -c %a a/b/c) = 600")["exit_code"] == 0
    )
    stopped(wire, path)
    assert kinds(wire, path) == ["system"] * 3
    wire.post(f"{path}/materialize", {}, 201)
    stopped(wire, path)
    assert kinds(wire, path) == ["system"] * 3


@pytest.mark.parametrize(
    ("operation", "what", "body"),
    [
        ("createWorkspaceExec", "execs", {"command": ["sleep", "3600"]}),
        ("createWorkspacePty", "pty", {}),
        ("materializeWorkspace", "materialize", {}),
    ],
)
def test_a_workspace_that_stops_while_a_request_is_on_its_way_comes_back_with_its_files(
    wire: Wire, server: LocalControlPlane, operation: str, what: str, body: object
) -> None:
    path = new(wire)
    executed(wire, path, "echo kept > file")
    server.clear_journal()
    with wire.announced("POST", f"{path}/{what}", body) as complete:
        until_requested(server, operation)
        stopped(wire, path)
        assert complete().status == 201
    live = wire.post(f"{path}/materialize", {}, 200)
    assert live["base_version_id"] == shown(wire, path)["current_version_id"]


def test_older_versions_stay_readable(wire: Wire) -> None:
    path = new(wire)
    for number in (1, 2):
        executed(wire, path, f"echo {number} > number")
        stopped(wire, path)
    newest, older, first = wire.get(f"{path}/versions")["versions"]
    content = {
        version["id"]: wire.request(
            "GET", f"{path}/files/content", query={"path": "number", "source": "version", "version_id": version["id"]}
        ).text
        for version in (newest, older)
    }
    assert list(content.values()) == ["2\n", "1\n"]
    assert names(wire, path, source="version", version_id=first["id"]) == []


def test_a_file_of_more_than_32_mebibytes_is_not_sent(wire: Wire) -> None:
    path = new(wire)
    executed(wire, path, "head -c 33554432 /dev/zero > fits; head -c 33554433 /dev/zero > large")
    stopped(wire, path)
    answer = wire.request("GET", f"{path}/files/content", query={"path": "large"})
    assert (answer.status, answer.json["code"]) == (413, "workspace_file_too_large")
    assert len(wire.request("GET", f"{path}/files/content", query={"path": "fits"}).content) == 33_554_432


def test_a_file_name_cannot_write_headers(wire: Wire) -> None:
    path = new(wire)
    executed(wire, path, "printf x > 'a\nx-evil: 1'")
    stopped(wire, path)
    answer = wire.request("GET", f"{path}/files/content", query={"path": "a\nx-evil: 1"})
    assert answer.headers["x-helmr-workspace-file-path"] == "a x-evil: 1"
    assert "x-evil" not in answer.headers


def test_a_damaged_archive_is_said_to_be_so_and_makes_the_workspace_fail(tmp_path: Path) -> None:
    with LocalControlPlane(db=tmp_path / "state.db", settings=QUICK) as server:
        wire = Wire(server)
        path = new(wire)
        executed(wire, path, "echo x > x")
        stopped(wire, path)
        for archive in (tmp_path / "state.db.files" / "artifacts").iterdir():
            archive.write_bytes(b"no archive")
        answer = wire.request("GET", f"{path}/files")
        assert (answer.status, answer.json["code"]) == (409, "workspace_version_artifact_missing")
        assert executed(wire, path, "true")["state"] == "lost"


def test_versions_survive_a_restart_and_live_directories_do_not(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with LocalControlPlane(db=database, settings=QUICK) as server:
        path = new(Wire(server))
        executed(Wire(server), path, "echo kept > kept")
        stopped(Wire(server), path)
        executed(Wire(server), path, "echo lost > lost")
    with LocalControlPlane(db=database, settings=QUICK) as server:
        wire = Wire(server)
        assert names(wire, path) == ["kept"]
        assert executed(wire, path, "test -e kept && test ! -e lost")["exit_code"] == 0


def test_a_control_plane_in_memory_leaves_no_files() -> None:
    with LocalControlPlane(settings=QUICK) as server:
        wire = Wire(server)
        created = wire.post(f"{new(wire)}/execs", {"command": ["pwd"]}, 201)["exec"]
        path = f"/api/workspaces/{created['workspace_id']}/execs/{created['id']}"
        until(lambda: shown(wire, path)["state"] == "exited")
        root = server.running.core.files.root
        assert root.is_dir()
    assert not root.exists()


def test_a_workspace_of_another_sandbox_or_environment_is_refused_to_a_session(director: Director) -> None:
    tasks = [director.define("here"), director.define("there", sandbox="other")]
    with LocalControlPlane(tasks, settings=QUICK) as server:
        wire, staging = Wire(server), Wire(server, server.create_key(environment="staging"))
        workspace_id = new(wire).rpartition("/")[2]
        for caller, task_id in ((wire, "there"), (staging, "here")):
            refused = caller.start(task_id, status=409, workspace_id=workspace_id)
            assert refused["code"] == "workspace_sandbox_incompatible"
        assert staging.request("GET", f"/api/workspaces/{workspace_id}").status == 404
        wire.start("here", workspace_id=workspace_id)


@pytest.mark.parametrize(
    ("method", "tail", "body", "query"),
    [
        ("POST", None, {}, {}),
        ("POST", None, {"sandbox_id": "local", "tags": [""]}, {}),
        ("POST", None, {"sandbox_id": "local", "idempotency_key": "k", "idempotency_key_ttl": "1d"}, {}),
        ("POST", "/stop", {"idempotency_key": "k", "idempotency_key_ttl": "soon"}, {}),
        ("GET", "/files", None, {"path": "/etc"}),
        ("GET", "/files/stat", None, {"path": "../etc"}),
        ("GET", "/files/content", None, {"path": "x", "source": "somewhere"}),
        ("GET", "/files/content", None, {"path": "x", "source": "version", "version_id": "1"}),
    ],
)
def test_what_the_real_one_fails_at_is_refused_if_quirks_are_off(
    method: str, tail: str | None, body: object, query: dict[str, str]
) -> None:
    for quirks, status in ((True, 500), (False, 400)):
        with LocalControlPlane(settings=Settings(quirks=quirks)) as server:
            wire = Wire(server)
            path = "/api/workspaces" if tail is None else f"{new(wire)}{tail}"
            answer = wire.request(method, path, body, query=query)
            assert answer.status == status, answer


def test_a_key_that_only_reads_runs_sees_no_workspace(server: LocalControlPlane) -> None:
    wire = Wire(server)
    path = new(wire)
    stranger = Wire(server, server.create_key(["runs:read"]))
    for method, tail in (
        ("GET", ""),
        ("GET", "/files"),
        ("POST", "/materialize"),
        ("POST", "/stop"),
        ("GET", "/execs"),
    ):
        assert stranger.request(method, f"{path}{tail}", {}).status == 403
    assert stranger.request("GET", "/api/workspaces").status == 403
    assert stranger.request("GET", "/api/sandboxes").status == 200


def test_a_run_whose_workspace_is_stopped_under_it_fails(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    path = session_path(wire, run_id)
    director.tell(run_id, _writes)
    until(lambda: len(director.results(run_id)) == 1)
    assert wire.post(f"{path}/stop", {})["state"] == "stopping"
    stopped(wire, path)
    assert wire.get(f"/api/runs/{run_id}")["status"] == "running"
    director.end(run_id, lambda: None)
    assert wire.ended(run_id)["status"] == "failed"
    failed = wire.get(f"/api/runs/{run_id}/events")["events"][-1]
    assert failed["attributes"] == {"detail": {"message": "the workspace was stopped"}, "failure_kind": "worker_failed"}
    assert kinds(wire, path) == ["system"]


def test_a_run_whose_workspace_is_stopped_under_it_cannot_wait(wire: Wire, director: Director) -> None:
    run_id = wire.start("scripted")["run"]["id"]
    path = session_path(wire, run_id)
    director.tell(run_id, _does_nothing)
    until(lambda: len(director.results(run_id)) == 1)
    wire.post(f"{path}/stop", {})
    stopped(wire, path)
    director.tell(run_id, lambda ctx: ctx.sleep(3600))
    assert wire.ended(run_id)["status"] == "failed"


def test_a_workspace_that_needs_recovery_can_be_archived_and_runs_nothing(wire: Wire, director: Director) -> None:
    path = new(wire)
    wire.post(f"{path}/connect", {}, 201)
    run_id = wire.start("scripted", workspace_id=path.rpartition("/")[2])["run"]["id"]
    director.end(run_id, lambda: None)
    session = wire.ended(run_id)["session_id"]
    assert executed(wire, path, "touch lost.txt")["exit_code"] == 0
    wire.post(f"{path}/stop", {})
    until(lambda: shown(wire, path)["state"] == "recovery_required")
    # The session is open, and its next turn can never start.
    wire.post(f"/api/sessions/{session}/inputs/messages", {"data": 1}, 201)
    follow_up = wire.get(f"/api/sessions/{session}")["current_run_id"]
    assert follow_up != run_id
    assert wire.ended(follow_up)["status"] == "failed"
    assert wire.request("DELETE", path).json["workspace"]["state"] == "archived"


def test_without_quirks_a_workspace_that_stops_refuses_with_a_conflict() -> None:
    with LocalControlPlane(settings=Settings(quirks=False, sweep=0.02)) as server:
        wire = Wire(server)
        path = wire.post("/api/workspaces", {"sandbox_id": "local"}, 201)["workspace"]["id"]
        path = f"/api/workspaces/{path}"
        wire.post(f"{path}/connect", {}, 201)
        until(lambda: wire.post(f"{path}/connect", {})["state"] == "running")
        server.pause_workspaces()
        wire.post(f"{path}/stop", {})
        body = {"task_id": "echo", "workspace_id": path.rpartition("/")[2]}
        for answer in (
            wire.request("POST", "/api/sessions", body),
            wire.request("POST", f"{path}/execs", {"command": ["true"]}),
        ):
            assert (answer.status, answer.json["code"]) == (409, "workspace_materialization_not_runnable")


def test_workspaces_are_paused_and_lost_over_http_too(wire: Wire) -> None:
    assert wire.request("POST", "/_local/workspaces/pause", {"what": "everything"}).status == 400
    assert wire.request("POST", "/_local/workspaces/pause", {"what": "commands"}).status == 204
    path = new(wire)
    created = wire.post(f"{path}/execs", {"command": ["sleep", "600"]}, 201)["exec"]
    exec_path = f"{path}/execs/{created['id']}"
    until(lambda: shown(wire, exec_path)["state"] == "queued")
    assert wire.request("POST", "/_local/workspaces/pause", {"what": None}).status == 204
    until(lambda: shown(wire, exec_path)["state"] == "running")
    assert wire.request("POST", f"/_local/{path.removeprefix('/api/')}/lose").status == 204
    assert shown(wire, exec_path)["state"] == "lost"
    assert executed(wire, path, "true")["exit_code"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/sessions", {"task_id": "echo", "tags": [""]}),
        ("POST", "/api/sessions", {"task_id": "echo", "idempotency_key_ttl": "1h"}),
        ("POST", "/api/sessions", {"task_id": "echo", "external_id": "a\0b"}),
        ("POST", "/api/schedules", {"deduplication_key": "k", "task": "echo", "cron": "0 0 30 2 *"}),
    ],
)
def test_starts_and_schedules_are_refused_too_if_quirks_are_off(method: str, path: str, body: object) -> None:
    for quirks, status in ((True, 500), (False, 400)):
        with LocalControlPlane(settings=Settings(quirks=quirks)) as server:
            answer = Wire(server).request(method, path, body)
            assert answer.status == status, answer


def test_a_key_used_twice_for_different_commands_is_a_conflict_if_quirks_are_off() -> None:
    for quirks, status in ((True, 500), (False, 409)):
        with LocalControlPlane(settings=Settings(quirks=quirks)) as server:
            wire = Wire(server)
            path = new(wire)
            wire.post(f"{path}/execs", {"command": ["cat"], "idempotency_key": "k"}, 201)
            answer = wire.request("POST", f"{path}/execs", {"command": ["ls"], "idempotency_key": "k"})
            assert (answer.status, answer.json["code"]) == (status, "idempotency_fingerprint_mismatch")


def test_what_a_lost_machine_had_changed_is_not_captured_later(wire: Wire, server: LocalControlPlane) -> None:
    path = new(wire)
    executed(wire, path, "echo lost > lost")
    server.lose_workspace(path.rpartition("/")[2])
    assert shown(wire, path)["dirty_state"] == "dirty"
    wire.post(f"{path}/materialize", {}, 201)
    assert shown(wire, path)["dirty_state"] == "clean"
    stopped(wire, path)
    assert kinds(wire, path) == ["system"]

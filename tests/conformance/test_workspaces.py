"""Workspaces, execs and terminals (contract/behaviour.md sections 13 and 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helmr_provider.client import HelmrApiError, HelmrNotFoundError
from tests.conformance.refusals import refused
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import HelmrClient, WorkspaceHandle
    from tests.conformance.conftest import Plane

PATIENCE = 60.0


@pytest.fixture
def sandbox(client: HelmrClient) -> str:
    deployed = client.sandboxes.list()
    if not deployed:
        pytest.skip("no sandbox is deployed there")
    return deployed[0].sandbox_id


@pytest.fixture
def workspace(plane: Plane, client: HelmrClient, sandbox: str) -> Iterator[WorkspaceHandle]:
    handle = client.workspaces.open(client.workspaces.create(sandbox, external_id=plane.name()))
    yield handle
    handle.stop()


def test_a_workspace_is_created_once_by_its_key(plane: Plane, client: HelmrClient, sandbox: str) -> None:
    key = plane.name()
    made = client.workspaces.create(sandbox, idempotency_key=key, tags=["a"], metadata={"n": 1})
    again = client.workspaces.create(sandbox, idempotency_key=key, tags=["a"], metadata={"n": 1})
    assert (made.is_cached, again.is_cached, again.id) == (False, True, made.id)
    assert (made.state, made.tags, made.metadata) == ("active", ("a",), {"n": 1})


def test_a_workspace_is_found_by_its_name_and_tag(plane: Plane, client: HelmrClient, sandbox: str) -> None:
    name, tag = plane.name(), plane.name()[-30:]
    made = client.workspaces.create(sandbox, external_id=name, tags=[tag])
    assert [found.id for found in client.workspaces.list(external_id=name)] == [made.id]
    assert [found.id for found in client.workspaces.list(tag=tag)] == [made.id]
    changed = client.workspaces.update(made, metadata={"a": 1}, tags=[])
    assert (changed.metadata, changed.tags) == ({"a": 1}, ())


def test_a_deleted_workspace_is_archived_and_stays_readable(client: HelmrClient, sandbox: str) -> None:
    made = client.workspaces.create(sandbox)
    handle = client.workspaces.open(made)
    assert handle.delete().state == "archived"
    assert handle.delete().state == "archived"
    assert handle.retrieve().state == "archived"
    refused(409, "workspace_not_active", lambda: handle.exec(["true"]))
    with pytest.raises(HelmrNotFoundError):
        handle.materialize()


def test_an_idle_workspace_has_nothing_to_stop_and_an_empty_version(workspace: WorkspaceHandle) -> None:
    stopped = workspace.stop()
    assert (stopped.state, stopped.materialization) == ("no_active_materialization", None)
    assert workspace.files.list().entries == ()
    (first,) = workspace.versions.list()
    assert (first.id, first.kind) == (workspace.retrieve().current_version_id, "system")


def test_the_live_files_are_not_served(workspace: WorkspaceHandle) -> None:
    refused(501, "workspace_source_live_unsupported", lambda: workspace.files.list(source="live"))


def test_a_command_ends_with_its_code_and_its_output(plane: Plane, workspace: WorkspaceHandle) -> None:
    plane.needs_worker()
    command = workspace.exec(["sh", "-c", "printf out; printf err >&2; exit 3"], env={"NAME": "value"})
    ended = command.wait(timeout=PATIENCE)
    assert (ended.state, ended.exit_code, ended.env_shape) == ("exited", 3, {"NAME": "value"})
    assert (ended.stdout_cursor, ended.stderr_cursor) == (3, 3)
    assert b"".join(chunk.content for chunk in command.stdout.list()) == b"out"
    assert b"".join(chunk.content for chunk in command.stderr.stream()) == b"err"
    assert b"".join(chunk.content for chunk in command.stdout.list(cursor=1)) == b"out"
    assert command.stdout.list(cursor=3) == []


def test_a_command_reads_what_is_written_at_the_right_offset(plane: Plane, workspace: WorkspaceHandle) -> None:
    plane.needs_worker()
    command = workspace.exec(["cat"])
    until(lambda: command.retrieve().state == "running", every=0.05)
    command.stdin.write("one ", offset=0)
    repeated = command.stdin.write("one ", offset=0)
    assert (repeated.offset_start, repeated.offset_end) == (0, 4)
    conflict = "workspace_stream_offset_conflict"
    refused(409, conflict, lambda: command.stdin.write("two", offset=2))
    refused(409, "workspace_writer_active", lambda: workspace.exec(["true"]))
    command.stdin.write("two", offset=4)
    command.stdin.close()
    assert command.wait(timeout=PATIENCE).exit_code == 0
    assert b"".join(chunk.content for chunk in command.stdout.stream()) == b"one two"


def test_a_key_names_one_command(plane: Plane, workspace: WorkspaceHandle) -> None:
    plane.needs_worker()
    first = workspace.exec(["true"], idempotency_key="k")
    assert workspace.exec(["true"], idempotency_key="k").id == first.id
    first.wait(timeout=PATIENCE)
    with pytest.raises(HelmrApiError) as caught:
        workspace.exec(["false"], idempotency_key="k")
    assert caught.value.code == "idempotency_fingerprint_mismatch"


def test_what_was_written_is_in_the_version_that_a_stop_captures(plane: Plane, workspace: WorkspaceHandle) -> None:
    plane.needs_worker()
    first = workspace.retrieve().current_version_id
    workspace.exec(["sh", "-c", "mkdir -p docs && printf hello > docs/a.txt && ln -s a.txt docs/l"]).wait(
        timeout=PATIENCE
    )
    workspace.stop()
    until(lambda: workspace.retrieve().current_version_id != first, every=0.05)
    assert workspace.files.read("docs/a.txt") == b"hello"
    assert [(entry.path, entry.kind) for entry in workspace.files.list("docs").entries] == [
        ("docs/a.txt", "file"),
        ("docs/l", "symlink"),
    ]
    assert workspace.files.stat("docs").mode & 0o777 == 0o755
    newest, oldest = workspace.versions.list()
    assert (newest.id, newest.parent_version_id) == (workspace.retrieve().current_version_id, first)
    assert workspace.files.list(source="version", version_id=oldest.id).entries == ()
    refused(422, "workspace_file_not_regular", lambda: workspace.files.read("docs/l"))
    refused(404, "workspace_file_not_found", lambda: workspace.files.read("docs/none"))


def test_a_terminal_echoes_and_closes(plane: Plane, workspace: WorkspaceHandle) -> None:
    plane.needs_worker()
    terminal = workspace.pty.create(cols=100, rows=30)
    assert terminal.wait_until_open(timeout=PATIENCE).is_open
    terminal.input("echo a$((1 + 1))b\n", offset=0)
    until(lambda: b"a2b" in b"".join(chunk.content for chunk in terminal.output.list()), every=0.05)
    resized = terminal.resize(120, 40)
    assert (resized.cols, resized.rows) == (100, 30)
    until(lambda: terminal.retrieve().cols == 120, every=0.05)
    terminal.close()
    until(lambda: terminal.retrieve().state == "closed", every=0.05)
    refused(409, "workspace_pty_terminal", lambda: terminal.input("x", offset=0))

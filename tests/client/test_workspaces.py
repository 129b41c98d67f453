"""Workspaces beyond single calls: waiting for commands, pages of files, pending requests, and what is refused here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import (
    HelmrApiError,
    HelmrClient,
    HelmrConflictError,
    HelmrConnectionError,
    HelmrNotFoundError,
    HelmrProtocolError,
    HelmrTimeoutError,
)
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.scripted_server import ReceivedRequest

both = pytest.mark.parametrize("variant", VARIANTS)
NOW = "2026-11-23T17:38:28.251884Z"
VERSION = "01a2097b-3068-7f31-9898-37cdc97251b1"


def execution(state: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "e",
        "workspace_id": "w",
        "command": ["npm", "test"],
        "cwd": "",
        "filesystem_mode": "write",
        "state": state,
        "detached": False,
        "stdout_cursor": 0,
        "stderr_cursor": 0,
        "stdin_cursor": 0,
        "created_at": NOW,
        "updated_at": NOW,
    } | more


def workspace(**more: Any) -> dict[str, Any]:
    return {
        "id": "w",
        "project_id": "p",
        "environment_id": "v",
        "deployment_sandbox_id": "d",
        "sandbox_id": "node-22",
        "sandbox_fingerprint": "f",
        "state": "active",
        "desired_state": "active",
        "dirty_state": "clean",
        "last_activity_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    } | more


def at(state: str, **more: Any) -> Reply:
    return Reply(json={"exec": execution(state, **more)})


@pytest.fixture
def offline() -> Iterator[HelmrClient]:
    """A client whose every request would fail."""
    with (
        ScriptedServer(Reply(500, json={"error": "asked"})) as wire,
        HelmrClient(url=wire.url, api_key=API_KEY) as client,
    ):
        yield client
        assert not wire.requests


def wait(variant: str, wire: ScriptedServer, **options: Any) -> Any:
    options = {"poll_interval": 0.001} | options
    return drive(variant, lambda c: c.workspaces.open("w").execs.open("e").wait(**options), url=wire.url)


@both
@pytest.mark.parametrize("state", ["exited", "terminated", "lost", "failed"])
def test_a_command_is_waited_for_to_any_end(state: str, variant: str) -> None:
    with ScriptedServer(at("materializing"), at("queued"), at("running"), at(state, exit_code=3)) as wire:
        found = wait(variant, wire)
    assert (found.state, found.exit_code, found.is_terminal, found.is_success) == (state, 3, True, False)
    assert len(wire.requests) == 4


@both
def test_a_state_that_is_not_known_yet_is_waited_through(variant: str) -> None:
    with ScriptedServer(at("defrosting"), at("exited", exit_code=0)) as wire:
        assert wait(variant, wire).is_success


@both
@pytest.mark.parametrize("timeout", [None, 30])
def test_a_wait_for_a_command_survives_an_outage(timeout: float | None, variant: str) -> None:
    busy = Reply(503, json={"error": "busy"}, headers={"retry-after": "0"})
    cut = Reply(json={"exec": execution("running")}, end="reset")
    with ScriptedServer(at("running"), busy, cut, at("exited", exit_code=0)) as wire:
        assert wait(variant, wire, timeout=timeout).is_success


@both
def test_a_wait_for_a_missing_command_ends_immediately(variant: str) -> None:
    with (
        ScriptedServer(Reply(404, json={"error": "workspace exec not found"})) as wire,
        pytest.raises(HelmrNotFoundError),
    ):
        wait(variant, wire, timeout=30)
    assert len(wire.requests) == 1


def opening(variant: str, wire: ScriptedServer, **options: Any) -> Any:
    options = {"poll_interval": 0.001} | options
    return drive(variant, lambda c: c.workspaces.open("w").pty.open("t").wait_until_open(**options), url=wire.url)


def pty_at(state: str) -> Reply:
    return Reply(json={"pty": TERMINAL | {"state": state}})


@both
@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize(
    ("state", "is_open"), [("open", True), ("resizing", True), ("closing", False), ("failed", False), ("lost", False)]
)
def test_a_terminal_is_waited_for_until_it_is_open_or_never_will_be(
    state: str, is_open: bool, timeout: float | None, variant: str
) -> None:
    with ScriptedServer(
        pty_at("creating"), Reply(503, json={"error": "busy"}), pty_at("creating"), pty_at(state)
    ) as wire:
        found = opening(variant, wire, timeout=timeout)
    assert (found.state, found.is_open) == (state, is_open)
    assert {request.path for request in wire.requests} == {"/api/workspaces/w/pty/t"}


@both
def test_a_terminal_that_does_not_open_in_time_is_named(variant: str) -> None:
    with (
        ScriptedServer(pty_at("creating")) as wire,
        pytest.raises(HelmrTimeoutError, match="opening of pty t") as caught,
    ):
        opening(variant, wire, timeout=0.3)
    assert caught.value.pending == ("t",)


@both
@pytest.mark.parametrize("reply", [at("running"), Reply(503, json={"error": "busy"}), Reply(end="silent")])
def test_a_wait_ends_at_its_deadline_with_any_server(reply: Reply, variant: str) -> None:
    with (
        ScriptedServer(reply) as wire,
        pytest.raises(HelmrTimeoutError, match=r"Not over after 0\.3 s: exec e\.") as caught,
    ):
        wait(variant, wire, timeout=0.3)
    assert caught.value.pending == ("e",)


@both
def test_without_a_deadline_an_unreachable_control_plane_is_reported(variant: str) -> None:
    with pytest.raises(HelmrConnectionError):
        drive(variant, lambda c: c.workspaces.open("w").execs.open("e").wait(), url="http://127.0.0.1:9")


def test_a_wait_does_not_ask_without_a_pause(offline: HelmrClient) -> None:
    handle = offline.workspaces.open("w")
    for call in (handle.execs.open("e").wait, handle.pty.open("t").wait_until_open):
        with pytest.raises(ValueError, match="poll_interval"):
            call(poll_interval=0)


PENDING = {"code": "idempotency_pending", "error": "pending"}
STOPPED = Reply(json={"workspace_id": "w", "state": "no_active_materialization"})
TERMINAL = {
    "id": "t",
    "workspace_id": "w",
    "cwd": "",
    "cols": 80,
    "rows": 24,
    "filesystem_mode": "write",
    "state": "creating",
    "output_cursor": 0,
    "input_cursor": 0,
    "created_at": NOW,
    "updated_at": NOW,
}


@both
@pytest.mark.parametrize(
    ("status", "call", "reply"),
    [
        (202, lambda c: c.workspaces.create("s", idempotency_key="k"), Reply(201, json={"workspace": workspace()})),
        (202, lambda c: c.workspaces.stop("w", idempotency_key="k"), STOPPED),
        (500, lambda c: c.workspaces.open("w").exec(["ls"], idempotency_key="k"), at("queued")),
        (500, lambda c: c.workspaces.open("w").pty.create(idempotency_key="k"), Reply(json={"pty": TERMINAL})),
    ],
)
def test_a_request_that_is_still_being_served_is_sent_again(
    status: int, call: Callable[[Any], Any], reply: Reply, variant: str
) -> None:
    pending = Reply(status, json=PENDING, headers={"retry-after": "0.01"})
    with ScriptedServer(pending, pending, reply) as wire:
        drive(variant, call, url=wire.url)
    assert len(wire.requests) == 3
    assert len({request.body for request in wire.requests}) == 1


@both
def test_a_spent_key_is_a_conflict_although_the_server_says_500(variant: str) -> None:
    spent = Reply(500, json={"code": "idempotency_fingerprint_mismatch", "error": "already used"})
    with ScriptedServer(spent) as wire, pytest.raises(HelmrConflictError) as caught:
        drive(variant, lambda c: c.workspaces.open("w").exec(["ls"], idempotency_key="k"), url=wire.url)
    assert (caught.value.status, caught.value.retryable) == (500, False)
    assert len(wire.requests) == 1


@both
def test_an_answer_about_another_workspace_is_not_taken(variant: str) -> None:
    with ScriptedServer(Reply(json={"workspace": workspace(id="other")})) as wire, pytest.raises(HelmrProtocolError):
        drive(variant, lambda c: c.workspaces.retrieve("w"), url=wire.url)


@both
@pytest.mark.parametrize("answer", [{}, [], {"workspace": None}, {"workspace": []}])
def test_an_answer_without_its_record_is_not_the_contract(answer: Any, variant: str) -> None:
    with ScriptedServer(Reply(json=answer)) as wire, pytest.raises(HelmrProtocolError, match="no object 'workspace'"):
        drive(variant, lambda c: c.workspaces.retrieve("w"), url=wire.url)


@both
def test_what_newer_servers_call_a_mount_is_read_as_a_materialization(variant: str) -> None:
    mount = {
        "id": "m",
        "project_id": "p",
        "environment_id": "v",
        "workspace_id": "w",
        "deployment_sandbox_id": "d",
        "state": "stopping",
        "claim_attempt": 1,
        "fencing_generation": 1,
        "dirty_generation": 0,
        "created_at": NOW,
        "updated_at": NOW,
    }
    with ScriptedServer(Reply(json={"workspace_id": "w", "state": "stopping", "mount": mount})) as wire:
        stop = drive(variant, lambda c: c.workspaces.stop("w"), url=wire.url)
    assert stop.materialization.id == "m"
    with ScriptedServer(at("running", workspace_mount_id="m")) as wire:
        found = drive(variant, lambda c: c.workspaces.open("w").execs.open("e").retrieve(), url=wire.url)
    assert found.materialization_id == "m"


def entries(names: list[str], size: int) -> ScriptedServer:
    def answer(request: ReceivedRequest) -> Reply:
        rest = [name for name in names if name > request.query.get("cursor", "")]
        page = [{"path": name, "kind": "file", "size_bytes": 1, "mode": 420} for name in rest[:size]]
        more = {"next_cursor": rest[size - 1]} if len(rest) > size else {}
        return Reply(json={"path": ".", "entries": page} | more)

    return ScriptedServer(answer=answer)


@both
@pytest.mark.parametrize("size", [1, 2, 7])
def test_all_files_of_a_directory_come_once_also_where_names_are_numbers(size: int, variant: str) -> None:
    # As text "10" comes before "9".
    names = ["10", "2", "9", "a", "b", "é"]
    with entries(names, size) as wire:
        found = drive(
            variant, lambda c: c.workspaces.open("w").files.iter(source="version", version_id=VERSION), url=wire.url
        )
    assert [entry.path for entry in found] == names
    assert found[0].permissions == 0o644
    assert {request.query["version_id"] for request in wire.requests} == {VERSION}


@both
def test_a_directory_whose_cursor_does_not_move_is_not_read_for_ever(variant: str) -> None:
    page = {"path": ".", "entries": [{"path": "a", "kind": "file", "size_bytes": 1, "mode": 420}], "next_cursor": "a"}
    with ScriptedServer(Reply(json=page)) as wire:
        assert len(drive(variant, lambda c: c.workspaces.open("w").files.iter(), url=wire.url)) == 2
    assert len(wire.requests) == 2


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda c: c.workspaces.create(" "), "sandbox_id"),
        (lambda c: c.workspaces.create("s", deployment_id="latest"), "deployment_id must be a UUID"),
        (lambda c: c.workspaces.create("s", tags=["a"] * 11), "tags"),
        (lambda c: c.workspaces.create("s", external_id=" "), "external_id"),
        (
            lambda c: c.workspaces.create("s", idempotency_key="k", idempotency_key_ttl="soon"),
            "idempotency_key_ttl must",
        ),
        (lambda c: c.workspaces.stop("w", idempotency_key="k", idempotency_key_ttl="soon"), "idempotency_key_ttl"),
        (lambda c: c.workspaces.open(""), "workspace id"),
        (lambda c: c.workspaces.open("w").execs.open(" "), "exec id"),
        (lambda c: c.workspaces.open("w").pty.open(" "), "pty id"),
        (lambda c: c.workspaces.update("w"), "Nothing to change"),
        (lambda c: c.workspaces.update("w", tags=None), "None is no value"),
        (lambda c: c.workspaces.open("w").files.read(""), "blank"),
        (lambda c: c.workspaces.open("w").files.stat("/etc/passwd"), "relative"),
        (lambda c: c.workspaces.open("w").files.list("a/../../b"), "relative"),
        (lambda c: c.workspaces.open("w").files.read("a", source="latest"), "source must be"),
        (lambda c: c.workspaces.open("w").files.read("a", source="version"), "version_id goes with"),
        (lambda c: c.workspaces.open("w").files.read("a", version_id=VERSION), "version_id goes with"),
        (lambda c: c.workspaces.open("w").files.read("a", source="version", version_id="3"), "must be a UUID"),
        (lambda c: c.workspaces.open("w").files.read("a", materialization_id="m"), "materialization_id"),
        (lambda c: c.workspaces.open("w").exec([]), "empty"),
        (lambda c: c.workspaces.open("w").exec("ls -l"), "list of text"),
        (lambda c: c.workspaces.open("w").exec(["ls", 1]), "list of text"),
        (lambda c: c.workspaces.open("w").exec(["ls"], env={"A": 1}), "env must map"),
        (lambda c: c.workspaces.open("w").execs.open("e").stdin.write(b"", offset=0), "1 byte to 1 MiB"),
        (lambda c: c.workspaces.open("w").execs.open("e").stdin.write(b"a" * 1048577, offset=0), "1 byte to 1 MiB"),
        (lambda c: c.workspaces.open("w").execs.open("e").stdin.write(b"a", offset=-1), "offset"),
        (lambda c: c.workspaces.open("w").execs.open("e").stdin.write(b"a", offset=2**53), "offset"),
        (lambda c: c.workspaces.open("w").pty.open("t").input("a", offset=True), "offset"),
        (lambda c: c.workspaces.open("w").pty.open("t").input("a", offset=1.5), "offset"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    call: Callable[[Any], Any], complaint: str, offline: HelmrClient
) -> None:
    with pytest.raises((ValueError, TypeError), match=complaint):
        call(offline)


def test_names_with_dots_are_not_parents(offline: HelmrClient) -> None:
    from helmr_provider.client._wire.workspace_serialization import file_path

    assert [file_path(path) for path in ("a..b", "..a", "a/...", " a ")] == ["a..b", "..a", "a/...", "a"]


@both
def test_text_is_written_as_utf_8_and_the_largest_write_is_taken(variant: str) -> None:
    chunk = {
        "id": "c",
        "stream": "stdin",
        "offset_start": 0,
        "offset_end": 3,
        "data": "w7Y=",
        "observed_at": NOW,
        "created_at": NOW,
    }
    with ScriptedServer(Reply(json=chunk)) as wire:
        found = drive(
            variant, lambda c: c.workspaces.open("w").execs.open("e").stdin.write("ö", offset=0), url=wire.url
        )
        drive(
            variant,
            lambda c: c.workspaces.open("w").execs.open("e").stdin.write(b"a" * 1048576, offset=2),
            url=wire.url,
        )
    assert wire.requests[0].json == {"offset": 0, "data": "w7Y="}
    assert found.content == "ö".encode()
    assert wire.requests[1].json["offset"] == 2


@both
def test_ids_cannot_change_the_path(variant: str) -> None:
    with ScriptedServer(Reply(404, json={"error": "no"})) as wire, pytest.raises(HelmrApiError):
        drive(variant, lambda c: c.workspaces.open("a/../b ç").execs.open("e?x=1").retrieve(), url=wire.url)
    assert wire.requests[0].target == "/api/workspaces/a%2F..%2Fb%20%C3%A7/execs/e%3Fx%3D1"

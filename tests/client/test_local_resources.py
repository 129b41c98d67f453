"""Streams, workspaces and schedules against the local control plane: whole stories over HTTP, with both clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from helmr_provider.client import (
    AsyncHelmrClient,
    HelmrClient,
    HelmrConflictError,
    HelmrGoneError,
    HelmrNotFoundError,
    HelmrPermissionError,
    InputStream,
    OutputStream,
    PublicScope,
    ScheduleRunOptions,
    Task,
)
from helmr_provider.local import Fault, LocalControlPlane
from tests.client.scripted_server import VARIANTS, drive
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local.testing.faults import FaultKind

both = pytest.mark.parametrize("variant", VARIANTS)


class Message(BaseModel):
    text: str


MESSAGES = InputStream("messages", Message)
ECHOES = OutputStream("messages", Message)


@pytest.fixture(scope="module")
def plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane() as server:
        yield server


@pytest.fixture
def client(plane: LocalControlPlane) -> Iterator[HelmrClient]:
    with HelmrClient(url=plane.url, api_key=plane.api_key) as found:
        yield found


def run_call(plane: LocalControlPlane, variant: str, call: Any, **options: Any) -> Any:
    return drive(variant, call, **{"url": plane.url, "api_key": plane.api_key} | options)


@both
def test_a_run_takes_a_typed_message_and_answers_with_one(plane: LocalControlPlane, variant: str) -> None:
    name = f"chat/{variant} é"
    started = run_call(plane, variant, lambda c: c.sessions.start("wait-for-input", external_id=name))
    sent = run_call(
        plane,
        variant,
        lambda c: c.sessions.open(external_id=name).input(MESSAGES).send(Message(text="hi"), idempotency_key="k"),
    )
    again = run_call(
        plane,
        variant,
        lambda c: c.sessions.open(started.session).input(MESSAGES).send(Message(text="hi"), idempotency_key="k"),
    )
    assert (sent.sequence, sent.is_duplicate, again.is_duplicate) == (1, False, True)
    run = run_call(plane, variant, lambda c: c.runs.wait(started.run, timeout=20))
    assert run.output_as(Task("wait-for-input", output=dict[str, Any]))["message"] == {"text": "hi"}
    for by_id in (True, False):
        address = {"session": started.session} if by_id else {"external_id": name}
        (echo,) = run_call(plane, variant, lambda c, a=address: c.sessions.open(**a).output(ECHOES).list())
        assert echo.data == Message(text="hi")
        first = run_call(plane, variant, lambda c, a=address: c.sessions.open(**a).output(ECHOES).read())
        assert first == echo
        assert run_call(plane, variant, lambda c, a=address: c.sessions.open(**a).output(ECHOES).read(after=1)) is None
        (received,) = run_call(plane, variant, lambda c, a=address: c.sessions.open(**a).input(MESSAGES).iter())
        assert received.data == Message(text="hi")
        streams = run_call(plane, variant, lambda c, a=address: c.sessions.open(**a).streams())
        assert {("messages", "input", 1), ("messages", "output", 1)} <= {
            (stream.name, stream.direction, stream.sequence) for stream in streams
        }


@both
def test_input_after_the_end_starts_the_next_turn(plane: LocalControlPlane, variant: str) -> None:
    started = run_call(plane, variant, lambda c: c.sessions.start("wait-for-input"))
    with pytest.raises(HelmrNotFoundError, match="stream_not_found"):
        run_call(plane, variant, lambda c: c.sessions.open(started.session).input("nothing").send(1))
    first = run_call(plane, variant, lambda c: c.sessions.open(started.session).input("messages").send("one"))
    run_call(plane, variant, lambda c: c.runs.wait(started.run, timeout=20))
    second = run_call(plane, variant, lambda c: c.sessions.open(started.session).input("messages").send("two"))
    assert (first.continuation_status in {None, "accepted_run_pending"}, second.continuation_status) == (
        True,
        "created",
    )
    runs = run_call(plane, variant, lambda c: c.sessions.open(started.session).runs())
    last = run_call(plane, variant, lambda c: c.runs.wait(runs[-1].run_id, timeout=20))
    # A wait that does not continue after a record begins with the first of the stream, in every turn.
    assert (runs[-1].turn_index, last.output) == (1, {"message": "one", "turn": 1})


@both
def test_output_can_be_written_from_outside_and_paged(plane: LocalControlPlane, variant: str) -> None:
    started = run_call(plane, variant, lambda c: c.sessions.start("wait-for-input"))
    run_call(plane, variant, lambda c: c.sessions.open(started.session).output("progress").extend(range(5)))
    run_call(
        plane,
        variant,
        lambda c: c.sessions.open(started.session).output("progress").append({"a": 1}, correlation_id="x"),
    )
    found = run_call(plane, variant, lambda c: c.sessions.open(started.session).output("progress").iter(limit=2))
    assert [record.data for record in found] == [0, 1, 2, 3, 4, {"a": 1}]
    (only,) = run_call(
        plane, variant, lambda c: c.sessions.open(started.session).output("progress").list(correlation_id="x")
    )
    assert only.sequence == 6
    run_call(plane, variant, lambda c: c.sessions.open(started.session).cancel())
    with pytest.raises(HelmrConflictError):
        run_call(plane, variant, lambda c: c.sessions.open(started.session).input("messages").send(1))


@both
def test_a_public_token_opens_one_stream_as_often_as_it_says(plane: LocalControlPlane, variant: str) -> None:
    name = f"public/{variant}"
    started = run_call(plane, variant, lambda c: c.sessions.start("wait-for-input", external_id=name))
    token = run_call(
        plane,
        variant,
        lambda c: c.auth.create_public_token(
            PublicScope.input(c.sessions.open(external_id=name), MESSAGES, correlation_id="thread"), max_uses=1
        ),
    )
    assert (token.scope.session.id, token.max_uses) == (started.session.id, 1)
    assert token.public_access_token not in repr(token)

    def send(text: str) -> Any:
        return run_call(
            plane,
            variant,
            lambda c: (
                c.sessions.open(external_id=name)
                .input(MESSAGES)
                .send(Message(text=text), correlation_id="thread", public_access_token=token.public_access_token)
            ),
            api_key=None,
        )

    assert send("hi").sequence == 1
    with pytest.raises(HelmrPermissionError, match="token_scope_denied"):
        send("again")
    reader = run_call(plane, variant, lambda c: c.auth.create_public_token(PublicScope.output(started.session, ECHOES)))
    run_call(plane, variant, lambda c: c.runs.wait(started.run, timeout=20))
    record = run_call(
        plane,
        variant,
        lambda c: c.sessions.open(started.session).output(ECHOES).read(public_access_token=reader.public_access_token),
    )
    assert record.data == Message(text="hi")
    with pytest.raises(HelmrGoneError):
        run_call(
            plane,
            variant,
            lambda c: c.auth.create_public_token(
                PublicScope.input(started.session, MESSAGES), expires_at="2020-01-01T00:00:00Z"
            ),
        )


@both
@pytest.mark.parametrize("fault", [None, "half_frame", "reset", "reset_stream", "close_stream", "lose_answer"])
def test_a_command_is_followed_from_start_to_end_over_broken_connections(
    plane: LocalControlPlane, variant: str, fault: FaultKind | None
) -> None:
    sandbox = run_call(plane, variant, lambda c: c.sandboxes.list())[0].sandbox_id
    workspace = run_call(plane, variant, lambda c: c.workspaces.create(sandbox, tags=["story"]))
    script = "printf 'h\\303\\251llo\\n'; echo more; printf '\\000\\377'; echo oops >&2; exit 3"
    started = run_call(
        plane, variant, lambda c: c.workspaces.open(workspace).exec(["sh", "-c", script], env={"A": "1"})
    )
    if fault is not None:
        plane.fail_next("listWorkspaceExecStdout", Fault(kind=fault))
    path = {"workspace": started.workspace_id, "exec": started.id}

    def command(client: Any) -> Any:
        return client.workspaces.open(path["workspace"]).execs.open(path["exec"])

    chunks = run_call(plane, variant, lambda c: command(c).stdout.stream())
    assert not plane.pending_faults
    assert b"".join(chunk.content for chunk in chunks) == "héllo\nmore\n".encode() + b"\x00\xff"
    assert b"".join(c.content for c in run_call(plane, variant, lambda c: command(c).stderr.stream())) == b"oops\n"
    ended = run_call(plane, variant, lambda c: command(c).wait(timeout=20))
    assert (ended.state, ended.exit_code, ended.is_success, ended.stderr_cursor) == ("exited", 3, False, 5)
    listed = run_call(plane, variant, lambda c: command(c).stdout.list())
    assert b"".join(chunk.content for chunk in listed) == b"".join(chunk.content for chunk in chunks)
    assert started.id in {
        found.id for found in run_call(plane, variant, lambda c: c.workspaces.open(workspace).execs.list())
    }


def test_a_command_reads_what_is_written_to_it_and_its_files_are_there_after_the_stop(client: HelmrClient) -> None:
    handle = client.workspaces.open(client.workspaces.create(client.sandboxes.list()[0].sandbox_id))
    command = handle.exec(["sh", "-c", "echo ready; mkdir -p 'a b'; cat > 'a b/ä.txt'"], idempotency_key="once")
    assert next(command.stdout.stream()).content == b"ready\n"
    with pytest.raises(HelmrConflictError, match="workspace_writer_active"):
        handle.exec(["true"])
    with pytest.raises(HelmrConflictError):
        handle.exec(["other"], idempotency_key="once")
    assert (
        handle.exec(["sh", "-c", "echo ready; mkdir -p 'a b'; cat > 'a b/ä.txt'"], idempotency_key="once").id
        == command.id
    )
    first = command.stdin.write("één ", offset=0)
    assert command.stdin.write("één ", offset=0).offset_end == first.offset_end
    with pytest.raises(HelmrConflictError, match="workspace_stream_offset_conflict"):
        command.stdin.write("x", offset=1)
    command.stdin.write(b"two", offset=first.offset_end)
    command.stdin.close()
    assert command.wait(timeout=20).is_success
    before = handle.retrieve().current_version_id
    assert handle.stop(idempotency_key="s").materialization is not None
    until(lambda: handle.retrieve().current_version_id != before)
    assert handle.files.read("a b/ä.txt") == "één two".encode()
    assert [entry.path for entry in handle.files.iter()] == ["a b"]
    assert handle.files.stat("a b").kind == "directory"
    version = handle.versions.list(limit=1)[0]
    assert handle.versions.retrieve(version.id) == version
    assert handle.files.list("a b", source="version", version_id=version.id).entries[0].name == "ä.txt"
    with pytest.raises(HelmrNotFoundError, match="workspace_file_not_found"):
        handle.files.read("nothing")
    until(lambda: handle.stop().state == "no_active_materialization")
    assert handle.update(metadata={"a": 1}, tags=["x"]).tags == ("x",)
    assert handle.delete().state == "archived"
    assert handle.id in {found.id for found in client.workspaces.list(tag="x", state="archived")}


async def test_a_terminal_is_typed_into_and_resized(plane: LocalControlPlane) -> None:
    async with AsyncHelmrClient(url=plane.url, api_key=plane.api_key) as client:
        sandbox = (await client.sandboxes.list())[0].sandbox_id
        handle = client.workspaces.open(await client.workspaces.create(sandbox))
        terminal = await handle.pty.create(cols=100, rows=30)
        assert terminal.initial is not None
        assert (terminal.initial.cols, terminal.initial.is_terminal) == (100, False)
        typed = False
        said = b""
        async for chunk in terminal.output.stream():
            said += chunk.content
            if not typed:
                # The prompt is there, so the terminal is open.
                typed = True
                await terminal.resize(120, 40)
                await terminal.input("stty size; exit\n", offset=0)
        assert b"40 120" in said
        assert (await terminal.retrieve()).state == "closed"
        assert [found.id for found in await handle.pty.list(state="closed")] == [terminal.id]


@both
def test_a_schedule_is_made_replaced_and_removed(plane: LocalControlPlane, variant: str) -> None:
    key = f"nightly-{variant}"
    options = ScheduleRunOptions(ttl="5m", max_duration=300)
    made = run_call(
        plane,
        variant,
        lambda c: c.schedules.create(
            deduplication_key=key, task=Task("echo"), cron="30 2 * * *", external_id="x", active=False, options=options
        ),
    )
    assert (made.status, made.next_fire_at, made.external_id) == ("inactive", None, "x")
    again = run_call(
        plane, variant, lambda c: c.schedules.create(deduplication_key=key, task="echo", cron="0 3 * * *", active=False)
    )
    assert (again.id, again.cron, again.external_id) == (made.id, "0 3 * * *", None)
    assert run_call(plane, variant, lambda c: c.schedules.activate(made)).next_fire_at is not None
    updated = run_call(
        plane,
        variant,
        lambda c: c.schedules.update(made.id, task="echo", cron="0 4 * * *", timezone="Europe/Berlin"),
    )
    assert (updated.timezone, updated.active) == ("Europe/Berlin", True)
    assert made.id in {schedule.id for schedule in run_call(plane, variant, lambda c: c.schedules.list())}
    assert run_call(plane, variant, lambda c: c.schedules.deactivate(made)).active is False
    assert run_call(plane, variant, lambda c: c.schedules.delete(made)) is None
    with pytest.raises(HelmrNotFoundError):
        run_call(plane, variant, lambda c: c.schedules.retrieve(made))


@both
def test_deployments_can_be_read(plane: LocalControlPlane, variant: str) -> None:
    tasks = run_call(plane, variant, lambda c: c.tasks.list())
    assert run_call(plane, variant, lambda c: c.tasks.retrieve("echo")).id in {task.id for task in tasks}
    current = run_call(plane, variant, lambda c: c.deployments.current())
    assert run_call(plane, variant, lambda c: c.deployments.retrieve(current)) == current
    assert current.id in {found.id for found in run_call(plane, variant, lambda c: c.deployments.list())}
    assert run_call(plane, variant, lambda c: c.deployments.promote(current.version, reason="again")).id == current.id
    kinds = [record.kind for record in run_call(plane, variant, lambda c: c.deployments.events(current, page_size=1))]
    assert kinds[-1] == "deployment.deployed"


@both
def test_a_secret_is_set_and_never_read_back(plane: LocalControlPlane, variant: str) -> None:
    name = f"TOKEN_{variant}"
    run_call(plane, variant, lambda c: c.secrets.set(name, "hunter2"))
    found = run_call(plane, variant, lambda c: c.secrets.retrieve(name))
    assert "hunter2" not in repr(found) + str(found.raw)
    assert name in {secret.name for secret in run_call(plane, variant, lambda c: c.secrets.list())}
    run_call(plane, variant, lambda c: c.secrets.delete(name))
    with pytest.raises(HelmrNotFoundError):
        run_call(plane, variant, lambda c: c.secrets.retrieve(name))


def test_the_facades_have_every_namespace_of_the_reference(
    plane: LocalControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    import helmr_provider.client._default_client as facade
    from helmr_provider.client import schedules, workspaces

    monkeypatch.setenv("HELMR_API_URL", plane.url)
    monkeypatch.setenv("HELMR_API_KEY", plane.api_key)
    monkeypatch.setattr(facade, "_default", None)
    assert isinstance(workspaces.list(), list)
    assert isinstance(schedules.list(), list)
    facade.default_client().close()


async def test_so_have_the_asynchronous_facades(plane: LocalControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    from helmr_provider.client import PublicAccessToken, aio

    monkeypatch.setenv("HELMR_API_URL", plane.url)
    monkeypatch.setenv("HELMR_API_KEY", plane.api_key)
    started = await aio.sessions.start("wait-for-input")
    token = await aio.auth.create_public_token(PublicScope.input(started.session, "messages"))
    assert isinstance(token, PublicAccessToken)
    assert isinstance(await aio.workspaces.list(), list)
    assert isinstance(await aio.schedules.list(), list)
    await aio.aclose()

"""What a type checker infers for users of the client; checked by ``make types``, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from pydantic import BaseModel, TypeAdapter

from helmr_provider.client import (
    AsyncHelmrClient,
    AsyncSessionHandle,
    AsyncSessionInput,
    AsyncTokenHandle,
    Deployment,
    EventRecord,
    Exec,
    ExecHandle,
    FileEntry,
    HelmrClient,
    IdempotencyKey,
    InputStream,
    LogEvent,
    LogSnapshot,
    OutputStream,
    PublicAccessToken,
    PublicScope,
    RunCancellation,
    RunCounts,
    RunEvent,
    RunFailedEvent,
    RunSnapshot,
    Schedule,
    ScheduleHandle,
    SentRecord,
    SessionHandle,
    SessionInput,
    SessionOutput,
    SessionSnapshot,
    SessionStart,
    SessionStartAndWait,
    StartRequest,
    StreamChunk,
    StreamRecord,
    Task,
    Token,
    TokenCompletion,
    TokenHandle,
    TokenPage,
    Workspace,
    WorkspaceHandle,
    idempotency_key,
)


def sessions(client: HelmrClient) -> None:
    started = client.sessions.start("release-summary", {"release": "1.4.0"}, external_id="r-1", ttl=timedelta(hours=1))
    assert_type(started, SessionStart)
    assert_type(started.session, SessionSnapshot)
    assert_type(started.is_cached, bool)
    assert_type(client.sessions.start_and_wait("release-summary", timeout=60), SessionStartAndWait)
    assert_type(client.sessions.retrieve(external_id="r-1"), SessionSnapshot)
    assert_type(client.sessions.list(limit=10), list[SessionSnapshot])
    handle = client.sessions.open(started.session)
    assert_type(handle, SessionHandle)
    assert_type(handle.cancel(reason="no longer needed"), SessionSnapshot)


def runs(client: HelmrClient, run: RunSnapshot) -> None:
    assert_type(client.runs.retrieve(run), RunSnapshot)
    assert_type(client.runs.retrieve(run.id), RunSnapshot)
    assert_type(client.runs.retrieve(run.id, timeout=timedelta(seconds=5)), RunSnapshot)
    assert_type(client.runs.events.records(run, timeout="5s"), Generator[EventRecord, None, None])
    assert_type(client.runs.wait(run, timeout=timedelta(minutes=5)), RunSnapshot)
    assert_type(client.runs.wait_many([run, "other"], timeout=60.0), Generator[RunSnapshot, None, None])
    assert_type(client.runs.cancel(run, force=True), RunCancellation)
    assert_type(client.runs.count(), RunCounts)
    assert_type(client.runs.logs.retrieve(run), LogSnapshot)
    assert_type(client.runs.events.list(run), list[RunEvent])
    assert_type(client.runs.events.records(run), Generator[EventRecord, None, None])
    assert_type(client.runs.events.subscribe(run), Generator[RunEvent, None, None])
    assert_type(run.is_terminal, bool)
    assert_type(run.output, Any)


def tokens(client: HelmrClient) -> None:
    token = client.tokens.create(timeout="1h", tags=["review"])
    assert_type(token, TokenHandle)
    assert_type(token.complete({"approved": True}), TokenCompletion)
    assert_type(client.tokens.retrieve(token), Token)
    assert_type(client.tokens.list_page(status="pending"), TokenPage)
    assert_type(idempotency_key("deploy", "prod"), IdempotencyKey)


async def asynchronous(client: AsyncHelmrClient) -> None:
    async with client:
        started = await client.sessions.start("release-summary", idempotency_key=["deploy", "prod"])
        assert_type(started, SessionStart)
        assert_type(client.sessions.open(external_id="r-1"), AsyncSessionHandle)
        assert_type(await client.runs.wait(started.run), RunSnapshot)
        async for event in client.runs.events.subscribe(started.run):
            assert_type(event, RunEvent)
            if event.type == "log":
                assert_type(event, LogEvent)
            elif event.type == "run_failed":
                assert_type(event, RunFailedEvent)
        async for run in client.runs.wait_many([started.run]):
            assert_type(run, RunSnapshot)
        assert_type(await client.tokens.create(), AsyncTokenHandle)


class Review(BaseModel):
    repository: str


@dataclass
class Verdict:
    approved: bool


REVIEW = Task("code-review", payload=Review, output=Verdict)
NIGHTLY = Task("nightly")
REVIEWS = Task("reviews", payload=list[Review])
VERDICTS = Task("verdicts", payload=TypeAdapter(dict[str, Verdict]))
MAYBE = Task("maybe", payload=TypeAdapter[Review | None](Review | None))
MAYBE_VERDICT = Task("maybe-verdict", payload=TypeAdapter[Verdict | None](Verdict | None))
EITHER = Task("either", payload=TypeAdapter[Review | Verdict](Review | Verdict))
MAYBE_MANY = Task("maybe-many", payload=TypeAdapter[list[Review] | None](list[Review] | None))
COUNTS = Task("counts", payload=TypeAdapter[list[int] | None](list[int] | None), output=dict[str, int])


def typed_targets(client: HelmrClient, run: RunSnapshot) -> None:
    assert_type(REVIEW, Task[Review, Verdict])
    assert_type(COUNTS, Task[list[int] | None, dict[str, int]])
    assert_type(client.sessions.start(REVIEW, Review(repository="r"), external_id="r-1"), SessionStart)
    assert_type(client.sessions.start(NIGHTLY, tags=["a"]), SessionStart)
    assert_type(client.sessions.start(NIGHTLY, timeout=5), SessionStart)
    assert_type(client.sessions.start(StartRequest(NIGHTLY), timeout="5s"), SessionStart)
    assert_type(client.sessions.start_and_wait(REVIEW, Review(repository="r"), timeout=5), SessionStartAndWait)
    assert_type(client.sessions.start(REVIEW, {"repository": "r"}), SessionStart)
    assert_type(client.sessions.start(REVIEWS, [{"repository": "r"}, Review(repository="s")]), SessionStart)
    assert_type(client.sessions.start(REVIEWS, [{"repository": "r"}]), SessionStart)
    assert_type(client.sessions.start_and_wait(REVIEWS, [{"repository": "r"}], timeout=5), SessionStartAndWait)
    assert_type(client.sessions.start(REVIEWS, [Review(repository="r")]), SessionStart)
    assert_type(client.sessions.start(VERDICTS, {"first": {"approved": True}}), SessionStart)
    assert_type(client.sessions.start(VERDICTS, {"first": Verdict(approved=True)}), SessionStart)
    assert_type(client.sessions.start(MAYBE, Review(repository="r")), SessionStart)
    assert_type(client.sessions.start(MAYBE, None), SessionStart)
    assert_type(client.sessions.start(MAYBE, {"repository": "r"}), SessionStart)
    assert_type(client.sessions.start_and_wait(MAYBE, {"repository": "r"}, timeout=5), SessionStartAndWait)
    assert_type(client.sessions.start(MAYBE_VERDICT, {"approved": True}), SessionStart)
    assert_type(client.sessions.start(EITHER, {"approved": True}), SessionStart)
    assert_type(client.sessions.start(EITHER, Verdict(approved=True)), SessionStart)
    assert_type(client.sessions.start(MAYBE_MANY, [{"repository": "r"}]), SessionStart)
    assert_type(client.sessions.start(MAYBE_MANY, [{"repository": "r"}, Review(repository="s")]), SessionStart)
    assert_type(client.sessions.start(REVIEWS, (Review(repository="s"), {"repository": "r"})), SessionStart)
    assert_type(client.sessions.start(StartRequest(REVIEW, {"repository": "r"}, priority=1)), SessionStart)
    assert_type(run.output_as(REVIEW), Verdict)
    assert_type(run.output_as(COUNTS), dict[str, int])
    assert_type(run.output_as(Review), Review)
    assert_type(run.output_as(TypeAdapter[Review | None](Review | None)), Review | None)


def session_streams(client: HelmrClient, handle: SessionHandle) -> None:
    typed = handle.input(InputStream("messages", Review))
    assert_type(typed, SessionInput[Review])
    assert_type(typed.send(Review(repository="r"), correlation_id="c"), SentRecord)
    assert_type(typed.list(after=3), list[StreamRecord[Review]])
    assert_type(handle.input("messages").send({"any": ["thing"]}), SentRecord)
    assert_type(typed.send({"repository": "r"}, correlation_id="c", public_access_token="t", timeout=5), SentRecord)
    given: Mapping[str, str] = {"repository": "r"}
    assert_type(typed.send(given), SentRecord)
    maybe = handle.input(InputStream("maybe", TypeAdapter[Review | None](Review | None)))
    assert_type(maybe, SessionInput[Review | None])
    for record_or_none in (Review(repository="r"), None):
        assert_type(maybe.send(record_or_none), SentRecord)
    assert_type(maybe.send({"repository": "r"}), SentRecord)
    many = handle.input(InputStream("many", list[Review]))
    assert_type(many.send([Review(repository="r")]), SentRecord)
    assert_type(many.send([Review(repository="r"), {"repository": "r"}]), SentRecord)
    assert_type(many.send([given]), SentRecord)
    named = handle.output(OutputStream("named", TypeAdapter(dict[str, Verdict])))
    assert_type(named.append({"first": Verdict(approved=True), "second": {"approved": True}}), SentRecord)
    assert_type(named.append({"first": {"approved": True}}, idempotency_key="k"), SentRecord)
    output = handle.output(OutputStream("progress", schema=Verdict))
    assert_type(output.append({"approved": True}, timeout="5s"), SentRecord)
    assert_type(output.append(Verdict(approved=True)), SentRecord)
    output.extend([{"approved": True}, Verdict(approved=False)], content_type="application/json")
    output.extend([Verdict(approved=False)])
    handle.output("progress").extend([{"approved": True}, 3])
    handle.output(OutputStream("numbers", int)).extend([1, 2], timeout=5)
    assert_type(output, SessionOutput[Verdict])
    assert_type(output.iter(), Generator[StreamRecord[Verdict], None, None])
    record = output.read(after=1)
    assert_type(record, StreamRecord[Verdict] | None)
    if record is not None:
        assert_type(record.data, Verdict)
    assert_type(handle.output("progress").list(), list[StreamRecord[Any]])
    scope = PublicScope.output(handle, OutputStream("progress", Verdict), correlation_id="c")
    assert_type(client.auth.create_public_token(scope, max_uses=3), PublicAccessToken)


def workspaces(client: HelmrClient) -> None:
    workspace = client.workspaces.create("node-22", tags=["a"], idempotency_key_ttl=timedelta(hours=1))
    assert_type(workspace, Workspace)
    handle = client.workspaces.open(workspace)
    assert_type(handle, WorkspaceHandle)
    assert_type(handle.files.read("README.md"), bytes)
    assert_type(handle.files.iter("docs"), Generator[FileEntry, None, None])
    command = handle.exec(["npm", "test"], env={"CI": "1"})
    assert_type(command, ExecHandle)
    assert_type(command.wait(poll_interval=1, timeout=timedelta(minutes=1)), Exec)
    assert_type(command.stdout.stream(from_cursor=0), Generator[StreamChunk, None, None])
    assert_type(command.stdin.write(b"y", offset=0), StreamChunk)


def schedules(client: HelmrClient) -> None:
    schedule = client.schedules.create(deduplication_key="nightly", task=REVIEW, cron="0 2 * * *")
    assert_type(schedule, ScheduleHandle)
    assert_type(schedule.deactivate(), Schedule)
    assert_type(client.schedules.update(schedule, task="nightly", cron="0 3 * * *"), Schedule)
    assert_type(client.deployments.current(), Deployment | None)


async def asynchronous_streams(client: AsyncHelmrClient) -> None:
    handle = client.sessions.open("id")
    messages = handle.input(InputStream("messages", Review))
    assert_type(messages, AsyncSessionInput[Review])
    assert_type(await messages.list(), list[StreamRecord[Review]])
    assert_type(await messages.send({"repository": "r"}), SentRecord)
    assert_type(await messages.send(Review(repository="r"), timeout=5), SentRecord)
    await handle.output(OutputStream("progress", Verdict)).extend([{"approved": True}], timeout=5)
    assert_type(messages.iter(), AsyncGenerator[StreamRecord[Review], None])
    assert_type(await client.sessions.start(REVIEW, Review(repository="r")), SessionStart)

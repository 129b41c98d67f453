"""What a type checker infers for users of the client; checked by ``make types``, never run."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any, assert_type

from helmr_provider.client import (
    AsyncHelmrClient,
    AsyncSessionHandle,
    AsyncTokenHandle,
    EventRecord,
    HelmrClient,
    IdempotencyKey,
    LogSnapshot,
    RunCancellation,
    RunCounts,
    RunEvent,
    RunSnapshot,
    SessionHandle,
    SessionSnapshot,
    SessionStart,
    SessionStartAndWait,
    Token,
    TokenCompletion,
    TokenHandle,
    TokenPage,
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
    assert_type(client.runs.wait(run, timeout=timedelta(minutes=5)), RunSnapshot)
    assert_type(client.runs.wait_many([run, "other"], timeout=60.0), Generator[RunSnapshot, None, None])
    assert_type(client.runs.cancel(run, force=True), RunCancellation)
    assert_type(client.runs.count(), RunCounts)
    assert_type(client.runs.logs.retrieve(run), LogSnapshot)
    assert_type(client.runs.events.list(run), list[RunEvent])
    assert_type(client.runs.events.records(run), list[EventRecord])
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
        async for run in client.runs.wait_many([started.run]):
            assert_type(run, RunSnapshot)
        assert_type(await client.tokens.create(), AsyncTokenHandle)

"""Waiting for what is neither run nor token, with both clients, against the local control plane on a real socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrClient, HelmrNotFoundError, HelmrTimeoutError
from helmr_provider.client._waiting.actions import WaitKey
from helmr_provider.local import LocalControlPlane, faults
from tests.client.scripted_server import VARIANTS, drive
from tests.client.waiting.tasks import MISSING, TASKS
from tests.support.polling import until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

both = pytest.mark.parametrize("variant", VARIANTS)
MANY = 300


@pytest.fixture(scope="module")
def plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane(TASKS) as server:
        yield server


@pytest.fixture
def server(plane: LocalControlPlane) -> Iterator[LocalControlPlane]:
    plane.clear_faults()
    plane.clear_journal()
    yield plane
    plane.clear_faults()


def run_call(server: LocalControlPlane, variant: str, call: Callable[[Any], Any]) -> Any:
    return drive(variant, call, url=server.url, api_key=server.api_key)


def result_of(client: Any, session: Any) -> Any:
    return client.sessions.open(session).output("result")


def is_there(record: Any) -> bool:
    return record is not None


@pytest.fixture
def session(server: LocalControlPlane) -> Any:
    with HelmrClient(url=server.url, api_key=server.api_key) as client:
        return client.sessions.start("take-time", {"seconds": 0.0}).session


async def test_equal_waits_share_their_reads(server: LocalControlPlane, session: Any) -> None:
    key = WaitKey("output", session.id)
    async with AsyncHelmrClient(url=server.url, api_key=server.api_key) as client:
        waiter = client._waiter
        waits = [
            asyncio.create_task(waiter.until(key, lambda c: result_of(c, session).read(), is_there)) for _ in range(2)
        ]
        await until_async(lambda: waiter.stats.requests["retrieve output"] > 0)
        sent = await result_of(client, session).append({"turn": 1})
        records = await asyncio.gather(*waits)
        assert [(record.data, record.sequence) for record in records] == [({"turn": 1}, sent.sequence)] * 2
        assert waiter.stats.waits == 0
        reads = [entry for entry in server.journal if entry.operation == "readSessionOutputRecord"]
        assert len(reads) == waiter.stats.requests["retrieve output"]


@both
def test_an_outage_while_something_is_read_is_survived(server: LocalControlPlane, session: Any, variant: str) -> None:
    run_call(server, variant, lambda c: result_of(c, session).append(1))
    server.fail_next("readSessionOutputRecord", faults.status(503))
    found = run_call(
        server,
        variant,
        lambda c: c._waiter.until(WaitKey("output", session.id), lambda d: result_of(d, session).read(), is_there),
    )
    assert found.data == 1
    assert not server.pending_faults


@both
def test_it_is_read_at_the_requested_interval(server: LocalControlPlane, session: Any, variant: str) -> None:
    polls: list[float] = []

    def third(_: Any) -> bool:
        polls.append(0.0)
        return len(polls) == 3

    key = WaitKey("output", session.id)
    run_call(
        server,
        variant,
        lambda c: c._waiter.until(key, lambda d: result_of(d, session).read(), third, 30.0, interval=0.001),
    )
    assert len(polls) == 3


@both
def test_a_missing_resource_is_reported_immediately(server: LocalControlPlane, variant: str) -> None:
    key = WaitKey("session", MISSING)
    with pytest.raises(HelmrNotFoundError):
        run_call(server, variant, lambda c: c._waiter.until(key, lambda d: d.sessions.retrieve(MISSING), is_there))


@both
def test_what_is_not_over_raises_at_the_deadline_and_names_it(
    server: LocalControlPlane, session: Any, variant: str
) -> None:
    key = WaitKey("output", session.id)
    with pytest.raises(HelmrTimeoutError, match=f"output {session.id}"):
        run_call(server, variant, lambda c: c._waiter.until(key, lambda d: result_of(d, session).read(), is_there, 0.2))


@both
@pytest.mark.parametrize("kind", ["run", "token"])
def test_runs_and_tokens_keep_their_own_waits(server: LocalControlPlane, kind: str, variant: str) -> None:
    with pytest.raises(ValueError, match="wait of their own"):
        run_call(
            server, variant, lambda c: c._waiter.until(WaitKey(kind, MISSING), lambda d: d.runs.retrieve("r"), is_there)
        )


async def test_hundreds_of_waits_for_commands_stay_within_the_budget_and_all_return(server: LocalControlPlane) -> None:
    async with AsyncHelmrClient(url=server.url, api_key=server.api_key) as client:
        sandbox = (await client.sandboxes.list())[0].sandbox_id
        handle = client.workspaces.open(await client.workspaces.create(sandbox))
        command = await handle.exec(["cat"])
        under_way = most = 0

        # Each is a wait of its own, although there is one command: a workspace takes one at a time.
        async def wait_for(number: int) -> Any:
            async def read(other: AsyncHelmrClient) -> Any:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                try:
                    return await other.workspaces.open(handle.id).execs.open(command.id).retrieve()
                finally:
                    under_way -= 1

            key = WaitKey("exec", command.id, str(number))
            return await client._waiter.until(key, read, lambda found: found.is_terminal, interval=0.25)

        waits = [asyncio.create_task(wait_for(number)) for number in range(MANY)]
        await until_async(lambda: client._waiter.stats.requests["retrieve exec"] > 20)
        await command.stdin.close()
        assert {found.exit_code for found in await asyncio.gather(*waits)} == {0}
        assert most <= 8
        # All were polled once before any was polled twice, and for the last time soon after the end.
        assert client._waiter.stats.requests["retrieve exec"] <= 2 * MANY

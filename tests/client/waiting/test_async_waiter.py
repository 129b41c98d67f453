"""The driver of all waits of an asynchronous client, against the local control plane on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx

from helmr_provider.client import (
    AsyncHelmrClient,
    HelmrApiError,
    HelmrAuthError,
    HelmrConfigError,
    HelmrError,
    HelmrNotFoundError,
    HelmrPermissionError,
    HelmrTimeoutError,
)
from helmr_provider.client._waiting.scheduler import Scheduler
from helmr_provider.client._waiting.stats import WaitStats
from helmr_provider.local import LocalControlPlane, faults
from tests.client.waiting.tasks import MISSING, TASKS
from tests.support.polling import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from helmr_provider.client import RunSnapshot
    from helmr_provider.local import Fault


@pytest.fixture(scope="module")
def plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane(TASKS) as server:
        yield server


@pytest.fixture
def server(plane: LocalControlPlane) -> Iterator[LocalControlPlane]:
    plane.clear_faults()
    plane.clear_journal()
    plane.listen_again()
    yield plane
    plane.clear_faults()


@pytest.fixture
async def client(server: LocalControlPlane) -> AsyncIterator[AsyncHelmrClient]:
    async with AsyncHelmrClient(url=server.url, api_key=server.api_key) as opened:
        yield opened
    await nothing_runs()


async def nothing_runs() -> None:
    """Wait until this test's own task is the only one; the test's time limit bounds it."""
    while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - the loop itself is what is looked at
        await asyncio.sleep(0)


async def start(client: AsyncHelmrClient, task_id: str = "take-time", **payload: Any) -> str:
    return (await client.sessions.start(task_id, payload)).run.id


async def collect(runs: AsyncIterator[RunSnapshot], seen: list[str]) -> None:
    async for run in runs:
        seen.append(run.id)  # noqa: PERF401 - what comes before an error counts


async def waiting_run(client: AsyncHelmrClient) -> tuple[str, Callable[[], Any]]:
    """Start a run that ends when the function that is returned is called."""
    started = await client.sessions.start("at-a-word", {})
    word = client.sessions.open(started.session.id).input("word")
    return started.run.id, lambda: word.send("done")


async def test_a_wait_is_snapshot_then_stream_then_snapshot(
    client: AsyncHelmrClient, server: LocalControlPlane
) -> None:
    run_id, end = await waiting_run(client)
    server.clear_journal()
    wait = asyncio.create_task(client._waiter.run(run_id))
    await until_async(lambda: "getRunEvents" in [entry.operation for entry in server.journal])
    await end()
    assert (await wait).is_success
    operations = [entry.operation for entry in server.journal if entry.operation != "appendSessionInput"]
    assert operations == ["getRun", "getRunEvents", "getRun"]


async def test_nothing_runs_and_no_stream_is_open_without_waits(client: AsyncHelmrClient) -> None:
    before = asyncio.all_tasks()
    await client._waiter.run(await start(client, seconds=0.2))
    assert asyncio.all_tasks() == before
    assert (client._waiter.stats.waits, client._waiter.stats.open_streams) == (0, 0)
    await client._waiter.run(await start(client, seconds=0.0))
    assert asyncio.all_tasks() == before


async def test_two_waits_for_the_same_run_share_one_stream_and_both_get_the_snapshot(client: AsyncHelmrClient) -> None:
    run_id, end = await waiting_run(client)
    waits = [asyncio.create_task(client._waiter.run(run_id)) for _ in range(2)]
    await until_async(lambda: client._waiter.stats.open_streams == 1)
    await end()
    first, second = await asyncio.gather(*waits)
    assert first == second
    assert client._waiter.stats.requests["follow run"] == 1
    assert client._waiter.stats.requests["retrieve run"] == 2


@pytest.mark.parametrize(("task_id", "status"), [("take-time", "succeeded"), ("fail", "failed")])
async def test_any_terminal_status_is_returned_and_not_raised(
    client: AsyncHelmrClient, task_id: str, status: str
) -> None:
    assert (await client._waiter.run(await start(client, task_id, seconds=0.0))).status == status


async def test_a_cancelled_run_is_returned_although_its_worker_has_not_released_it(client: AsyncHelmrClient) -> None:
    run_id = await start(client, seconds=60.0)
    wait = asyncio.create_task(client._waiter.run(run_id))
    await until_async(lambda: client._waiter.stats.open_streams == 1)
    await client.runs.cancel(run_id)
    assert (await wait).is_cancelled


async def test_the_failed_attempt_of_a_retried_run_does_not_end_the_wait(client: AsyncHelmrClient) -> None:
    run = await client._waiter.run(await start(client, "second-try"))
    assert (run.status, run.attempt_number, run.output) == ("succeeded", 2, {"attempt": 2})


@pytest.mark.parametrize(
    "fault",
    [
        faults.close_stream(),
        faults.reset_stream(1),
        faults.half_frame(1),
        faults.malformed_frame(),
        faults.oversize_frame(1),
        faults.silent_stream(1),
        faults.hang_up(),
        faults.status(500),
        faults.status(503, retry_after=1),
        faults.status(404),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_a_broken_stream_never_ends_a_wait(
    client: AsyncHelmrClient, server: LocalControlPlane, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A silent stream is noticed by a later poll; the test need not wait for it that long.
    monkeypatch.setattr("helmr_provider.client._waiting.scheduler.Scheduler.CHECK", 1.0)
    run_id, end = await waiting_run(client)
    server.fail_next("getRunEvents", fault)
    wait = asyncio.create_task(client._waiter.run(run_id))
    await until_async(lambda: not server.pending_faults)
    await end()
    assert (await wait).is_success


@pytest.mark.parametrize(
    "fault",
    [faults.status(500), faults.status(502), faults.status(429, retry_after=1), faults.reset(), faults.lose_answer()],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
@pytest.mark.parametrize("waits", [1, 8])
async def test_a_failure_that_passes_never_ends_a_wait(
    client: AsyncHelmrClient, server: LocalControlPlane, fault: Fault, waits: int
) -> None:
    ids = [await start(client, seconds=0.1) for _ in range(waits)]
    for operation in ("getRun", "listRuns", "countRuns"):
        server.fail_next(operation, fault, times=1)
    runs = await asyncio.gather(*(client._waiter.run(run_id) for run_id in ids))
    assert [run.id for run in runs] == ids
    assert all(run.is_success for run in runs)


@pytest.mark.parametrize("waits", [1, 8])
async def test_waits_survive_a_control_plane_that_goes_down_and_comes_back(
    client: AsyncHelmrClient, server: LocalControlPlane, waits: int
) -> None:
    runs = [await waiting_run(client) for _ in range(waits)]
    pending = [asyncio.create_task(client._waiter.run(run_id)) for run_id, _ in runs]
    # The streams stand: asyncio leaks connections that are being accepted while a server closes.
    await until_async(lambda: [entry.operation for entry in server.journal].count("getRunEvents") == min(waits, 4))
    await asyncio.to_thread(server.stop_listening)
    sent = client._waiter.stats.requests.total()
    # Requested again and again without a server, and no wait has ended.
    await until_async(lambda: client._waiter.stats.requests.total() >= sent + 3)
    assert not any(wait.done() for wait in pending)
    await asyncio.to_thread(server.listen_again)
    for _, end in runs:
        await end()
    assert all(run.is_success for run in await asyncio.gather(*pending))


async def test_a_deadline_names_the_run_and_the_limit_and_leaves_the_run_alone(
    client: AsyncHelmrClient, server: LocalControlPlane
) -> None:
    run_id, end = await waiting_run(client)
    with pytest.raises(HelmrTimeoutError, match=rf"0\.3 s.*{run_id}") as caught:
        await client._waiter.run(run_id, timeout=0.3)
    assert caught.value.pending == (run_id,)
    assert not (await client.runs.retrieve(run_id)).is_terminal
    await nothing_runs()
    await end()


async def test_a_deadline_covers_a_request_that_is_under_way(
    client: AsyncHelmrClient, server: LocalControlPlane
) -> None:
    run_id = await start(client, seconds=0.0)
    server.fail_next("getRun", faults.delay(30.0))
    with pytest.raises(HelmrTimeoutError):
        await client._waiter.run(run_id, timeout=0.3)
    await nothing_runs()


async def test_a_cancelled_waiter_leaves_immediately_and_the_others_stay(client: AsyncHelmrClient) -> None:
    run_id, end = await waiting_run(client)
    leaving, staying = (asyncio.create_task(client._waiter.run(run_id)) for _ in range(2))
    alone = asyncio.create_task(client._waiter.run((await waiting_run(client))[0]))
    await until_async(lambda: client._waiter.stats.open_streams == 2)
    for task_ in (leaving, alone):
        task_.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task_
    assert client._waiter.stats.waits == 1
    await until_async(lambda: client._waiter.stats.open_streams == 1)
    await end()
    assert (await staying).is_success


async def test_closing_the_client_ends_all_waits_with_a_clear_error(server: LocalControlPlane) -> None:
    client = AsyncHelmrClient(url=server.url, api_key=server.api_key)
    run_id, _ = await waiting_run(client)
    waits = [asyncio.create_task(client._waiter.run(run_id)) for _ in range(2)]
    await until_async(lambda: client._waiter.stats.open_streams == 1)
    await client.aclose()
    for error in await asyncio.gather(*waits, return_exceptions=True):
        assert isinstance(error, HelmrError)
        assert "closed" in str(error)
    with pytest.raises(HelmrError, match="closed"):
        await client._waiter.run(run_id)
    await nothing_runs()


async def test_a_missing_run_raises_its_404_and_the_others_continue(client: AsyncHelmrClient) -> None:
    other = asyncio.create_task(client._waiter.run(await start(client, seconds=0.3)))
    with pytest.raises(HelmrNotFoundError):
        await client._waiter.run(MISSING)
    assert (await other).is_success


async def test_a_run_id_that_is_none_raises_the_400(client: AsyncHelmrClient) -> None:
    with pytest.raises(HelmrApiError) as caught:
        await client._waiter.run("run_123")
    assert caught.value.status == 400


async def test_an_id_that_cannot_be_asked_for_fails_its_own_waiter_only(client: AsyncHelmrClient) -> None:
    other = asyncio.create_task(client._waiter.run(await start(client, seconds=0.3)))
    with pytest.raises(ValueError, match="run_id"):
        await client._waiter.run("")
    assert (await other).is_success


async def test_a_refused_credential_ends_every_wait(client: AsyncHelmrClient, server: LocalControlPlane) -> None:
    ids = [(await waiting_run(client))[0] for _ in range(3)]
    async with AsyncHelmrClient(url=server.url, api_key="hlmr_sk_wrong") as stranger:
        errors = await asyncio.gather(*(stranger._waiter.run(run_id) for run_id in ids), return_exceptions=True)
        assert [type(error) for error in errors] == [HelmrAuthError] * 3
        assert len({id(error) for error in errors}) == 3
        assert "hlmr_sk_wrong" not in repr(errors)


async def test_a_missing_scope_ends_the_waits_that_need_it_only(
    client: AsyncHelmrClient, server: LocalControlPlane
) -> None:
    run_id = await start(client, seconds=0.5)
    token = await client.tokens.create(timeout="1h")
    async with AsyncHelmrClient(url=server.url, api_key=server.create_key(scopes=["runs:read"])) as reader:
        run, error = await asyncio.gather(
            reader._waiter.run(run_id), reader._waiter.token(token.id), return_exceptions=True
        )
    assert isinstance(error, HelmrPermissionError)
    assert not isinstance(run, BaseException)
    assert run.is_success


def test_another_event_loop_needs_another_client(server: LocalControlPlane) -> None:
    client = AsyncHelmrClient(url=server.url, api_key=server.api_key)

    async def wait() -> None:
        await client._waiter.run(await start(client, seconds=0.0))

    async def wait_elsewhere() -> None:
        with pytest.raises(HelmrConfigError, match="event loop"):
            await client._waiter.run(MISSING)

    with asyncio.Runner() as runner:
        runner.run(wait())
        with asyncio.Runner() as other:
            other.run(wait_elsewhere())
        runner.run(client.aclose())


async def test_no_call_blocks_the_event_loop(server: LocalControlPlane) -> None:
    async with AsyncHelmrClient(url=server.url, api_key=server.api_key) as client:
        # Imports at first use are over before, as they are in a triggerer that has waited once.
        await client._waiter.run(await start(client, seconds=0.0))
        ids = [await start(client, seconds=0.3) for _ in range(8)]
        token = await client.tokens.create(timeout="1h")
        with blockbuster_ctx("helmr_provider.client"):
            runs = await asyncio.gather(*(client._waiter.run(run_id) for run_id in ids))
            with pytest.raises(HelmrTimeoutError):
                await client._waiter.token(token.id, timeout=0.2)
        assert all(run.is_success for run in runs)


async def test_waits_survive_a_mistake_in_the_scheduler(
    client: AsyncHelmrClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_id, end = await waiting_run(client)
    waits = [asyncio.create_task(client._waiter.run(run_id)) for _ in range(2)]
    await until_async(lambda: client._waiter.stats.open_streams == 1)
    monkeypatch.setattr(client._waiter._scheduler, "actions", lambda now: 1 / 0)
    client._waiter._wake.set()
    await until_async(lambda: "scheduled anew" in caplog.text)
    await end()
    assert [run.is_success for run in await asyncio.gather(*waits)] == [True, True]


async def test_a_mistake_that_is_made_again_and_again_ends_the_waits_and_the_next_one_begins_afresh(
    client: AsyncHelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, end = await waiting_run(client)
    waits = [asyncio.create_task(client._waiter.run(run_id)) for _ in range(2)]
    await until_async(lambda: client._waiter.stats.open_streams == 1)
    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "actions", lambda self, now: 1 / 0)
        for _ in range(5):
            client._waiter._wake.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        errors = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(error, HelmrError) and isinstance(error.__cause__, ZeroDivisionError) for error in errors)
    await end()
    assert (await client._waiter.run(run_id)).is_success


async def test_explicit_followers_take_streams_from_the_waits_and_give_them_back(client: AsyncHelmrClient) -> None:
    runs = [await waiting_run(client) for _ in range(4)]
    waits = [asyncio.create_task(client._waiter.run(run_id)) for run_id, _ in runs]
    await until_async(lambda: client._waiter.stats.open_streams == 4)
    with client._stream_slots.explicit(), client._stream_slots.explicit():
        await until_async(lambda: client._waiter.stats.open_streams == 2)
    await until_async(lambda: client._waiter.stats.open_streams == 4)
    for _, end in runs:
        await end()
    assert all(run.is_success for run in await asyncio.gather(*waits))


async def test_views_of_a_client_share_its_stream_budget(
    server: LocalControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncHelmrClient(url=server.url, api_key=server.api_key, max_streams=2) as client:
        view = client._single_shot()
        held: list[int] = []
        opened = WaitStats.stream_opened

        def open_stream(stats: WaitStats) -> None:
            opened(stats)
            held.append(client._waiter.stats.open_streams + view._waiter.stats.open_streams)

        monkeypatch.setattr(WaitStats, "stream_opened", open_stream)
        runs = [await waiting_run(client) for _ in range(4)]
        waits = [
            asyncio.create_task(c._waiter.run(run_id)) for c, (run_id, _) in zip([client, view] * 2, runs, strict=True)
        ]
        await until_async(lambda: client._waiter.stats.open_streams + view._waiter.stats.open_streams == 2)
        for _, end in runs:
            await end()
        assert all(run.is_success for run in await asyncio.gather(*waits))
        # At the same time: a slot that one view gives back goes to the other, so that each may have held both.
        assert max(held) == 2
        await view.aclose()


async def test_without_a_stream_budget_a_wait_polls(server: LocalControlPlane) -> None:
    async with AsyncHelmrClient(url=server.url, api_key=server.api_key, max_streams=0) as client:
        assert (await client._waiter.run(await start(client, seconds=0.5))).is_success
        assert client._waiter.stats.requests["follow run"] == 0
        assert client._waiter.stats.requests["retrieve run"] == 2


# wait_many


async def test_run_many_yields_each_run_once_as_they_end(client: AsyncHelmrClient) -> None:
    (slow, end), quick = await waiting_run(client), await start(client, seconds=0.0)
    failing = await start(client, "fail")
    ids: list[str] = []
    async for run in client._waiter.run_many([slow, quick, slow, failing]):
        ids.append(run.id)
        if len(ids) == 2:
            await end()
    assert sorted(ids) == sorted([slow, quick, failing])
    assert ids[-1] == slow


async def test_run_many_of_nothing_ends_immediately(client: AsyncHelmrClient) -> None:
    assert [run async for run in client._waiter.run_many([])] == []


async def test_run_many_raises_the_404_after_the_others_were_yielded(client: AsyncHelmrClient) -> None:
    ids = [await start(client, seconds=0.3) for _ in range(6)]
    seen: list[str] = []
    with pytest.raises(HelmrNotFoundError) as caught:
        await collect(client._waiter.run_many([MISSING, *ids, MISSING.replace("8", "9")]), seen)
    assert sorted(seen) == sorted(ids)
    assert any("Also" in note for note in caught.value.__notes__)


async def test_run_many_raises_a_refused_credential_immediately(
    client: AsyncHelmrClient, server: LocalControlPlane
) -> None:
    async with AsyncHelmrClient(url=server.url, api_key="hlmr_sk_wrong") as stranger:
        with pytest.raises(HelmrAuthError):
            await anext(stranger._waiter.run_many([MISSING]))


async def test_run_many_names_what_is_pending_at_its_deadline(client: AsyncHelmrClient) -> None:
    quick, (slow, end) = await start(client, seconds=0.0), await waiting_run(client)
    assert (await client._waiter.run(quick)).is_success
    seen: list[str] = []
    with pytest.raises(HelmrTimeoutError) as caught:
        await collect(client._waiter.run_many([quick, slow], timeout=1.0), seen)
    assert seen == [quick]
    assert caught.value.pending == (slow,)
    await end()


async def test_closing_run_many_stops_the_waits_and_not_the_runs(client: AsyncHelmrClient) -> None:
    (slow, end), quick = await waiting_run(client), await start(client, seconds=0.0)
    async with contextlib.aclosing(client._waiter.run_many([slow, quick])) as results:
        assert (await anext(results)).id == quick
    assert client._waiter.stats.waits == 0
    assert not (await client.runs.retrieve(slow)).is_terminal
    await end()
    assert (await client._waiter.run(slow)).is_success


# Many


async def test_a_thousand_waits_on_one_client_hold_four_streams_at_most_and_all_return(
    client: AsyncHelmrClient, server: LocalControlPlane, report: Callable[[str], None]
) -> None:
    await asyncio.to_thread(server.pause_worker)
    gate = asyncio.Semaphore(16)

    async def begin(number: int) -> str:
        async with gate:
            return await start(client, seconds=0.0 if number % 2 else 0.5)

    ids = await asyncio.gather(*(begin(number) for number in range(1000)))
    waits = [asyncio.create_task(client.runs.wait(run_id)) for run_id in ids]
    await until_async(lambda: client._waiter.stats.waits == 1000 and client._waiter.stats.open_streams == 4)
    await asyncio.to_thread(server.resume_worker)
    runs = await asyncio.gather(*waits)
    assert [run.id for run in runs] == ids
    assert all(run.is_success for run in runs)
    assert client._waiter.stats.most_streams <= 4
    report(
        f"1,000 waits on one client: {dict(client._waiter.stats.requests)}, {client._waiter.stats.most_streams} streams"
    )

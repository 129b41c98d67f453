"""Waits of the blocking client, against the local control plane on a real socket."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import (
    HelmrApiError,
    HelmrAuthError,
    HelmrClient,
    HelmrError,
    HelmrNotFoundError,
    HelmrTimeoutError,
)
from helmr_provider.client._waiting.actions import FULL_LIST, RUN, ListRuns, WaitKey
from helmr_provider.client._waiting.scheduler import Scheduler
from helmr_provider.client._waiting.stats import WaitStats
from helmr_provider.client._waiting.sync_waiter import _KINDS, _Shutdown, _Wait
from helmr_provider.local import LocalControlPlane, faults
from tests.client.waiting.tasks import MISSING, TASKS
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    yield plane
    plane.clear_faults()


@pytest.fixture(params=[4, 0], ids=["streams", "no-streams"])
def client(server: LocalControlPlane, request: pytest.FixtureRequest) -> Iterator[HelmrClient]:
    with HelmrClient(url=server.url, api_key=server.api_key, max_streams=request.param) as opened:
        yield opened
        assert (opened._waiter.stats.waits, opened._waiter.stats.open_streams) == (0, 0)
        assert opened._stream_slots.for_waits() == opened.max_streams


def start(client: HelmrClient, task_id: str = "take-time", **payload: Any) -> str:
    return client.sessions.start(task_id, payload).run.id


def waiting_run(client: HelmrClient) -> tuple[str, Callable[[], Any]]:
    """Start a run that ends when the function that is returned is called."""
    started = client.sessions.start("at-a-word", {})
    word = client.sessions.open(started.session.id).input("word")
    return started.run.id, lambda: word.send("done")


def collect(runs: Iterator[RunSnapshot], seen: list[str]) -> None:
    for run in runs:
        seen.append(run.id)  # noqa: PERF401 - what comes before an error counts


def test_a_wait_follows_events_if_a_slot_is_free_and_polls_otherwise(
    client: HelmrClient, server: LocalControlPlane
) -> None:
    run_id, end = waiting_run(client)
    server.clear_journal()

    def requests() -> list[str | None]:
        return [entry.operation for entry in server.journal if entry.operation != "appendSessionInput"]

    with ThreadPoolExecutor() as pool:
        wait = pool.submit(client._waiter.run, run_id)
        until(lambda: len(requests()) >= 2)
        end()
        assert wait.result().is_success
    operations = requests()
    assert (operations[0], operations[-1]) == ("getRun", "getRun")
    assert set(operations[1:-1]) == {"getRunEvents" if client.max_streams else "getRun"}


def test_the_failed_attempt_of_a_retried_run_does_not_end_the_wait(client: HelmrClient) -> None:
    run = client._waiter.run(start(client, "second-try"))
    assert (run.status, run.attempt_number) == ("succeeded", 2)


def test_a_run_that_is_cancelled_during_the_wait_is_returned(client: HelmrClient) -> None:
    run_id, _ = waiting_run(client)
    with ThreadPoolExecutor() as pool:
        wait = pool.submit(client._waiter.run, run_id)
        until(lambda: client._waiter.stats.requests.total() > 0)
        client.runs.cancel(run_id)
        assert wait.result().is_cancelled


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
        faults.status(503, retry_after=1),
        faults.status(404),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_a_broken_stream_never_ends_a_wait(
    server: LocalControlPlane, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A silent stream is closed for a poll now and then; the test need not wait for it that long.
    monkeypatch.setattr("helmr_provider.client._waiting.scheduler.Scheduler.CHECK", 1.0)
    with HelmrClient(url=server.url, api_key=server.api_key) as client:
        run_id, end = waiting_run(client)
        server.fail_next("getRunEvents", fault)
        with ThreadPoolExecutor() as pool:
            wait = pool.submit(client._waiter.run, run_id)
            until(lambda: not server.pending_faults)
            end()
            assert wait.result().is_success


def test_a_followed_run_is_polled_between_the_slices_of_its_stream(
    server: LocalControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr_provider.client._waiting.scheduler.Scheduler.CHECK", 0.2)
    with HelmrClient(url=server.url, api_key=server.api_key) as client:
        run_id, end = waiting_run(client)
        with ThreadPoolExecutor() as pool:
            wait = pool.submit(client._waiter.run, run_id)
            until(lambda: client._waiter.stats.requests["follow run"] >= 3)
            end()
            assert wait.result().is_success
        assert client._waiter.stats.requests["retrieve run"] >= 3
        cursors = [entry.query.get("cursor") for entry in server.journal if entry.operation == "getRunEvents"]
        assert cursors[0] is None
        assert cursors[1] is not None


@pytest.mark.parametrize("operation", ["getRun", "listRuns", "countRuns"])
@pytest.mark.parametrize(
    "fault",
    [faults.status(500), faults.status(502), faults.status(429, retry_after=1), faults.reset()],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_a_failure_that_passes_never_ends_a_wait(server: LocalControlPlane, operation: str, fault: Fault) -> None:
    with HelmrClient(url=server.url, api_key=server.api_key) as client:
        runs = dict(waiting_run(client) for _ in range(6))
        server.fail_next(operation, fault)
        with ThreadPoolExecutor() as pool:
            waits = pool.submit(list, client._waiter.run_many(list(runs)))
            # A list comes with the first poll, a count with the second; single runs are read when they have ended.
            until(lambda: operation == "getRun" or not server.pending_faults)
            for end in runs.values():
                end()
            assert {run.id for run in waits.result()} == set(runs)
        assert not server.pending_faults


def test_a_wait_survives_a_control_plane_that_goes_down_and_comes_back(
    client: HelmrClient, server: LocalControlPlane
) -> None:
    run_id, end = waiting_run(client)
    with ThreadPoolExecutor() as pool:
        wait = pool.submit(client._waiter.run, run_id)
        until(
            lambda: (
                len([e for e in server.journal if e.operation in {"getRun", "getRunEvents"}]) > (client.max_streams > 0)
            )
        )
        server.stop_listening()
        sent = client._waiter.stats.requests.total()
        until(lambda: client._waiter.stats.requests.total() >= sent + 2)
        assert not wait.done()
        server.listen_again()
        end()
        assert wait.result().is_success


@pytest.mark.parametrize("timeout", [0.0, 0.4])
def test_a_deadline_names_the_run_and_the_limit_and_leaves_the_run_alone(client: HelmrClient, timeout: float) -> None:
    run_id, end = waiting_run(client)
    with pytest.raises(HelmrTimeoutError, match=rf"{timeout:g} s.*{run_id}") as caught:
        client._waiter.run(run_id, timeout=timeout)
    assert caught.value.pending == (run_id,)
    end()
    assert client._waiter.run(run_id).is_success


def test_a_deadline_covers_a_request_that_is_under_way(client: HelmrClient, server: LocalControlPlane) -> None:
    run_id = start(client, seconds=0.0)
    server.fail_next("getRun", faults.delay(30.0))
    with pytest.raises(HelmrTimeoutError):
        client._waiter.run(run_id, timeout=0.3)


def test_a_missing_run_raises_its_404_and_a_bad_id_its_400(client: HelmrClient) -> None:
    with pytest.raises(HelmrNotFoundError):
        client._waiter.run(MISSING)
    with pytest.raises(HelmrApiError) as caught:
        client._waiter.run("run_123")
    assert caught.value.status == 400


def test_a_refused_credential_raises_immediately(server: LocalControlPlane) -> None:
    with HelmrClient(url=server.url, api_key="hlmr_sk_wrong") as stranger:
        with pytest.raises(HelmrAuthError):
            stranger._waiter.run(MISSING)
        with pytest.raises(HelmrAuthError):
            next(stranger._waiter.run_many([MISSING]))


def test_threads_share_the_stream_slots_and_the_rest_polls(server: LocalControlPlane) -> None:
    with HelmrClient(url=server.url, api_key=server.api_key, max_streams=2) as client:
        runs = [waiting_run(client) for _ in range(6)]
        with ThreadPoolExecutor(6) as pool:
            waits = [pool.submit(client._waiter.run, run_id) for run_id, _ in runs]
            until(lambda: client._waiter.stats.waits == 6 and client._waiter.stats.open_streams == 2)
            for _, end in runs:
                end()
            assert [wait.result().id for wait in waits] == [run_id for run_id, _ in runs]
        assert client._waiter.stats.most_streams == 2
        assert client._stream_slots.for_waits() == 2


def test_an_explicit_follower_is_never_refused_and_takes_the_slot_of_a_wait(server: LocalControlPlane) -> None:
    with HelmrClient(url=server.url, api_key=server.api_key, max_streams=1) as client, client._stream_slots.explicit():
        assert client._waiter.run(start(client, seconds=0.3)).is_success
        assert client._waiter.stats.requests["follow run"] == 0


def test_closing_the_client_ends_the_waits_of_other_threads(server: LocalControlPlane) -> None:
    client = HelmrClient(url=server.url, api_key=server.api_key, max_streams=0)
    run_id, _ = waiting_run(client)
    with ThreadPoolExecutor() as pool:
        wait = pool.submit(client._waiter.run, run_id)
        until(lambda: client._waiter.stats.requests.total() > 0)
        client._waiter.close()
        with pytest.raises(HelmrError, match="closed"):
            wait.result()
        client.close()


# wait_many


def test_run_many_yields_each_run_once_without_any_stream(client: HelmrClient) -> None:
    (slow, end), quick = waiting_run(client), start(client, seconds=0.0)
    ids: list[str] = []
    for run in client._waiter.run_many([slow, quick, slow]):
        ids.append(run.id)
        end()
    assert ids == [quick, slow]
    assert client._waiter.stats.requests["follow run"] == 0


def test_run_many_of_nothing_ends_immediately(client: HelmrClient) -> None:
    assert list(client._waiter.run_many([])) == []


def test_run_many_raises_the_404_after_the_others_were_yielded(client: HelmrClient) -> None:
    ids = [start(client, seconds=0.3) for _ in range(6)]
    seen: list[str] = []
    with pytest.raises(HelmrNotFoundError):
        collect(client._waiter.run_many([MISSING, *ids]), seen)
    assert sorted(seen) == sorted(ids)


def test_run_many_names_what_is_pending_at_its_deadline(client: HelmrClient) -> None:
    quick, (slow, end) = start(client, seconds=0.0), waiting_run(client)
    assert (client._waiter.run(quick)).is_success
    seen: list[str] = []
    with pytest.raises(HelmrTimeoutError) as caught:
        collect(client._waiter.run_many([quick, slow], timeout=1.0), seen)
    assert seen == [quick]
    assert caught.value.pending == (slow,)
    end()


def test_closing_run_many_stops_the_waits_and_not_the_runs(client: HelmrClient) -> None:
    (slow, end), quick = waiting_run(client), start(client, seconds=0.0)
    with contextlib.closing(client._waiter.run_many([slow, quick])) as results:
        assert next(results).id == quick
    assert not client.runs.retrieve(slow).is_terminal
    end()


# Tokens


def test_a_token_is_waited_for_until_it_is_not_pending(client: HelmrClient) -> None:
    token = client.tokens.create(timeout="1h")
    completed = threading.Thread(target=client.tokens.complete, args=(token.id, {"approved": True}))
    completed.start()
    assert client._waiter.token(token.id).data == {"approved": True}
    completed.join()
    with pytest.raises(HelmrTimeoutError):
        client._waiter.token(client.tokens.create(timeout="1h").id, timeout=0.2)
    with pytest.raises(HelmrNotFoundError):
        client._waiter.token(MISSING)


def test_a_list_with_a_repeated_row_is_as_long_as_the_server_made_it(
    client: HelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = client.runs.retrieve(start(client, seconds=60.0))
    monkeypatch.setattr(type(client.runs), "list", lambda *_, **__: [run] * FULL_LIST)
    wait = _Wait(client, WaitStats(), _Shutdown(), [WaitKey(RUN, run.id)], None, kind=_KINDS[RUN])
    said: list[dict[str, Any]] = []

    def listed(*_: object, **words: Any) -> list[WaitKey]:
        said.append(words)
        return []

    monkeypatch.setattr(Scheduler, "listed", listed)
    wait._request(ListRuns())
    assert said == [{"full": True}]

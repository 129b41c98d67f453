"""What a failure says: distinct for each way a run can end, with everything one needs to act on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from dev.processes import poll
from helmr_provider._common.errors import IdentityError, explain, is_permanent, translate_errors
from helmr_provider.client.errors import (
    HelmrConfigError,
    HelmrConnectionError,
    HelmrProtocolError,
    PayloadValidationError,
    api_error_class,
)
from helmr_provider.local import LocalControlPlane, TaskFailure, task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import HelmrClient
    from helmr_provider.client.errors import (
        HelmrApiError,
    )
    from helmr_provider.local import TaskContext

URL = "https://console.example/sessions/s/runs/r"


def api_error(status: int, code: str | None = None) -> HelmrApiError:
    return api_error_class(status)("said", operation="getRun", status=status, code=code)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 422, 501, 302])
def test_what_would_be_refused_again_is_permanent(status: int) -> None:
    assert is_permanent(api_error(status))


@pytest.mark.parametrize("status", [202, 408, 429, 500, 502, 503, 504])
def test_what_may_succeed_later_is_not_permanent(status: int) -> None:
    assert not is_permanent(api_error(status))


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (HelmrConfigError("no URL"), True),
        (PayloadValidationError("not JSON"), True),
        (IdentityError("template it", permanent=True), True),
        (IdentityError("changing", permanent=False), False),
        (HelmrConnectionError("refused"), False),
        (HelmrProtocolError("half a frame"), False),
    ],
)
def test_each_error_is_permanent_or_not(error: Exception, permanent: bool) -> None:
    with pytest.raises(AirflowException) as raised, translate_errors("read run 'r'", "helmr_default"):
        raise error
    assert isinstance(raised.value, AirflowFailException) == permanent
    assert str(raised.value) == f"Could not read run 'r' (connection 'helmr_default'): {error}"


def test_a_permanent_error_is_raised_without_a_chain_of_tracebacks() -> None:
    with pytest.raises(AirflowFailException) as raised, translate_errors("start", "c"):
        raise HelmrConfigError("first line\n  second line")
    assert str(raised.value).endswith("first line second line")
    assert raised.value.__suppress_context__


def test_errors_of_others_pass() -> None:
    with pytest.raises(KeyError), translate_errors("start", "c"):
        raise KeyError("a bug")


# How runs end


@task("noisy", retry={"maxAttempts": 2, "backoff": {"minMs": 1, "maxMs": 1, "factor": 1, "jitter": "none"}})
async def noisy(ctx: TaskContext, payload: Any) -> None:
    """Fail as the payload says, with the attempt in the message."""
    for line in range(40):
        ctx.stderr(f"line {line}\n")
    ctx.stderr(f"{payload.get('last', 'the end')}\n")
    raise TaskFailure(f"attempt {ctx.attempt_number} broke", failure_kind="worker_failed", exit_code=3)


@task("sleeper")
async def sleeper(ctx: TaskContext, payload: Any) -> None:
    """Sleep until it is cancelled."""
    await ctx.sleep(3600)


@task("busy")
async def busy(ctx: TaskContext, payload: Any) -> None:
    """Keep its worker until it is cancelled, which a sleep would not."""
    await asyncio.Event().wait()


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane(tasks=[noisy, sleeper, busy]) as server:
        yield server


def test_a_failed_run_says_why_and_shows_the_end_of_stderr(client: HelmrClient) -> None:
    started = client.sessions.start("noisy", {"last": "Traceback: the reason"})
    said = explain(client, client.runs.wait(started.run.id, timeout=30), url=URL)
    first, *rest = said.splitlines()
    # The last attempt's failure, not the first one's.
    assert first == (
        f"Helmr run {started.run.id} of session {started.session.id} failed: worker_failed: attempt 2 broke "
        "(attempt 2, exit code 3)."
    )
    assert rest[0] == "Last lines of stderr:"
    assert rest[-2] == "  Traceback: the reason"
    assert "  line 0" not in rest
    assert rest[-1] == f"See {URL}"


def test_an_endless_line_on_stderr_is_cut(client: HelmrClient) -> None:
    started = client.sessions.start("noisy", {"last": "x" * 100_000})
    assert len(explain(client, client.runs.wait(started.run.id, timeout=30), url=URL)) < 3000


@pytest.mark.parametrize("executing", [False, True], ids=["queued", "executing"])
def test_a_cancelled_run_says_by_whom(control_plane: LocalControlPlane, client: HelmrClient, executing: bool) -> None:
    if not executing:
        control_plane.pause_worker()
    run_id = client.sessions.start("busy").run.id
    if executing:
        poll(lambda: client.runs.retrieve(run_id).status == "running", seconds=20, waiting_for="the worker", every=0.02)
    client.runs.cancel(run_id, reason="wrong repository")
    # Only when the worker has released the run is the last event there, which gives a reason of its own.
    poll(
        lambda: "run.cancelled" in {event.kind for event in client.runs.events.records(run_id)},
        seconds=20,
        waiting_for="the end",
        every=0.02,
    )
    run = client.runs.retrieve(run_id)
    assert "was cancelled by another client, not by this task: wrong repository." in explain(client, run, url=URL)
    assert "was cancelled because the Airflow task was ended: wrong" in explain(client, run, url=URL, ours=True)


def test_an_expired_run_says_that_it_was_never_executed(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    control_plane.pause_worker()
    started = client.sessions.start("sleeper", ttl="1s")
    said = explain(client, client.runs.wait(started.run.id, timeout=30), url=URL)
    assert "expired: it stayed queued for longer than its ttl of 1s." in said


def test_an_outage_shortens_the_message_and_hides_no_failure(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    started = client.sessions.start("noisy", {})
    run = client.runs.wait(started.run.id, timeout=30)
    control_plane.stop_listening()
    assert explain(client, run, url=URL) == (
        f"Helmr run {run.id} of session {run.session_id} failed (attempt 2, exit code 3).\nSee {URL}"
    )

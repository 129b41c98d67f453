"""A run's output in the log of the task that waits for it, on a worker and from the triggerer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout

from dev.stack import poll
from helmr_provider._logs.run_logs_worker import RunLogReader
from helmr_provider.local import LocalControlPlane, faults, task
from tests.support.polling import until
from tests.support.session_tasks import a_task
from tests.support.task_attempts import both_ways, deferred, fire, overdue, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.local import TaskContext

pytestmark = pytest.mark.usefixtures("helmr_connection")


@task("talk", inputs=("go",))
async def talk(context: TaskContext, payload: Any) -> str:
    """Write lines, wait for input, write more."""
    context.log("before the gate")
    context.stdout("half a ")
    await context.wait_for_input("go")
    context.stdout("line\n")
    context.stderr("after the gate\n")
    if payload == "fail":
        raise RuntimeError("on purpose")
    return "done"


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane(tasks=[talk]) as server:
        yield server


class TaskLog:
    """Everything that was logged, as long as the test runs."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._text = ""

    @property
    def text(self) -> str:
        self._text += self._read()
        return self._text

    @property
    def output(self) -> list[str]:
        """The lines of the run's output, however often they were logged, in the order of the first time."""
        lines = [line for line in self.text.splitlines() if "[stdout]" in line or "[stderr]" in line]
        return list(dict.fromkeys(line[line.index("[std") :].partition("  ")[0].strip() for line in lines))

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.text, every=0.02)


@pytest.fixture
def log(task_log: Callable[[], str]) -> TaskLog:
    return TaskLog(task_log)


def open_gate(client: HelmrClient, attempt: Any) -> None:
    client.sessions.open(attempt.xcoms["session_id"]).input("go").send(True)


ALL = ["[stdout] before the gate", "[stderr] after the gate", "[stdout] half a line"]


# The tail


@both_ways
def test_the_tail_is_written_after_the_wait(client: HelmrClient, log: TaskLog, deferrable: bool) -> None:
    attempt = a_task(task="talk", deferrable=deferrable).start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.finish)
        log.wait_for("Helmr run")
        open_gate(client, attempt)
        assert result.result(timeout=60) == "done"
    assert sorted(log.output) == sorted(ALL)


def test_the_tail_of_a_failed_run_is_written_too(client: HelmrClient, log: TaskLog) -> None:
    attempt = a_task(task="talk", payload="fail", deferrable=True).start()
    deferral = deferred(attempt.execute())
    open_gate(client, attempt)
    with pytest.raises(AirflowException, match="on purpose"):
        attempt.resume(deferral, fire(deferral))
    assert "[stdout] half a line" in log.output


def test_a_task_that_ran_out_of_time_shows_how_far_its_run_had_got(client: HelmrClient, log: TaskLog) -> None:
    attempt = a_task(task="talk", deferrable=True, timeout=60).start()
    deferral = deferred(attempt.execute())
    poll(lambda: client.runs.retrieve(attempt.xcoms["run_id"]).status == "waiting", seconds=30, waiting_for="the gate")
    overdue(deferral)
    with pytest.raises(AirflowTaskTimeout):
        attempt.resume(deferral, fire(deferral))
    assert log.output == ["[stdout] before the gate", "[stdout] half a"]


def test_nothing_is_read_when_logs_are_off(control_plane: LocalControlPlane, client: HelmrClient, log: TaskLog) -> None:
    attempt = a_task(task="talk", logs="off", deferrable=True).start()
    deferral = deferred(attempt.execute())
    open_gate(client, attempt)
    assert attempt.resume(deferral, fire(deferral)) == "done"
    assert log.output == []
    assert "getRunLogs" not in {entry.operation for entry in control_plane.journal}


@pytest.mark.parametrize("status", [500, 503, 403, 404])
def test_output_that_cannot_be_read_costs_no_result(
    control_plane: LocalControlPlane, client: HelmrClient, log: TaskLog, status: int
) -> None:
    attempt = a_task(task="talk", deferrable=True).start()
    deferral = deferred(attempt.execute())
    open_gate(client, attempt)
    event = fire(deferral)
    control_plane.fail_next("getRunLogs", faults.status(status), times=3)
    assert attempt.resume(deferral, event) == "done"
    assert "is not shown" in log.text
    control_plane.clear_faults()


def test_what_logs_means_is_checked_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="logs must be"):
        a_task(logs="all").make()


# Live


def test_a_worker_shows_the_output_while_it_waits(client: HelmrClient, log: TaskLog) -> None:
    attempt = a_task(task="talk", logs="live").start()
    with ThreadPoolExecutor(1) as worker:
        result = worker.submit(attempt.execute)
        log.wait_for("[stdout] before the gate")
        assert not result.done()
        open_gate(client, attempt)
        assert result.result(timeout=60) == "done"
    assert log.output == ["[stdout] before the gate", "[stdout] half a line", "[stderr] after the gate"]


def test_a_worker_s_time_limit_holds_while_it_shows_output(
    client: HelmrClient, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, wait = a_task(task="talk", logs="live", timeout=3).start(), RunLogReader.wait

    def wait_with_output(reader: RunLogReader, timeout: float | None) -> RunSnapshot:
        until(lambda: client.runs.logs.retrieve(attempt.xcoms["run_id"]).stdout.endswith("half a "))
        return wait(reader, timeout)

    # The time is over only after the run has written, also on a busy machine.
    monkeypatch.setattr(RunLogReader, "wait", wait_with_output)
    with pytest.raises(AirflowTaskTimeout):
        attempt.execute()
    assert log.output == ["[stdout] before the gate", "[stdout] half a"]


@pytest.mark.parametrize("streams", [4, 0], ids=["with a slot", "without a slot"])
def test_the_triggerer_shows_the_output_while_the_task_is_deferred(
    control_plane: LocalControlPlane, connect: Callable[..., str], client: HelmrClient, log: TaskLog, streams: int
) -> None:
    connect(host=control_plane.url, password=control_plane.api_key, extra={"streams": streams})
    attempt = a_task(task="talk", logs="live", deferrable=True).start()
    deferral = deferred(attempt.execute())
    with ThreadPoolExecutor(1) as triggerer:
        event = triggerer.submit(fire, deferral)
        log.wait_for("[stdout] before the gate")
        assert not event.done()
        open_gate(client, attempt)
        fired = event.result(timeout=60)
    assert log.output == ["[stdout] before the gate", "[stdout] half a line", "[stderr] after the gate"]
    control_plane.clear_journal()
    assert attempt.resume(deferral, fired) == "done"
    # The triggerer has written everything, and its event says so.
    reads = [entry.query for entry in control_plane.journal if entry.operation == "getRunLogs"]
    assert reads == [{"cursor": "4", "follow": "1"}]


def test_the_event_says_how_far_the_triggerer_has_got_and_nothing_of_the_output(client: HelmrClient) -> None:
    attempt = a_task(task="talk", logs="live", deferrable=True).start()
    deferral = deferred(attempt.execute())
    open_gate(client, attempt)
    event = fire(deferral)
    assert event == {"schema": 1, "status": "ended", "run_id": attempt.xcoms["run_id"], "log_cursor": "4"}
    assert "gate" not in str(deferral.trigger.serialize())


def test_the_worker_writes_what_the_triggerer_has_not(client: HelmrClient, log: TaskLog) -> None:
    attempt = a_task(task="talk", logs="live", deferrable=True).start()
    deferral = deferred(attempt.execute())
    open_gate(client, attempt)
    client.runs.wait(attempt.xcoms["run_id"], timeout=30)
    event = {"schema": 1, "status": "ended", "run_id": attempt.xcoms["run_id"], "log_cursor": "1"}
    log.text  # noqa: B018 - what was logged so far
    assert attempt.resume(deferral, event) == "done"
    assert log.output == ["[stdout] half a line", "[stderr] after the gate"]


def test_a_task_that_defers_again_continues_at_the_position_of_the_triggerer() -> None:
    attempt = a_task(task="talk", logs="live", deferrable=True).start()
    first = deferred(attempt.execute())
    event = {"schema": 1, "status": "ended", "run_id": "stale", "log_cursor": "2"}
    again = stored(deferred(attempt.resume(first, event)).trigger)
    assert (again.live_logs, again.log_cursor) == (True, "2")
    assert stored(first.trigger).log_cursor is None


def test_after_a_lost_trigger_the_tail_is_written(client: HelmrClient, log: TaskLog) -> None:
    attempt = a_task(task="talk", logs="live", deferrable=True).start()
    deferred(attempt.execute())
    open_gate(client, attempt)
    client.runs.wait(attempt.xcoms["run_id"], timeout=30)
    assert attempt.lose_trigger() == "done"
    assert sorted(log.output) == sorted(ALL)


@pytest.mark.parametrize(
    "fault",
    [
        faults.half_frame(),
        faults.malformed_frame(),
        faults.reset_stream(),
        faults.close_stream(),
        faults.oversize_frame(),
        faults.status(503),
        faults.status(403),
        faults.hang_up(),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_a_broken_log_stream_ends_no_wait(
    control_plane: LocalControlPlane, client: HelmrClient, fault: faults.Fault
) -> None:
    attempt = a_task(task="talk", logs="live", deferrable=True).start()
    deferral = deferred(attempt.execute())
    control_plane.fail_next("getRunLogs", fault)
    open_gate(client, attempt)
    assert attempt.resume(deferral, fire(deferral)) == "done"

"""Airflow on Celery: replicas are killed and drained while sessions start, wait and end."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dev.celery_stack import CeleryStack
from dev.stack import ROOT, poll
from helmr_provider.client import HelmrClient

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
SESSIONS = 24
DAG_ID = "mapped_sessions"


@pytest.fixture(scope="module")
def stack() -> Iterator[CeleryStack]:
    # Not below pytest's own folder, which is closed to the user that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="helmr-celery-"))
    folder.chmod(0o755)
    with CeleryStack(folder / "stack", dags=HERE / "dags", tasks=ROOT / "tests/airflow/local_tasks.py") as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture
def client(stack: CeleryStack) -> Iterator[HelmrClient]:
    with HelmrClient(url=stack.control_plane.url, api_key=stack.control_plane.api_key) as connected:
        yield connected


def begin(stack: CeleryStack, client: HelmrClient) -> tuple[str, str]:
    """Trigger the DAG; return the DAG run's id, and the id of the token that all sessions wait for."""
    stack.airflow.wait_for_dag(DAG_ID)
    token_id = client.tokens.create(timeout="1h").id
    return stack.airflow.trigger(DAG_ID, token_id=token_id), token_id


def states(stack: CeleryStack, run_id: str, task_id: str = "work") -> Counter[str]:
    return Counter(str(each["state"]) for each in stack.airflow.mapped_tasks(DAG_ID, run_id, task_id))


def wait_until_deferred(stack: CeleryStack, run_id: str, count: int) -> None:
    poll(
        lambda: states(stack, run_id)["deferred"] >= count,
        seconds=300,
        waiting_for=f"{count} deferred tasks; logs: {stack.folder}",
        every=1,
    )


def assert_each_session_ended_once(stack: CeleryStack, client: HelmrClient, run_id: str) -> None:
    def over() -> str | None:
        state = str(stack.airflow.dag_run(DAG_ID, run_id)["state"])
        return state if state in {"success", "failed"} else None

    state = poll(over, seconds=600, waiting_for=f"the DAG run to end; logs: {stack.folder}", every=1)
    assert (state, states(stack, run_id)) == ("success", Counter(success=SESSIONS))
    assert states(stack, run_id, "use") == Counter(success=SESSIONS)
    sessions = [
        session
        for session in client.sessions.list(status="all", limit=200)
        if (session.external_id or "").startswith(f"airflow:{DAG_ID}:{run_id}:")
    ]
    runs = [run for session in sessions for run in client.runs.list(status="all", session_id=session.id)]
    assert Counter(run.status for run in runs) == Counter(succeeded=SESSIONS)
    outputs: list[Any] = [run.output for run in runs]
    assert sorted(output["number"] for output in outputs) == list(range(SESSIONS))
    counts = client.runs.count()
    assert (counts.queued, counts.running) == (0, 0)


@pytest.mark.parametrize("component", ["worker", "triggerer", "scheduler"])
def test_one_is_killed_while_sessions_start_and_the_other_is_drained_while_they_wait(
    stack: CeleryStack, client: HelmrClient, component: str
) -> None:
    first, second = stack.programs[f"{component}-1"], stack.programs[f"{component}-2"]
    run_id, token_id = begin(stack, client)
    wait_until_deferred(stack, run_id, 1)
    first.kill()
    wait_until_deferred(stack, run_id, SESSIONS)
    # The order makes sure that one is always there.
    first.start()
    second.ask_to_stop()
    client.tokens.complete(token_id, "go")
    assert_each_session_ended_once(stack, client, run_id)
    poll(lambda: second.exited is not None, seconds=120, waiting_for=f"{component}-2 to be drained")
    second.start()


def test_one_of_each_is_killed_while_sessions_end(stack: CeleryStack, client: HelmrClient) -> None:
    run_id, token_id = begin(stack, client)
    wait_until_deferred(stack, run_id, SESSIONS)
    client.tokens.complete(token_id, "go")
    killed = [stack.programs[f"{component}-1"] for component in ("worker", "triggerer", "scheduler")]
    for program in killed:
        program.kill()
    assert_each_session_ended_once(stack, client, run_id)
    for program in killed:
        program.start()

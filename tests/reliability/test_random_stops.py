"""SIGTERM at random moments to processes that supervise a waiting, deferring or resuming task.

``STOPS`` and ``SEED`` in the environment say how many signals are sent and how moments and processes are chosen; pytest
shows the progress with ``-o log_cli=true -o log_cli_level=INFO``.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dev.airflow_api import AirflowApiError
from tests.conftest import MEASURED

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.postgres_stack import PostgresStack
    from helmr_provider.client import HelmrClient

STOPS = int(os.environ.get("STOPS", "200"))
SEED = int(os.environ.get("SEED", "12"))
DAG_ID = "random_stops"
# As in the DAG. Sessions last for long enough that a wave, which ends with its slowest task, takes many signals.
WAITING, DEFERRING = 8, 24
WAITING_SECONDS, DEFERRING_SECONDS = (40, 80), (0.2, 60)
# A wave of tasks ends by itself; this only bounds a stack that is stuck.
MOST_SECONDS = 3000

LOG = logging.getLogger(__name__)

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(MOST_SECONDS + 300)]


class Wave:
    """One DAG run, and what its tasks have started."""

    def __init__(self, stack: PostgresStack, client: HelmrClient, lengths: list[float]) -> None:
        self._stack = stack
        self._client = client
        self._tasks_of: dict[str, str] = {}
        self.run_id = stack.airflow.trigger(DAG_ID, seconds=lengths)
        self._prefix = f"airflow:{DAG_ID}:{self.run_id}:"

    def states(self) -> dict[str, str | None]:
        return {name: task["state"] for name, task in self._stack.airflow.tasks(DAG_ID, self.run_id).items()}

    def live_runs(self) -> Counter[str]:
        """Count the live runs of each task."""
        return Counter(
            task_id for run in self._client.runs.list(status="live", limit=200) if (task_id := self._task(run))
        )

    def all_runs(self) -> dict[str, list[Any]]:
        """Return every run of each task."""
        found: dict[str, list[Any]] = {}
        for run in self._client.runs.list(status="all", limit=200):
            if task_id := self._task(run):
                found.setdefault(task_id, []).append(run)
        return found

    def check(self) -> None:
        """No task has two live runs, and none that has ended has one."""
        ended = {task_id for task_id, state in self.states().items() if state in {"success", "failed"}}
        live = self.live_runs()
        assert not [task_id for task_id, count in live.items() if count > 1], live
        assert not ended & live.keys(), live

    def _task(self, run: Any) -> str:
        """Return the task that started the run; empty if it belongs to another wave."""
        if run.session_id not in self._tasks_of:
            name = self._client.sessions.retrieve(run.session_id).external_id or ""
            mine = name.startswith(self._prefix)
            self._tasks_of[run.session_id] = name.removeprefix(self._prefix).split(":")[0] if mine else ""
        return self._tasks_of[run.session_id]


def stop_one(stack: PostgresStack, chance: random.Random, stopped: set[psutil.Process]) -> None:
    """Send SIGTERM to one process that supervises a task: any, or the one that took its task last.

    :param stopped: the processes of tasks whose supervisors have got the signal, each once; this one is added.
    """
    busy: list[tuple[psutil.Process, psutil.Process]] = []
    for supervisor in stack.programs["scheduler"].busy_children():
        try:
            busy.append((max(supervisor.children(), key=psutil.Process.create_time), supervisor))
        except (psutil.NoSuchProcess, ValueError):
            continue
    busy = [each for each in busy if each[0] not in stopped]
    if not busy:
        return
    # Tasks that defer and resume are on a worker for a moment only; without this, mostly waiting ones were hit.
    task, chosen = max(busy, key=lambda each: each[0].create_time()) if chance.random() < 0.7 else chance.choice(busy)
    try:
        chosen.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        return
    stopped.add(task)


def tolerant(check: Callable[[], None]) -> None:
    """Check, unless Airflow's API is too busy to answer."""
    try:
        check()
    except (OSError, AirflowApiError):
        return


def test_no_task_has_two_live_runs_or_one_without_an_owner(
    stack: PostgresStack, client: HelmrClient, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(SEED)
    stack.airflow.wait_for_dag(DAG_ID)
    stopped: set[psutil.Process] = set()
    waves = tries = 0
    until = time.monotonic() + MOST_SECONDS
    while len(stopped) < STOPS:
        waves += 1
        lengths = [chance.uniform(*WAITING_SECONDS) for _ in range(WAITING)]
        lengths += [chance.uniform(*DEFERRING_SECONDS) for _ in range(DEFERRING)]
        wave = Wave(stack, client, lengths)
        while (state := stack.airflow.dag_run(DAG_ID, wave.run_id)["state"]) not in {"success", "failed"}:
            assert time.monotonic() < until, f"{len(stopped)} of {STOPS} signals were sent; logs: {stack.folder}"
            for _ in range(5):
                if len(stopped) < STOPS:
                    stop_one(stack, chance, stopped)
                time.sleep(chance.uniform(0.02, 0.6))
            tolerant(wave.check)
            LOG.info("wave %s: %s of %s signals", waves, len(stopped), STOPS)
        assert state == "success", wave.states()
        runs = wave.all_runs()
        assert {name: [run.status for run in found] for name, found in runs.items()} == {
            name: ["succeeded"] for name in wave.states()
        }
        tries += sum(task["try_number"] for task in stack.airflow.tasks(DAG_ID, wave.run_id).values())
    started = waves * (WAITING + DEFERRING)
    text = f"seed {SEED}: {len(stopped)} SIGTERMs, {waves} DAG runs, {started} task instances with {tries} tries"
    record_property(MEASURED, f"{text}, one run each")

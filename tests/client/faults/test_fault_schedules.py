"""Waits return the true end and subscriptions every record once, whatever fails (``make test-faults`` runs more seeds).

The schedules run in processes of their own, because they replace the clocks of their process. A seed that fails prints
its schedule, and the command that replays it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.faults.fault_schedule import make_schedule
from tests.client.faults.in_memory import run_in_memory

ROOT = Path(__file__).parents[3]
SEEDS, CHUNK = 500, 100


def run(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "tests.client.faults", "--processes", "1", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if result.returncode:
        pytest.fail(f"{result.stdout}\n{result.stderr}", pytrace=False)
    return result.stdout


@pytest.mark.timeout(610)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_seeds_in_memory(first: int) -> None:
    assert f"{CHUNK} seeds" in run("--first", str(first), "--seeds", str(CHUNK))


@pytest.mark.timeout(610)
def test_seeds_over_sockets() -> None:
    assert "12 seeds" in run("--seeds", "0", "--sockets", "12", "--unhurried")


def test_a_seed_makes_the_same_schedule_and_the_same_run_again() -> None:
    for seed in (34, 35):
        assert make_schedule(seed) == make_schedule(seed)
        first, second = run_in_memory(seed), run_in_memory(seed)
        assert (first.requests, first.seconds, first.fired) == (second.requests, second.seconds, second.fired)


def test_a_wrong_end_is_reported_with_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helmr_provider.client.models.runs.TERMINAL_STATUSES", frozenset({"running", "failed"}))
    report = run_in_memory(0).report()
    assert "expected" in report
    assert "make test-faults SEED=0" in report
    assert "fault: " in report


def test_what_the_control_plane_logs_as_an_error_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("helmr_provider.local.execution.sweeper.sessions.expire_due", broken)
    assert "logged: helmr_provider.local.execution.sweeper: a sweep failed: KeyError" in run_in_memory(0).report()

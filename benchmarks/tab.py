"""What viewers of the Helmr tab cost Airflow's own interface. Takes about two minutes.

A real Airflow with deferred tasks. Its list of DAGs is requested alone, then beside viewers of the tab, then beside
viewers of the tab while the control plane accepts requests and answers none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dev.processes import leave_nothing_running
from dev.stack import ROOT, Stack, poll
from helmr_provider.client import HelmrClient

if TYPE_CHECKING:
    from collections.abc import Callable

TASKS = 12


def timed(request: Callable[[], object], times: list[float]) -> None:
    """Make one request, and note how many milliseconds it took."""
    began = time.perf_counter()
    request()
    times.append((time.perf_counter() - began) * 1000)


def beside(stack: Stack, pages: list[str], viewers: int, seconds: float) -> tuple[list[float], list[float]]:
    """Request the list of DAGs again and again while viewers request pages of the tab; return both's times."""
    over = threading.Event()
    of_tab: list[float] = []
    of_airflow: list[float] = []

    def view(number: int) -> None:
        turn = number
        while not over.wait(0.25):
            turn += 1
            timed(lambda: stack.airflow.page(f"{pages[turn % len(pages)]}?part=live"), of_tab)  # noqa: B023

    threads = [threading.Thread(target=view, args=(number,)) for number in range(viewers)]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            timed(lambda: stack.airflow.call("GET", "/dags", limit=50), of_airflow)
            time.sleep(0.1)
    finally:
        over.set()
    for thread in threads:
        thread.join()
    return of_airflow, of_tab


def row(name: str, times: list[float]) -> str:
    """Put times into a line of the table."""
    worst = sorted(times)
    at_95 = worst[min(len(worst) - 1, int(len(worst) * 0.95))]
    return f"{name:<58}{statistics.median(times):>8.0f}{at_95:>8.0f}{worst[-1]:>8.0f}{len(times):>9}"


@leave_nothing_running()
def main() -> None:
    """Start Airflow, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15, help="for each of the measurements (15)")
    parser.add_argument("--viewers", type=int, default=10, help="viewers, each of whom asks four times a second (10)")
    arguments = parser.parse_args()
    tests = ROOT / "tests" / "airflow"
    with tempfile.TemporaryDirectory() as folder:
        dags = Path(folder, "dags")
        dags.mkdir()
        shutil.copy(tests / "dags" / "scenarios.py", dags)
        with Stack(Path(folder, "stack"), dags=dags, tasks=tests / "local_tasks.py") as stack:
            print_table(stack, arguments.seconds, arguments.viewers)


def print_table(stack: Stack, seconds: float, viewers: int) -> None:
    """Measure on a running Airflow."""
    airflow, plane = stack.airflow, stack.control_plane
    airflow.wait_for_dag("gated_session")
    with HelmrClient(url=plane.url, api_key=plane.api_key) as client:
        token = client.tokens.create(timeout="1h").id
        runs = [airflow.trigger("gated_session", token_id=token) for _ in range(TASKS)]
        poll(
            lambda: all(airflow.tasks("gated_session", run)["work"]["state"] == "deferred" for run in runs),
            seconds=180,
            waiting_for="all tasks to be deferred",
        )
    pages = [f"/helmr/dags/gated_session/runs/{quote(run, safe='')}/tasks/work/-1" for run in runs]
    print(f"{TASKS} deferred tasks, {viewers} viewers, each asking four times a second; {os.cpu_count()} processors\n")
    print(f"{'milliseconds':<58}{'median':>8}{'95 %':>8}{'most':>8}{'requests':>9}")
    alone, _ = beside(stack, pages, 0, seconds)
    print(row("Airflow's list of DAGs, without the tab", alone))
    healthy, tab = beside(stack, pages, viewers, seconds)
    print(row("Airflow's list of DAGs, beside the tab", healthy))
    print(row("  the tab", tab))
    process = plane.program.process
    assert process is not None
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        hung, tab = beside(stack, pages, viewers, seconds)
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    print(row("Airflow's list of DAGs, beside the tab, Helmr hangs", hung))
    print(row("  the tab", tab))


if __name__ == "__main__":
    main()

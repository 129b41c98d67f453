"""Run the approval gate on a real Airflow with a local control plane, and show what happens."""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dev.processes import StackError, ignore_signals, interrupt_on_signals, poll
from dev.stack import ROOT, Stack
from helmr_provider.client import HelmrClient, HelmrError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = ROOT / ".demo"
DAG_ID = "example_approval_gate"
LIMIT = 180.0  # seconds that the DAG run may take before the demo gives it up

WHERE = {
    "running": "on a worker slot",
    "deferred": "waits in the triggerer, no worker slot",
    "success": "",
    "failed": "",
    "up_for_retry": "",
}
COLOUR = {"running": "green", "deferred": "magenta", "success": "bold green", "failed": "bold red", "run": "cyan"}


class Screen:
    """What the demo prints: one line an event, with the time since it began."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    def line(self, who: str, what: str = "", note: str = "", *, style: str = "") -> None:
        """Print one event."""
        seconds = time.monotonic() - self._began
        self._out.print(f"{seconds:6.1f} s  ", style="dim", end="")
        self._out.print(f"{who:<18}", end="", markup=False)
        self._out.print(f"{what:<16}" if note else what, style=style, end="", markup=False)
        self._out.print(note, style="dim", markup=False)

    def title(self, text: str) -> None:
        """Print a heading."""
        self._out.print(text, style="bold", markup=False)

    def plain(self, text: str = "", *, style: str = "") -> None:
        """Print a line without a time."""
        self._out.print(text, style=style, markup=False)


@dataclass
class Watch:
    """Follow one DAG run: changes of task states, events of the Helmr runs, and how long each task was deferred."""

    stack: Stack
    client: HelmrClient
    run_id: str
    states: dict[str, str | None] = field(default_factory=dict)
    deferred: dict[str, list[float]] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    printed: dict[str, int] = field(default_factory=dict)

    def changes(self) -> Iterator[tuple[str, str, str]]:
        """Look once; yield who changed, to what, and where it is now."""
        now = time.monotonic()
        tasks = self.stack.airflow.tasks(DAG_ID, self.run_id)
        for task_id, task in sorted(tasks.items(), key=lambda item: item[1].get("start_date") or "~"):
            state = task["state"]
            if state == self.states.get(task_id):
                continue
            if state == "deferred":
                self.deferred.setdefault(task_id, []).append(-now)
            elif self.states.get(task_id) == "deferred":
                self.deferred[task_id][-1] += now
            self.states[task_id] = state
            if state in WHERE:
                yield task_id, state, WHERE[state]
        yield from self._run_events()

    def _run_events(self) -> Iterator[tuple[str, str, str]]:
        for run in self.client.runs.list(status="all"):
            who = f"run …{run.id[-6:]}"
            for event in self.client.runs.events.records(run.id, cursor=self.cursors.get(run.id)):
                self.cursors[run.id] = event.id
                if event.kind == "run.created":
                    yield who, event.kind, f"task {run.task_id}, session …{run.session_id[-6:]}"
                elif not event.kind.startswith("log."):
                    yield who, event.kind, ""
                elif event.kind == "log.stdout":
                    yield from self._new_lines(who, run.id)

    def _new_lines(self, who: str, run_id: str) -> Iterator[tuple[str, str, str]]:
        # An event only says that there is output; its text is in the log.
        lines = self.client.runs.logs.retrieve(run_id).stdout.splitlines()
        for line in lines[self.printed.get(run_id, 0) :]:
            yield who, "says", line.strip()
        self.printed[run_id] = len(lines)


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave Airflow and the control plane running")
    keep: bool = parser.parse_args().keep
    interrupt_on_signals()
    logging.getLogger("helmr_provider").setLevel(logging.ERROR)  # that the loopback interface is plain HTTP
    screen = Screen()
    screen.title("An approval-gated agent session, on a real Airflow and a local control plane")
    if (held := alone()) is None:
        screen.plain(
            f"Another demo is running in {FOLDER}: wait for its end, or stop it with Ctrl-C.", style="bold red"
        )
        return 1
    stack = Stack(FOLDER, dags=ROOT / "example_dags", standalone=True)
    succeeded = False
    try:
        start(stack, screen)
        succeeded = run(stack, screen)
        if keep:
            kept(stack, screen)
    except StackError as error:
        screen.plain(f"\nThe demo did not work: {error}", style="bold red")
        screen.plain(f"Logs: {FOLDER}")
    except KeyboardInterrupt:
        screen.plain("\nInterrupted; stopping what was started.")
    finally:
        if not (keep and succeeded):
            ignore_signals()
            stack.stop()
            screen.line("stopped", "everything that was started")
        os.close(held)
    return 0 if succeeded else 1


def alone() -> int | None:
    """Take the checkout for this demo, until the process ends; ``None`` if another demo has it.

    What an earlier demo left running with ``KEEP=1`` is replaced, but one that still watches would be pulled away.
    """
    held = os.open(ROOT / "dev", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


def start(stack: Stack, screen: Screen) -> None:
    """Start both, saying how far it is."""
    stack.prepare()
    stack.control_plane.start()
    screen.line("control plane", stack.control_plane.url)
    stack.start_airflow()
    screen.line("Airflow", "starting", "scheduler, triggerer, DAG processor, API server")
    stack.wait_until_healthy()
    stack.airflow.wait_for_dag(DAG_ID)
    screen.line("Airflow", stack.url)


def run(stack: Stack, screen: Screen) -> bool:
    """Trigger the DAG, show what happens, and say whether it succeeded."""
    with HelmrClient(url=stack.control_plane.url, api_key=stack.control_plane.api_key) as client:
        watch = Watch(stack, client, stack.airflow.trigger(DAG_ID))
        screen.line("DAG run", watch.run_id)

        def ended() -> str | None:
            stack.check()
            try:
                for who, what, note in watch.changes():
                    screen.line(who, what, note, style=COLOUR.get(what, COLOUR["run"]))
            except HelmrError as error:
                raise StackError(f"the control plane answered: {error}") from error
            state = str(stack.airflow.dag_run(DAG_ID, watch.run_id)["state"])
            return state if state in {"success", "failed"} else None

        state = poll(ended, seconds=LIMIT, waiting_for=f"the DAG run {watch.run_id}")
        for who, what, note in watch.changes():
            screen.line(who, what, note, style=COLOUR.get(what, COLOUR["run"]))
    screen.plain()
    if state != "success":
        explain(stack, screen, watch)
        return False
    summary(stack, screen, watch)
    return True


def summary(stack: Stack, screen: Screen, watch: Watch) -> None:
    """Print the result and how long each wait took."""
    result = stack.airflow.xcom(DAG_ID, watch.run_id, "publish")
    screen.title("Result")
    for name, value in result.items():
        screen.plain(f"  {name:<10}  {value if isinstance(value, str) else json.dumps(value)}")
    screen.title("Waits, none of them on a worker slot")
    for task_id, waits in watch.deferred.items():
        screen.plain(f"  {task_id:<10}  {sum(waits):.1f} s in the triggerer")


def explain(stack: Stack, screen: Screen, watch: Watch) -> None:
    """Print why the DAG run failed."""
    failed = [task_id for task_id, state in watch.states.items() if state == "failed"]
    screen.plain(f"The DAG run failed in {', '.join(failed) or 'no task of its own'}.", style="bold red")
    for task_id in failed:
        tries = stack.airflow.tasks(DAG_ID, watch.run_id)[task_id]["try_number"]
        for line in _errors(stack.airflow.log(DAG_ID, watch.run_id, task_id, tries)):
            screen.plain(f"  {task_id}: {line}")
    screen.plain(f"Logs: {FOLDER / 'logs'}")


def _errors(log: str) -> list[str]:
    entries: list[dict[str, Any]] = []
    for line in log.splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    said = []
    for entry in entries:
        if entry.get("level") in {"error", "critical"}:
            why = [each.get("exc_value", "") for each in entry.get("error_detail") or []]
            text = " ".join([str(entry.get("event")), *why])
            # Of a traceback in the text, the last line says what happened.
            said.append(text.strip().splitlines()[-1])
    return said[-3:]


def kept(stack: Stack, screen: Screen) -> None:
    """Say where everything is and how to end it."""
    pids = [stack.control_plane.program, *stack.programs.values()]
    screen.title("\nLeft running:")
    screen.plain(f"  Airflow        {stack.url}/dags/{DAG_ID}  (no login: everybody is admin)")
    screen.plain(f"  control plane  export HELMR_API_URL={stack.control_plane.url}")
    screen.plain(f"                 export HELMR_API_KEY={stack.control_plane.api_key}")
    screen.plain(f"  stop both      kill -INT {' '.join(str(p.process.pid) for p in pids if p.process)}")


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())

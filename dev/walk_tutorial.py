"""Follow the tutorial as a newcomer would: python -m dev.walk_tutorial.

Commands run in the order of the pages, in terminals with an almost empty environment, in an empty folder. Files that
the pages ask the reader to save are saved. What a person does in a browser, and how long to wait for something, stands
in comments of the pages that only this program reads:

    <!-- terminal: 2 -->            the next commands belong to this terminal
    <!-- background -->             the last of the next commands keeps running
    <!-- wait-for: text -->         some terminal prints this text
    <!-- wait-for-success: d r -->  run r of DAG d has succeeded
    <!-- answer -->                 a person answers the next question
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dev.processes import (
    MARK,
    StackError,
    free_ports,
    kill_marked,
    leave_nothing_running,
    poll,
    stop_completely,
)
from dev.stack import EXECUTION_API_TIMEOUT, LOST_BY_AIRFLOW
from helmr_provider.client import HelmrClient

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / "tutorial" / name for name in ("first-dag.md", "test-your-dag.md")]
FOLDER = "helmr-tutorial"
PORT = "8790"
CHECKOUT = "/path/to/checkout"
LIMIT = 240.0  # seconds for one command or wait; installing Airflow takes the longest
STEP = re.compile(
    r"<!-- (?P<note>[a-z-]+)(?:: (?P<detail>.+?))? -->"
    r"|^Save this file as `(?P<path>[^`]+)`:\n\n```python\n(?P<content>.*?)^```"
    r"|^```console\n(?P<console>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Terminal:
    """A shell that reads commands one after the other."""

    name: str
    folder: Path
    environment: dict[str, str]
    log: Path
    sent: int = 0
    shell: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        """Open it."""
        with self.log.open("w") as out:
            self.shell = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def enter(self, command: str, *, background: bool) -> None:
        """Enter a command when the one before has ended, and wait for its end."""
        self.wait()
        print(f"[{self.name}] $ {command}", flush=True)
        assert self.shell.stdin is not None
        self.sent += 1
        self.shell.stdin.write(f"{command}\nprintf '\\nended {self.sent} %s\\n' $?\n")
        self.shell.stdin.flush()
        if not background:
            self.wait()

    def wait(self) -> None:
        """Wait for the end of the last command; it must have succeeded."""
        if self.sent:
            poll(self.ended, seconds=LIMIT, waiting_for=f"the command in terminal {self.name}")

    def ended(self) -> bool:
        """Whether the last command has ended; it must have succeeded."""
        found = re.search(rf"^ended {self.sent} (\d+)$", self.printed(), re.MULTILINE)
        if found and found[1] != "0":
            raise StackError(f"a command in terminal {self.name} failed with {found[1]}")
        return found is not None

    def printed(self) -> str:
        """Return everything that it shows."""
        return self.log.read_text(errors="replace")


class Walk:
    """One walk through the pages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = str(folder)
        api, helmr, worker_log, trigger_log = free_ports(4)
        self.port = str(helmr)
        python = Path(sys.executable).resolve().parent
        kept = {name: value for name, value in os.environ.items() if re.match(r"PIP_|SSL_|\w+_proxy$|\w+_PROXY$", name)}
        self.environment = {
            **kept,
            "PATH": f"{python}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PIP_QUIET": "1",
            # Other programs of this machine may have the default ports.
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{api}",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log),
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": EXECUTION_API_TIMEOUT,
            MARK: self.mark,
        }
        self.terminals: dict[str, Terminal] = {}
        self.terminal = "1"
        self.background = False

    @property
    def work(self) -> Path:
        return self.folder / FOLDER

    def shell(self) -> Terminal:
        """Return the current terminal; a new one begins in the reader's folder."""
        if self.terminal not in self.terminals:
            folder = self.work if self.work.exists() else self.folder
            log = self.folder / f"terminal-{self.terminal}.log"
            self.terminals[self.terminal] = Terminal(self.terminal, folder, self.environment, log)
        return self.terminals[self.terminal]

    def page(self, path: Path) -> None:
        """Do everything that a page says."""
        print(f"{path.relative_to(ROOT)}", flush=True)
        self.terminal = "1"
        for step in STEP.finditer(path.read_text().replace(PORT, self.port).replace(CHECKOUT, str(ROOT))):
            if step["note"]:
                self.note(step["note"], step["detail"] or "")
            elif step["path"]:
                (self.work / step["path"]).write_text(step["content"])
                print(f"saved {step['path']}", flush=True)
            else:
                self.commands(step["console"])

    def commands(self, console: str) -> None:
        """Enter the commands of one block; lines without a prompt show what is printed."""
        commands = [line.removeprefix("$ ") for line in console.splitlines() if line.startswith("$ ")]
        for number, command in enumerate(commands, 1):
            self.shell().enter(command, background=self.background and number == len(commands))
        self.background = False
        self.terminal = "1"

    def note(self, note: str, detail: str) -> None:
        """Do what a comment says."""
        if note == "terminal":
            self.terminal = detail
        elif note == "background":
            self.background = True
        elif note == "wait-for":
            self.until(lambda: any(detail in each.printed() for each in self.terminals.values()), detail)
        elif note == "wait-for-success":
            dag_id, run_id = detail.split()
            self.until(lambda: self.succeeded(dag_id, run_id), f"the success of {detail}")
        elif note == "answer":
            self.answer()
        else:
            raise StackError(f"nobody knows the comment {note}")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, unless a command fails first."""
        print(f"… waiting for {what}", flush=True)

        def met() -> bool:
            for each in self.terminals.values():
                each.ended()
            return bool(condition())

        poll(met, seconds=LIMIT, waiting_for=what)

    def program(self, *command: str) -> str:
        """Run a program of the reader's environment and return what it prints."""
        done = subprocess.run(
            [self.work / ".venv" / "bin" / command[0], *command[1:]],
            env=self.environment | {"AIRFLOW_HOME": str(self.work / "airflow")},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        return done.stdout

    def succeeded(self, dag_id: str, run_id: str) -> bool:
        """Whether a DAG run has succeeded; it must not fail."""
        rows = self.program("airflow", "dags", "list-runs", dag_id, "--output", "plain").splitlines()
        state = next((row.split()[2] for row in rows if row.split()[1:2] == [run_id]), "")
        if state == "failed":
            raise StackError(f"the run {run_id} of {dag_id} has failed")
        return state == "success"

    def lost_by_airflow(self) -> bool:
        """Whether Airflow says that it has lost a task."""
        return any(sign in each.printed() for each in self.terminals.values() for sign in LOST_BY_AIRFLOW)

    def answer(self) -> None:
        """Answer as a person does on the console."""
        print("… a person answers", flush=True)
        printed = self.program("helmr-local", "env", "--port", self.port)
        url, key = (re.findall(rf"{name}=(\S+)", printed)[0] for name in ("HELMR_API_URL", "HELMR_API_KEY"))
        with HelmrClient(url=url, api_key=key) as client:
            (token, *_) = poll(
                lambda: client.tokens.list(status="pending"), seconds=LIMIT, waiting_for="a question to a person"
            )
            client.tokens.complete(token.id, {"approved": True, "by": "me"})

    def clean_up(self) -> None:
        """Leave nothing running."""
        for each in self.terminals.values():
            # Airflow's workers overwrite their environment with their title, and are then not found by the mark.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.shell.pid, signal.SIGKILL)
        kill_marked(self.mark)
        for each in self.terminals.values():
            each.shell.wait()
            if each.shell.stdin is not None:
                each.shell.stdin.close()


def follow(folder: Path) -> Walk | None:
    """Walk through all pages; returns the walk if something does not work, and leaves nothing running."""
    walk = Walk(folder)
    try:
        for page in PAGES:
            walk.page(page)
    except (StackError, subprocess.CalledProcessError) as error:
        print(f"\nThe tutorial does not work: {error}\n")
        for each in walk.terminals.values():
            print(f"--- terminal {each.name} ---\n{each.printed()[-3000:]}\n")
        return walk
    finally:
        stop_completely(walk.clean_up)
    return None


@leave_nothing_running()
def main() -> int:
    """Walk, a second time if Airflow itself has lost a task on the way; returns the exit code."""
    for attempt in (1, 2):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="helmr-tutorial-", ignore_cleanup_errors=True) as folder:
            failed = follow(Path(folder))
            if failed is None:
                print(f"The tutorial works, in {time.monotonic() - began:.0f} s.")
                return 0
            if attempt == 2 or not failed.lost_by_airflow():
                return 1
        print("Airflow itself has lost a task, as its log says: once more.", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())

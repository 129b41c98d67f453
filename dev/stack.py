"""A real Airflow and a local control plane in one folder: start, stop, kill and restart them.

The demo and the tests share it, because two ways to start Airflow would diverge. It marks every process, so that
orphans are found. Tests kill only busy workers: LocalExecutor does not survive the death of idle ones.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dev.airflow_api import AirflowApi
from dev.processes import MARK, Program, StackError, free_ports, kill_marked, poll, stop_completely

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

COMPONENTS = ("api-server", "dag-processor", "scheduler", "triggerer")

# How long a task waits for an answer of Airflow's API server, in seconds. A busy machine exceeds the default of five.
EXECUTION_API_TIMEOUT = "30"

# What Airflow writes when it fails a task that did not reach its API server, or that has resumed before its scheduler,
# late, has heard that it was deferred; and when SQLite, which all its programs write to, was locked for too long.
LOST_BY_AIRFLOW = ("reported that the task instance", "database is locked")


class ControlPlane:
    """The local control plane as a process of its own, with its state in a file: it can be killed and come back."""

    def __init__(self, folder: Path, environment: Mapping[str, str], tasks: Path | None) -> None:
        self.folder = folder
        (port,) = free_ports(1)
        command = [str(BIN / "helmr-local"), "serve", "--port", str(port), "--db", str(folder / "helmr.db")]
        if tasks is not None:
            command += ["--tasks", str(tasks)]
        self.url = f"http://127.0.0.1:{port}"
        self.api_key = ""
        self.program = Program("local control plane", command, environment, folder / "control-plane.log")

    def start(self) -> None:
        """Start it and wait until it has said its address and key."""
        offset = self.program.log.stat().st_size if self.program.log.exists() else 0
        self.program.start()

        def key() -> str | None:
            self.program.check()
            said = self.program.log.read_text(errors="replace")[offset:]
            found = re.search(r"HELMR_API_KEY=[\"']?([\w.-]+)", said)
            return found.group(1) if found else None

        self.api_key = poll(key, seconds=20, waiting_for="the local control plane to start", every=0.05)

    def stop(self) -> None:
        """End it in good order."""
        self.program.stop()

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.program.kill()


class Stack:
    """The local control plane and Airflow, in a folder that is emptied at the start.

    :param folder: where everything lives: database, logs, configuration.
    :param dags: folder of the DAG files.
    :param tasks: file with the control plane's tasks; without it, those it ships with.
    :param standalone: run Airflow as ``airflow standalone`` does, one program that starts the components;
        else each component is a program of its own that can be killed alone.
    :param settings: further environment variables of Airflow.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dags: Path,
        tasks: Path | None = None,
        standalone: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self._api_port, worker_logs, trigger_logs = free_ports(3)
        self.environment = {
            **_inherited(),
            MARK: str(self.folder),
            "SPT_NOENV": "1",  # else a process that sets its title wipes the mark
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            **_airflow_settings(self.folder, dags.resolve(), self._api_port, worker_logs, trigger_logs),
            **(settings or {}),
        }
        self.url = f"http://127.0.0.1:{self._api_port}"
        self.airflow = AirflowApi(self.url)
        self.control_plane = ControlPlane(self.folder, self.environment, tasks)
        self._standalone = standalone
        self.programs: dict[str, Program] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            stop_completely(self.stop)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop_completely(self.stop)

    def start(self) -> None:
        """Start the control plane and all of Airflow, and wait until every component is healthy."""
        self.prepare()
        self.control_plane.start()
        self.start_airflow()
        self.wait_until_healthy()

    def prepare(self) -> None:
        """Empty the folder, and end what an earlier run in it may have left behind."""
        kill_marked(str(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def start_airflow(self) -> None:
        """Start Airflow without waiting for it; the control plane must be up, as Airflow gets its key."""
        connection = {"conn_type": "helmr", "host": self.control_plane.url, "password": self.control_plane.api_key}
        self.environment["AIRFLOW_CONN_HELMR_DEFAULT"] = json.dumps(connection)
        if self._standalone:
            # It ends its components only on Ctrl-C.
            self._program("standalone", gentle=signal.SIGINT).start()
            return
        migration = self._program("db migrate")
        migration.start()
        poll(lambda: migration.exited is not None, seconds=60, waiting_for="airflow db migrate", every=0.1)
        if migration.exited:
            migration.check()
        del self.programs["db migrate"]
        for name, arguments in self.components():
            self._program(name, arguments).start()

    def components(self) -> Iterator[tuple[str, list[str]]]:
        """Name each program of Airflow, with its arguments."""
        for name in COMPONENTS:
            yield name, [name]

    def _program(
        self, name: str, arguments: list[str] | None = None, *, gentle: signal.Signals = signal.SIGTERM
    ) -> Program:
        log = self.folder / f"{name.replace(' ', '-')}.log"
        command = [str(BIN / "airflow"), *(arguments or name.split())]
        self.programs[name] = Program(f"airflow {name}", command, self.environment, log, gentle)
        return self.programs[name]

    def check(self) -> None:
        """Raise if a program of the stack has ended."""
        for program in (self.control_plane.program, *self.programs.values()):
            program.check()

    def wait_until_healthy(self, components: Iterable[str] = COMPONENTS, *, seconds: float = 300) -> None:
        """Wait until Airflow says that these components work."""
        names = {"metadatabase", *(each.replace("-", "_") for each in components)} - {"api_server"}

        def healthy() -> bool:
            self.check()
            health = self.airflow.health()
            return all(health.get(name) == "healthy" for name in names)

        poll(healthy, seconds=seconds, waiting_for=f"Airflow to be healthy; logs: {self.folder}")

    def stop(self) -> None:
        """End everything that was started, children of children included."""
        for program in reversed(self.programs.values()):
            program.ask_to_stop()
        for program in reversed(self.programs.values()):
            program.stop()
        self.control_plane.stop()
        kill_marked(str(self.folder))


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "HELMR_", "PYTEST_"))}


def _airflow_settings(
    home: Path, dags: Path, api_port: int, worker_log_port: int, trigger_log_port: int
) -> dict[str, str]:
    url = f"http://127.0.0.1:{api_port}"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api_port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        # Components that are started one by one would each make up a secret of their own.
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": EXECUTION_API_TIMEOUT,
        # A triggerer that was killed is given up after seconds instead of half a minute.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    }


__all__ = [
    "COMPONENTS",
    "EXECUTION_API_TIMEOUT",
    "LOST_BY_AIRFLOW",
    "ROOT",
    "ControlPlane",
    "Program",
    "Stack",
    "StackError",
    "poll",
]

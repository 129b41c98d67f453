"""PostgreSQL and Redis from the distribution's packages, as programs of a stack, on the loopback interface."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from dev.processes import Program, StackError, free_ports, poll

if TYPE_CHECKING:
    from collections.abc import Mapping


class Service:
    """A server that is ready as soon as it accepts connections."""

    def __init__(self, name: str, port: int, program: Program) -> None:
        self.name = name
        self.port = port
        self.program = program

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self.program.start()

        def listening() -> bool:
            self.program.check()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        poll(listening, seconds=30, waiting_for=f"{self.name} to accept connections")


def redis(folder: Path, environment: Mapping[str, str]) -> Service:
    """Return a Redis that keeps nothing on disk.

    :param folder: for its log.
    :raises StackError: if Redis is not installed.
    """
    server = shutil.which("redis-server")
    if server is None:
        raise StackError("redis-server is not installed")
    (port,) = free_ports(1)
    command = [server, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    return Service("Redis", port, Program("Redis", command, environment, folder / "redis.log"))


def postgresql(folder: Path, environment: Mapping[str, str]) -> Service:
    """Create a PostgreSQL cluster with the superuser ``airflow`` and no password, and return its server.

    The server refuses to run as root, so root runs it as the user that the package created.

    :param folder: for the cluster and its log; every folder above it must be open to that user.
    :raises StackError: if PostgreSQL is not installed.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        raise StackError("PostgreSQL is not installed")
    data = folder / "postgresql"
    data.mkdir(mode=0o700)
    prefix: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(data, user.pw_uid, user.pw_gid)
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    initdb = [*prefix, str(programs[-1] / "initdb"), "-D", str(data), "-U", "airflow", "--auth=trust", "-E", "UTF8"]
    subprocess.run(
        initdb, check=True, capture_output=True, timeout=60, cwd="/", env={**environment, "LC_ALL": "C.UTF-8"}
    )
    (port,) = free_ports(1)
    command = [*prefix, str(programs[-1] / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
    # A stack lives for minutes: what a power failure would lose does not matter.
    for setting in ("unix_socket_directories=", "max_connections=300", "fsync=off"):
        command += ["-c", setting]
    return Service("PostgreSQL", port, Program("PostgreSQL", command, environment, folder / "postgresql.log"))

"""The same waits served by four kinds of triggers, each in one event loop of a process of its own.

- `HelmrRunTrigger`, against the local control plane with 20 event slots
- `DbtCloudRunJobTrigger` and `DatabricksExecutionTrigger` of the installed providers with their default poll intervals
  (60 s and 30 s), against a local fake of the endpoint that they poll
- a naive trigger that follows each run on a stream of its own, against the same local control plane as ours

First no run ends for a while, then all end one after the other. One wait is measured in ten event loops, because one
delay says little. Up to 200 waits are measured at the same time, and all kinds of triggers with up to 1,000 waits. With
more waits ours is measured first, and the others together after it. Takes about 15 minutes; `--help` for less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import ipaddress
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.client import HERE, control_plane, delay, start_runs
from benchmarks.client import count_requests as clear_journal
from dev.processes import child, leave_nothing_running
from helmr_provider.client import AsyncHelmrClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.client import Plane

KINDS = {
    "helmr": "HelmrRunTrigger",
    "stream": "one stream per wait",
    "dbt": "DbtCloudRunJobTrigger",
    "databricks": "DatabricksExecutionTrigger",
}
EVENT_SLOTS = 20
LOOPS_OF_ONE_WAIT = 10
# Up to so many waits, numbers of waits are measured at the same time, and kinds of triggers.
SIZES_TOGETHER, KINDS_TOGETHER = 200, 1000
# How long after the last end an event is waited for: the longest poll interval, and what a busy machine adds.
PATIENCE = 75.0


@dataclass(frozen=True)
class Plan:
    """When what happens, in seconds since the epoch and seconds."""

    begin: float
    ramp: float
    idle_from: float
    idle_until: float
    ends: float

    @property
    def give_up_at(self) -> float:
        return self.idle_until + self.ends + PATIENCE

    @property
    def ends_from(self) -> float:
        return self.idle_until + 1


@dataclass
class Result:
    """What one kind of trigger cost for a number of waits.

    :param delay_p50: seconds from the end of a run to the event of its trigger, of all waits; ``None`` if this one had
        no event.
    :param missing: waits without an event when the benchmark gave up.
    """

    kind: str
    waits: int
    requests_per_wait_hour: float
    requests_per_second: float
    sockets: float
    kib_per_wait: float
    cpu_ms_per_wait_minute: float
    delay_p50: float | None
    delay_p99: float | None
    missing: int


def percentile(delays: list[float], count: int, share: float) -> float | None:
    """Return a percentile of so many delays; ``None`` if it is among those that are missing."""
    place = min(count - 1, int(count * share))
    return sorted(delays)[place] if place < len(delays) else None


class Helmr:
    """A local control plane, as our trigger and the naive one see it."""

    def __init__(self, plane: Plane, release: Path) -> None:
        self._plane, self._release = plane, release
        self._runs: list[str] = []
        [self.ended_run] = asyncio.run(start_runs(plane, [0.0]))
        self._requests = 0
        self._counted = threading.Event()

    @property
    def environment(self) -> dict[str, str]:
        connection = {"conn_type": "helmr", "host": self._plane.url, "password": self._plane.api_key}
        return {"AIRFLOW_CONN_BENCH": json.dumps(connection)}

    def create(self, count: int, ends: float) -> None:
        """Start so many runs, which end within `ends` seconds after a time that is chosen later."""
        plan = [{"after": ends * random.random(), "release": str(self._release)} for _ in range(count)]
        self._runs = asyncio.run(start_runs(self._plane, plan))

    def start(self, plan: Plan, count: int) -> list[str]:
        new = self._release.with_suffix(".new")
        new.write_text(str(plan.ends_from))
        new.rename(self._release)
        threading.Thread(target=self._count, args=(plan,), daemon=True).start()
        assert len(self._runs) == count
        return self._runs

    def _count(self, plan: Plan) -> None:
        time.sleep(max(0.0, plan.idle_from - time.time()))
        clear_journal(self._plane)
        time.sleep(max(0.0, plan.idle_until - time.time()))
        self._requests = clear_journal(self._plane)
        self._counted.set()

    def finish(self, _: Plan, runs: list[str]) -> tuple[int, dict[str, float]]:
        """Return the number of requests while idle, and when each run ended."""
        assert self._counted.wait(60)

        async def retrieve() -> dict[str, float]:
            async with AsyncHelmrClient(url=self._plane.url, api_key=self._plane.api_key) as client:
                return {run: (await client.runs.retrieve(run)).updated_at.timestamp() for run in runs}

        return self._requests, asyncio.run(retrieve())


class Fake:
    """A fake of another service's API."""

    ended_run = "1"

    def __init__(self, api: str, process: subprocess.Popen[str], certificate: Path | None) -> None:
        self._api, self._process, self._certificate = api, process, certificate
        self._send({"api": api, "certificate": None if certificate is None else str(certificate)})
        assert process.stdout is not None
        self._port = int(process.stdout.readline())

    def _send(self, line: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    @property
    def environment(self) -> dict[str, str]:
        password = {"password": "not-a-secret"}
        if self._api == "dbt":
            # The hook speaks https only, and opens a connection for each request.
            connection = {
                "conn_type": "dbt_cloud",
                "host": f"127.0.0.1:{self._port}",
                "login": "1",
                "password": "not-a-secret",
            }
            return {"AIRFLOW_CONN_BENCH": json.dumps(connection), "SSL_CERT_FILE": str(self._certificate)}
        address = {"host": "127.0.0.1", "port": self._port, "schema": "http"}
        return {"AIRFLOW_CONN_BENCH": json.dumps({"conn_type": "databricks"} | address | password)}

    def create(self, count: int, ends: float) -> None:
        """Do nothing: a run of a fake exists when it is asked for."""

    def start(self, plan: Plan, count: int) -> list[str]:
        self._ends = {str(number + 2): plan.ends_from + plan.ends * random.random() for number in range(count)}
        self._send(self._ends)
        return list(self._ends)

    def finish(self, plan: Plan, _: list[str]) -> tuple[int, dict[str, float]]:
        """Return the number of requests while idle, and when each run ended."""
        output, _errors = self._process.communicate(timeout=60)
        return sum(plan.idle_from <= at < plan.idle_until for at in json.loads(output)), self._ends


def write_certificate(folder: Path) -> Path:
    """Write a certificate for loopback with its key, which also serves as its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "benchmark")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    pem = serialization.Encoding.PEM
    key_bytes = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key_bytes + certificate.public_bytes(pem))
    return path


@contextlib.contextmanager
def service(kind: str, waits: int, folder: Path, certificate: Path) -> Iterator[Helmr | Fake]:
    """Run the API that a kind of trigger waits on."""
    if kind in {"helmr", "stream"}:
        with control_plane("--event-slots", str(EVENT_SLOTS)) as plane:
            yield Helmr(plane, folder / f"release-{kind}-{waits}")
        return
    command = [sys.executable, "-m", "benchmarks.fake_apis"]
    with child(command) as process:
        yield Fake(kind, process, certificate if kind == "dbt" else None)


class Triggers:
    """The process that runs the triggers."""

    def __init__(self, kind: str, waits: int, api: Helmr | Fake, python: Path, home: Path) -> None:
        self.kind, self.waits, self._api = kind, waits, api
        self._loops = LOOPS_OF_ONE_WAIT if waits == 1 else 1
        # Without lines below warnings, which favours those who log each poll.
        settings = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore", "AIRFLOW_HOME": str(home)}
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.trigger_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | settings | api.environment,
        )
        self._send({"kind": kind, "ended_run": api.ended_run})
        self._sockets = 0

    def _send(self, line: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        answered = self._process.stdout.readline()
        assert answered == "ready\n", f"the process of {self.kind} triggers says {answered!r}"

    def create_runs(self, ends: float) -> None:
        self._api.create(self.waits * self._loops, ends)

    def measure(self, plan: Plan) -> Result:
        runs = self._api.start(plan, self.waits * self._loops)
        share = len(runs) // self._loops
        loops = [runs[number * share : (number + 1) * share] for number in range(self._loops)]
        times = {name: getattr(plan, name) for name in ("begin", "ramp", "idle_from", "idle_until", "give_up_at")}
        self._send(times | {"loops": loops})
        sampling = threading.Thread(target=self._count_sockets, args=(plan,), daemon=True)
        sampling.start()
        output, _ = self._process.communicate()
        found = json.loads(output)
        sampling.join()
        requests, ended = self._api.finish(plan, runs)
        delays = [fired - ended[run] for run, fired in found["fired"].items()]
        idle = plan.idle_until - plan.idle_from
        return Result(
            kind=self.kind,
            waits=self.waits,
            requests_per_wait_hour=requests / len(runs) / idle * 3600,
            requests_per_second=requests / idle / self._loops,
            sockets=self._sockets / self._loops,
            kib_per_wait=found["memory"] / 1024 / len(runs),
            cpu_ms_per_wait_minute=found["cpu"] * 1000 / len(runs) / idle * 60,
            delay_p50=percentile(delays, len(runs), 0.5),
            delay_p99=percentile(delays, len(runs), 0.99),
            missing=len(runs) - len(delays),
        )

    def _count_sockets(self, plan: Plan) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(self._process.pid)
            while self._process.poll() is None and time.time() < plan.give_up_at:
                sockets = [each.status for each in process.net_connections("tcp")]
                self._sockets = max(self._sockets, sockets.count(psutil.CONN_ESTABLISHED))
                time.sleep(1)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(kinds: list[str], sizes: list[int], python: Path, idle: float, ends: float) -> list[Result]:
    """Measure some numbers of waits at the same time, all kinds beside each other."""
    with contextlib.ExitStack() as stack:
        # Its threads wait for the processes below, which end first.
        pool = stack.enter_context(ThreadPoolExecutor(len(sizes) * len(kinds)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate = write_certificate(folder)
        processes = []
        for waits, kind in itertools.product(sizes, kinds):
            api = stack.enter_context(service(kind, waits, folder, certificate))
            triggers = Triggers(kind, waits, api, python, folder / "airflow")
            stack.callback(triggers.stop)
            processes.append(triggers)
        for triggers in processes:
            triggers.wait_until_ready()
        for _ in pool.map(lambda each: each.create_runs(ends), processes):
            pass
        begin = time.time() + 2
        # A new wait retrieves its run, at most 100 runs a second.
        idle_from = begin + 10 + 5 + max(sizes) / 80
        plan = Plan(begin, ramp=10, idle_from=idle_from, idle_until=idle_from + idle, ends=ends)
        return list(pool.map(lambda each: each.measure(plan), processes))


COLUMNS: dict[str, Callable[[Result], str]] = {
    "Waits": lambda found: f"{found.waits:,}",
    "Trigger": lambda found: KINDS[found.kind] if found.kind == "stream" else f"`{KINDS[found.kind]}`",
    "Idle requests per wait and hour": lambda found: (
        f"{found.requests_per_wait_hour:,.0f}"
        if found.requests_per_wait_hour >= 10
        else f"{found.requests_per_wait_hour:.1f}"
    ),
    "Sockets": lambda found: f"{found.sockets:,.0f}",
    "Memory per wait": lambda found: f"{found.kib_per_wait:,.0f} KiB",
    "CPU per wait and minute": lambda found: f"{found.cpu_ms_per_wait_minute:,.2f} ms",
    "Delay p50": lambda found: delay_or_none(found.delay_p50),
    "Delay p99": lambda found: delay_or_none(found.delay_p99),
    "Without event": lambda found: f"{found.missing:,}",
}


def delay_or_none(seconds: float | None) -> str:
    return "never" if seconds is None else delay(seconds)


def line(cells: Iterable[str]) -> str:
    """Return a row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Target:
    """What our trigger should reach for a number of waits."""

    waits: int
    what: str
    limit: float
    value: Callable[[Result], float | None]


TARGETS = [
    Target(1, "p50, s", 0.15, lambda found: found.delay_p50),
    Target(20, "p99, s", 1.5, lambda found: found.delay_p99),
    Target(200, "p99, s", 2.0, lambda found: found.delay_p99),
    Target(200, "idle requests a second", 2.0, lambda found: found.requests_per_second),
    Target(1000, "p99, s", 5.0, lambda found: found.delay_p99),
    Target(5000, "p99, s", 40.0, lambda found: found.delay_p99),
    *(
        target
        for waits in (200, 1000, 5000)
        for target in (
            Target(waits, "KiB per wait", 40.0, lambda found: found.kib_per_wait),
            Target(waits, "CPU ms per wait and minute", 2.0, lambda found: found.cpu_ms_per_wait_minute),
        )
    ),
    *(Target(waits, "without event", 0.0, lambda found: found.missing) for waits in (1, 20, 200, 1000, 5000)),
]


def compare(results: list[Result]) -> str:
    """Return which targets our trigger has met."""
    lines = []
    for target in TARGETS:
        for found in results:
            if found.kind == "helmr" and found.waits == target.waits:
                value = target.value(found)
                met = value is not None and value <= target.limit
                shown = "never" if value is None else f"{value:.2f}"
                words = f"{target.waits:,} waits, {target.what}"
                lines.append(f"{words:<44}{shown:>10}  goal {target.limit:g}: {'met' if met else 'MISSED'}")
    return "\n".join(lines)


def explain(results: list[Result]) -> str:
    """Return why waits had no event in time, a line for each row of which some had none."""
    lines = []
    for found in results:
        if found.missing:
            busy = found.cpu_ms_per_wait_minute * found.waits / 60_000
            why = (
                f"the control plane has {EVENT_SLOTS} event slots, and one that is full stops all followers"
                if found.kind == "stream"
                else f"its process used {busy:.0%} of a core while nothing ended"
            )
            lines.append(
                f"{KINDS[found.kind]}: {found.missing:,} of {found.waits:,} waits had no event {PATIENCE:.0f} s after "
                f"the last end: {why}"
            )
    return "\n".join(lines)


def rounds_of(sizes: list[int], kinds: list[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Choose what is measured at the same time, so that the machine has cores to spare."""
    if few := [size for size in sizes if size <= SIZES_TOGETHER]:
        yield few, kinds
    for size in sizes:
        if SIZES_TOGETHER < size <= KINDS_TOGETHER:
            yield [size], kinds
    many = [size for size in sizes if size > KINDS_TOGETHER]
    for group in (["helmr"], [kind for kind in KINDS if kind != "helmr"]):
        for size in many:
            if chosen := [kind for kind in group if kind in kinds]:
                yield [size], chosen


@leave_nothing_running()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", default="1,20,200,1000,5000", help="numbers of waits (default: %(default)s)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of triggers (default: %(default)s)")
    parser.add_argument("--idle", type=float, default=60, help="seconds in which no run ends (default: %(default)s)")
    parser.add_argument("--ends", type=float, default=30, help="seconds over which all end (default: %(default)s)")
    parser.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"), help="has all providers")
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    options = parser.parse_args()
    sizes = [int(size) for size in options.waits.split(",")]
    kinds = options.kinds.split(",")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # From the folder of the environment, because a link would be followed to the Python that it was made from.
    python = HERE.parent / options.python
    machine = (
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, "
        f"airflow-provider-helmr {version('airflow-provider-helmr')}, {dt.datetime.now(dt.UTC):%Y-%m-%d}"
    )
    print(f"{machine}, load {psutil.getloadavg()[0]:.1f}\n", flush=True)
    results: list[Result] = []
    print(f"{line(COLUMNS)}\n{line(['---'] * len(COLUMNS))}", flush=True)
    for few, chosen in rounds_of(sizes, kinds):
        found = measure(chosen, few, python, options.idle, options.ends)
        results += found
        for each in found:
            print(line(show(each) for show in COLUMNS.values()), flush=True)
    print(f"\n{explain(results)}")
    print(f"\n{compare(results)}")
    if options.json:
        written = {"machine": machine, "results": [asdict(found) for found in results]}
        options.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Waits through a real triggerer, on PostgreSQL: delays, requests, memory and CPU.

`sessions=200`: one mapped task starts so many sessions. `runs=1000`, `tokens=1000`: triggers that wait for so many are
put into Airflow's database directly; `times=1000` does so with Airflow's own trigger for dates. Several are measured
one after the other on the same Airflow. Nothing ends before all wait. Each phase prints its progress and has a limit of
its own.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks import mapped_sessions, put_triggers
from dev.celery_stack import CeleryStack
from dev.postgres_stack import PostgresStack
from dev.processes import leave_nothing_running
from dev.stack import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SETTINGS = {"AIRFLOW__CORE__MAX_MAP_LENGTH": "10000", "AIRFLOW__TRIGGERER__CAPACITY": "10000"}
LOCAL_SETTINGS = {"AIRFLOW__CORE__PARALLELISM": "8", **SETTINGS}


class TwoTriggerers(PostgresStack):
    """Like :class:`PostgresStack`, with a second triggerer."""

    def components(self) -> Iterator[tuple[str, list[str]]]:
        """Name each program, with its arguments."""
        for name, arguments in super().components():
            yield (name, arguments) if name != "triggerer" else (name, ["triggerer", "--skip-serve-logs"])
        yield "triggerer-2", ["triggerer", "--skip-serve-logs"]


def measured(text: str) -> tuple[str, int]:
    """Read what is measured, such as `runs=1000`."""
    what, _, waits = text.partition("=")
    if what not in {"sessions", "runs", "tokens", "times"}:
        raise ValueError(text)
    return what, int(waits)


@leave_nothing_running()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", nargs="*", type=measured, help="default: sessions=200")
    parser.add_argument("--triggerers", type=int, choices=[1, 2], default=1, help="(default: %(default)s)")
    parser.add_argument(
        "--executor",
        choices=["local", "celery"],
        default="local",
        help="celery: with Redis, and two of each of schedulers, triggerers and workers (default: %(default)s)",
    )
    options = parser.parse_args()
    print(
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, "
        f"Airflow {version('apache-airflow')}, load {psutil.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="helmr-triggerer-"))
    folder.chmod(0o755)
    kind, settings = (
        (CeleryStack, SETTINGS)
        if options.executor == "celery"
        else (TwoTriggerers if options.triggerers == 2 else PostgresStack, LOCAL_SETTINGS)
    )
    try:
        with kind(folder / "stack", dags=HERE / "dags", tasks=HERE / "tasks.py", settings=settings) as stack:
            for what, waits in options.measured or [("sessions", 200)]:
                print(f"\n{what}: {waits:,}", flush=True)
                if what == "sessions":
                    mapped_sessions.measure(stack, waits)
                else:
                    put_triggers.measure(stack, waits, what.removesuffix("s"))
            return 0
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

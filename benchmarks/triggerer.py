"""Waits through a real triggerer, on PostgreSQL: delays, requests, memory and CPU.

One mapped task starts all sessions (`--sessions`), or triggers are put into Airflow's database directly (`--put`).
Nothing ends before all wait. Each phase prints its progress and has a limit of its own.
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200, help="sessions to start (default: %(default)s)")
    parser.add_argument("--put", type=int, metavar="N", help="put so many triggers into the database instead")
    parser.add_argument("--kind", choices=["run", "token"], default="run", help="kind of these (default: %(default)s)")
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
            if options.put:
                put_triggers.measure(stack, options.put, options.kind)
                return 0
            return 0 if mapped_sessions.measure(stack, options.sessions) else 1
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

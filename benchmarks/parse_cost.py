"""What a provider adds to parsing a DAG file: time, modules and memory, beside two other providers.

A fresh interpreter imports what every DAG file imports anyway, then every module with operators, sensors, triggers and
task decorators that the provider names. Only the second part counts. The plugin of the Helmr tab, which every process
of Airflow loads, has a row of its own. The times are CPU time, which depends little on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from dev.processes import leave_nothing_running

PROVIDERS = {
    "helmr": "airflow-provider-helmr",
    "dbt-cloud": "apache-airflow-providers-dbt-cloud",
    "databricks": "apache-airflow-providers-databricks",
}
GOAL_MS = 50
PLUGIN_GOAL_MS = 3
HEAVY = ("httpx", "pydantic", "aiohttp", "requests", "sqlalchemy")

# Airflow imports the module of a link's class, too, but only where links are drawn.
MEASURED = """
import importlib, json, sys, time
from importlib.metadata import entry_points
import psutil
import airflow.sdk
airflow.sdk.DAG, airflow.sdk.dag, airflow.sdk.task, airflow.sdk.BaseOperator, airflow.sdk.BaseSensorOperator

name, sections = sys.argv[1], ("operators", "sensors", "triggers")
[entry] = [e for e in entry_points(group="apache_airflow_provider") if e.dist.name == name]
info = entry.load()()
modules = [module for section in sections for group in info.get(section, ()) for module in group["python-modules"]]
modules += [decorator["class-name"].rpartition(".")[0] for decorator in info.get("task-decorators", ())]
memory = psutil.Process().memory_info().rss
before = set(sys.modules)
began = time.process_time()
for module in modules:
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):  # a package may load its members at first use
        getattr(loaded, name, None)
took = time.process_time() - began
added = set(sys.modules) - before
print(json.dumps({
    "named": len(modules), "ms": took * 1000, "modules": len(added),
    "packages": sorted(m for m in added if "." not in m),
    "mib": (psutil.Process().memory_info().rss - memory) / 2**20,
}))
"""

# Every process of Airflow loads all plugins, those of tasks included. Airflow's own plugin manager is there then.
PLUGIN = """
import json, sys, time
import airflow.plugins_manager
import psutil
memory = psutil.Process().memory_info().rss
before = set(sys.modules)
began = time.process_time()
from helmr_provider.airflow_ui.plugin import HelmrPlugin
HelmrPlugin()
took = time.process_time() - began
added = set(sys.modules) - before
print(json.dumps({
    "named": 1, "ms": took * 1000, "modules": len(added), "packages": sorted(m for m in added if "." not in m),
    "mib": (psutil.Process().memory_info().rss - memory) / 2**20,
}))
"""


def measure_plugin() -> dict[str, Any]:
    """Load the plugin in a fresh interpreter, as a scheduler, worker or triggerer does."""
    return run(PLUGIN)


def measure(distribution: str) -> dict[str, Any]:
    """Import one provider's modules in a fresh interpreter."""
    return run(MEASURED, distribution)


def run(program: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", program, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def row(name: str, released: str, runs: list[dict[str, Any]]) -> str:
    """Put what was measured into a line of the table."""
    times = [each["ms"] for each in runs]
    heavy = ", ".join(each for each in HEAVY if each in runs[0]["packages"]) or "none"
    return (
        f"{name:<13}{released:>9}{runs[0]['named']:>9}{statistics.median(times):>8.1f}"
        f"{min(times):>7.1f} - {max(times):<6.1f}{runs[0]['modules']:>7}"
        f"{statistics.median(each['mib'] for each in runs):>7.1f}  {heavy}"
    )


@leave_nothing_running()
def main() -> None:
    """Measure all providers in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="fresh interpreters for each provider (15)")
    repeats = parser.parse_args().repeats
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in PROVIDERS}
    plugin: list[dict[str, Any]] = []
    measure_plugin()
    for distribution in PROVIDERS.values():
        measure(distribution)  # its files are read from the disk once before they are timed
    for _ in range(repeats):
        for name, distribution in PROVIDERS.items():
            runs[name].append(measure(distribution))
        plugin.append(measure_plugin())
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Airflow {version('apache-airflow')}, "
        f"Python {platform.python_version()}, {repeats} interpreters each\n"
    )
    print(
        "              version  imports  CPU ms   from - to    adds    MiB  heavy packages that it is first to import"
    )
    for name, measured in runs.items():
        print(row(name, version(PROVIDERS[name]), measured))
    print(row("helmr plugin", version(PROVIDERS["helmr"]), plugin))
    ours = statistics.median(each["ms"] for each in runs["helmr"])
    met = ours < GOAL_MS and not {"httpx", "pydantic"} & set(runs["helmr"][0]["packages"])
    print(f"\nGoal: helmr below {GOAL_MS} ms, first to import neither httpx nor pydantic: {'met' if met else 'missed'}")
    met = statistics.median(each["ms"] for each in plugin) < PLUGIN_GOAL_MS
    print(f"Goal: the plugin below {PLUGIN_GOAL_MS} ms: {'met' if met else 'missed'}")


if __name__ == "__main__":
    main()

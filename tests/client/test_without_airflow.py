"""The client in an environment of its own, which has what the client needs and no Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from helmr_provider.local import LocalControlPlane

ROOT = Path(__file__).resolve().parents[2]
# What the project asks for on behalf of the provider alone.
FOR_AIRFLOW = {"apache-airflow", "apache-airflow-providers-common-compat", "pendulum"}

PROGRAM = """
import asyncio
import importlib.util
import sys

import helmr_provider.client as package

assert importlib.util.find_spec("airflow") is None
assert [getattr(package, name) for name in dir(package) if not name.startswith("_")]

with package.HelmrClient() as client:
    run = client.sessions.start_and_wait("echo", {"n": 1}, timeout=30).run
    events = [event.type for event in client.runs.events.subscribe(run)]


async def main():
    async with package.AsyncHelmrClient() as client:
        started = await client.sessions.start("echo", {"n": 2})
        return (await client.runs.wait(started.run, timeout=30)).output


print(run.output, events[-1], asyncio.run(main()))
"""


def needed() -> dict[str, Distribution]:
    """Find the distributions that the client needs, and what those need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    wanted = [each for each in wanted if canonicalize_name(each.name) not in FOR_AIRFLOW]
    found: dict[str, Distribution] = {}
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        wanted += [Requirement(text) for text in found[name].requires or ()]
    return found


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of an environment with nothing but the client and what it needs."""
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    for each in needed().values():
        for file in each.files or ():
            top = file.parts[0]
            if top not in {"..", "__pycache__"} and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(each.locate_file(top))))
    (packages / "helmr_provider").symlink_to(ROOT / "helmr_provider")
    return tmp_path / "env" / "bin" / "python"


def test_it_imports_and_runs_sessions(python: Path, control_plane: LocalControlPlane, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-W", "error", "-c", PROGRAM],
        env=environment | control_plane.env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{'n': 1} task_result {'n': 2}"


def test_the_environment_is_one_without_airflow(python: Path) -> None:
    program = (
        "import importlib.util as util; print([util.find_spec(n) is None for n in ('airflow', 'pendulum', 'httpcore')])"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[True, True, False]"
    assert Path(sys.executable) != python

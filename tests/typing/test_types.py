"""Type checkers refuse wrong calls of the public interface, and nothing else in the same files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Type checkers compute for as long as they need on a busy machine.
pytestmark = pytest.mark.timeout(600)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REJECTED = sorted(HERE.glob("rejected_*.py"))


def wrong_lines(path: Path) -> set[int]:
    lines = path.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


def test_there_are_wrong_calls_to_refuse() -> None:
    assert sum(len(wrong_lines(path)) for path in REJECTED) >= 15


def checked(*command: str) -> subprocess.CompletedProcess[str]:
    """Check all files with one run, which is most of the work for one file, too."""
    return subprocess.run(
        [sys.executable, "-m", *command, *map(str, REJECTED)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=590,
    )


@pytest.fixture(scope="module")
def mypy() -> str:
    done = checked("mypy", "--no-error-summary")
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def pyright() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(checked("pyright", "--outputjson", "--pythonpath", sys.executable).stdout)[
        "generalDiagnostics"
    ]
    return found


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.stem)
def test_mypy_refuses_exactly_the_wrong_calls(path: Path, mypy: str) -> None:
    refused = {int(n) for n in re.findall(rf"\b{re.escape(path.name)}:(\d+): error:", mypy)}
    assert refused == wrong_lines(path), mypy


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.stem)
def test_pyright_refuses_exactly_the_wrong_calls(path: Path, pyright: list[dict[str, Any]]) -> None:
    found = [each for each in pyright if Path(each["file"]).name == path.name]
    refused = {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}
    assert refused == wrong_lines(path), "\n".join(each["message"] for each in found)
